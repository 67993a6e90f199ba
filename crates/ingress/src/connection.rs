//! One client's connection: the session, what the handler knows of the client, and the state of its I/O.

use std::net::IpAddr;
use std::sync::Arc;

use commons::{Account, GrantedIdentities, Grants, Listing};
use mail::{Reason, UnixMillis};
use policy::{IdentityIx, Snapshot, TenantIx};
use ring::{Handle, Instant, Socket, TimerKey};
use smtp::server::{Session, XClientRights};

use crate::handler::denial::Denials;
use crate::handler::login::Attempt;
use crate::leases::Leases;
use crate::refusal::Refusal;
use crate::transaction::{Buffers, Transaction};

/// A connection from its acceptance until its last operation is over.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) session: Session,
    pub(crate) client: Client,
    pub(crate) denials: Denials,
    pub(crate) receiving: bool,
    pub(crate) sending: bool,
    /// The peer has sent its last byte, or is gone.
    pub(crate) ended: bool,
    /// When the next whole step must have come (RFC 5321 section 4.5.3.2).
    pub(crate) deadline: Instant,
    pub(crate) timer: TimerKey,
    /// It waits for its turn: what it asks for is refused, one after the other.
    pub(crate) yielding: bool,
    /// The buffer that is not with the ring.
    pub(crate) spare: Vec<u8>,
}

/// What the handler knows of a client, and the transaction it is in.
pub(crate) struct Client {
    pub(crate) key: Handle,
    pub(crate) listener: usize,
    /// Who connected.
    pub(crate) peer: IpAddr,
    /// Whose connection it is: the peer's, or whom a listed peer speaks for. Unspecified for a client
    /// without an address.
    pub(crate) address: IpAddr,
    /// What this peer may say with XCLIENT.
    pub(crate) xclient: XClientRights,
    pub(crate) helo: String,
    /// XCLIENT told the name: what the proxy calls itself does not replace it.
    pub(crate) helo_is_told: bool,
    pub(crate) extended: bool,
    pub(crate) tls: bool,
    /// Protocol version and cipher suite.
    pub(crate) tls_name: String,
    /// Who has logged in; empty without a login.
    pub(crate) login: String,
    pub(crate) identity: Option<IdentityIx>,
    /// Who has just logged in to a mailbox from its address.
    pub(crate) granted: GrantedIdentities,
    /// The configuration that the transaction began with, or the latest.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) transaction: Transaction,
    /// What its transactions use one after the other.
    pub(crate) buffers: Buffers,
    /// The login under way.
    pub(crate) attempt: Attempt,
    /// Who answers for what it sends, as was known last.
    pub(crate) account: Account,
    /// Counts this connection as long as it lives.
    pub(crate) leases: Leases,
    /// What DNS lists say about its address.
    pub(crate) standing: Standing,
}

/// What DNS lists say about a client.
#[derive(Debug)]
pub(crate) enum Standing {
    /// They have not been asked.
    Unknown,
    /// The question is on its way.
    Asked,
    /// Nothing, or nothing that was heard.
    Clear,
    /// It stands on one.
    Listed(Arc<Listing>),
}

impl Connection {
    /// Takes up the published configuration where nothing is under way that began with another:
    /// an idle one holds none that is out of force.
    pub(crate) fn renew_if_idle(&mut self, latest: &Arc<Snapshot>) {
        let client = &mut self.client;
        let is_idle = client.transaction.is_none() && !client.attempt.is_verified();
        if is_idle && !self.session.has_transaction() {
            client.renew_snapshot(latest);
        }
    }
}

impl Client {
    /// Who has just connected: nothing is known but where from.
    pub(crate) fn new(key: Handle, listener: usize, peer: IpAddr, snapshot: Arc<Snapshot>) -> Self {
        Self {
            key,
            listener,
            peer,
            address: peer,
            xclient: XClientRights::None,
            helo: String::new(),
            helo_is_told: false,
            extended: false,
            tls: false,
            tls_name: String::new(),
            login: String::new(),
            identity: None,
            granted: GrantedIdentities::default(),
            snapshot,
            transaction: Transaction::None,
            buffers: Buffers::default(),
            attempt: Attempt::None,
            account: Account::default(),
            leases: Leases::default(),
            standing: Standing::Unknown,
        }
    }

    /// The proxy, where one speaks for this client.
    pub(crate) fn proxy(&self) -> Option<IpAddr> {
        (self.peer != self.address).then_some(self.peer)
    }

    /// Takes up the published configuration, and nothing that was found in the one before: a login
    /// that it no longer knows, or that is another tenant's now, is none.
    pub(crate) fn renew_snapshot(&mut self, latest: &Arc<Snapshot>) {
        if self.snapshot.generation == latest.generation {
            return;
        }
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(latest));
        self.identity = self.identity.and_then(|known| {
            let renewed = latest.identity(&self.login)?;
            let known = &before.tenant(before.identity_tenant(known)).name;
            let is_same = *known == latest.tenant(latest.identity_tenant(renewed)).name;
            is_same.then_some(renewed)
        });
        self.account = Account::default();
        self.granted = GrantedIdentities::default();
    }

    /// Its session waits for an answer, and not for the client.
    pub(crate) fn waits(&self) -> bool {
        self.attempt.is_verified() || self.transaction.awaits().is_some() || self.transaction.awaits_spool()
    }

    /// Whose client it is: the transaction's tenant, and before a recipient has said that, the tenant of
    /// the login, or of the network where no login was made.
    pub(crate) fn tenant(&self) -> Option<TenantIx> {
        self.transaction.tenant().or_else(|| match self.identity {
            Some(identity) => Some(self.snapshot.identity_tenant(identity)),
            None => self.snapshot.network_tenant(self.address),
        })
    }

    /// What policy is told of this client.
    pub(crate) fn facts<'a>(&'a self, listener: &'a policy::Listener) -> policy::Facts<'a> {
        policy::Facts {
            listener,
            client: self.address,
            tls: self.tls,
            identity: self.identity,
            grants: self.granted.as_slice(),
        }
    }

    /// Looks up the grants of its address: at each recipient, since they end on time. A client that
    /// has logged in needs none.
    pub(crate) fn renew_grants(&mut self, grants: &Grants, now: UnixMillis) {
        self.granted = match self.identity {
            Some(_) => GrantedIdentities::default(),
            None => grants.of(self.address, now, &self.snapshot),
        };
    }

    /// The refusal for a reason about which no decision was asked.
    pub(crate) fn refusal_for(&self, reason: Reason) -> Refusal {
        Refusal::for_reason(reason, self.tenant())
    }

    /// The refusal of what the spool does not take now.
    pub(crate) fn refusal_of_spool(&self, refusal: spool::Refusal) -> Refusal {
        Refusal::of_spool(refusal, self.tenant())
    }

    /// Who is charged for its message: the login or the grant that answers for its sender, else who has logged
    /// in; empty without a login.
    pub(crate) fn charged(&self) -> &str {
        let identity = self.transaction.responsible().and_then(|responsible| responsible.identity);
        identity.map_or(&self.login, |identity| self.snapshot.identity_login(identity))
    }

    /// Its message is answered: what was known of it is forgotten.
    pub(crate) fn forget_message(&mut self) {
        self.transaction = Transaction::None;
        self.buffers.clear();
    }
}
