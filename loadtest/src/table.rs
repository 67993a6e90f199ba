//! The result: medians over the rounds, ratios, one table, and the same as JSON.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::Options;
use crate::rounds::{Kind, Measured, Subject};

/// Everything a reader needs to judge a run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    messages: u64,
    rounds: u32,
    sessions: u32,
    bytes: u32,
    disk: String,
    sync_before_250: Vec<String>,
    rows: Vec<Row>,
    measurements: Vec<Measured>,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
struct Row {
    subject: Subject,
    kind: Kind,
    reused: bool,
    messages_per_second: f64,
    cpu_micros_per_message: f64,
    cpu_micros_least: f64,
    cpu_micros_most: f64,
    peak_memory_bytes: u64,
    /// Postfix's CPU a message divided by this one's.
    postfix_cpu_ratio: Option<f64>,
    /// This one's CPU a message divided by smtp-sink's.
    sink_cpu_ratio: Option<f64>,
    /// This one's CPU a message divided by the earlier build's: the median of the rounds' ratios, since both
    /// were measured next to each other.
    before_cpu_ratio: Option<f64>,
}

impl Summary {
    pub(crate) fn new(
        options: &Options,
        rounds: u32,
        disk: String,
        evidence: &[String],
        measurements: Vec<Measured>,
    ) -> Self {
        Self {
            messages: options.messages,
            rounds,
            sessions: options.sessions,
            bytes: options.bytes,
            disk,
            sync_before_250: evidence.to_vec(),
            rows: rows(&measurements),
            measurements,
        }
    }
}

/// Writes what was found as JSON.
pub(crate) fn write_json(path: &Path, found: &impl Serialize) -> Result<(), String> {
    let json = serde_json::to_string_pretty(found).map_err(|error| error.to_string())?;
    std::fs::write(path, json + "\n").map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn rows(measurements: &[Measured]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for found in measurements {
        let is_same =
            |row: &Row| (row.subject, row.kind, row.reused) == (found.subject, found.kind, found.reused);
        if !rows.iter().any(is_same) {
            rows.push(row(measurements, found));
        }
    }
    let peers = rows.clone();
    let cpu = |subject: Subject, kind: Kind, reused: bool| {
        let peer = peers.iter().find(|row| (row.subject, row.kind, row.reused) == (subject, kind, reused));
        peer.map(|row| row.cpu_micros_per_message).filter(|cpu| *cpu > 0.0)
    };
    for row in &mut rows {
        let own = row.cpu_micros_per_message;
        let postfix = cpu(Subject::Postfix, row.kind, row.reused);
        row.postfix_cpu_ratio = postfix.filter(|_| own > 0.0).map(|postfix| postfix / own);
        row.sink_cpu_ratio = cpu(Subject::Sink, Kind::Discarded, row.reused).map(|sink| own / sink);
        row.before_cpu_ratio = before_cpu_ratio(measurements, row);
    }
    rows
}

fn before_cpu_ratio(measurements: &[Measured], row: &Row) -> Option<f64> {
    let of = |subject: Subject, round: Option<u32>| {
        measurements.iter().filter(move |found| {
            (found.subject, found.kind, found.reused) == (subject, row.kind, row.reused)
                && round.is_none_or(|round| round == found.round)
        })
    };
    let pairs = of(row.subject, None).filter_map(|own| {
        let before = of(Subject::Before, Some(own.round)).next()?;
        Some(own.cpu_micros_per_message / before.cpu_micros_per_message)
    });
    let mut ratios: Vec<f64> = pairs.collect();
    ratios.sort_by(f64::total_cmp);
    (row.subject == Subject::Gatepost).then(|| ratios.get(ratios.len() / 2).copied()).flatten()
}

fn row(measurements: &[Measured], like: &Measured) -> Row {
    let same: Vec<&Measured> = measurements
        .iter()
        .filter(|found| (found.subject, found.kind, found.reused) == (like.subject, like.kind, like.reused))
        .collect();
    let sorted = |value: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = same.iter().map(|found| value(found)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let cpu = sorted(|found| found.cpu_micros_per_message);
    let rate = sorted(|found| found.messages_per_second);
    Row {
        subject: like.subject,
        kind: like.kind,
        reused: like.reused,
        messages_per_second: rate[rate.len() / 2],
        cpu_micros_per_message: cpu[cpu.len() / 2],
        cpu_micros_least: cpu[0],
        cpu_micros_most: cpu[cpu.len() - 1],
        peak_memory_bytes: same.iter().map(|found| found.peak_memory_bytes).max().unwrap_or(0),
        postfix_cpu_ratio: None,
        sink_cpu_ratio: None,
        before_cpu_ratio: None,
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, rounds, sessions, bytes, disk, .. } = self;
        writeln!(
            f,
            "{messages} messages of {bytes} bytes, {sessions} sessions, median of {rounds} rounds, {disk}"
        )?;
        writeln!(
            f,
            "{:<12}{:<11}{:<13}{:>12}{:>14}{:>16}{:>12}{:>14}{:>14}{:>14}",
            "server",
            "mail",
            "connections",
            "messages/s",
            "CPU us/msg",
            "least..most",
            "peak MiB",
            "Postfix/this",
            "this/sink",
            "this/before"
        )?;
        for row in &self.rows {
            let subject = match row.subject {
                Subject::Gatepost => "gatepost",
                Subject::Before => "before",
                Subject::Postfix => "postfix",
                Subject::Sink => "smtp-sink",
            };
            let kind = format!("{:?}", row.kind).to_lowercase();
            let spread = format!("{:.1}..{:.1}", row.cpu_micros_least, row.cpu_micros_most);
            let ratio = |value: Option<f64>, decimals: usize| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
            };
            writeln!(
                f,
                "{subject:<12}{kind:<11}{:<13}{:>12.0}{:>14.1}{spread:>16}{:>12.1}{:>14}{:>14}{:>14}",
                if row.reused { "reused" } else { "new" },
                row.messages_per_second,
                row.cpu_micros_per_message,
                row.peak_memory_bytes as f64 / (1024.0 * 1024.0),
                ratio(row.postfix_cpu_ratio, 1),
                ratio(row.sink_cpu_ratio, 1),
                ratio(row.before_cpu_ratio, 3),
            )?;
        }
        let method = self.measurements.first().map_or("", |found| found.cpu_method);
        writeln!(
            f,
            "CPU: {method}, all processes of the server. Memory: proportional set size, largest sample."
        )?;
        for line in &self.sync_before_250 {
            writeln!(f, "sync before 250: {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(subject: Subject, kind: Kind, cpu: f64) -> Measured {
        Measured {
            round: 1,
            subject,
            kind,
            reused: true,
            messages_per_second: 1.0,
            cpu_micros_per_message: cpu,
            peak_memory_bytes: 1,
            cpu_method: "",
        }
    }

    #[test]
    fn ratios_compare_medians_of_the_same_mail_and_connections() {
        let rows = rows(&[
            measured(Subject::Gatepost, Kind::Accepted, 10.0),
            measured(Subject::Gatepost, Kind::Accepted, 1000.0),
            measured(Subject::Gatepost, Kind::Accepted, 20.0),
            measured(Subject::Postfix, Kind::Accepted, 400.0),
            measured(Subject::Postfix, Kind::Relayed, 900.0),
            measured(Subject::Sink, Kind::Discarded, 5.0),
        ]);
        assert_eq!(rows[0].cpu_micros_per_message, 20.0);
        assert_eq!(rows[0].postfix_cpu_ratio, Some(20.0));
        assert_eq!(rows[0].sink_cpu_ratio, Some(4.0));
    }

    #[test]
    fn an_earlier_build_is_compared_with_round_by_round() {
        let in_round = |round: u32, subject: Subject, cpu: f64| Measured {
            round,
            ..measured(subject, Kind::Relayed, cpu)
        };
        let rows = rows(&[
            in_round(1, Subject::Before, 10.0),
            in_round(1, Subject::Gatepost, 11.0),
            in_round(2, Subject::Gatepost, 30.0),
            in_round(2, Subject::Before, 20.0),
            in_round(3, Subject::Before, 40.0),
            in_round(3, Subject::Gatepost, 40.0),
        ]);
        assert_eq!(rows[0].subject, Subject::Before);
        assert_eq!(rows[0].before_cpu_ratio, None);
        assert_eq!(rows[1].before_cpu_ratio, Some(1.1));
    }
}
