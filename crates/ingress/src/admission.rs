//! Whether a client is let in, once it is known whose connection it is.

use mail::{Reason, Reply};
use ring::Ring;

use crate::judge::Judge;

impl<R: Ring> Judge<'_, '_, R> {
    /// Finds the client's tenant by its address and counts the connection for it. False: `reply`
    /// turns the client away.
    pub(crate) fn admit(&mut self, reply: &mut Reply) -> bool {
        // Of a connection that is another client's now, the count is given back first.
        self.client.lease = None;
        self.client.snapshot = self.cx.snapshots.load().clone();
        if self.refused_by_client_list(reply) {
            return false;
        }
        let snapshot = &self.client.snapshot;
        let tenant = snapshot.network_tenant(self.client.address);
        self.client.lease = self.cx.link.commons().connect_tenant(snapshot, tenant);
        if self.client.lease.is_none() {
            let text = format_args!("too many connections from your network");
            reply.deny(Reason::ConnectionLimit, text);
            self.refuse_connection(tenant, Reason::ConnectionLimit, reply);
        }
        self.client.lease.is_some()
    }
}
