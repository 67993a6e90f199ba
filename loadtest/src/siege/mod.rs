//! What honest clients have of a gateway that strangers lay siege to.
//!
//! Each row is a siege. In every round the same is measured without it and beside it, one after the other
//! at the same gateway, so that what else the machine does meets both. Medians over the rounds are held
//! against the bounds; a row past them fails the run. The gateway has core 0, everyone else core 1.

mod besiegers;
mod client;
mod honest;
mod stand;
mod table;

use std::path::Path;
use std::time::Duration;

use testbed::net::eventually;

use crate::siege::besiegers::{Siege, raise};
use crate::siege::client::Client;
use crate::siege::honest::{Crowd, Half, LOGINS, Mail, Task, log_in, runtime};
use crate::siege::stand::{Stand, stranger};
use crate::storm::stay_beside;
use crate::table::write_json;

use table::Found;

/// What the gateway may have in most rows, and what those who besiege it take: a common hard limit.
const DESCRIPTORS: u32 = 20_000;
/// Connections of a siege are closed by then.
const LIFTED_MAX: Duration = Duration::from_secs(10);

/// One siege.
struct Row {
    name: &'static str,
    siege: Siege,
    descriptors: u32,
    crowd: Crowd,
    mail: Mail,
    says: &'static str,
}

/// Fewer at once than may wait for the verification of a password; all of them stay where there are
/// descriptors for many.
const CROWD: Crowd = Crowd { at_once: 50, stays: true };
/// Tries to have everyone known from where they are, before anything is timed.
const WARM_UPS_MAX: usize = 5;

const fn row(name: &'static str, siege: Siege, says: &'static str) -> Row {
    Row { name, siege, descriptors: DESCRIPTORS, crowd: CROWD, mail: Mail::Small, says }
}

/// In the order in which they run; silent connections are more than have places at each limit.
const ROWS: [Row; 11] = [
    Row {
        descriptors: 1024,
        crowd: Crowd { at_once: 20, stays: false },
        ..row("silent-1024", Siege::Silent(400), "400 silent connections of one address, 1,024 descriptors")
    },
    Row {
        descriptors: 4096,
        crowd: Crowd { stays: false, ..CROWD },
        ..row("silent-4096", Siege::Silent(1600), "1,600, at 4,096 descriptors")
    },
    row("silent-20000", Siege::Silent(8000), "8,000, at 20,000 descriptors"),
    row("http", Siege::Http, "300 silent connections each at metrics, tickets and admin"),
    row("addresses", Siege::Addresses, "1,000 addresses hold eleven connections each, on every port"),
    row("drip", Siege::Drip, "8,000 send a byte every 50 s: command, handshakes, AUTH, DATA"),
    Row {
        mail: Mail::Large,
        ..row(
            "sizes",
            Siege::Sizes,
            "200 declare large messages, 16 of 64 MB, and send nothing; mail of 1.2 MB",
        )
    },
    row("recipients", Siege::Recipients, "two ask for 9,990 denied recipients a transaction"),
    row("logins", Siege::Logins, "100 at a time guess passwords, each from a new address"),
    row("tickets", Siege::Tickets, "20 guess tickets; a true one is asked for beside them"),
    Row {
        mail: Mail::Inbound,
        ..row(
            "call-ahead",
            Siege::CallAhead,
            "20 guess mailboxes; mail of strangers to a known one, and questions for new ones",
        )
    },
];

/// Runs the row of this name, or all of them, and prints the table.
pub(crate) fn run(binary: &Path, name: &str, rounds: u32, json: Option<&Path>) -> Result<(), String> {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| name.is_empty() || row.name == name).collect();
    if rows.is_empty() {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        return Err(format!("no siege is called {name:?}; there is {}", names.join(", ")));
    }
    stand::enter()?;
    raise_descriptors()?;
    stay_beside();
    println!("{}", table::head(rounds));
    let mut found = Vec::new();
    for row in rows {
        let figures = measure(row, binary, rounds)?;
        println!("{figures}");
        found.push(figures);
    }
    println!("\n{}", table::LEGEND);
    for figures in &found {
        println!("{:<13} {}", figures.name(), figures.says());
    }
    if let Some(path) = json {
        write_json(path, &found)?;
    }
    let exceeded: Vec<_> = found.iter().filter_map(Found::verdict).collect();
    if exceeded.is_empty() { Ok(()) } else { Err(format!("past the bounds: {}", exceeded.join("; "))) }
}

fn measure(row: &Row, binary: &Path, rounds: u32) -> Result<Found, String> {
    let stand = Stand::start(binary, row.descriptors, row.siege == Siege::CallAhead)?;
    let task = match row.siege {
        Siege::Tickets => a_ticket(&stand)?,
        Siege::CallAhead => Task::Mailbox,
        _ => Task::Nothing,
    };
    let half = || Half::measure(&stand, row.mail, row.crowd, &task);
    // Segments are there, and everyone is known who logs in, before anything is timed.
    let is_known = || runtime().block_on(log_in(stand.ports, row.crowd)).0 == LOGINS;
    let _ = (0..WARM_UPS_MAX).any(|_| is_known());
    half();
    let mut found = Found::new(row.name, row.says);
    for _ in 0..rounds {
        let idle = stand.connections();
        let without = half();
        let raised = raise(row.siege, stand.ports);
        let beside = half();
        raised.lift();
        found.add(without, beside);
        if !eventually(LIFTED_MAX, || stand.connections() <= idle) {
            eprintln!("loadtest: {}: connections of the siege stay open", row.name);
        }
    }
    Ok(found)
}

/// A besieger of the ticket page was denied something, and was given this page.
fn a_ticket(stand: &Stand) -> Result<Task, String> {
    let source = stranger(0);
    let denied = async {
        let mut client = Client::hello(source, stand.ports.relay).await?;
        client.ask("MAIL FROM:<f@stranger.example>", 250).await?;
        client.ask("RCPT TO:<t@elsewhere.example>", 550).await
    };
    let line = runtime().block_on(denied).map_err(|error| error.to_string())?;
    // The URL of its page follows the ticket where one is configured.
    let word = line.rsplit_once("ticket ").and_then(|(_, rest)| rest.split_whitespace().next());
    let path = word.map(|ticket| format!("/{ticket}"));
    path.map(|path| Task::Page(source, path)).ok_or_else(|| format!("a denial without a ticket: {line}"))
}

/// Takes as many descriptors as the hard limit allows.
fn raise_descriptors() -> Result<(), String> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|error| format!("descriptors: {error}"))?;
    match limit.maximum {
        Some(most) if most < u64::from(DESCRIPTORS) => {
            Err(format!("a siege takes {DESCRIPTORS} descriptors, and the hard limit is {most}"))
        }
        _ => Ok(()),
    }
}
