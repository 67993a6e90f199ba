//! `gatepost status`: a running gateway at a glance.

use std::fmt::Write as _;

use anstyle::Style;
use mail::UnixMillis;
use serde_json::Value;

use super::admin::Gateway;
use super::grants;
use super::text::{self, FAINT, NO, STRONG, WARNING, YES, count, size, styled};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost status --config /etc/gatepost/gatepost.toml
  gatepost status --json | jq .queue_recipients
  gatepost status --json | jq '.open_grants[].login'";

/// Columns of the names of lines.
const NAME_WIDTH: usize = 13;

/// Failing sites that a page shows: those for which most waits.
const FAILING_SHOWN_MAX: usize = 10;

pub(super) fn run(common: &Common) -> Answer {
    let Some(gateway) = Gateway::reach(common) else { return Answer::Broken };
    match gateway.get("/v1/status") {
        Ok(status) => {
            if common.json {
                text::print_json(&status);
            } else {
                text::print(&for_people(&status));
            }
            if status["ready"] == true { Answer::Yes } else { Answer::No }
        }
        Err(failure) => failure.tell(common),
    }
}

fn for_people(status: &Value) -> String {
    let mut page = Page { text: title(status) };
    page.workers(&status["workers"]);
    page.policy(&status["policy"]);
    page.listeners(&status["listeners"]);
    page.places(&status["places"]);
    page.line(
        "messages",
        format!("{} accepted, {} requests denied", status["messages_accepted"], status["requests_denied"]),
    );
    page.queue(status);
    page.failing(status, text::now());
    page.line("deliveries", counts(&status["deliveries"], &["delivered", "deferred", "failed", "expired"]));
    page.spool(&status["spool"]);
    page.grants(status);
    match number(&status["suspensions"]) {
        0 => page.line("suspended", "none".to_owned()),
        some => {
            let some = count(some as usize, "suspension", "suspensions");
            page.styled_line("suspended", WARNING, &format!("{some}: see `gatepost tenants list`"));
        }
    }
    if number(&status["log_lines_dropped"]) > 0 {
        let dropped = format!("{} records found no room", status["log_lines_dropped"]);
        page.styled_line("log", WARNING, &dropped);
    }
    page.text
}

/// Which gateway it is, and whether it takes mail.
fn title(status: &Value) -> String {
    let state = match status["not_ready_reason"].as_str() {
        None => "takes mail".to_owned(),
        Some(reason) => format!("takes no mail: {}", status["recovery"].as_str().unwrap_or(reason)),
    };
    let program = format!(
        "gatepost {}, process {}, up {}",
        word(&status["version"]),
        status["process"],
        text::duration(number(&status["uptime_seconds"]))
    );
    let node = word(&status["node"]);
    let columns = node.chars().count() + 2 + state.chars().count() + 2 + program.chars().count();
    let style = if status["not_ready_reason"].is_null() { YES } else { NO };
    if columns <= text::width() {
        return format!("{}  {}  {}\n", styled(STRONG, node), styled(style, state), styled(FAINT, program));
    }
    let mut title = format!("{}\n", styled(STRONG, node));
    for (style, part) in [(style, state), (FAINT, program)] {
        for line in text::wrapped(&part, text::width() - 2) {
            // Writing to a String does not fail.
            let _ = writeln!(title, "  {}", styled(style, line));
        }
    }
    title
}

/// Lines below the title, each under a name.
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, name: &str, text: String) {
        self.styled_line(name, Style::new(), &text);
    }

    fn styled_line(&mut self, name: &str, style: Style, text: &str) {
        let lines = text::wrapped(text, text::width() - NAME_WIDTH - 2);
        for (index, line) in lines.iter().enumerate() {
            self.whole_line(if index == 0 { name } else { "" }, styled(style, line));
        }
    }

    /// A line that keeps its form, however wide.
    fn whole_line(&mut self, name: &str, text: impl std::fmt::Display) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "  {name:<NAME_WIDTH$}{text}");
    }

    fn workers(&mut self, workers: &Value) {
        let workers = workers.as_array().map_or(&[][..], Vec::as_slice);
        let odd: Vec<_> =
            workers.iter().filter_map(Value::as_str).filter(|state| *state != "ready").collect();
        match odd.as_slice() {
            [] => self.line("workers", format!("{}, all ready", workers.len())),
            odd => {
                let told = format!("{}, of them {}", workers.len(), odd.join(", "));
                self.styled_line("workers", WARNING, &told);
            }
        }
    }

    fn policy(&mut self, policy: &Value) {
        let tenants = count(number(&policy["tenants"]) as usize, "tenant", "tenants");
        self.line("policy", format!("generation {}, {tenants}", policy["generation"]));
        if let Some(error) = policy["last_reload_failure"]["error"].as_str() {
            let at = word(&policy["last_reload_failure"]["at"]);
            let refused = format!("the last reload was refused at {at}; what was in force still is:");
            self.styled_line("", NO, &refused);
            for error in error.lines() {
                self.line("", format!("  {error}"));
            }
        }
    }

    fn listeners(&mut self, listeners: &Value) {
        for (index, listener) in listeners.as_array().into_iter().flatten().enumerate() {
            let title = if index == 0 { "listeners" } else { "" };
            let open = count(number(&listener["connections"]) as usize, "connection", "connections");
            let (name, address) = (word(&listener["name"]), word(&listener["address"]));
            self.whole_line(title, format_args!("{name:<12} {address:<24} {open}"));
        }
    }

    /// Connections that are held, of how many: for strangers, for all without a login, in all.
    fn places(&mut self, places: &Value) {
        let of = |kind: &str| format!("{} of {}", places[kind]["held"], places[kind]["max"]);
        let told = format!(
            "{} held; strangers {}, all without a login {}",
            of("all"),
            of("strangers"),
            of("without_login")
        );
        match places["short"].as_str() {
            None => self.line("places", told),
            Some(why) => self.styled_line("places", WARNING, &format!("{told}; {why}")),
        }
    }

    fn grants(&mut self, status: &Value) {
        let all = number(&status["grants"]) as usize;
        self.line("grants", format!("{all} in force after mailbox logins"));
        let listed = status["open_grants"].as_array().map_or(&[][..], Vec::as_slice);
        if listed.is_empty() {
            return;
        }
        for line in grants::lines(listed) {
            self.whole_line("", line);
        }
        if listed.len() < all {
            let rest = format!(
                "the {} that end first, of {all} in all; `gatepost grants list` shows all",
                listed.len()
            );
            self.styled_line("", FAINT, &rest);
        }
    }

    fn queue(&mut self, status: &Value) {
        let counts = counts(&status["queue_recipients"], &["ready", "active", "deferred", "held"]);
        match status["oldest_message_age_seconds"].as_u64() {
            Some(age) => self.line("queue", format!("{counts}; the oldest came {} ago", text::age(age))),
            None => self.line("queue", counts),
        }
    }

    /// The next hops that do not take what waits for them.
    fn failing(&mut self, status: &Value, now: UnixMillis) {
        let all = number(&status["failing_sites"]) as usize;
        if all == 0 {
            return;
        }
        let sites = count(all, "site takes no mail", "sites take no mail");
        self.styled_line("failing", NO, &sites);
        let Some(named) = status["failing"].as_array() else {
            return self.line("", "which, cannot be said now: a worker is not ready".to_owned());
        };
        for site in named.iter().take(FAILING_SHOWN_MAX) {
            self.site(site, now);
        }
        let more = all.saturating_sub(named.len().min(FAILING_SHOWN_MAX));
        if more > 0 {
            let more = format!("and {more} more; `gatepost spool list --state deferred` shows what waits");
            self.styled_line("", FAINT, &more);
        }
    }

    fn site(&mut self, site: &Value, now: UnixMillis) {
        let (messages, recipients) = (number(&site["messages"]), number(&site["recipients"]));
        let waits = format!(
            "{} for {} {}, failing for {}, next try {}",
            count(messages as usize, "message", "messages"),
            count(recipients as usize, "recipient", "recipients"),
            if messages == 1 { "waits" } else { "wait" },
            text::since(word(&site["since"]), now),
            match text::when(word(&site["next_try"]), now) {
                past if past.ends_with("ago") => "now".to_owned(),
                at => at,
            },
        );
        let name = text::site(word(&site["site"]));
        let told = match site["next_hop"].as_str() {
            Some(hop) if hop != name => format!("{hop}: {}", word(&site["reply"])),
            _ => word(&site["reply"]).to_owned(),
        };
        self.styled_line("", STRONG, &name);
        for (style, told) in [(Style::new(), told), (FAINT, waits)] {
            for line in text::wrapped(&told, text::width() - NAME_WIDTH - 4) {
                self.whole_line("", format_args!("  {}", styled(style, line)));
            }
        }
    }

    fn spool(&mut self, spool: &Value) {
        let capacity =
            spool["capacity_bytes"].as_u64().map_or_else(String::new, |bytes| format!(" of {}", size(bytes)));
        let messages = count(number(&spool["messages"]) as usize, "message", "messages");
        let bytes = size(number(&spool["bytes"]));
        self.line("spool", format!("{messages}, {bytes}{capacity} in {}", word(&spool["path"])));
        let (messages, places) = (number(&spool["quarantined_messages"]), number(&spool["damaged_places"]));
        if messages + places > 0 {
            let what = format!(
                "{} and {}: see `gatepost spool list --state quarantined` and `gatepost spool verify`",
                count(messages as usize, "message", "messages"),
                count(places as usize, "damaged place", "damaged places")
            );
            self.styled_line("quarantined", NO, &what);
        }
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// `3 ready, 0 active, 12 deferred recipients`.
fn counts(counts: &Value, words: &[&str]) -> String {
    let counts: Vec<_> = words.iter().map(|word| format!("{} {word}", counts[word])).collect();
    format!("{} recipients", counts.join(", "))
}
