use std::net::IpAddr;
use std::path::Path;

use mail::{MessageId, Reason, Reply, Status, SuspensionCause, Ticket, UnixMillis};
use serde_json::{Map, Value as Json};

use super::*;
use crate::metrics::{PeerFault, WorkerMetrics};
use crate::value::{Listener, Word};
use crate::{Registry, line};

const NOW: UnixMillis = UnixMillis(1_795_426_496_789);
/// What a client may say to break a line, a string or a terminal.
const NASTY: &str =
    "a\"b\\c\r\n\t\u{0}\u{1b}[2J\u{7f}\u{85}\u{1f600}\u{202e}\u{2028}</script>{\"event\":\"x\"}";

crate::facts! {
    /// What two events hold.
    pub(crate) struct Shared<'a> {
        /// What it is.
        what: &'a str,
    }
}

crate::events! {
    const EVENTS;

    /// Every kind of value.
    /// Written by tests.
    pub(crate) struct Everything<'a> = "everything" {
        /// A text.
        text: &'a str,
        /// Whatever prints.
        printed: &'a dyn Display,
        /// What is formatted.
        formatted: Option<std::fmt::Arguments<'a>>,
        /// A number.
        number: u64,
        /// Yes or no.
        truth: bool,
        /// An address.
        ip: IpAddr,
        /// A path.
        path: &'a Path,
        /// A time.
        time: UnixMillis,
        /// An id.
        id: MessageId,
        /// A ticket.
        ticket: Ticket,
        /// A reply.
        reply: &'a Reply,
        /// A reason.
        reason: Reason,
        /// A cause.
        cause: SuspensionCause,
        /// A fault.
        fault: PeerFault,
        /// A word.
        word: Word,
        /// A listener.
        listener: Listener<'a>,
        /// A text that may be missing.
        maybe: Option<&'a str>,
    }

    /// The first of two that hold the same.
    pub(crate) struct First<'a> = "first" (Shared<'a>)

    /// The second.
    pub(crate) struct Second<'a> = "second" (Shared<'a>)
    metric "gatepost_possible_duplicates_total"
    counts |second, metrics: &WorkerMetrics| {
        assert_eq!(second.0.what, "b");
        metrics.possible_duplicate();
    }
}

fn everything<'a>(text: &'a str, reply: &'a Reply) -> Everything<'a> {
    Everything {
        text,
        // Not the text itself: through the formatter, in pieces.
        printed: reply,
        formatted: None,
        number: u64::MAX,
        truth: true,
        ip: IpAddr::from([192, 0, 2, 1]),
        path: Path::new(text),
        time: NOW,
        id: MessageId::new(NOW, 1, 7),
        ticket: Ticket::from_random(7),
        reply,
        reason: Reason::RelayNotPermitted,
        cause: SuspensionCause::Denials,
        fault: PeerFault::HeaderMissing,
        word: Word("direct"),
        listener: Listener { index: 0, name: text },
        maybe: Some(text),
    }
}

#[test]
fn a_record_is_one_line_of_json_whatever_its_values_hold() {
    let reply = Reply::new(451, Some(Status::new(4, 3, 2)), NASTY);
    let line = line(&everything(NASTY, &reply), NASTY, NOW);
    assert!(line.ends_with("}\n") && !line.trim_end().contains(mail::is_unprintable), "{line:?}");
    let record: Map<String, Json> = serde_json::from_str(&line).unwrap();
    for name in ["node", "text", "path", "listener", "maybe"] {
        assert_eq!(record[name], NASTY, "{name}");
    }
    for name in ["printed", "reply"] {
        assert_eq!(record[name], reply.to_string(), "{name}");
    }
    assert_eq!((&record["number"], &record["truth"]), (&u64::MAX.into(), &true.into()));
    assert_eq!(
        (&record["time"], &record["event"]),
        (&"2026-11-23T09:34:56.789Z".into(), &"everything".into())
    );
    assert!(!record.contains_key("formatted"), "there is none");
}

/// A sink beside the log, as a stream would be one.
#[derive(Default)]
struct Names(Vec<&'static str>);

impl Sink for Names {
    fn display(&mut self, name: &'static str, _: impl Display) {
        self.0.push(name);
    }

    fn number(&mut self, name: &'static str, _: u64) {
        self.0.push(name);
    }

    fn bool(&mut self, name: &'static str, _: bool) {
        self.0.push(name);
    }
}

#[test]
fn another_sink_is_told_every_field_in_the_order_of_its_declaration() {
    let (reply, mut names) = (Reply::default(), Names::default());
    let event = Everything { formatted: Some(format_args!("{}", 1)), ..everything("a", &reply) };
    event.tell(&mut names);
    let declared: Vec<_> = Everything::ABOUT.fields.iter().map(|field| field.name).collect();
    assert_eq!(names.0, declared);
}

#[test]
fn an_event_says_of_itself_what_its_documentation_says() {
    let about = Everything::ABOUT;
    assert_eq!((about.name, about.meaning), ("everything", "Every kind of value. Written by tests."));
    let optional = about.fields.iter().filter(|field| field.is_optional).map(|field| field.name);
    assert_eq!(optional.collect::<Vec<_>>(), ["formatted", "maybe"]);
    assert_eq!((about.fields[0].meaning, about.fields[0].kind), ("A text.", Kind::Text));
    assert_eq!(EVENTS.map(|about| about.name), ["everything", "first", "second"]);
}

#[test]
fn events_that_share_facts_hold_the_same_and_count_for_themselves() {
    let registry = Registry::new(1, &["smtp"], 1);
    let (first, second) = (First(Shared { what: "a" }), Second(Shared { what: "b" }));
    let (first_line, second_line) = (line(&first, "relay", NOW), line(&second, "relay", NOW));
    assert!(first_line.ends_with(",\"what\":\"a\"}\n") && first_line.contains("\"event\":\"first\""));
    assert!(second_line.ends_with(",\"what\":\"b\"}\n") && second_line.contains("\"event\":\"second\""));
    let mut log = crate::EventLog::discarding();
    log.record(&first, NOW);
    log.record_and_count(&second, &registry.worker(0), NOW);
    let metric = Second::ABOUT.metric.unwrap();
    assert!(First::ABOUT.metric.is_none() && registry.text().contains(&format!("{metric} 1")));
}
