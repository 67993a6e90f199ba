//! `gatepost demo`: a whole gateway on loopback, sample mail through real sockets, and why each
//! message was accepted or denied.
//!
//! It needs no configuration and leaves nothing behind. It fails, with 2, when the gateway cannot
//! start, and with 1 when something is decided or delivered other than it should be.

mod client;
mod destination;
mod house;
mod situation;
mod transcript;

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use house::House;
use situation::SITUATIONS;
use tokio::signal::unix::{SignalKind, signal};

use super::text::{print, print_json};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost demo          the sample, then it stays up for your own client, until Ctrl-C
  gatepost demo --once   the sample only";

/// How often the demo looks up from what arrives, to see whether it shall end.
const LOOK_UP: Duration = Duration::from_millis(200);

/// The arguments of the command.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Demo {
    /// End after the sample messages
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub(super) fn run(self, common: &Common) -> Answer {
        let house = match House::open() {
            Ok(house) => house,
            Err(sentence) => {
                common.complain(&sentence);
                return Answer::Broken;
            }
        };
        let played = play(&house, common.json);
        let answer = match played {
            Ok(()) if self.once => Answer::Yes,
            Ok(()) => stay(&house, common),
            Err(sentence) => {
                common.complain(&sentence);
                Answer::No
            }
        };
        house.close();
        answer
    }
}

fn play(house: &House, json: bool) -> Result<(), String> {
    if !json {
        print(&transcript::opening(house));
    }
    let mut verdicts = Vec::new();
    for (number, situation) in (1..).zip(SITUATIONS) {
        let played = situation.play(house)?;
        verdicts.push(played.accepted);
        if json {
            print_json(&transcript::as_json(&played, house));
        } else {
            print(&transcript::situation(number, &played, house));
        }
    }
    // What was denied must not have come by another way.
    if let Ok(surprise) = house.arrivals.try_recv() {
        return Err(format!("a message arrived that should not have been relayed: {surprise:?}"));
    }
    if !json {
        print(&transcript::closing(&verdicts));
    }
    Ok(())
}

/// Shows what arrives until SIGINT or SIGTERM.
fn stay(house: &House, common: &Common) -> Answer {
    let signals = match signals() {
        Ok(signals) => signals,
        Err(error) => {
            common.complain(&format!("cannot listen for Ctrl-C: {error}"));
            return Answer::Broken;
        }
    };
    if common.json {
        print_json(&transcript::addresses_as_json(house));
    } else {
        print(&transcript::invitation(house));
    }
    while !signals.is_finished() {
        match house.arrivals.recv_timeout(LOOK_UP) {
            Ok(arrival) if common.json => print_json(&transcript::arrival_as_json(&arrival)),
            Ok(arrival) => print(&transcript::arrival(&arrival)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Answer::Yes
}

/// A thread that ends at SIGINT or SIGTERM.
fn signals() -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
    })
}
