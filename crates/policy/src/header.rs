//! Who a message says it is from (DESIGN.md C2).

use mail::Address;

use crate::checks::HeaderChecks;
use crate::index::{IdentityIx, TenantIx};
use crate::responsible::Responsible;
use crate::snapshot::Snapshot;

impl Snapshot {
    /// What the tenant wants of the headers that its senders write.
    #[must_use]
    pub fn header_checks(&self, tenant: TenantIx) -> HeaderChecks {
        self.tenant(tenant).sender_rules.as_ref().map_or_else(HeaderChecks::default, |rules| rules.headers)
    }

    /// Whether who relays, an identity of `tenant` or a client of its networks, owns an address that
    /// stands in a header: by the same rules as the envelope sender.
    #[must_use]
    pub fn owns_header_address(
        &self,
        tenant: TenantIx,
        identity: Option<IdentityIx>,
        address: Address<'_>,
    ) -> bool {
        let responsible = match identity {
            Some(identity) => Responsible::Login(tenant, identity),
            None => Responsible::Network(tenant),
        };
        responsible.address_ownership(self, address).is_owned()
    }
}
