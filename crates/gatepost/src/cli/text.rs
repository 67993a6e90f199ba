//! How the commands print. Colour is for terminals only, and for those who have not set NO_COLOR.

use std::fmt::{self, Write as _};
use std::io::Write;

use anstyle::{AnsiColor, Style};
use mail::Printable;
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

/// Prints one JSON value on a line of its own to standard output.
pub(super) fn print_json(value: &Value) {
    print(&format!("{value}\n"));
}

/// Prints a line to standard error.
pub(super) fn print_error(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{}", for_terminal(text));
}

/// `text` with nothing in it that a terminal obeys but line feeds, tabs and our own styles, whoever sent what is shown.
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
        let _ = write!(out, "{indent}{outcome}  {rule:<width$}  {detail}");
        if let Some(place) = place {
            let _ = write!(out, "  {}", styled(FAINT, format!("({place})")));
        }
        out.push('\n');
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn sizes_are_short() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (4096, "4.0 KiB"), (60 << 20, "60.0 MiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
