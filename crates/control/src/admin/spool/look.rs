//! A walk through the queue: worker after worker, then the places that the start found damaged.

use std::fmt;
use std::time::Duration;

use commons::{QueuePage, QueuePageRequest, QueuedMessage, QueuedRecipient};
use mail::{MessageId, QueueState, UnixMillis};
use ring::RealDisk;
use serde_json::{Value, json};
use spool::inspect::{self, ListedMessage, StoredRecord};
use spool::{Damage, Place};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::super::Admin;
use super::super::access::Principal;
use super::super::problem::Problem;
use super::filter::Wanted;
use crate::now;

/// A walk that finds little ends after this, and says from where to go on.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Messages asked of a worker at once where most may not be wanted.
const SIFTED_MESSAGES: usize = 200;

/// Messages shown of damaged places, at most: a damaged device holds no end of them.
const DAMAGED_MESSAGES_MAX: usize = 500;

/// From where a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// A slot of a worker's queue.
    Queue { worker: u8, slot: u32 },
    /// What lies in damaged places.
    Damage,
}

/// A message as it was seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) worker: u8,
    /// `None` for one in a damaged place, of which no worker knows.
    pub(super) queued: Option<QueuedMessage>,
    recipients: Vec<QueuedRecipient>,
    id: MessageId,
    place: Place,
    is_sound: bool,
    message: Option<ListedMessage>,
}

impl Cursor {
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Problem> {
        let Some(text) = text else { return Ok(Self::Queue { worker: 0, slot: 0 }) };
        let numbers = || {
            let (worker, slot) = text.split_once('.')?;
            Some(Self::Queue { worker: worker.parse().ok()?, slot: slot.parse().ok()? })
        };
        let parsed = if text == "damage" { Some(Self::Damage) } else { numbers() };
        parsed.ok_or_else(|| Problem::malformed("a cursor is what \"next\" said, unaltered"))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue { worker, slot } => write!(f, "{worker}.{slot}"),
            Self::Damage => f.write_str("damage"),
        }
    }
}

impl Seen {
    pub(super) fn id(&self) -> MessageId {
        self.id
    }

    pub(super) fn is_of(&self, principal: &Principal) -> bool {
        self.message.as_ref().is_some_and(|message| principal.is_for(&message.tenant))
    }

    /// Not what the worker said lies there, and not known to be damaged.
    fn is_doubtful(&self) -> bool {
        let is_known = self.recipients.iter().any(|one| one.state == QueueState::Quarantined);
        self.queued.is_some() && !self.is_sound && !is_known
    }

    fn waits(&self, index: usize) -> bool {
        self.queued.is_none() || self.recipients.iter().any(|one| usize::from(one.index) == index)
    }

    /// The state that speaks for the message: the one that most needs a person.
    fn state(&self) -> QueueState {
        let urgency = |state: &QueueState| match state {
            QueueState::Quarantined => 4,
            QueueState::Held => 3,
            QueueState::Active => 2,
            QueueState::Ready => 1,
            QueueState::Deferred => 0,
        };
        let states = self.recipients.iter().map(|recipient| recipient.state);
        states.max_by_key(urgency).unwrap_or(QueueState::Quarantined)
    }

    pub(super) fn as_json(&self) -> Value {
        let message = self.message.as_ref();
        let arrived = self.queued.as_ref().map(|queued| queued.arrived);
        let arrived = arrived.or_else(|| message.map(|message| message.arrived));
        let mut shown = json!({
            "id": self.id.to_string(),
            "shard": self.place.shard,
            "state": self.state().as_str(),
            "arrived": arrived.map(|arrived| arrived.rfc3339().to_string()),
            "sound": self.is_sound,
            "queued": self.queued.is_some(),
        });
        if let Some(message) = message {
            shown["tenant"] = message.tenant.as_str().into();
            shown["identity"] = message.identity.as_str().into();
            shown["from"] = message.reverse_path.as_str().into();
            shown["bytes"] = message.content_bytes.into();
            shown["refused"] = message.foreign.map(|foreign| foreign.to_string()).into();
        }
        shown["recipients"] = self.recipients_as_json().into();
        shown
    }

    fn recipients_as_json(&self) -> Vec<Value> {
        let shown = |index: usize, address: Option<&str>| {
            let found = self.recipients.iter().find(|one| usize::from(one.index) == index);
            match found {
                Some(recipient) => json!({
                    "address": address,
                    "state": recipient.state.as_str(),
                    "attempts": recipient.attempts,
                    "not_before": (recipient.until > UnixMillis(0)).then(|| recipient.until.rfc3339().to_string()),
                    "site": recipient.site.as_deref(),
                    "next_hop": recipient.reply.as_ref().and_then(|reply| reply.next_hop.as_deref()),
                    "reply": recipient.reply.as_ref().map(|reply| reply.told_to(address.unwrap_or("?"))),
                }),
                None if self.queued.is_some() => json!({ "address": address, "state": "done" }),
                None => json!({ "address": address, "state": "quarantined" }),
            }
        };
        match &self.message {
            Some(message) => {
                let all = message.recipients.iter().enumerate();
                all.map(|(index, recipient)| shown(index, Some(&recipient.address))).collect()
            }
            None => self.recipients.iter().map(|one| shown(usize::from(one.index), None)).collect(),
        }
    }
}

impl Admin {
    /// The next messages that are wanted, about `limit` of them, and from where to go on. One that is wanted
    /// by its id is looked for to the end.
    pub(super) async fn look(
        &self,
        wanted: &Wanted,
        mut cursor: Cursor,
        limit: usize,
    ) -> Result<(Vec<Seen>, Option<Cursor>), Problem> {
        let (mut seen, until) = (Vec::new(), Instant::now() + LOOK_MAX);
        let arrived_before = wanted.older_than.map(|age| {
            UnixMillis(now().0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
        });
        loop {
            let Cursor::Queue { worker, slot } = cursor else {
                seen.extend(self.damaged(wanted, arrived_before).await?);
                return Ok((seen, None));
            };
            if usize::from(worker) >= self.0.commons.workers() {
                cursor = Cursor::Damage;
                continue;
            }
            let left = limit - seen.len();
            let page = self
                .page(
                    worker,
                    QueuePageRequest {
                        from: slot,
                        messages_max: if wanted.needs_envelope() { SIFTED_MESSAGES.min(left) } else { left },
                        state: wanted.state,
                        arrived_before,
                        id: wanted.id,
                    },
                )
                .await?;
            cursor = match page.next {
                Some(slot) => Cursor::Queue { worker, slot },
                None => Cursor::Queue { worker: worker + 1, slot: 0 },
            };
            let page = self.read(worker, page).await?;
            let page = self.without_gone(page).await?;
            seen.extend(page.into_iter().filter(|seen| {
                let fits = |message| wanted.fits(message, |index| seen.waits(index));
                seen.message.as_ref().map_or(!wanted.needs_envelope(), fits)
            }));
            if wanted.id.is_some() {
                if !seen.is_empty() {
                    return Ok((seen, None));
                }
            } else if seen.len() >= limit || Instant::now() >= until {
                return Ok((seen, Some(cursor)));
            }
        }
    }

    /// A message by its id, wherever it is.
    pub(super) async fn find(&self, id: MessageId) -> Result<Option<Seen>, Problem> {
        let (mut seen, _) = self.look(&Wanted::one(id), Cursor::parse(None)?, 1).await?;
        Ok(seen.pop())
    }

    /// The record of a message, read once more.
    pub(super) async fn record_of(&self, seen: &Seen) -> Result<Option<StoredRecord>, Problem> {
        let (directory, id, place) = (self.0.node.spool.path.clone(), seen.id, seen.place);
        blocking(move || {
            let mut found = None;
            inspect::read(&mut RealDisk::default(), &directory, [place], |record| found = record)?;
            // A damaged record may have lost its id, too; that it lies there the worker has said.
            Ok(found.filter(|record| record.id == id || !record.is_sound))
        })
        .await
    }

    /// Leaves out what was queued a moment ago and is gone, or lies elsewhere by now: its place may have been
    /// written anew. What is queued there still is damaged, unnoticed until now.
    async fn without_gone(&self, page: Vec<Seen>) -> Result<Vec<Seen>, Problem> {
        let mut there = Vec::with_capacity(page.len());
        for seen in page {
            let Some(slot) = seen.queued.as_ref().map(|queued| queued.slot).filter(|_| seen.is_doubtful())
            else {
                there.push(seen);
                continue;
            };
            let again = QueuePageRequest {
                from: slot,
                messages_max: 1,
                state: None,
                arrived_before: None,
                id: Some(seen.id),
            };
            let again = self.page(seen.worker, again).await?;
            let place_now = again.messages.first().filter(|now| now.slot == slot).map(place);
            if place_now == Some(seen.place) {
                there.push(seen);
            } else if place_now.is_some() {
                let moved = self.read(seen.worker, again).await?;
                there.extend(moved.into_iter().filter(|seen| !seen.is_doubtful()));
            }
        }
        Ok(there)
    }

    /// Adds to a page what the envelopes say.
    async fn read(&self, worker: u8, page: QueuePage) -> Result<Vec<Seen>, Problem> {
        if page.messages.is_empty() {
            return Ok(Vec::new());
        }
        let directory = self.0.node.spool.path.clone();
        blocking(move || {
            let QueuePage { messages, recipients, .. } = page;
            let places: Vec<_> = messages.iter().map(place).collect();
            let mut seen = Vec::with_capacity(messages.len());
            let (mut messages, mut recipients) = (messages.into_iter(), recipients.into_iter());
            inspect::read(&mut RealDisk::default(), &directory, places, |record| {
                let Some(queued) = messages.next() else { return };
                let recipients: Vec<_> = recipients.by_ref().take(queued.recipients as usize).collect();
                let record = record.filter(|record| record.is_sound && record.id == queued.id);
                seen.push(Seen {
                    worker,
                    id: queued.id,
                    place: place(&queued),
                    is_sound: record.is_some(),
                    message: record.and_then(|record| record.message),
                    recipients,
                    queued: Some(queued),
                });
            })?;
            Ok(seen)
        })
        .await
    }

    /// The messages that can be made out in damaged places.
    async fn damaged(
        &self,
        wanted: &Wanted,
        arrived_before: Option<UnixMillis>,
    ) -> Result<Vec<Seen>, Problem> {
        if wanted.state.is_some_and(|state| state != QueueState::Quarantined) {
            return Ok(Vec::new());
        }
        let damage: Vec<Damage> =
            self.0.recovery.iter().flat_map(|shard| shard.damage().iter().cloned()).collect();
        if damage.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = wanted.clone();
        let workers = self.0.recovery.len().max(1);
        blocking(move || {
            let mut seen = Vec::new();
            inspect::damaged(&mut RealDisk::default(), &damage, |record| {
                let StoredRecord { id, place, is_sound, message, .. } = record;
                let one = Seen {
                    // Where a shard has no worker, another adopted it.
                    worker: (usize::from(place.shard) % workers) as u8,
                    queued: None,
                    recipients: Vec::new(),
                    id,
                    place,
                    is_sound,
                    message,
                };
                let is_old =
                    |message: &ListedMessage| arrived_before.is_none_or(|before| message.arrived < before);
                let fits = |message: &ListedMessage| wanted.fits(message, |_| true) && is_old(message);
                let is_wanted = wanted.id.is_none_or(|id| id == one.id)
                    && one.message.as_ref().map_or(!wanted.needs_envelope(), fits);
                if is_wanted && seen.len() < DAMAGED_MESSAGES_MAX {
                    seen.push(one);
                }
            })?;
            Ok(seen)
        })
        .await
    }
}

fn place(message: &QueuedMessage) -> Place {
    let (segment, offset, length) = message.record;
    Place { shard: message.shard, segment, offset, length }
}

/// Reads files where no other request waits for it.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, spool::SpoolError> + Send + 'static,
) -> Result<T, Problem> {
    spawn_blocking(read).await.map_err(Problem::unreadable)?.map_err(Problem::unreadable)
}
