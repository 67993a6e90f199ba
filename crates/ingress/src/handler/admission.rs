//! Whether a client is let in, and may send now: connections, suspensions and limits over time.
//!
//! Asked once it is known whose connection it is, at MAIL, at each recipient, at DATA, and when the
//! message is whole. What is over a limit is refused for now, and told which limit it was and when
//! it frees. Recipients are charged with their 250. Messages and bytes are charged once they are
//! whole and nothing but the spool is left to ask: however many began with the same room, no more
//! end than it holds.

use commons::{Account, GrantedIdentities, Holder, NoPlace, Over, machine};
use mail::{Reason, Status, UnixMillis};
use policy::{Counted, Decision, IdentityIx, Rule, TenantIx};
use ring::Ring;
use smtp::server::XClientRights;

use crate::connection::Standing;
use crate::handler::SessionHandler;
use crate::leases::Leases;
use crate::refusal::{Detail, Names, Refusal, TurnedAway};
use crate::seats::{Guest, address_key};

/// Too many connections for now (RFC 3463).
const CROWDED: Status = Status::new(4, 7, 0);

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
        self.client.account = self.account(tenant, None);
        // Where there is no session yet, there is no other code (RFC 5321 section 3.1).
        self.renew_leases(421)?;
        if let Some(over) = self.take((Counted::Connections, 1)) {
            let refusal = Refusal::for_reason(over.reason(), tenant).naming(Names::Client);
            let text = Detail::ConnectionRate(over, self.client.account);
            return Err(refusal.in_words(421, CROWDED, text).into());
        }
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
            client.renew_grants(commons.grants(), UnixMillis(self.cx.ring.unix_millis()));
            !client.granted.as_slice().is_empty()
        };
        let written = client.snapshot.limits.client.connections_max;
        let guest = Guest {
            holder: if is_known { Holder::Network } else { Holder::Stranger },
            address: address_key(commons, machine(client.address)),
            address_max: match is_known || client.address.is_unspecified() {
                true => u32::MAX,
                false => written.unwrap_or_else(|| self.seats.places().per_stranger()),
            },
        };
        self.seats.take(client.key, guest, now)
    }

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
        if self.cx.link.commons().suspensions().is_empty() {
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
        } else if self.cx.link.commons().suspensions().is_empty() && !self.counts_recipients() {
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
        let (commons, now) = (self.cx.link.commons(), self.cx.now());
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        // Between the two another worker may charge as well: what that is too much is owed.
        for use_of in message_uses(bytes) {
            account.charge(commons, snapshot, use_of, now);
        }
        Ok(())
    }

    /// Whether each limit has room for a message of `bytes`.
    fn check_message_limits(&self, bytes: u64) -> Result<(), Refusal> {
        let (commons, now) = (self.cx.link.commons(), self.cx.now());
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        let mut uses = message_uses(bytes).into_iter();
        match uses.find_map(|use_of| account.over(commons, snapshot, use_of, now)) {
            None => Ok(()),
            Some(over) => Err(self.over(over)),
        }
    }

    fn counts_recipients(&self) -> bool {
        let mut subjects = self.client.account.subjects(&self.client.snapshot);
        subjects.any(|(_, _, allowance)| allowance.rates.iter().any(|limit| limit.of == Counted::Recipients))
    }

    fn account(&self, tenant: Option<TenantIx>, identity: Option<IdentityIx>) -> Account {
        let (commons, snapshot) = (self.cx.link.commons(), &self.client.snapshot);
        Account::new(commons, snapshot, self.client.address, (tenant, identity))
    }

    /// Counts the connection for whom `account` says; where that is one too many, it is told so with `code`.
    fn renew_leases(&mut self, code: u16) -> Result<(), Refusal> {
        let client = &mut *self.client;
        let renewed = client.leases.renew(self.cx.link.commons(), &client.snapshot, &client.account);
        renewed.map_err(|(whom, limit)| {
            let refusal = Refusal::for_reason(Reason::ConnectionLimit, client.account.tenant);
            let text = Detail::Connections(whom, limit, client.account);
            refusal.naming(Names::Client).in_words(code, CROWDED, text)
        })
    }

    /// Charges a use where every limit has room for it; else the first that has none.
    fn take(&self, use_of: (Counted, u64)) -> Option<Over> {
        let (commons, now) = (self.cx.link.commons(), self.cx.now());
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        let over = account.over(commons, snapshot, use_of, now);
        // Between the two another worker may charge as well: what that is too much is owed.
        if over.is_none() {
            account.charge(commons, snapshot, use_of, now);
        }
        over
    }

    fn over(&self, over: Over) -> Refusal {
        let account = self.client.account;
        Refusal::new(account.refusal_over(&over)).because(Detail::Limit(over, account))
    }

    /// Whether neither the sender is suspended nor `tenant`, whose the recipient is.
    fn check_suspended(&self, tenant: Option<TenantIx>) -> Result<(), Refusal> {
        let (commons, now) = (self.cx.link.commons(), self.cx.now());
        if commons.suspensions().is_empty() {
            return Ok(());
        }
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        match account.suspension(commons, snapshot, self.client.address, tenant, now) {
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
