//! Whether a client may send now: suspensions, connections at the same time, and limits over time.
//!
//! Asked when it is let in, at MAIL, at each recipient, at DATA, and when the
//! message is whole. What is over a limit is refused for now, and told which limit it was and when
//! it frees. Recipients are charged with their 250. Messages and bytes are charged once they are
//! whole and nothing but the spool is left to ask: however many began with the same room, no more
//! end than it holds.

use commons::{Account, Limits, Over};
use mail::{Reason, Status, UnixMillis};
use policy::{Counted, Decision, IdentityIx, Rule, TenantIx};

use crate::connection::Client;
use crate::refusal::{Detail, Names, Refusal, Who};

/// Too many connections for now (RFC 3463).
const CROWDED: Status = Status::new(4, 7, 0);

/// The limits of whom a client's use is charged to, and what they leave it.
pub(crate) struct Meter<'a> {
    pub(super) client: &'a mut Client,
    pub(super) limits: &'a Limits,
    pub(super) now: UnixMillis,
}

impl Meter<'_> {
    /// MAIL: whether who answers for the client, as `decision` says, is not suspended and has
    /// room for a message of `bytes`, as far as it said.
    pub(crate) fn may_begin(&mut self, decision: &Decision, bytes: Option<u64>) -> Result<(), Refusal> {
        let who = (decision.tenant, decision.identity);
        if !self.client.account.is_for(&self.client.snapshot, who) {
            self.client.account = self.account(who.0, who.1);
        }
        self.may_send(decision.tenant, bytes.unwrap_or(1))
    }

    /// The same of whom `account` says.
    fn may_send(&mut self, tenant: Option<TenantIx>, bytes: u64) -> Result<(), Refusal> {
        self.check_suspended(tenant)?;
        self.renew_leases(450)?;
        self.check_message_limits(bytes)
    }

    /// Whether the login that has just proved itself is not suspended.
    pub(crate) fn check_login_suspended(&mut self) -> Result<(), Refusal> {
        if self.limits.suspensions().is_empty() {
            return Ok(());
        }
        let Some(identity) = self.client.identity else { return Ok(()) };
        let tenant = Some(self.client.snapshot.identity_tenant(identity));
        self.client.account = self.account(tenant, Some(identity));
        let checked = self.check_suspended(tenant);
        if checked.is_err() {
            self.client.account = Account::default();
        }
        checked.map_err(|refusal| refusal.naming(Names::Client))
    }

    /// RCPT: whether the recipient that policy took, as `decision` says, may be taken now. Then it
    /// is charged.
    pub(crate) fn may_add(&mut self, decision: &Decision) -> Result<(), Refusal> {
        let before = self.client.account;
        let who = (decision.tenant, decision.identity);
        // A grant that was opened since MAIL: its login was not looked at there.
        let is_another = decision.rule == Rule::Sender && !before.is_for(&self.client.snapshot, who);
        if is_another {
            self.client.account = self.account(who.0, who.1);
        } else if self.limits.suspensions().is_empty() && !self.counts_recipients() {
            return Ok(());
        }
        let may_send = match is_another {
            true => self.may_send(decision.tenant, self.client.transaction.declared_bytes().max(1)),
            false => self.check_suspended(decision.tenant),
        };
        let may = may_send.and_then(|()| match self.take((Counted::Recipients, 1)) {
            None => Ok(()),
            Some(over) => Err(self.over(over)),
        });
        if may.is_err() {
            self.client.account = before;
        }
        may
    }

    /// DATA: whether none was suspended since the recipients were taken, of whom `tenant` is.
    pub(crate) fn may_go_on(&mut self, tenant: TenantIx) -> Result<(), Refusal> {
        self.check_suspended(Some(tenant))
    }

    /// The message is whole: whether there is still room for its `bytes`. Then it is charged, whatever the
    /// spool makes of it.
    pub(crate) fn may_end(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.check_message_limits(bytes)?;
        let (limits, now) = (self.limits, self.now);
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        // Between the two another worker may charge as well: what that is too much is owed.
        for use_of in message_uses(bytes) {
            account.charge(limits, snapshot, use_of, now);
        }
        Ok(())
    }

    /// Whether each limit has room for a message of `bytes`.
    fn check_message_limits(&self, bytes: u64) -> Result<(), Refusal> {
        let (limits, now) = (self.limits, self.now);
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        let mut uses = message_uses(bytes).into_iter();
        match uses.find_map(|use_of| account.over(limits, snapshot, use_of, now)) {
            None => Ok(()),
            Some(over) => Err(self.over(over)),
        }
    }

    fn counts_recipients(&self) -> bool {
        let mut subjects = self.client.account.subjects(&self.client.snapshot);
        subjects.any(|(_, _, allowance)| allowance.rates.iter().any(|limit| limit.of == Counted::Recipients))
    }

    pub(super) fn account(&self, tenant: Option<TenantIx>, identity: Option<IdentityIx>) -> Account {
        Account::new(&self.client.snapshot, self.client.address, (tenant, identity))
    }

    /// Counts the connection for whom `account` says; where that is one too many, it is told so with `code`.
    pub(super) fn renew_leases(&mut self, code: u16) -> Result<(), Refusal> {
        let client = &mut *self.client;
        let renewed = client.leases.renew(self.limits, &client.snapshot, &client.account);
        renewed.map_err(|(whom, limit)| {
            let refusal = Refusal::for_reason(Reason::ConnectionLimit, client.account.tenant);
            let text = Detail::Connections(whom, limit, charged(&client.account));
            refusal.naming(Names::Client).in_words(code, CROWDED, text)
        })
    }

    /// One connection more in a while: it is charged.
    pub(super) fn take_connection(&mut self) -> Result<(), Refusal> {
        let Some(over) = self.take((Counted::Connections, 1)) else { return Ok(()) };
        let account = self.client.account;
        let refusal = Refusal::for_reason(over.reason(), account.tenant).naming(Names::Client);
        Err(refusal.in_words(421, CROWDED, Detail::ConnectionRate(over, charged(&account))))
    }

    /// Charges a use where every limit has room for it; else the first that has none.
    fn take(&self, use_of: (Counted, u64)) -> Option<Over> {
        let (limits, now) = (self.limits, self.now);
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        let over = account.over(limits, snapshot, use_of, now);
        // Between the two another worker may charge as well: what that is too much is owed.
        if over.is_none() {
            account.charge(limits, snapshot, use_of, now);
        }
        over
    }

    fn over(&self, over: Over) -> Refusal {
        let account = &self.client.account;
        Refusal::new(account.refusal_over(&over)).because(Detail::Limit(over, charged(account)))
    }

    /// Whether neither the sender is suspended nor `tenant`, whose the recipient is.
    fn check_suspended(&self, tenant: Option<TenantIx>) -> Result<(), Refusal> {
        let (limits, now) = (self.limits, self.now);
        if limits.suspensions().is_empty() {
            return Ok(());
        }
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        match account.suspension(limits, snapshot, self.client.address, tenant, now) {
            None => Ok(()),
            Some((reason, suspension)) => {
                let decision = account.refusal_suspended(snapshot, reason, tenant);
                Err(Refusal::new(decision).because(Detail::SuspendedUntil(suspension.until)))
            }
        }
    }
}

/// What a message of `bytes` uses.
fn message_uses(bytes: u64) -> [(Counted, u64); 2] {
    [(Counted::Messages, 1), (Counted::Bytes, bytes)]
}

fn charged(account: &Account) -> Who {
    (account.tenant, account.identity)
}
