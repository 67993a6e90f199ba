//! Block and allow lists at work: they are asked of the latest configuration, so that a block acts
//! at once, whatever a connection or a transaction began with.

use std::sync::Arc;

use mail::{ForwardPath, Reply};
use policy::{Decision, NoTrace, Snapshot, TenantIx};
use ring::Ring;

use crate::handler::SessionHandler;

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// Refuses a client that the node's list blocks now.
    pub(crate) fn refused_by_client_list(&mut self, reply: &mut Reply) -> bool {
        let client = self.client.address;
        if self.cx.snapshots.load().decide_client(client, &mut NoTrace).is_none() {
            return false;
        }
        let latest = Arc::clone(self.cx.snapshots.load());
        let Some(listed) = latest.decide_client(client, &mut NoTrace) else { return false };
        self.refuse_with(&listed.decision, Some(format_args!("{}", listed.list)), ("", ""), reply);
        true
    }

    /// Refuses a recipient that was accepted as `accepted`, where a list says so now.
    pub(crate) fn refused_by_lists(
        &mut self,
        accepted: &Decision,
        to: ForwardPath<'_>,
        reply: &mut Reply,
    ) -> bool {
        let client = self.client.address;
        let latest = self.cx.snapshots.load();
        let tenant = tenant_in(latest, &self.client.snapshot, accepted.tenant);
        let from = self.client.transaction.envelope.reverse_path();
        let mut listed = latest.decide_client(client, &mut NoTrace);
        listed = listed.or_else(|| latest.decide_lists(client, from, to, tenant, &mut NoTrace));
        let Some(decision) = listed.map(|listed| listed.decision) else { return false };
        // Told by the configuration that decided, of a tenant of the one that the transaction has.
        let latest = Arc::clone(latest);
        // The envelope lends its text to the denial and has it back afterwards.
        let envelope = std::mem::take(&mut self.client.transaction.envelope);
        let from = envelope.reverse_path();
        let mut listed = latest.decide_client(client, &mut NoTrace);
        listed = listed.or_else(|| latest.decide_lists(client, from, to, tenant, &mut NoTrace));
        let list = listed.map_or("", |listed| listed.list);
        let decision = Decision { tenant: accepted.tenant, identity: accepted.identity, ..decision };
        self.refuse_with(&decision, Some(format_args!("{list}")), (from.text(), to.text()), reply);
        self.client.transaction.envelope = envelope;
        true
    }
}

/// The same tenant in another configuration.
fn tenant_in(latest: &Snapshot, began: &Snapshot, tenant: Option<TenantIx>) -> Option<TenantIx> {
    if latest.generation == began.generation {
        return tenant;
    }
    tenant.and_then(|tenant| latest.tenant_named(&began.tenant(tenant).name))
}
