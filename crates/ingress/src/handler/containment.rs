//! Counts what a sender is denied and how often its logins fail, and says in log and metric when it
//! is suspended for that.

use commons::Sender;
use mail::{Reason, SuspensionCause};
use policy::Snapshot;
use ring::Ring;

use crate::connection::Client;
use crate::handler::SessionHandler;

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// A refusal for `reason` is on its way. What is refused for now is no denial, and what a
    /// suspended sender still tries does not hold it for longer.
    pub(crate) fn count_refusal(&mut self, reason: Reason) {
        let cause = match reason {
            Reason::LoginFailed => SuspensionCause::FailedLogins,
            Reason::TenantSuspended | Reason::IdentitySuspended | Reason::ClientSuspended => return,
            permanent if permanent.code() >= 500 => SuspensionCause::Denials,
            _ => return,
        };
        let now = self.cx.now();
        let client = &*self.client;
        let sender = match cause {
            SuspensionCause::FailedLogins => match client.snapshot.identity(&client.login) {
                Some(identity) => Sender::Login(client.snapshot.identity_login(identity)),
                None => Sender::Client(client.address),
            },
            _ => client.sender(&client.snapshot),
        };
        let Some(contained) = self.cx.link.commons().limits().incident(&client.snapshot, sender, cause, now)
        else {
            return;
        };
        let tenant = &client.snapshot.tenant(contained.tenant).name;
        self.cx.metrics.contained(tenant, cause);
        let record = self.cx.log.event("contained", now).str("tenant", tenant);
        let record = match sender {
            Sender::Login(login) => record.str("login", login),
            Sender::Client(ip) => record.ip("client", ip),
        };
        record
            .str("cause", cause.as_str())
            .number("more_than", u64::from(contained.threshold.count))
            .number("within_seconds", contained.threshold.within.as_secs())
            .display("until", contained.until.rfc3339())
            .end();
    }
}

impl Client {
    /// Who answers for what is sent: the login, that of a grant, or the address.
    pub(crate) fn sender<'a>(&self, snapshot: &'a Snapshot) -> Sender<'a> {
        match self.identity.or(self.account.identity) {
            Some(identity) => Sender::Login(snapshot.identity_login(identity)),
            None => Sender::Client(self.address),
        }
    }
}
