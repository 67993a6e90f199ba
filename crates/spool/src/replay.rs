//! Replaying a shard's records, oldest first, into its index; and the mail that is then found queued.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::vec;

use hashbrown::HashTable;
use mail::{Address, MessageId, UnixMillis};
use ring::Pages;

use crate::footer::{About, Summary};
use crate::index::{self, Deferral, Entry};
use crate::record::{MessageView, Outcomes, Record, Schedule};
use crate::recovery::State;
use crate::references;
use crate::replies::{Replies, ReplyIx};
use crate::scan::Seen;
use crate::shard::noting::is_order;
use crate::{Foreign, MessageKey, Outcome, PendingRecipient, Recovered};

/// A text that many messages share, by its number.
#[derive(Clone, Copy)]
struct Name(u32);

/// Tenants and domains, each once.
#[derive(Default)]
struct Names {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Names {
    fn number(&mut self, text: &str) -> Name {
        if let Some(&number) = self.numbers.get(text) {
            return Name(number);
        }
        let (text, number): (Arc<str>, _) = (text.into(), self.texts.len() as u32);
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        Name(number)
    }

    fn text(&self, name: Name) -> Arc<str> {
        Arc::clone(&self.texts[name.0 as usize])
    }
}

/// What the schedule must know of a message and the index does not.
struct Facts {
    id: [u8; 10],
    tenant: Name,
    /// What was last said of its recipients, as it was when all records were seen.
    reply: ReplyIx,
    arrived: UnixMillis,
    recipients: Recipients,
}

/// Most messages have one.
enum Recipients {
    One(Recipient),
    Many(Box<[Recipient]>),
}

struct Recipient {
    domain: Name,
    not_before: UnixMillis,
    attempts: u16,
    is_under_way: bool,
    is_settled: bool,
}

impl Recipients {
    fn as_slice(&self) -> &[Recipient] {
        match self {
            Self::One(recipient) => std::slice::from_ref(recipient),
            Self::Many(recipients) => recipients,
        }
    }

    fn get_mut(&mut self, index: u16) -> Option<&mut Recipient> {
        match self {
            Self::One(recipient) => (index == 0).then_some(recipient),
            Self::Many(recipients) => recipients.get_mut(usize::from(index)),
        }
    }
}

/// What the records so far amount to.
///
/// A start holds all of it for each message of the log beside what stays for good: no text twice, no
/// table that holds ids, and pages that do not double.
#[derive(Default)]
pub(crate) struct Replay {
    /// The segment whose records come now.
    segment: u32,
    /// By slot.
    facts: Pages<Facts>,
    /// The slots, to be found by the ids that their facts have.
    slots: HashTable<u32>,
    hasher: RandomState,
    names: Names,
    /// Outcomes of messages that are not known, with their segment. Where a segment's header is damaged, the
    /// message may still come.
    unknown: Vec<(u32, MessageId, u16, Outcome)>,
    /// Records that are not understood, with their segment and the messages that they speak of.
    foreign: Vec<(u32, MessageId, Foreign)>,
    summary: Summary,
}

impl Replay {
    /// The records of another segment come now.
    pub(crate) fn begin(&mut self, segment: u32) {
        self.segment = segment;
        self.summary.clear();
    }

    /// Gives the summary of the segment whose records came last, for the old one.
    pub(crate) fn keep_summary(&mut self, summary: &mut Summary) {
        std::mem::swap(summary, &mut self.summary);
    }

    /// Messages so far, those that have all their outcomes included.
    pub(crate) fn messages(&self) -> usize {
        self.slots.len()
    }

    /// The slot of the message of this id.
    fn slot(&self, id: MessageId) -> Option<u32> {
        let id = id.to_bytes();
        self.slots.find(self.hasher.hash_one(id), |&slot| self.facts[slot].id == id).copied()
    }

    pub(crate) fn take(&mut self, state: &mut State, seen: &Seen<'_>) {
        let slot = match seen.record {
            Record::Message(view) => Some(self.message(state, seen, &view)),
            _ => self.slot(seen.id),
        };
        self.foreign.extend(seen.record.foreign().map(|foreign| (self.segment, seen.id, foreign)));
        let about = match seen.record {
            Record::Outcome(outcomes) => self.outcomes(state, seen.id, slot, &outcomes),
            Record::Message(_) => slot.map_or(About::Elsewhere, |slot| About::Here(key_of(slot))),
            Record::Attempt(schedule) | Record::Deferred(schedule) => {
                // Without its message, it will not be asked for.
                let Some(slot) = slot else { return };
                self.schedule(state, slot, &schedule, matches!(seen.record, Record::Attempt(_)));
                About::Here(key_of(slot))
            }
            // Its segment stays as it is, for as long as its message is queued.
            Record::Foreign(_) => About::Elsewhere,
            Record::Other => {
                let Some(slot) = slot else { return };
                About::Here(key_of(slot))
            }
        };
        self.summary.note_outline(about, seen.offset, seen.outline());
    }

    fn message(&mut self, state: &mut State, seen: &Seen<'_>, view: &MessageView<'_>) -> u32 {
        let (offset, length) = (seen.offset as u32, seen.length() as u32);
        if let Some(slot) = self.slot(seen.id) {
            // A copy by compaction: what holds for the one holds for the other.
            if let Some(entry) = state.index.get_mut(key_of(slot)) {
                let before = std::mem::replace(&mut entry.segment, self.segment);
                (entry.offset, entry.length, entry.is_copy) = (offset, length, true);
                references::refer_to_origin(&mut state.segments, self.segment, before);
            }
            return slot;
        }
        let large = view.large().map(|large| large.number);
        let entry = Entry {
            segment: self.segment,
            offset,
            length,
            group: 0,
            recipients: index::Recipients::pending(recipients_of(view)),
            deferral: Deferral::default(),
            outcomes_open: 0,
            reply: ReplyIx::NONE,
            id: seen.id.to_bytes(),
            is_large: large.is_some(),
            is_copy: false,
        };
        let slot = state.index.insert(entry, large).0 as u32;
        self.note_facts(seen.id.to_bytes(), view);
        slot
    }

    /// Takes in what is not in the index of the message in the next slot.
    fn note_facts(&mut self, id: [u8; 10], view: &MessageView<'_>) {
        let mut texts = view.recipient_texts();
        let domains = (0..recipients_of(view)).map(|_| {
            let address = texts.next().and_then(|text| Address::parse(text).ok());
            address.map_or("", Address::domain)
        });
        let mut recipients = domains.map(|domain| Recipient {
            domain: self.names.number(domain),
            not_before: UnixMillis(0),
            attempts: 0,
            is_under_way: false,
            is_settled: false,
        });
        let recipients = match (recipients.len(), recipients.next()) {
            (1, Some(recipient)) => Recipients::One(recipient),
            (_, first) => Recipients::Many(first.into_iter().chain(recipients).collect()),
        };
        let tenant = self.names.number(view.tenant());
        let slot =
            self.facts.push(Facts { id, tenant, reply: ReplyIx::NONE, arrived: view.arrived(), recipients });
        let Self { facts, hasher, .. } = self;
        self.slots.insert_unique(hasher.hash_one(id), slot, |&slot| hasher.hash_one(facts[slot].id));
    }

    fn schedule(&mut self, state: &mut State, slot: u32, schedule: &Schedule<'_>, is_attempt: bool) {
        // What an operator says counts whatever attempts were noted meanwhile.
        let is_order = !is_attempt && is_order(schedule.time());
        for recipient in schedule.recipients() {
            let progress = self.facts[slot].recipients.get_mut(recipient);
            let Some(progress) = progress.filter(|progress| !progress.is_settled) else { continue };
            if is_attempt {
                progress.is_under_way = true;
            } else if is_order || schedule.attempts() >= progress.attempts {
                progress.is_under_way = false;
                progress.not_before = schedule.time();
            }
            progress.attempts = progress.attempts.max(schedule.attempts());
        }
        let Some(entry) = state.index.get_mut(key_of(slot)) else { return };
        if is_attempt {
            (entry.deferral.attempts, entry.deferral.is_under_way) = (schedule.attempts(), true);
        } else {
            entry.deferral = Deferral::until(schedule.time(), schedule.attempts());
        }
        let segment = entry.segment;
        if !is_attempt {
            state.index.note_said(key_of(slot), schedule.fields(), schedule.recipients());
        }
        if is_order {
            references::refer(&mut state.segments, self.segment, segment);
        }
    }

    fn outcomes(
        &mut self,
        state: &mut State,
        id: MessageId,
        slot: Option<u32>,
        outcomes: &Outcomes<'_>,
    ) -> About {
        let Some(slot) = slot else {
            let segment = self.segment;
            let unknown = outcomes.outcomes().map(|(recipient, outcome)| (segment, id, recipient, outcome));
            self.unknown.extend(unknown);
            return About::Elsewhere;
        };
        for (recipient, outcome) in outcomes.outcomes() {
            self.settle(state, self.segment, slot, recipient, outcome);
        }
        match state.index.get(key_of(slot)) {
            Some(entry) if entry.segment == self.segment && !entry.is_copy => About::Here(key_of(slot)),
            _ => About::Elsewhere,
        }
    }

    fn settle(&mut self, state: &mut State, segment: u32, slot: u32, recipient: u16, outcome: Outcome) {
        if let Some(entry) = state.index.get_mut(key_of(slot)) {
            entry.recipients.settle(recipient, outcome);
            entry.deferral.is_under_way = false;
            references::refer(&mut state.segments, segment, entry.segment);
        }
        if let Some(recipient) = self.facts[slot].recipients.get_mut(recipient) {
            (recipient.is_settled, recipient.is_under_way) = (true, false);
        }
    }

    /// All records were seen: leaves in the index what is queued, counts it, and gives it in the order in which it came.
    pub(crate) fn finish(mut self, state: &mut State) -> RecoveredMail {
        for (segment, id, recipient, outcome) in std::mem::take(&mut self.unknown) {
            match self.slot(id) {
                Some(slot) => self.settle(state, segment, slot, recipient, outcome),
                // Its message was done when its segment's footer was written. Should that footer be lost, the
                // groups will show the message again: until every older segment is gone, this outcome must stay.
                None => refer_to_older(state, segment),
            }
        }
        let foreign = self.set_foreign_apart(state);
        let Self { mut facts, names, slots, .. } = self;
        drop(slots);
        let mut queued = Vec::new();
        for slot in 0..facts.len() {
            let key = key_of(slot);
            let Some(entry) = state.index.get(key) else { continue };
            if entry.recipients.all_settled() {
                state.index.remove(key);
                continue;
            }
            state.segments[entry.segment as usize].gain(entry.length);
            facts[slot].reply = entry.reply;
            let recipients = facts[slot].recipients.as_slice();
            let under_way = recipients.iter().filter(|recipient| recipient.is_under_way).count();
            state.report.possible_duplicates += under_way as u64;
            queued.push(slot);
        }
        queued.sort_unstable_by_key(|&slot| facts[slot].id);
        state.report.messages = queued.len();
        RecoveredMail {
            queued: queued.into_iter(),
            facts,
            names,
            replies: state.index.replies.clone(),
            foreign,
        }
    }

    /// A record that is not understood and speaks of a queued message keeps its segment as it is, for a version
    /// that understands it. Gives those messages by their slots.
    fn set_foreign_apart(&mut self, state: &mut State) -> HashMap<u32, Foreign> {
        let mut found = HashMap::new();
        for (segment, id, foreign) in std::mem::take(&mut self.foreign) {
            let Some(slot) = self.slot(id) else {
                refer_to_older(state, segment);
                continue;
            };
            if state.index.get(key_of(slot)).is_some_and(|entry| !entry.recipients.all_settled()) {
                found.entry(slot).or_insert(foreign);
                state.segments[segment as usize].quarantined = true;
            }
        }
        state.report.foreign = found.len();
        found
    }
}

/// A message that is not understood is queued, whatever it says of its recipients.
fn recipients_of(view: &MessageView<'_>) -> usize {
    view.recipient_count().max(usize::from(view.foreign().is_some()))
}

/// Nothing has left the index while records are replayed: a slot is its first life.
fn key_of(slot: u32) -> MessageKey {
    MessageKey(u64::from(slot))
}

fn refer_to_older(state: &mut State, segment: u32) {
    // The segments of the state are in the order of their lives.
    for older in 0..segment {
        references::refer(&mut state.segments, segment, older);
    }
}

/// The queued messages that a start found, oldest first; each is made when it is asked for.
pub struct RecoveredMail {
    /// Their slots.
    queued: vec::IntoIter<u32>,
    facts: Pages<Facts>,
    names: Names,
    replies: Replies,
    foreign: HashMap<u32, Foreign>,
}

impl Iterator for RecoveredMail {
    type Item = Recovered;

    fn next(&mut self) -> Option<Recovered> {
        let slot = self.queued.next()?;
        let Facts { id, tenant, reply, arrived, recipients } = &self.facts[slot];
        let pending =
            (0..=u16::MAX).zip(recipients.as_slice()).filter(|(_, recipient)| !recipient.is_settled);
        let indexes = pending.clone().map(|(index, _)| index);
        let replies: HashMap<_, _> = self.replies.told(*reply, indexes).collect();
        let pending = pending.map(|(index, recipient)| PendingRecipient {
            recipient: index,
            domain: self.names.text(recipient.domain),
            attempts: recipient.attempts,
            not_before: recipient.not_before,
            reply: replies.get(&index).cloned(),
        });
        Some(Recovered {
            key: key_of(slot),
            id: MessageId::from_bytes(*id),
            arrived: *arrived,
            tenant: self.names.text(*tenant),
            pending: pending.collect(),
            foreign: self.foreign.get(&slot).copied(),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.queued.size_hint()
    }
}

impl ExactSizeIterator for RecoveredMail {}

impl std::fmt::Debug for RecoveredMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecoveredMail({})", self.queued.len())
    }
}
