//! The page of events, made from what each event says of itself: `events.md` is never behind the code.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use observe::{About, Field, Kind, Registry};

const HEAD: &str = "\
# Events

Made by `BLESS=1 cargo test -p gatepost --test events`; the same test fails when the page is behind the code.

The log is one JSON object a line on standard output, or readable text on a terminal:

```json
{\"time\":\"2026-11-23T09:34:56.789Z\",\"event\":\"login\",\"node\":\"relay.example\",\"client\":\"192.0.2.1\",\"login\":\"ann\"}
```

Every record begins with these fields; what follows depends on the event.

| field | type | is |
|---|---|---|
| `time` | time | When it was recorded. |
| `event` | word | What happened: one of the names below. A name keeps its meaning. |
| `node` | text | The name of this gateway: `hostname` of `[node]`. |

A field that is *optional* is missing where there is nothing to say. New fields and events may come.
What to do about events that mean trouble stands in [Trouble](trouble.md) and [Queue](queue.md).

Numbers are whole and not negative. A time is in UTC, to the millisecond. All other types are JSON strings.
What a client sent begins no line and turns no text round:
control characters, and those that change the order of text, stand as `\\u202e`.

A reader that stops or goes away stops nothing else.
Records are dropped, and `gatepost_log_lines_dropped_total` counts them.
When the log is read again, `log_records_dropped` says how many.
SIGTERM waits two seconds for a reader that takes nothing, ten for a slow one.
";

/// A part of the page: its title, and the events of the crate whose part it is.
type Part = (&'static str, &'static str, &'static [About]);

const PARTS: [Part; 5] = [
    ("Mail that comes in", "ingress", &ingress::EVENTS),
    ("Mail that goes out", "delivery", &delivery::EVENTS),
    ("Senders that are suspended, and the log itself", "observe", &observe::EVENTS),
    ("Start, spool and end", "gatepost", &gatepost::EVENTS),
    ("Configuration, admin API, grants and tickets", "control", &control::EVENTS),
];

fn events() -> impl Iterator<Item = &'static About> {
    PARTS.iter().flat_map(|(_, _, events)| *events)
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (title, _, events) in PARTS {
        writeln!(page, "\n## {title}\n\n| event | says |\n|---|---|").unwrap();
        for About { name, meaning, .. } in events {
            writeln!(page, "| [`{name}`](#{name}) | {} |", first_sentence(meaning)).unwrap();
        }
        events.iter().for_each(|about| describe(about, &mut page));
    }
    page
}

fn describe(about: &About, page: &mut String) {
    let About { name, meaning, metric, fields } = about;
    writeln!(page, "\n### `{name}`\n\n{meaning}").unwrap();
    if let Some(metric) = metric {
        writeln!(page, "Metric: [`{metric}`](metrics.md).").unwrap();
    }
    writeln!(page, "\n| field | type | is |\n|---|---|---|").unwrap();
    for Field { name, meaning, kind, is_optional } in *fields {
        let kind = match kind {
            Kind::Reason => "[reason](../../crates/policy/REASONS.md)",
            kind => kind.as_str(),
        };
        let optional = if *is_optional { ", optional" } else { "" };
        writeln!(page, "| `{name}` | {kind}{optional} | {meaning} |").unwrap();
    }
}

fn first_sentence(meaning: &str) -> &str {
    meaning.find(". ").map_or(meaning, |end| &meaning[..=end])
}

/// The top of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_page_of_events_says_what_the_code_says() {
    let path = root().join("deploy/handbook/events.md");
    let page = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "deploy/handbook/events.md is behind the code; make it anew with \
         `BLESS=1 cargo test -p gatepost --test events`"
    );
}

#[test]
fn every_event_is_on_the_page_under_a_name_of_its_own_with_each_of_its_fields() {
    let (page, mut names) = (page(), HashSet::new());
    for About { name, fields, .. } in events() {
        assert!(names.insert(name), "two events are called {name}");
        let from = page.find(&format!("\n### `{name}`\n")).unwrap_or_else(|| panic!("{name} is missing"));
        let section = &page[from + 1..];
        let section = section.find("\n#").map_or(section, |end| &section[..end]);
        let mut fields_seen = HashSet::from(["time", "event", "node"]);
        for field in *fields {
            assert!(section.contains(&format!("\n| `{}` |", field.name)), "{name} lacks {}", field.name);
            assert!(fields_seen.insert(field.name), "{name} has two fields called {}", field.name);
        }
    }
    assert_eq!(page.matches("\n### ").count(), names.len());
}

/// A name stands in JSON as it is, and a meaning in a cell of a table.
#[test]
fn names_are_plain_words_and_meanings_are_sentences() {
    let is_plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_sentence = |text: &str| {
        text.starts_with(|first: char| first.is_uppercase() || first == '`')
            && text.ends_with('.')
            && !text.contains(['|', '\n'])
    };
    for About { name, meaning, fields, .. } in events() {
        assert!(is_plain(name) && is_sentence(meaning), "{name}: {meaning}");
        for field in *fields {
            assert!(is_plain(field.name) && is_sentence(field.meaning), "{name}: {field:?}");
        }
    }
}

/// What the crates declare and what the page is made from are the same: no crate with events is left out, and no
/// event is made otherwise.
#[test]
fn every_crate_that_declares_events_has_its_part_of_the_page() {
    let (mut declaring, crates) = (BTreeSet::new(), root().join("crates"));
    let mut folders = vec![crates.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the crates") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(&crates).expect("it is below").to_owned();
            let is_source = inside.components().nth(1).is_some_and(|part| part.as_os_str() == "src");
            if !is_source || path.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let room =
                inside.components().next().expect("a crate").as_os_str().to_string_lossy().into_owned();
            for line in code {
                let declares = line.contains("observe::events! {") || line.contains("crate::events! {");
                if declares {
                    assert!(inside.ends_with("src/events.rs"), "{} declares events", inside.display());
                    assert!(declaring.insert(room.clone()), "{room} declares events twice");
                }
                let is_by_hand = line.contains("Event for ") && !line.contains("$crate::Event for ");
                assert!(!is_by_hand, "{} makes an event by hand: {line}", inside.display());
            }
        }
    }
    assert_eq!(declaring, PARTS.iter().map(|(_, room, _)| (*room).to_owned()).collect());
}

#[test]
fn every_metric_that_an_event_names_exists() {
    let registry = Registry::new(1, &["smtp"], 1);
    registry.admin().grant_refused("unknown_login");
    registry.set_certificate_expiry(["smtp"].into_iter(), 0);
    let text = registry.text();
    for About { name, metric, .. } in events() {
        let exists = metric.is_none_or(|metric| text.contains(&format!("# TYPE {metric} ")));
        assert!(exists, "{name} names {metric:?}");
    }
}
