//! The mail transaction of a client, as an enum of its phases: each owns what is true in it, and nothing else.
//! What is used again by the next one stands apart, in [`Buffers`].

use commons::Hold;
use mail::{Envelope, MessageId};
use policy::{IdentityIx, TenantIx};
use ring::Instant;
use spool::{Content, LargeKey};

use crate::handler::author::Authorship;
use crate::headers::HeaderScan;
use crate::refusal::Refusal;

/// The transaction under way. Its sender, its recipients and a body in memory are in [`Buffers`].
#[derive(Default)]
pub(crate) enum Transaction {
    /// There is none.
    #[default]
    None,
    /// MAIL was taken: recipients come.
    Envelope(Opening),
    /// DATA was taken: the message comes.
    Body(Incoming),
    /// The message is refused: what still comes of it is dropped, and its end is told why.
    GivenUp(GivenUp),
    /// The message is whole, and the spool has it.
    Message(Message),
}

/// What is known before the message comes.
pub(crate) struct Opening {
    /// What the client said with SIZE; 0 where it said nothing.
    pub(crate) declared_bytes: u64,
    /// Set by the first recipient that was taken.
    pub(crate) responsible: Option<Responsible>,
    pub(crate) authorship: Authorship,
    /// What the recipient in [`Buffers::asked`] waits for.
    pub(crate) awaits: Option<LookUp>,
}

/// Who answers for a message.
#[derive(Clone, Copy)]
pub(crate) struct Responsible {
    pub(crate) tenant: TenantIx,
    /// The login or the grant that answers for its sender, where one does.
    pub(crate) identity: Option<IdentityIx>,
}

/// What is looked up before a recipient is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookUp {
    /// What DNS lists say about the client.
    Listing,
    /// What DNS, or the next hop, says about the recipient.
    Recipient,
}

/// A message that comes in.
pub(crate) struct Incoming {
    pub(crate) responsible: Responsible,
    pub(crate) declared_bytes: u64,
    /// So much has come.
    pub(crate) bytes: u64,
    pub(crate) authorship: Authorship,
    pub(crate) large: Option<Large>,
    /// Its file takes no more for now.
    pub(crate) is_paused: bool,
}

/// A body that goes to a file of the spool's.
pub(crate) struct Large {
    pub(crate) key: LargeKey,
    /// What does not go there: the header section, which a bounce quotes.
    pub(crate) head: Vec<u8>,
    /// What it holds of the budgets for unfinished messages.
    pub(crate) hold: Hold,
}

/// A message that is refused before its end.
pub(crate) struct GivenUp {
    pub(crate) responsible: Responsible,
    pub(crate) refusal: Refusal,
}

/// A message that came whole.
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) responsible: Responsible,
    pub(crate) bytes: u64,
    /// When the last dot came.
    pub(crate) ended_at: Instant,
    pub(crate) stage: Stage,
}

/// What the spool does with a message.
pub(crate) enum Stage {
    /// Its file is being made durable.
    Finishing(Large),
    /// It waits for room in the open group.
    Parked(Option<Large>),
    /// The group with it is being written. It keeps its part of the budgets until then.
    Committing { _hold: Option<Hold> },
}

/// Memory that one transaction after the other uses: a session that goes on allocates nothing for them.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) envelope: Envelope,
    /// A recipient that is being asked about, alone.
    pub(crate) asked: Envelope,
    pub(crate) headers: HeaderScan,
    /// The body, as far as it is in no file.
    pub(crate) body: Vec<u8>,
    /// Our trace field, and the head of a large body.
    pub(crate) trace: Vec<u8>,
    /// Who answers for the message, as the spool keeps it.
    pub(crate) sender: String,
}

impl Transaction {
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Who answers for the recipients taken so far.
    pub(crate) fn responsible(&self) -> Option<Responsible> {
        match self {
            Self::None => None,
            Self::Envelope(opening) => opening.responsible,
            Self::Body(Incoming { responsible, .. })
            | Self::GivenUp(GivenUp { responsible, .. })
            | Self::Message(Message { responsible, .. }) => Some(*responsible),
        }
    }

    /// Whose it is, once a recipient has said that.
    pub(crate) fn tenant(&self) -> Option<TenantIx> {
        self.responsible().map(|responsible| responsible.tenant)
    }

    /// What the client said with SIZE, as long as recipients come.
    pub(crate) fn declared_bytes(&self) -> u64 {
        match self {
            Self::Envelope(opening) => opening.declared_bytes,
            _ => 0,
        }
    }

    /// The client waits for the spool.
    pub(crate) fn awaits_spool(&self) -> bool {
        match self {
            Self::None | Self::Envelope(_) | Self::GivenUp(_) => false,
            Self::Body(incoming) => incoming.is_paused,
            Self::Message(_) => true,
        }
    }

    /// A recipient waits for what is looked up.
    pub(crate) fn awaits(&self) -> Option<LookUp> {
        match self {
            Self::Envelope(opening) => opening.awaits,
            _ => None,
        }
    }

    /// The message whose group is being written.
    pub(crate) fn committing(&self) -> Option<&Message> {
        match self {
            Self::Message(message) if matches!(message.stage, Stage::Committing { .. }) => Some(message),
            _ => None,
        }
    }

    /// The file of the message is being made durable.
    pub(crate) fn is_finishing(&self) -> bool {
        matches!(self, Self::Message(Message { stage: Stage::Finishing(_), .. }))
    }

    /// The message waits for room in the open group.
    pub(crate) fn is_parked(&self) -> bool {
        matches!(self, Self::Message(Message { stage: Stage::Parked(_), .. }))
    }

    /// DATA was taken, of recipients for whom `responsible` answers.
    pub(crate) fn begin_body(&mut self, responsible: Responsible) {
        if let Self::Envelope(Opening { declared_bytes, authorship, .. }) = std::mem::take(self) {
            let large = None;
            let incoming =
                Incoming { responsible, declared_bytes, bytes: 0, authorship, large, is_paused: false };
            *self = Self::Body(incoming);
        }
    }

    /// Ends it; gives the file that nothing but this transaction knows of.
    pub(crate) fn end(&mut self) -> Option<Large> {
        match std::mem::take(self) {
            Self::Body(incoming) => incoming.large,
            Self::Message(message) => message.stage.into_large(),
            Self::None | Self::Envelope(_) | Self::GivenUp(_) => None,
        }
    }
}

impl Opening {
    pub(crate) fn new(declared_bytes: u64) -> Self {
        Self { declared_bytes, responsible: None, authorship: Authorship::default(), awaits: None }
    }
}

impl Stage {
    fn into_large(self) -> Option<Large> {
        match self {
            Self::Finishing(large) => Some(large),
            Self::Parked(large) => large,
            Self::Committing { .. } => None,
        }
    }

    /// What of the message the group is to have beside its trace field: where its body is, and of one in a file the
    /// header section. `None` where the group has it already.
    pub(crate) fn content<'a>(&'a self, body: &'a [u8]) -> Option<(Content<'a>, &'a [u8])> {
        match self {
            Self::Finishing(large) | Self::Parked(Some(large)) => {
                Some((Content::Large(large.key), &large.head))
            }
            Self::Parked(None) => Some((Content::Inline(body), &[])),
            Self::Committing { .. } => None,
        }
    }

    /// The group has no room: the message waits for the next.
    pub(crate) fn park(&mut self) {
        let large = std::mem::replace(self, Self::Parked(None)).into_large();
        *self = Self::Parked(large);
    }

    /// The group has the message.
    pub(crate) fn commit(&mut self) {
        let large = std::mem::replace(self, Self::Parked(None)).into_large();
        *self = Self::Committing { _hold: large.map(|large| large.hold) };
    }
}

impl Buffers {
    /// Forgets the message; the memory stays, unless the message made it large.
    pub(crate) fn clear(&mut self) {
        const KEPT_BYTES_MAX: usize = 64 << 10;
        self.envelope.clear();
        self.asked.clear();
        self.headers.clear();
        self.body.clear();
        self.body.shrink_to(KEPT_BYTES_MAX);
    }
}
