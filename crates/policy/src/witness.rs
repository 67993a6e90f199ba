//! What a snapshot cannot know, and who is asked about it before a recipient is taken.

use mail::Address;

use crate::facts::Facts;
use crate::index::{RouteIx, TenantIx};
use crate::snapshot::Snapshot;

/// Who can tell about a recipient that policy accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The next hop of its relay domain, whether it knows the recipient.
    NextHop(RouteIx),
    /// DNS, whether the domain exists and takes mail.
    Dns,
}

impl Snapshot {
    /// Whether a client is looked up on DNS lists, where there are some, before a recipient is taken
    /// for `tenant`: no tenant here answers for what it sends, it has an address, and no list allows the client
    /// or mail to the recipient.
    #[must_use]
    pub fn looks_up_client(&self, facts: &Facts<'_>, to: Address<'_>, tenant: Option<TenantIx>) -> bool {
        facts.identity.is_none()
            && facts.grants.is_empty()
            && !facts.client.is_unspecified()
            && self.network_tenant(facts.client).is_none()
            && !self.is_allowed(facts.client, to, tenant)
    }

    /// Who is asked about a recipient in `recipient_domain` that was accepted for `tenant`; `None`
    /// where a route to a next hop says all there is to know.
    #[must_use]
    pub fn witness(&self, tenant: Option<TenantIx>, recipient_domain: &str) -> Option<Witness> {
        if let Some(route) = self.call_ahead(recipient_domain) {
            return Some(Witness::NextHop(route));
        }
        let tenant = tenant?;
        self.route(tenant, recipient_domain).is_none().then_some(Witness::Dns)
    }
}
