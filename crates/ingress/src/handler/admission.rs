//! Whether a client is let in, and may send now: connections, suspensions and limits over time.
//!
//! Asked once it is known whose connection it is, at MAIL, at each recipient, at DATA, and when the
//! message is whole. What is over a limit is refused for now, and told which limit it was and when
//! it frees. Recipients are charged with their 250. Messages and bytes are charged once they are
//! whole and nothing but the spool is left to ask: however many began with the same room, no more
//! end than it holds.

use std::fmt;
use std::net::IpAddr;

use commons::{Account, ConnectionLease, GrantedIdentities, Holder, Key, Limits, NoPlace, Over, machine};
use mail::{Reason, Reply, Status, UnixMillis, Verdict};
use observe::ShedCause;
use policy::{Counted, Decision, IdentityIx, Period, Remedy, Rule, Snapshot, TenantIx, Whom};
use ring::Ring;
use smtp::server::XClientRights;

use crate::connection::Standing;
use crate::handler::SessionHandler;
use crate::seats::{Guest, address_key};

/// The connections that this one counts as, as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Leases([Option<(Key, ConnectionLease)>; 4]);

impl Leases {
    /// Counts the connection for whom `account` says, and no longer for anyone else. The first
    /// who has as many as it may: it is not counted there.
    fn renew(&mut self, limits: &Limits, snapshot: &Snapshot, account: &Account) -> Result<(), (Whom, u32)> {
        for whom in [Whom::Tenant, Whom::Identity, Whom::Network, Whom::Client] {
            let held = &mut self.0[whom as usize];
            if held.as_ref().is_some_and(|(key, _)| Some(*key) != account.key(whom)) {
                *held = None;
            }
        }
        for (whom, key, allowance) in account.subjects(snapshot) {
            let held = &mut self.0[whom as usize];
            if held.is_some() {
                continue;
            }
            let lease = match (whom, allowance.connections_max) {
                // A stranger's address is counted by its places.
                (Whom::Client, _) if account.tenant.is_none() => continue,
                (Whom::Tenant, _) => limits.connect_tenant(snapshot, account.tenant),
                (_, None) => continue,
                (_, Some(limit)) => limits.connection_counts().take(key, limit),
            };
            let Some(lease) = lease else { return Err((whom, allowance.connections_max.unwrap_or(0))) };
            *held = Some((key, lease));
        }
        Ok(())
    }
}

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// Finds the client's tenant by its address and counts the connection for it. False: `reply`
    /// turns the client away.
    pub(crate) fn admit(&mut self, reply: &mut Reply) -> bool {
        self.client.renew_snapshot(self.cx.snapshots.load());
        // Of a connection that is another client's now, the counts are given back first.
        self.client.leases = Leases::default();
        self.client.account = Account::default();
        self.client.granted = GrantedIdentities::default();
        if self.refused_by_client_list(reply) {
            return false;
        }
        let tenant = self.client.snapshot.network_tenant(self.client.address);
        if !self.take_place(tenant, reply) {
            return false;
        }
        self.client.account = self.account(tenant, None);
        if let Err((whom, limit)) = self.renew_leases() {
            self.write_crowded(421, whom, limit, reply);
            self.refuse_connection(tenant, Reason::ConnectionLimit, reply);
            return false;
        }
        if let Some(over) = self.take((Counted::Connections, 1)) {
            self.write_too_fast(&over, reply);
            self.refuse_connection(tenant, reason(&over), reply);
            return false;
        }
        self.client.standing = Standing::Unknown;
        self.ask_lists();
        true
    }

    /// Seats the client, once it is known whose connection it is. False: `reply` turns it away.
    fn take_place(&mut self, tenant: Option<TenantIx>, reply: &mut Reply) -> bool {
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
        let Err(refused) = self.seats.take(client.key, guest, now) else { return true };
        self.turn_away(refused, reply);
        false
    }

    /// Words `reply` for a client for whom there is no place, and counts it.
    pub(crate) fn turn_away(&mut self, refused: NoPlace, reply: &mut Reply) {
        let (address, listener) = (self.client.address, self.client.listener);
        let cause = match refused {
            NoPlace::Address(limit) => {
                let client = machine(address);
                let text = format_args!("too many connections: {client} may have {limit} at the same time");
                reply.set(421, Some(Status::new(4, 7, 0)), text);
                self.cx.metrics.denied(listener, None, Reason::ConnectionLimit);
                ShedCause::Address
            }
            NoPlace::Full(_) => {
                let text = format_args!("no place is left for another connection; try again later");
                reply.set(421, Some(Status::new(4, 3, 2)), text);
                self.seats.places().missed(self.cx.now());
                ShedCause::Full
            }
        };
        self.cx.metrics.connection_shed(listener, cause);
        self.seats.shed.add(cause, address);
    }

    /// MAIL: whether who answers for the client, as `decision` says, is not suspended and has
    /// room for a message of `bytes`, as far as it said.
    pub(crate) fn may_begin(
        &mut self,
        decision: &Decision,
        from: &str,
        bytes: Option<u64>,
        reply: &mut Reply,
    ) -> bool {
        let who = (decision.tenant, decision.identity);
        if !self.client.account.is_for(&self.client.snapshot, who) {
            self.client.account = self.account(who.0, who.1);
        }
        self.may_send(decision.tenant, bytes.unwrap_or(1), (from, ""), reply)
    }

    /// The same of whom `account` says.
    fn may_send(
        &mut self,
        tenant: Option<TenantIx>,
        bytes: u64,
        texts: (&str, &str),
        reply: &mut Reply,
    ) -> bool {
        if self.refuse_suspended(tenant, texts, reply) {
            return false;
        }
        if let Err((whom, limit)) = self.renew_leases() {
            self.write_crowded(450, whom, limit, reply);
            self.refuse_connection(tenant, Reason::ConnectionLimit, reply);
            return false;
        }
        match self.over_message(bytes) {
            Some(over) => self.refuse_over(&over, texts, reply),
            None => true,
        }
    }

    /// Whether the login that has just proved itself is suspended; then `reply` says so.
    pub(crate) fn refuse_suspended_login(&mut self, reply: &mut Reply) -> bool {
        if self.cx.link.commons().limits().suspensions().is_empty() {
            return false;
        }
        let Some(identity) = self.client.identity else { return false };
        let tenant = Some(self.client.snapshot.identity_tenant(identity));
        self.client.account = self.account(tenant, Some(identity));
        let is_refused = self.refuse_suspended(tenant, ("", ""), reply);
        if is_refused {
            self.client.account = Account::default();
        }
        is_refused
    }

    /// RCPT: whether the recipient that policy took, as `decision` says, may be taken now. Then it
    /// is charged.
    pub(crate) fn may_add(&mut self, decision: &Decision, to: &str, reply: &mut Reply) -> bool {
        let before = self.client.account;
        let who = (decision.tenant, decision.identity);
        // A grant that was opened since MAIL: its login was not looked at there.
        let is_another = decision.rule == Rule::Sender && !before.is_for(&self.client.snapshot, who);
        if is_another {
            self.client.account = self.account(who.0, who.1);
        } else if self.cx.link.commons().limits().suspensions().is_empty() && !self.counts_recipients() {
            return true;
        }
        // The envelope lends its text to the refusal and has it back afterwards.
        let envelope = std::mem::take(&mut self.client.transaction.envelope);
        let texts = (envelope.reverse_path().text(), to);
        let bytes = self.client.transaction.declared_bytes.max(1);
        let may_send = match is_another {
            true => self.may_send(decision.tenant, bytes, texts, reply),
            false => !self.refuse_suspended(decision.tenant, texts, reply),
        };
        let may = may_send
            && self.take((Counted::Recipients, 1)).is_none_or(|over| self.refuse_over(&over, texts, reply));
        self.client.transaction.envelope = envelope;
        if !may {
            self.client.account = before;
        }
        may
    }

    /// DATA: whether none was suspended since the recipients were taken.
    pub(crate) fn may_go_on(&mut self, reply: &mut Reply) -> bool {
        let tenant = self.client.transaction.tenant;
        // The envelope lends its text to the refusal and has it back afterwards.
        let envelope = std::mem::take(&mut self.client.transaction.envelope);
        let is_refused = self.refuse_suspended(tenant, (envelope.reverse_path().text(), ""), reply);
        self.client.transaction.envelope = envelope;
        !is_refused
    }

    /// The message is whole: whether there is still room for it. Then it is charged, whatever the
    /// spool makes of it.
    pub(crate) fn may_end(&mut self, reply: &mut Reply) -> bool {
        let bytes = self.client.transaction.body_bytes;
        if let Some(over) = self.over_message(bytes) {
            // The envelope lends its text to the refusal and has it back afterwards.
            let envelope = std::mem::take(&mut self.client.transaction.envelope);
            self.refuse_over(&over, (envelope.reverse_path().text(), ""), reply);
            self.client.transaction.envelope = envelope;
            return false;
        }
        let (limits, now) = (self.cx.link.commons().limits(), self.cx.now());
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        // Between the two another worker may charge as well: what that is too much is owed.
        for use_of in message_uses(bytes) {
            account.charge(limits, snapshot, use_of, now);
        }
        true
    }

    /// The first limit that has no room for a message of `bytes`.
    fn over_message(&self, bytes: u64) -> Option<Over> {
        let (limits, now) = (self.cx.link.commons().limits(), self.cx.now());
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        message_uses(bytes).into_iter().find_map(|use_of| account.over(limits, snapshot, use_of, now))
    }

    fn counts_recipients(&self) -> bool {
        let mut subjects = self.client.account.subjects(&self.client.snapshot);
        subjects.any(|(_, _, allowance)| allowance.rates.iter().any(|limit| limit.of == Counted::Recipients))
    }

    fn account(&self, tenant: Option<TenantIx>, identity: Option<IdentityIx>) -> Account {
        Account::new(&self.client.snapshot, self.client.address, (tenant, identity))
    }

    fn renew_leases(&mut self) -> Result<(), (Whom, u32)> {
        let client = &mut *self.client;
        client.leases.renew(self.cx.link.commons().limits(), &client.snapshot, &client.account)
    }

    /// Charges a use where every limit has room for it; else the first that has none.
    fn take(&self, use_of: (Counted, u64)) -> Option<Over> {
        let (limits, now) = (self.cx.link.commons().limits(), self.cx.now());
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        let over = account.over(limits, snapshot, use_of, now);
        // Between the two another worker may charge as well: what that is too much is owed.
        if over.is_none() {
            account.charge(limits, snapshot, use_of, now);
        }
        over
    }

    /// Always false: `reply` says which limit it was.
    fn refuse_over(&mut self, over: &Over, (from, to): (&str, &str), reply: &mut Reply) -> bool {
        let (client, snapshot) = (self.client.address, self.client.snapshot.clone());
        let account = self.client.account;
        let decision =
            Decision::refusal(Rule::Rate, account.tenant, Verdict::Defer(reason(over)), Remedy::Wait);
        let text = over_text(over, &account, &snapshot, client, self.cx.now());
        self.refuse_with(&decision, Some(format_args!("{text}")), (from, to), reply);
        false
    }

    fn write_crowded(&self, code: u16, whom: Whom, limit: u32, reply: &mut Reply) {
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        let name = account.name(snapshot, self.client.address, whom);
        let text = format_args!("too many connections: {name} may have {limit} at the same time");
        reply.set(code, Some(Status::new(4, 7, 0)), text);
    }

    fn write_too_fast(&self, over: &Over, reply: &mut Reply) {
        let (account, snapshot) = (&self.client.account, &self.client.snapshot);
        let text = over_text(over, account, snapshot, self.client.address, self.cx.now());
        // Where there is no session yet, there is no other code (RFC 5321 section 3.1).
        reply.set(421, Some(Status::new(4, 7, 0)), format_args!("too many connections: {text}"));
    }

    /// Whether the sender is suspended, or `tenant`, whose the recipient is; then `reply` says so.
    fn refuse_suspended(&mut self, tenant: Option<TenantIx>, texts: (&str, &str), reply: &mut Reply) -> bool {
        let (limits, now) = (self.cx.link.commons().limits(), self.cx.now());
        if limits.suspensions().is_empty() {
            return false;
        }
        let (client, snapshot) = (self.client.address, &self.client.snapshot);
        let suspended = self.client.account.suspension(limits, snapshot, client, tenant, now);
        let Some((reason, suspension)) = suspended else { return false };
        let verdict = match self.client.snapshot.limits.suspension_is_temporary {
            true => Verdict::Defer(reason),
            false => Verdict::Deny(reason),
        };
        let tenant = self.client.account.tenant.or(tenant);
        let decision = Decision::refusal(Rule::Suspension, tenant, verdict, Remedy::LiftSuspension);
        let until = suspension.until.map(|until| clock(until, self.cx.now()));
        let detail = fmt::from_fn(|f| match &until {
            Some(until) => write!(f, "until {until}"),
            None => f.write_str("until the suspension is lifted"),
        });
        self.refuse_with(&decision, Some(format_args!("{detail}")), texts, reply);
        true
    }
}

/// What a message of `bytes` uses.
fn message_uses(bytes: u64) -> [(Counted, u64); 2] {
    [(Counted::Messages, 1), (Counted::Bytes, bytes)]
}

/// An amount in a day is a quota.
fn reason(over: &Over) -> Reason {
    if over.limit.per == Period::Day { Reason::QuotaExceeded } else { Reason::RateLimited }
}

fn over_text<'a>(
    over: &'a Over,
    account: &'a Account,
    snapshot: &'a Snapshot,
    client: IpAddr,
    now: UnixMillis,
) -> impl fmt::Display + 'a {
    fmt::from_fn(move |f| {
        let name = account.name(snapshot, client, over.whom);
        write!(f, "{name} may use {}; free again at {}", over.limit, clock(over.frees, now))
    })
}

/// A time to come as a person reads it: `12:34:56Z (in 7 s)`, with the date where it is not today.
fn clock(time: UnixMillis, now: UnixMillis) -> impl fmt::Display {
    const DAY_MILLIS: u64 = 86_400_000;
    fmt::from_fn(move |f| {
        // Rounded up: at the second that is told, it has come.
        let seconds = time.0.div_ceil(1000);
        let whole = UnixMillis(seconds * 1000);
        if whole.0 / DAY_MILLIS == now.0 / DAY_MILLIS {
            let of_day = seconds % 86_400;
            write!(f, "{:02}:{:02}:{:02}Z", of_day / 3600, of_day % 3600 / 60, of_day % 60)?;
        } else {
            write!(f, "{}", whole.rfc5322())?;
        }
        write!(f, " (in {} s)", time.since(now).div_ceil(1000))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_by_the_clock_and_by_the_wait() {
        let now = UnixMillis(1_795_390_496_789);
        assert_eq!(clock(now.plus(6_500), now).to_string(), "23:35:04Z (in 7 s)");
        assert_eq!(
            clock(now.plus(3_600_000), now).to_string(),
            "Mon, 23 Nov 2026 00:34:57 +0000 (in 3600 s)"
        );
    }
}
