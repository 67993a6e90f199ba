//! What a tenant file says about senders beyond the list of them.

use policy::{HeaderChecks, ReservedSendersSource, SenderRulesSource};

use crate::error::Report;
use crate::section::{Keys, Section};

const RESERVED: Keys = Keys { known: &["senders", "identities"], later: &[] };

/// Reads the keys at the top of a tenant file.
pub(crate) fn read(top: &Section<'_>, report: &mut Report) -> SenderRulesSource {
    let words = [("accept", false), ("deny", true)];
    let own = top.choice("own_senders_from_strangers", &words, report);
    let plus = top.boolean("plus_addressing", report);
    let mut is_on = |key| top.boolean(key, report).is_some_and(|on| on.value);
    let headers = HeaderChecks {
        from: is_on("check_header_from"),
        reply_to: is_on("check_reply_to"),
        sender: is_on("check_sender_header"),
    };
    let blocks = top.sections("reserved_senders", &RESERVED, report);
    let mut reserved = |section: &Section<'_>| ReservedSendersSource {
        origin: section.origin.clone(),
        senders: section.strings("senders", report),
        identities: section.strings("identities", report),
    };
    SenderRulesSource {
        reserved: blocks.iter().map(&mut reserved).collect(),
        headers,
        plus_addressing: plus.is_some_and(|plus| plus.value),
        own_senders_denied: own.filter(|own| own.value).map(|own| own.origin),
    }
}
