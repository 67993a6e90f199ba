//! How the commands print. Colour is for terminals only, and for those who have not set NO_COLOR.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::time::SystemTime;

use anstyle::{AnsiColor, Style};
use mail::{Printable, UnixMillis};
use policy::{Explanation, Origin};
use serde_json::Value;

/// A heading, or a fact worth finding again.
pub(super) const STRONG: Style = Style::new().bold();
/// What may be overlooked.
pub(super) const FAINT: Style = Style::new().dimmed();
/// A yes.
pub(super) const YES: Style = AnsiColor::Green.on_default().bold();
/// A no.
pub(super) const NO: Style = AnsiColor::Red.on_default().bold();
/// A warning.
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default();

/// Prints to standard output. A reader that has gone away is no error: it has read enough.
pub(super) fn print(text: &str) {
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(for_terminal(text).as_bytes()).and_then(|()| out.flush());
}

/// Writes bytes to standard output as they are.
pub(super) fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Prints one JSON value on a separate line to standard output.
pub(super) fn print_json(value: &Value) {
    print(&format!("{value}\n"));
}

/// Prints a line to standard error.
pub(super) fn print_error(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{}", for_terminal(text));
}

/// `text` with nothing in it that a terminal obeys but line feeds, tabs and our own styles.
/// What stands in JSON keeps its meaning.
fn for_terminal(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|char| char != '\n' && char != '\t' && mail::is_unprintable(char)) {
        let (before, odd) = rest.split_at(at);
        clean.push_str(before);
        let own = own_sequences().find(|own| odd.starts_with(own));
        let length =
            own.as_ref().map_or_else(|| odd.chars().next().map_or(0, char::len_utf8), |own| own.len());
        let (odd, after) = odd.split_at(length);
        match own {
            Some(_) => clean.push_str(odd),
            // Writing to a String does not fail.
            None => drop(write!(clean, "{}", Printable(odd))),
        }
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// What [`styled`] writes around text, what begins with another of them before that.
fn own_sequences() -> impl Iterator<Item = String> {
    let begins = [YES, NO, WARNING, STRONG, FAINT].into_iter().map(|style| style.render().to_string());
    begins.chain([STRONG.render_reset().to_string()])
}

/// `text` in `style`.
pub(super) fn styled(style: Style, text: impl fmt::Display) -> impl fmt::Display {
    fmt::from_fn(move |f| write!(f, "{style}{text}{style:#}"))
}

/// A rule of a decision, as it is shown.
pub(super) struct StepLine<'a> {
    pub(super) rule: &'a str,
    pub(super) outcome: &'a str,
    /// What is printed for it.
    pub(super) word: &'a str,
    pub(super) detail: &'a str,
    /// The configuration line behind it, where there is one.
    pub(super) place: Option<String>,
}

/// Writes the rules of an explanation, one a line, each with the configuration line behind it.
pub(super) fn write_steps(
    out: &mut String,
    indent: &str,
    explanation: &Explanation,
    place: impl Fn(&Origin) -> String,
) {
    let steps = explanation.steps.iter().map(|step| StepLine {
        rule: step.rule.as_str(),
        outcome: step.outcome.as_str(),
        word: step.outcome.as_str(),
        detail: &step.detail,
        place: step.origin.as_ref().map(&place),
    });
    write_step_lines(out, indent, &steps.collect::<Vec<_>>());
}

/// The same for rules from elsewhere.
pub(super) fn write_step_lines(out: &mut String, indent: &str, steps: &[StepLine<'_>]) {
    let columns = self::width();
    let width = steps.iter().map(|step| step.rule.len()).max().unwrap_or(0);
    let word_width = steps.iter().map(|step| step.word.chars().count()).max().unwrap_or(0).max(6);
    for StepLine { rule, outcome, word, detail, place } in steps {
        let style = match *outcome {
            "accept" => YES,
            "deny" => NO,
            "skip" => FAINT,
            _ => Style::new(),
        };
        let outcome = styled(style, format!("{word:<word_width$}"));
        let before = indent.len() + word_width + 2 + width + 2;
        let place = place.as_ref().map(|place| format!("({place})"));
        let text = match &place {
            Some(place) => format!("{detail}  {place}"),
            None => (*detail).to_owned(),
        };
        let mut lines = wrapped(&text, columns.saturating_sub(before).max(DETAIL_WIDTH_MIN));
        if let (Some(place), Some(last)) = (place, lines.last_mut())
            && let Some(rest) = last.strip_suffix(&place)
        {
            *last = format!("{rest}{}", styled(FAINT, place));
        }
        let lines = lines.join(&format!("\n{}", " ".repeat(before)));
        let _ = writeln!(out, "{indent}{outcome}  {rule:<width$}  {lines}");
    }
}

/// Columns that what is told of a rule has at least.
const DETAIL_WIDTH_MIN: usize = 30;

/// Writes `text` as a paragraph after `title`, whose style it does not share; further lines stand under `indent` columns.
pub(super) fn write_paragraph(out: &mut String, style: Style, title: &str, text: &str, indent: usize) {
    let lines = wrapped(&format!("{title} {text}"), width() - indent);
    let text = lines.join(&format!("\n{}", " ".repeat(indent)));
    match text.strip_prefix(title) {
        Some(rest) => drop(writeln!(out, "{}{rest}", styled(style, title))),
        // The title itself was broken, or is nothing.
        None => drop(writeln!(out, "{text}")),
    }
}

/// `one` or `many`, with the number.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A size as people read it.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// A time span as people read it: its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = parts.iter().position(|(number, _)| *number > 0).unwrap_or(parts.len() - 1);
    let shown = parts[first..].iter().take(2).filter(|(number, _)| *number > 0 || seconds == 0);
    shown.map(|(number, unit)| format!("{number}{unit}")).collect::<Vec<_>>().join(" ")
}

/// An age or a wait as people say it: `40 s`, `3 min`, `2 h`, `5 d`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long ago a time of the API's is: `3 min`.
pub(super) fn since(time: &str, now: UnixMillis) -> String {
    UnixMillis::parse_rfc3339(time).map_or_else(|| time.to_owned(), |time| age(now.since(time) / 1000))
}

/// How far a time of the API's lies from `now`: `3 min ago`, `in 40 s`, `now`.
pub(super) fn when(time: &str, now: UnixMillis) -> String {
    let Some(time) = UnixMillis::parse_rfc3339(time) else { return time.to_owned() };
    match (now.since(time) / 1000, time.since(now).div_ceil(1000)) {
        (0, 0) => "now".to_owned(),
        (0, left) => format!("in {}", age(left)),
        (gone, _) => format!("{} ago", age(gone)),
    }
}

/// A time of the API's to the second: `2026-11-23 09:34:56 UTC`.
pub(super) fn clock(time: &str) -> String {
    let second = time.split('.').next().unwrap_or(time).trim_end_matches('Z');
    format!("{} UTC", second.replacen('T', " ", 1))
}

/// The time now.
pub(super) fn now() -> UnixMillis {
    SystemTime::now().into()
}

/// The name of a site as people say it.
pub(super) fn site(key: &str) -> String {
    match key.strip_prefix("mx:") {
        Some(domain) => format!("the MX hosts of {domain}"),
        None => key.replace(',', ", "),
    }
}

/// Columns of a line: those of the terminal, or what COLUMNS says, as every shell understands it.
pub(super) fn width() -> usize {
    const WIDTH_DEFAULT: usize = 80;
    const WIDTH_MIN: usize = 40;
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.unwrap_or(WIDTH_DEFAULT).max(WIDTH_MIN)
}

/// Units that stay on the line of their number.
const UNITS: [&str; 9] = ["s", "min", "h", "d", "B", "KiB", "MiB", "GiB", "TiB"];

/// The words of `text`; a number and its unit are one.
fn words(text: &str) -> Vec<&str> {
    let is_number = |word: &str| {
        let digits = word.trim_start_matches('(');
        digits.starts_with(|char: char| char.is_ascii_digit()) && digits.parse::<f64>().is_ok()
    };
    let is_unit = |word: &str| UNITS.contains(&word.trim_end_matches([',', ';', '.', ':', ')']));
    let (mut words, mut start, mut last) = (Vec::new(), 0, "");
    let mut end = 0;
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 && !(is_number(last) && is_unit(word)) {
            words.push(&text[start..end]);
            start = end + 1;
        }
        end += usize::from(index > 0) + word.len();
        last = word;
    }
    words.push(&text[start..]);
    words
}

/// Breaks `text` between words into lines of at most `width` columns; a longer word has a line of its own.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words(text) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    // Of two spaces one may end a line.
    lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn what_is_told_of_rules_stands_in_columns_and_within_the_width() {
        let detail = "word ".repeat(60);
        let step = |rule, place| StepLine { rule, outcome: "skip", word: "skip", detail: &detail, place };
        let mut out = String::new();
        write_step_lines(
            &mut out,
            "  ",
            &[step("relay_domain", Some("a.toml:7".to_owned())), step("sender", None)],
        );
        let told = plain(&out);
        assert!(told.lines().all(|line| line.chars().count() <= width()), "{told}");
        // Two columns, the word in six, and the longer rule, with two columns after each.
        let (first, second) = ("  skip    relay_domain  word", "  skip    sender        word");
        assert!(told.starts_with(first) && told.contains(second), "{told}");
        let others = told.lines().filter(|line| !line.starts_with(first) && !line.starts_with(second));
        assert!(others.clone().count() > 2, "{told}");
        assert!(others.clone().all(|line| line.find(|letter| letter != ' ') == Some(24)), "{told}");
    }

    #[test]
    fn a_paragraph_stands_under_its_columns_and_within_the_width() {
        let mut out = String::new();
        write_paragraph(&mut out, STRONG, "note:", &"word ".repeat(60), 2);
        let told = plain(&out);
        assert!(told.starts_with("note: word "), "{told}");
        assert!(told.lines().skip(1).all(|line| line.starts_with("  word")), "{told}");
        // The first line stands behind what its caller wrote: as many columns.
        assert!(told.lines().next().is_some_and(|line| line.len() <= width() - 2), "{told}");
        assert!(told.lines().all(|line| line.len() <= width()), "{told}");
    }

    #[test]
    fn a_terminal_obeys_our_styles_alone() {
        let ours = format!("{} {}\n\tgo on\n", styled(NO, "denied"), styled(FAINT, "ticket"));
        assert_eq!(for_terminal(&ours), ours);
        let theirs = "<\u{1b}]0;title\u{7}\u{1b}[8m\u{9b}2J\u{202e}moc\u{2028}>\r\n";
        let shown = "<\\u001b]0;title\\u0007\\u001b[8m\\u009b2J\\u202emoc\\u2028>\\u000d\n";
        assert_eq!(for_terminal(theirs), shown);
        let json = serde_json::json!({ "from": "a\u{202e}b\u{85}" });
        let printed = for_terminal(&json.to_string());
        assert!(printed.is_ascii(), "{printed}");
        assert_eq!(serde_json::from_str::<Value>(&printed).expect("it is JSON"), json);
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (599, "9m 59s"),
            (7200, "2h"),
            (90_061, "1d 1h"),
            (86_460, "1d"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn times_are_told_from_now() {
        let now = UnixMillis::parse_rfc3339("2026-11-23T09:34:56.789Z").unwrap();
        for (time, told) in [
            ("2026-11-23T09:34:56.100Z", "now"),
            ("2026-11-23T09:34:16.789Z", "40 s ago"),
            ("2026-11-23T09:31:00.000Z", "3 min ago"),
            ("2026-11-20T09:31:00.000Z", "3 d ago"),
            ("2026-11-23T09:34:57.000Z", "in 1 s"),
            ("2026-11-23T12:34:57.000Z", "in 3 h"),
        ] {
            assert_eq!(when(time, now), told, "{time}");
        }
        assert_eq!(clock("2026-11-23T09:34:56.789Z"), "2026-11-23 09:34:56 UTC");
    }

    #[test]
    fn lines_are_broken_between_words_only() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a longer-than-any b", 6), ["a", "longer-than-any", "b"]);
        assert_eq!(wrapped("one two  (three)", 8), ["one two", "(three)"]);
        assert_eq!(wrapped("", 8), [""]);
    }

    #[test]
    fn a_number_and_its_unit_share_a_line() {
        for (text, width, lines) in [
            ("next try in 9 s", 13, &["next try in", "9 s"][..]),
            ("4.0 KiB of 1 GiB, all", 10, &["4.0 KiB of", "1 GiB, all"]),
            ("4.0 KiB of 1 GiB, all", 9, &["4.0 KiB", "of 1 GiB,", "all"]),
            ("since (3 h) now", 8, &["since", "(3 h)", "now"]),
            ("for 12 min.", 9, &["for", "12 min."]),
            ("room 5 d x 7 s", 6, &["room", "5 d x", "7 s"]),
            ("v1 s 12 x", 3, &["v1", "s", "12", "x"]),
        ] {
            assert_eq!(wrapped(text, width), lines, "{text:?} within {width}");
        }
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (4096, "4.0 KiB"), (60 << 20, "60.0 MiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
