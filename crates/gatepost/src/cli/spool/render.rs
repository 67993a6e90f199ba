//! How the queue looks: one object a line for programs, a few lines a message for people.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail::UnixMillis;
use serde_json::Value;

use super::super::text::{
    FAINT, NO, STRONG, WARNING, clock, count, now, print, print_json, site, size, styled, when, width,
    wrapped,
};

/// Recipients of a message that a listing shows.
const RECIPIENTS_SHOWN_MAX: usize = 4;

/// A listing that is printed as it comes.
pub(super) struct Listing {
    json: bool,
    messages: usize,
    bytes: u64,
}

impl Listing {
    pub(super) fn new(json: bool) -> Self {
        Self { json, messages: 0, bytes: 0 }
    }

    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn add(&mut self, message: &Value) {
        self.messages += 1;
        self.bytes += message["bytes"].as_u64().unwrap_or_default();
        match self.json {
            true => print_json(message),
            false => print(&line(message, now())),
        }
    }

    /// `read_from` is where the files of a stopped gateway are.
    pub(super) fn end(&self, has_more: bool, read_from: Option<&Path>) {
        if self.json {
            return;
        }
        let mut out = match self.messages {
            0 => "no message fits\n".to_owned(),
            messages => format!("{}, {}", count(messages, "message", "messages"), size(self.bytes)),
        };
        if has_more {
            out.push_str("; there are more");
        }
        if self.messages > 0 {
            out.push('\n');
        }
        if let Some(directory) = read_from {
            let note = format!("no gateway answers: read from {}", directory.display());
            let _ = writeln!(out, "{}", styled(FAINT, note));
        }
        print(&out);
    }
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn styled_state(state: &str, width: usize) -> String {
    let style = match state {
        "quarantined" => NO,
        "held" => WARNING,
        _ => FAINT,
    };
    styled(style, format!("{state:<width$}")).to_string()
}

fn line(message: &Value, now: UnixMillis) -> String {
    let mut out = String::new();
    let bytes = message["bytes"].as_u64().map_or_else(|| "?".to_owned(), size);
    let _ = writeln!(
        out,
        "{}  {}  {:<10}  {bytes:>9}  {}",
        styled(STRONG, word(message, "id")),
        styled_state(word(message, "state"), 11),
        when(word(message, "arrived"), now),
        word(message, "tenant"),
    );
    if message["from"].is_string() {
        let _ = writeln!(out, "    from <{}>", word(message, "from"));
    }
    let recipients = message["recipients"].as_array().map_or(&[][..], Vec::as_slice);
    let waits = |one: &&Value| one["attempts"].is_u64() || word(one, "state") == "quarantined";
    let waiting: Vec<_> = recipients.iter().filter(waits).collect();
    for recipient in waiting.iter().take(RECIPIENTS_SHOWN_MAX) {
        for (index, line) in recipient_lines(recipient, now, width() - 9).iter().enumerate() {
            let _ = writeln!(out, "    {:<4} {line}", if index == 0 { "to" } else { "" });
        }
    }
    let more = waiting.len().saturating_sub(RECIPIENTS_SHOWN_MAX);
    if more > 0 {
        let _ = writeln!(out, "    {}", styled(FAINT, format!("and {more} more")));
    }
    out
}

/// Who it is, where it stands, and what was last said; each line of at most `width` columns where words allow.
fn recipient_lines(recipient: &Value, now: UnixMillis, width: usize) -> Vec<String> {
    let attempts = recipient["attempts"].as_u64().unwrap_or_default() as usize;
    let tried = count(attempts, "attempt", "attempts");
    let site = recipient["site"].as_str().map(site);
    let next = recipient["not_before"].as_str().map(|at| match when(at, now) {
        past if past.ends_with("ago") => "next try now".to_owned(),
        at => format!("next try {at}"),
    });
    let state = match (word(recipient, "state"), next) {
        ("deferred", next) => {
            let tried = (attempts > 0).then_some(tried);
            let waits = tried.unwrap_or_else(|| "its next hop does not take mail".to_owned());
            [Some(waits), next].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
        ("ready", _) if attempts == 0 => "due, not tried yet".to_owned(),
        ("ready", _) => format!("due after {tried}"),
        ("active", _) => "under way".to_owned(),
        ("held", _) if attempts == 0 => "held, not tried yet".to_owned(),
        ("held", _) => format!("held after {tried}"),
        ("done", _) => "has its outcome".to_owned(),
        (state, _) => state.to_owned(),
    };
    let address = recipient["address"].as_str().map_or_else(|| "?".to_owned(), |to| format!("<{to}>"));
    let mut lines = Vec::new();
    match address.chars().count() + 2 + state.chars().count() <= width {
        true => lines.push(format!("{address}  {}", styled(FAINT, state))),
        false => lines.extend([address, styled(FAINT, state).to_string()]),
    }
    let hop = recipient["next_hop"].as_str();
    if let Some(site) = &site {
        lines.push(format!("{} {site}", styled(FAINT, "via")));
    }
    if let Some(reply) = recipient["reply"].as_str() {
        let told = match hop {
            Some(hop) if site.as_deref() != Some(hop) => format!("{hop}: {reply}"),
            _ => reply.to_owned(),
        };
        lines.extend(wrapped(&told, width));
    }
    lines
}

/// Everything about one message.
pub(super) fn message(message: &Value) -> String {
    let now = now();
    let mut out = String::new();
    let state = styled_state(word(message, "state"), 0);
    let _ = writeln!(out, "{}  {state}", styled(STRONG, word(message, "id")));
    let mut fact = |name: &str, text: &str| {
        if !text.is_empty() {
            let _ = writeln!(out, "  {name:<9}{text}");
        }
    };
    let arrived = word(message, "arrived");
    if !arrived.is_empty() {
        fact("arrived", &format!("{}, {}", clock(arrived), when(arrived, now)));
    }
    fact("tenant", word(message, "tenant"));
    fact("login", word(message, "identity"));
    fact("size", &message["bytes"].as_u64().map(size).unwrap_or_default());
    if message["from"].is_string() {
        fact("from", &format!("<{}>", word(message, "from")));
    }
    for recipient in message["recipients"].as_array().into_iter().flatten() {
        for (index, line) in recipient_lines(recipient, now, width() - 11).iter().enumerate() {
            fact(if index == 0 { "to" } else { "" }, line);
        }
    }
    let record = &message["record"];
    fact("record", word(record, "file"));
    fact("", &format!("{} bytes at offset {}", record["length_bytes"], record["offset_bytes"]));
    let is_sound = record["sound"] == true;
    if !is_sound {
        let _ = writeln!(
            out,
            "{} its checksum fails: it is not what was written, and is never delivered.\n\
             What is shown of it may be wrong; --raw writes every byte. It begins:",
            styled(NO, "damaged:")
        );
        let head = BASE64.decode(word(message, "head").as_bytes()).unwrap_or_default();
        hexdump(&mut out, &head);
    } else if let Some(why) = message["refused"].as_str() {
        let _ = writeln!(out, "{} it is not delivered by this version:", styled(NO, "refused:"));
        for line in wrapped(why, width()) {
            let _ = writeln!(out, "{line}");
        }
    } else if message["queued"] == false {
        let _ = writeln!(
            out,
            "{} it is sound, but lies in a damaged group, so that its outcomes may be\n\
             lost: it is not delivered, and may have been before.",
            styled(NO, "damaged:")
        );
    }
    out
}

fn hexdump(out: &mut String, bytes: &[u8]) {
    for (index, row) in bytes.chunks(16).enumerate() {
        let _ = write!(out, "  {:06x} ", index * 16);
        for place in 0..16 {
            let _ = match row.get(place) {
                Some(byte) => write!(out, " {byte:02x}"),
                None => write!(out, "   "),
            };
        }
        let printable = |byte: &u8| if (0x20..0x7f).contains(byte) { *byte as char } else { '.' };
        let _ = writeln!(out, "  {}", row.iter().map(printable).collect::<String>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hexdump_fits_a_terminal_and_shows_what_can_be_printed() {
        let mut out = String::new();
        hexdump(&mut out, b"GPGROUP\n\0\x01 mail of terri\xff");
        assert!(out.lines().all(|line| line.len() <= 80), "{out}");
        assert!(
            out.starts_with("  000000  47 50 47 52 4f 55 50 0a") && out.contains("GPGROUP... mail"),
            "{out}"
        );
    }
}
