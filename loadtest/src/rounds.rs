//! One round: every server once in every way, one after the other, each fresh.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::Options;
use crate::servers::{Server, Sink, beside, generate};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Subject {
    Gatepost,
    /// The earlier build of Gatepost that `--before` names.
    Before,
    Postfix,
    #[serde(rename = "smtp-sink")]
    Sink,
}

/// How far the mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Durably accepted and kept: the next hop is down, or the mail is held.
    Accepted,
    /// Durably accepted and delivered to smtp-sink.
    Relayed,
    /// Thrown away on arrival; smtp-sink alone.
    Discarded,
}

/// What one measurement found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) round: u32,
    pub(crate) subject: Subject,
    pub(crate) kind: Kind,
    /// Whether connections were reused (`smtp-source -d`).
    pub(crate) reused: bool,
    pub(crate) messages_per_second: f64,
    pub(crate) cpu_micros_per_message: f64,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) cpu_method: &'static str,
}

/// Measures everything once. The servers alternate, so that a slow minute of the machine hits all.
pub(crate) fn run(
    options: &Options,
    gatepost: &Path,
    round: u32,
    measured: &mut Vec<Measured>,
) -> Result<(), String> {
    // Two builds are so alike that it would matter which of them always comes first.
    let subjects = match (&options.before, round % 2) {
        (None, _) => [Subject::Gatepost, Subject::Postfix],
        (Some(_), 0) => [Subject::Gatepost, Subject::Before],
        (Some(_), _) => [Subject::Before, Subject::Gatepost],
    };
    for reused in [false, true] {
        for kind in [Kind::Accepted, Kind::Relayed] {
            for subject in subjects {
                measured.push(measure(options, gatepost, round, subject, kind, reused)?);
            }
        }
        if options.before.is_none() {
            measured.push(measure(options, gatepost, round, Subject::Sink, Kind::Discarded, reused)?);
        }
    }
    Ok(())
}

fn measure(
    options: &Options,
    gatepost: &Path,
    round: u32,
    subject: Subject,
    kind: Kind,
    reused: bool,
) -> Result<Measured, String> {
    let destination = if kind == Kind::Relayed { Some(Sink::start(beside())?) } else { None };
    let relay_to = destination.as_ref().map(Sink::address);
    let server = match subject {
        Subject::Gatepost => Server::gatepost(gatepost, relay_to),
        Subject::Before => Server::gatepost(options.before.as_deref().unwrap_or(gatepost), relay_to),
        Subject::Postfix => Server::postfix(relay_to)?,
        Subject::Sink => Server::sink()?,
    };
    // Processes are started, caches filled and segments made before the clock runs.
    let warm_up = u64::from(options.sessions) * 4;
    generate(options, server.address(), warm_up, reused)?;
    if kind == Kind::Relayed {
        server.wait_delivered(warm_up)?;
    }
    let memory = server.meter().watch_memory(server.root());
    let cpu_before = server.meter().cpu_micros(server.root())?;
    let begin = Instant::now();
    generate(options, server.address(), options.messages, reused)?;
    if kind == Kind::Relayed {
        server.wait_delivered(warm_up + options.messages)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = server.meter().cpu_micros(server.root())? - cpu_before;
    let messages = options.messages as f64;
    let found = Measured {
        round,
        subject,
        kind,
        reused,
        messages_per_second: messages / seconds,
        cpu_micros_per_message: cpu as f64 / messages,
        peak_memory_bytes: memory.end(),
        cpu_method: server.meter().method(),
    };
    let connections = if reused { "reused" } else { "new" };
    println!(
        "round {round}: {subject:?}, {kind:?}, {connections}: {:.0} messages/s, {:.1} us",
        found.messages_per_second, found.cpu_micros_per_message
    );
    Ok(found)
}
