//! Block and allow lists at work: they are asked of the latest configuration, so that a block acts
//! at once, whatever a connection or a transaction began with.

use mail::ForwardPath;
use policy::{Decision, Listed, NoTrace, Snapshot, TenantIx};
use ring::Ring;

use crate::handler::SessionHandler;
use crate::refusal::{Detail, Names, Refusal};

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// Whether the node's list blocks the client now.
    pub(crate) fn check_client_list(&mut self) -> Result<(), Refusal> {
        match self.cx.snapshots.load().decide_client(self.client.address, &mut NoTrace) {
            None => Ok(()),
            Some(listed) => Err(refusal(&listed, listed.decision).naming(Names::Client)),
        }
    }

    /// Whether a list says no now to a recipient that was accepted as `accepted`.
    pub(crate) fn check_lists(&mut self, accepted: &Decision, to: ForwardPath<'_>) -> Result<(), Refusal> {
        let client = &*self.client;
        let latest = self.cx.snapshots.load();
        let tenant = tenant_in(latest, &client.snapshot, accepted.tenant);
        let from = client.buffers.envelope.reverse_path();
        let listed = latest.decide_client(client.address, &mut NoTrace);
        let listed = listed.or_else(|| latest.decide_lists(client.address, from, to, tenant, &mut NoTrace));
        let Some(listed) = listed else { return Ok(()) };
        // Told by the configuration that decided, of a tenant of the one that the transaction has.
        let Decision { tenant, identity, .. } = *accepted;
        Err(refusal(&listed, Decision { tenant, identity, ..listed.decision }))
    }
}

fn refusal(listed: &Listed<'_>, decision: Decision) -> Refusal {
    Refusal::new(decision).because(Detail::List(listed.list.clone()))
}

/// The same tenant in another configuration.
fn tenant_in(latest: &Snapshot, began: &Snapshot, tenant: Option<TenantIx>) -> Option<TenantIx> {
    if latest.generation == began.generation {
        return tenant;
    }
    tenant.and_then(|tenant| latest.tenant_named(&began.tenant(tenant).name))
}
