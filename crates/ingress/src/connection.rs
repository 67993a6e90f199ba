//! One client's connection: the session, what the handler knows of the client, and the state of its I/O.

use std::net::IpAddr;
use std::sync::Arc;

use commons::{Account, GrantedIdentities, Grants, Hold, Listing, OverBudget, RecipientFinding};
use mail::{Envelope, MessageId, Ticket, UnixMillis, Verdict};
use policy::{IdentityIx, Snapshot, TenantIx};
use ring::{Handle, Instant, Socket, TimerKey};
use smtp::server::{Session, XClientRights};
use spool::LargeKey;

use crate::folds::Fold;
use crate::handler::admission::Leases;
use crate::handler::author::Authorship;
use crate::handler::login::Asked;
use crate::headers::HeaderScan;

/// A connection from its acceptance until its last operation is over.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) session: Session,
    pub(crate) client: Client,
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

/// What the handler knows of a client, and the transaction it is in. Its memory is used by the next connection again.
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
    pub(crate) waiting: Waiting,
    /// What the login under way is held against.
    pub(crate) asked: Asked,
    /// A denial that is being written: it goes to the control plane when the session has worked.
    pub(crate) denial: Option<Box<commons::Denial>>,
    /// The denials of its transaction that the log has a line of, and the others.
    pub(crate) denials_logged: u32,
    pub(crate) fold: Fold,
    /// Who answers for what it sends, as was known last.
    pub(crate) account: Account,
    /// Counts this connection as long as it lives.
    pub(crate) leases: Leases,
    /// What DNS lists say about its address.
    pub(crate) standing: Standing,
}

/// The mail transaction under way.
#[derive(Default)]
pub(crate) struct Transaction {
    pub(crate) open: bool,
    pub(crate) envelope: Envelope,
    pub(crate) tenant: Option<TenantIx>,
    /// The login or the grant that answers for its sender, where one does.
    pub(crate) identity: Option<IdentityIx>,
    pub(crate) body: Vec<u8>,
    pub(crate) body_bytes: u64,
    /// What the client said with SIZE; 0 where it said nothing.
    pub(crate) declared_bytes: u64,
    pub(crate) large: Option<LargeKey>,
    /// What it holds of the budgets for unfinished messages.
    pub(crate) hold: Option<Hold>,
    /// The budget that it did not fit in.
    pub(crate) over: Option<OverBudget>,
    pub(crate) headers: HeaderScan,
    pub(crate) authorship: Authorship,
    pub(crate) trace: Vec<u8>,
    /// What of a body that goes to a file does not: its header section, which a bounce quotes.
    pub(crate) head: Vec<u8>,
    /// Who answers for it, as the spool keeps it.
    pub(crate) sender: String,
    pub(crate) id: Option<MessageId>,
    /// When the last dot came.
    pub(crate) ended_at: Instant,
    /// The spool would not take a piece of the body: how the message will be answered.
    pub(crate) refused: Option<mail::Reason>,
    /// The denial that was told last: others for the same cause have its ticket.
    pub(crate) denied: Option<Denied>,
    /// The recipient that is being asked about.
    pub(crate) pending: String,
    /// What was found out about it.
    pub(crate) finding: Option<RecipientFinding>,
}

/// A denial that was told, within one transaction.
#[derive(Clone, Copy)]
pub(crate) struct Denied {
    pub(crate) ticket: Ticket,
    pub(crate) rule: policy::Rule,
    pub(crate) verdict: Verdict,
    /// The ticket is this transaction's own: what is denied further belongs to its record.
    pub(crate) is_recorded: bool,
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
    Listed(Box<Listing>),
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Nothing: the client's turn.
    Nothing,
    /// The verification of a login.
    Login,
    /// What DNS lists say about the client.
    Listing,
    /// What DNS, or the next hop, says about a recipient.
    Recipient,
    /// Room in the spool's open group.
    Room,
    /// The large file to take a piece, or to be synced.
    Large,
    /// The group with its message to be durable.
    Commit,
}

impl Connection {
    /// Takes up the published configuration where nothing is under way that began with another:
    /// an idle one holds none that is out of force.
    pub(crate) fn renew_if_idle(&mut self, latest: &Arc<Snapshot>) {
        let client = &mut self.client;
        if client.waiting == Waiting::Nothing && !client.transaction.open && !self.session.has_transaction() {
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
            transaction: Transaction::default(),
            waiting: Waiting::Nothing,
            asked: Asked::default(),
            denial: None,
            denials_logged: 0,
            fold: Fold::default(),
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

    /// Whose client it is: the transaction's tenant, and before a recipient has said that, the tenant of
    /// the login, or of the network where no login was made.
    pub(crate) fn tenant(&self) -> Option<TenantIx> {
        self.transaction.tenant.or_else(|| match self.identity {
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
}

impl Transaction {
    /// Who is charged for it: the login or the grant that answers for its sender, else who has logged
    /// in; empty without a login.
    pub(crate) fn charged_to<'a>(&self, login: &'a str, snapshot: &'a Snapshot) -> &'a str {
        self.identity.map_or(login, |identity| snapshot.identity_login(identity))
    }

    /// Forgets the message; the memory stays, unless the message made it large.
    pub(crate) fn clear(&mut self) {
        const KEPT_BYTES_MAX: usize = 64 << 10;
        self.open = false;
        self.envelope.clear();
        self.tenant = None;
        self.identity = None;
        self.body.clear();
        self.body.shrink_to(KEPT_BYTES_MAX);
        self.head = Vec::new();
        self.body_bytes = 0;
        self.declared_bytes = 0;
        self.hold = None;
        self.over = None;
        self.headers.clear();
        self.authorship.clear();
        self.id = None;
        self.refused = None;
        self.denied = None;
        self.pending.clear();
        self.finding = None;
    }
}
