//! Whether a client is let in, once it is known whose connection it is: block list, place, limits of connections.

use commons::{Account, GrantedIdentities, Holder, NoPlace, machine};
use mail::UnixMillis;
use policy::TenantIx;
use ring::Ring;
use smtp::server::XClientRights;

use crate::connection::Standing;
use crate::handler::SessionHandler;
use crate::handler::meter::Meter;
use crate::leases::Leases;
use crate::refusal::TurnedAway;
use crate::seats::{Guest, address_key};

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// Finds the client's tenant by its address and counts the connection for it.
    pub(crate) fn admit(&mut self) -> Result<(), TurnedAway> {
        self.client.renew_snapshot(self.cx.snapshots.load());
        // Of a connection that is another client's now, the counts are given back first.
        self.client.leases = Leases::default();
        self.client.account = Account::default();
        self.client.granted = GrantedIdentities::default();
        self.check_client_list()?;
        let tenant = self.client.snapshot.network_tenant(self.client.address);
        self.take_place(tenant)?;
        let mut meter = self.meter();
        meter.client.account = meter.account(tenant, None);
        // Where there is no session yet, there is no other code (RFC 5321 section 3.1).
        meter.renew_leases(421)?;
        meter.take_connection()?;
        self.client.standing = Standing::Unknown;
        self.ask_lists();
        Ok(())
    }

    /// Seats the client, once it is known whose connection it is.
    fn take_place(&mut self, tenant: Option<TenantIx>) -> Result<(), NoPlace> {
        let (client, commons, now) = (&mut *self.client, self.cx.link.commons(), self.cx.ring.now());
        // A listed peer has not said yet whom it speaks for; the operator answers for it.
        let speaks_for_others = client.xclient != XClientRights::None;
        let is_known = tenant.is_some() || speaks_for_others || {
            client.renew_grants(commons.limits().grants(), UnixMillis(self.cx.ring.unix_millis()));
            !client.granted.as_slice().is_empty()
        };
        let written = client.snapshot.limits.client.connections_max;
        let guest = Guest {
            holder: if is_known { Holder::Network } else { Holder::Stranger },
            address: address_key(machine(client.address)),
            address_max: match is_known || client.address.is_unspecified() {
                true => u32::MAX,
                false => written.unwrap_or_else(|| self.seats.places().per_stranger()),
            },
        };
        self.seats.take(client.key, guest, now)
    }

    /// What limits and suspensions say of the client.
    pub(crate) fn meter(&mut self) -> Meter<'_> {
        let (limits, now) = (self.cx.link.commons().limits(), self.cx.now());
        Meter { client: self.client, limits, now }
    }
}
