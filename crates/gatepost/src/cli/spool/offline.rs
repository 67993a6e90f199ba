//! The queue of a stopped gateway, read from its files, in the words of the admin API.

use std::path::Path;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail::{MessageId, UnixMillis};
use ring::RealDisk;
use serde_json::{Value, json};
use spool::inspect::{self, ListedMessage, ListedRecipient, RecipientState, StoredRecord};
use spool::{HELD, Outcome, SpoolError};

use super::filter::Filter;

const QUARANTINED: &str = "quarantined";

/// Bytes of a damaged record that are shown without being asked for.
const HEAD_BYTES_MAX: usize = 512;

/// The messages that fit, oldest first; then those that can be made out in damaged places.
pub(super) fn messages(directory: &Path, filter: &Filter) -> Result<Vec<Value>, SpoolError> {
    let disk = &mut RealDisk::default();
    let now = SystemTime::now().into();
    let mut shown: Vec<Value> = inspect::list(disk, directory)?
        .iter()
        .filter(|message| fits(filter, message, now) && has_state(filter, message, now))
        .map(|message| as_json(message, now))
        .collect();
    if filter.state.as_deref().is_none_or(|state| state == QUARANTINED) {
        let damage = inspect::verify(disk, directory)?.damage;
        inspect::damaged(disk, &damage, |record| {
            let is_wanted = match &record.message {
                Some(message) => fits(filter, message, now),
                None => !filter.needs_envelope(),
            };
            if is_wanted && names(filter, record.id) {
                shown.push(damaged_as_json(&record));
            }
        })?;
    }
    Ok(shown)
}

/// One message, with its record; `None` when there is no such message.
pub(super) fn message(directory: &Path, id: MessageId, raw: bool) -> Result<Option<Value>, SpoolError> {
    let disk = &mut RealDisk::default();
    let mut found = None;
    if let Some(message) = inspect::list(disk, directory)?.iter().find(|message| message.id == id) {
        inspect::read(disk, directory, [message.place], |record| {
            found =
                record.map(|record| with_record(as_json(message, SystemTime::now().into()), &record, raw));
        })?;
        return Ok(found);
    }
    let damage = inspect::verify(disk, directory)?.damage;
    inspect::damaged(disk, &damage, |record| {
        if record.id == id {
            found = Some(with_record(damaged_as_json(&record), &record, raw));
        }
    })?;
    Ok(found)
}

fn with_record(mut shown: Value, record: &StoredRecord, raw: bool) -> Value {
    shown["record"] = json!({
        "file": record.path,
        "offset_bytes": record.place.offset,
        "length_bytes": record.bytes.len(),
        "sound": record.is_sound,
    });
    if raw {
        shown["raw"] = BASE64.encode(&record.bytes).into();
    } else if !record.is_sound {
        shown["head"] = BASE64.encode(&record.bytes[..record.bytes.len().min(HEAD_BYTES_MAX)]).into();
    }
    shown
}

fn fits(filter: &Filter, message: &ListedMessage, now: UnixMillis) -> bool {
    let domain_of =
        |address: &str| address.rsplit_once('@').map_or(String::new(), |(_, domain)| domain.to_owned());
    let sender = &message.reverse_path;
    let is_from = |wanted: &String| match wanted.strip_prefix('@') {
        Some(domain) => domain_of(sender).eq_ignore_ascii_case(domain),
        None if wanted == "<>" => sender.is_empty(),
        None => sender.eq_ignore_ascii_case(wanted),
    };
    let is_to = |wanted: &String| {
        message.recipients.iter().any(|recipient| {
            matches!(recipient.state, RecipientState::Queued { .. })
                && domain_of(&recipient.address).eq_ignore_ascii_case(wanted)
        })
    };
    let age = u128::from(now.since(message.arrived));
    names(filter, message.id)
        && filter.tenant.as_ref().is_none_or(|tenant| *tenant == message.tenant)
        && filter.login.as_ref().is_none_or(|login| login.eq_ignore_ascii_case(&message.identity))
        && filter.sender.as_ref().is_none_or(is_from)
        && filter.domain.as_ref().is_none_or(is_to)
        && filter.older_than.as_ref().is_none_or(|older| age > older.duration.as_millis())
}

fn names(filter: &Filter, id: MessageId) -> bool {
    filter.ids.is_empty() || filter.ids.contains(&id)
}

fn has_state(filter: &Filter, message: &ListedMessage, now: UnixMillis) -> bool {
    let wanted = filter.state.as_deref();
    let is_apart = wanted == Some(QUARANTINED) && message.foreign.is_some();
    is_apart
        || wanted.is_none_or(|wanted| message.recipients.iter().any(|one| state(message, one, now) == wanted))
}

fn state(message: &ListedMessage, recipient: &ListedRecipient, now: UnixMillis) -> &'static str {
    match recipient.state {
        RecipientState::Queued { .. } if message.foreign.is_some() => QUARANTINED,
        RecipientState::Queued { not_before: HELD, .. } => "held",
        RecipientState::Queued { not_before, .. } if not_before > now => "deferred",
        RecipientState::Queued { .. } => "ready",
        RecipientState::Done(Outcome::Delivered) => "delivered",
        RecipientState::Done(Outcome::Failed) => "failed",
        RecipientState::Done(Outcome::Expired) => "expired",
    }
}

fn as_json(message: &ListedMessage, now: UnixMillis) -> Value {
    let recipients = message.recipients.iter().map(|recipient| {
        let mut shown = json!({ "address": recipient.address, "state": state(message, recipient, now) });
        if let Some(reply) = &recipient.reply {
            shown["next_hop"] = reply.next_hop.as_deref().into();
            shown["reply"] = reply.told_to(&recipient.address).into();
        }
        if let RecipientState::Queued { attempts, not_before } = recipient.state {
            shown["attempts"] = attempts.into();
            let is_time = not_before > UnixMillis(0) && not_before != HELD;
            shown["not_before"] = is_time.then(|| not_before.rfc3339().to_string()).into();
        }
        shown
    });
    let states = || message.recipients.iter().map(|recipient| state(message, recipient, now));
    let first = ["held", "ready", "deferred"].into_iter().find(|word| states().any(|state| state == *word));
    let first = if message.foreign.is_some() { Some(QUARANTINED) } else { first };
    let mut shown = facts(message);
    shown["id"] = message.id.to_string().into();
    shown["state"] = first.into();
    shown["sound"] = true.into();
    shown["queued"] = true.into();
    shown["recipients"] = recipients.collect::<Vec<_>>().into();
    shown
}

fn damaged_as_json(record: &StoredRecord) -> Value {
    let mut shown = record.message.as_ref().map_or_else(|| json!({}), facts);
    let recipients = record.message.iter().flat_map(|message| &message.recipients);
    let recipients =
        recipients.map(|recipient| json!({ "address": recipient.address, "state": QUARANTINED }));
    shown["id"] = record.id.to_string().into();
    shown["shard"] = record.place.shard.into();
    shown["state"] = QUARANTINED.into();
    shown["sound"] = record.is_sound.into();
    shown["queued"] = false.into();
    shown["recipients"] = recipients.collect::<Vec<_>>().into();
    shown
}

fn facts(message: &ListedMessage) -> Value {
    json!({
        "shard": message.shard,
        "arrived": message.arrived.rfc3339().to_string(),
        "tenant": message.tenant,
        "identity": message.identity,
        "from": message.reverse_path,
        "bytes": message.content_bytes,
        "refused": message.foreign.map(|foreign| foreign.to_string()),
    })
}
