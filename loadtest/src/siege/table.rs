//! The rows of the table: medians, the bounds they are held against, and what is said of those past them.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::meter::millis_at;
use crate::siege::honest::{Half, LOGINS, TASKS};

/// Beside a siege mail and health may take so many times as long as without.
const TIMES_MAX: f64 = 2.0;
/// What a siege may make the gateway write to its log: a disk of 20 GB holds it for eight hours.
const LOG_BYTES_A_SECOND_MAX: f64 = 700_000.0;

/// What the table's words mean.
pub(crate) const LEGEND: &str = "\
Medians over the rounds, without the siege and beside it, in milliseconds. Mail is a
whole session of one message, from the connection to its 250; \"never\" is one that
failed or took more than 3 s. At most twice as long beside a siege; 1,000 of 1,000
of the tenant's people greeted and logged in within a second; all of 20 tasks: a
ticket's page, an answer about a new mailbox; 700 kB/s of log.";

/// Figures of one siege.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    name: &'static str,
    says: &'static str,
    rounds: Vec<[Figures; 2]>,
    #[serde(skip)]
    complaint: Option<String>,
}

/// Of half a round.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    mail_median_millis: f64,
    mail_p99_millis: f64,
    health_p99_millis: f64,
    logins: u32,
    tasks: u32,
    log_bytes_a_second: f64,
}

impl Figures {
    fn of(half: &Half) -> Self {
        Self {
            mail_median_millis: millis(&half.mail, 0.5),
            mail_p99_millis: millis(&half.mail, 0.99),
            health_p99_millis: millis(&half.health, 0.99),
            logins: half.logins,
            tasks: half.tasks,
            log_bytes_a_second: half.log_bytes_a_second,
        }
    }
}

/// As [`millis_at`], and infinite for those who waited in vain.
fn millis(sorted: &[Duration], part: f64) -> f64 {
    let millis = millis_at(sorted, part);
    if millis >= Duration::MAX.as_secs_f64() { f64::INFINITY } else { millis }
}

/// One of the figures.
type Value = fn(&Figures) -> f64;

/// The times that are held against the bound.
const TIMES: [(&str, Value); 3] = [
    ("mail p50", |figures| figures.mail_median_millis),
    ("mail p99", |figures| figures.mail_p99_millis),
    ("/healthz p99", |figures| figures.health_p99_millis),
];

/// The first line of the table.
pub(crate) fn head(rounds: u32) -> String {
    format!(
        "{:<13} {:>15} {:>15} {:>15} {:>15} {:>6}\n{:<13} {:>15} {:>15} {:>15} {:>15} {:>6}",
        format!("{rounds} rounds"),
        "mail p50",
        "mail p99",
        "/healthz p99",
        "logins in 1 s",
        "log",
        "siege",
        "without  beside",
        "without  beside",
        "without  beside",
        "without  beside",
        "kB/s"
    )
}

impl Found {
    pub(crate) fn new(name: &'static str, says: &'static str) -> Self {
        Self { name, says, rounds: Vec::new(), complaint: None }
    }

    pub(crate) fn add(&mut self, without: Half, beside: Half) {
        self.rounds.push([Figures::of(&without), Figures::of(&beside)]);
        if let Some(complaint) = beside.complaint {
            self.complaint.get_or_insert(complaint);
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn says(&self) -> &'static str {
        self.says
    }

    /// Of half a round each: the median over the rounds.
    fn medians(&self, value: impl Fn(&Figures) -> f64) -> [f64; 2] {
        [0, 1].map(|half| {
            let mut values: Vec<f64> = self.rounds.iter().map(|round| value(&round[half])).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        })
    }

    /// Which bounds it exceeds.
    fn exceeded(&self) -> Vec<String> {
        let mut exceeded = Vec::new();
        for (name, value) in TIMES {
            let [without, beside] = self.medians(value);
            match beside / without {
                // Neither can be compared where nothing came without a siege.
                times if times.is_nan() => exceeded.push(format!("{name} unknown")),
                f64::INFINITY => exceeded.push(format!("{name} never")),
                times if times > TIMES_MAX => exceeded.push(format!("{name} {times:.1}x")),
                _ => {}
            }
        }
        let [_, logins] = self.medians(|figures| f64::from(figures.logins));
        if logins < f64::from(LOGINS) {
            exceeded.push(format!("{logins:.0} logins"));
        }
        let [_, tasks] = self.medians(|figures| f64::from(figures.tasks));
        if tasks < f64::from(TASKS) {
            exceeded.push(format!("{tasks:.0} of {TASKS} tasks done"));
        }
        let [_, log] = self.medians(|figures| figures.log_bytes_a_second);
        if log > LOG_BYTES_A_SECOND_MAX {
            exceeded.push(format!("{:.0} kB/s of log", log / 1000.0));
        }
        exceeded
    }

    /// The row's name and the bounds that it exceeds, if it does.
    pub(crate) fn verdict(&self) -> Option<String> {
        let exceeded = self.exceeded();
        (!exceeded.is_empty()).then(|| format!("{} ({})", self.name, exceeded.join(", ")))
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<13}", self.name)?;
        for (_, value) in TIMES {
            let [without, beside] = self.medians(value).map(|millis| match millis.is_finite() {
                true => format!("{millis:.2}"),
                false => "never".to_owned(),
            });
            write!(f, " {without:>7} {beside:>7}")?;
        }
        let [idle, logins] = self.medians(|figures| f64::from(figures.logins));
        let [_, log] = self.medians(|figures| figures.log_bytes_a_second / 1000.0);
        write!(f, " {idle:>7.0} {logins:>7.0} {log:>6.0}")?;
        let exceeded = self.exceeded();
        if !exceeded.is_empty() {
            write!(f, "\n  PAST ITS BOUNDS: {}", exceeded.join(", "))?;
            if let Some(complaint) = &self.complaint {
                write!(f, "\n  first: {complaint}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(millis: u64, logins: u32) -> Half {
        let times = vec![if millis == 0 { Duration::MAX } else { Duration::from_millis(millis) }; 100];
        Half {
            mail: times.clone(),
            health: times,
            logins,
            log_bytes_a_second: 0.0,
            tasks: TASKS,
            complaint: None,
        }
    }

    fn verdict(rounds: impl IntoIterator<Item = (Half, Half)>) -> Option<String> {
        let mut found = Found::new("name", "");
        rounds.into_iter().for_each(|(without, beside)| found.add(without, beside));
        found.verdict()
    }

    #[test]
    fn a_median_of_twice_as_long_is_within_the_bound_and_more_is_past_it() {
        let rounds = |last| {
            [
                (half(10, LOGINS), half(1, LOGINS)),
                (half(10, LOGINS), half(last, LOGINS)),
                (half(10, LOGINS), half(900, LOGINS)),
            ]
        };
        assert_eq!(verdict(rounds(20)), None);
        let sentence = verdict(rounds(21)).expect("it is past the bound");
        assert_eq!(sentence, "name (mail p50 2.1x, mail p99 2.1x, /healthz p99 2.1x)");
    }

    #[test]
    fn mail_that_never_comes_and_people_who_are_not_let_in_are_past_the_bound() {
        let sentence = verdict([(half(10, LOGINS), half(0, LOGINS - 1))]).expect("it is past the bound");
        assert!(sentence.contains("mail p50 never") && sentence.contains("999 logins"), "{sentence}");
    }

    #[test]
    fn a_gateway_that_answers_nobody_without_a_siege_is_no_pass() {
        assert!(verdict([(half(0, LOGINS), half(0, LOGINS))]).is_some());
    }
}
