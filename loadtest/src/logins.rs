//! A storm of logins: strangers who guess passwords, each of which is slow to verify on purpose, and the
//! mail of a tenant beside it. Nothing limits their failures, and every thread of the gateway has the one
//! core: a fleet's gateway has more, and locks such strangers out.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use testbed::Dialog;
use testbed::proseware::listen_for_clear_logins;

use crate::servers::{Server, Sink, beside};
use crate::storm::{Mail, STRANGERS, address_of, let_others_run, time_accepted};

/// `nobody@proseware.example` with a password that is wrong: as slow as that of a login that exists.
const GUESS: &str = "AUTH PLAIN AG5vYm9keUBwcm9zZXdhcmUuZXhhbXBsZQBndWVzcw==";
const NO_LIMITS: &str = "\n[login]\nfailures_per_ip = \"off\"\nfailures_per_identity = \"off\"\n";

/// Measures Gatepost `rounds` times.
pub(crate) fn run(gatepost: &Path, rounds: u32) -> Result<(), String> {
    for round in 1..=rounds {
        let destination = Sink::start(beside())?;
        let mut clear = None;
        let server = Server::gatepost_with(gatepost, Some(destination.address()), |configuration| {
            clear = Some(listen_for_clear_logins(configuration));
            configuration.node_extra.push_str(NO_LIMITS);
        });
        let clear = clear.expect("the listener was added");
        time_accepted(server.address(), 50);
        let mail = Mail::in_turn(&server, move |answers, ending| guess(clear, answers, ending))?;
        println!("logins, round {round}: {mail}, {:.0} guesses answered a second", mail.answers_a_second);
    }
    Ok(())
}

/// One connection and one guess of each stranger, all at once.
fn guess(address: SocketAddr, answers: &AtomicU64, ending: &AtomicBool) {
    let mut strangers: Vec<_> =
        (0..STRANGERS).map(|number| Dialog::hello_from(address_of(number), address)).collect();
    for stranger in &mut strangers {
        stranger.send(format!("{GUESS}\r\n"));
        let_others_run();
    }
    for mut stranger in strangers {
        if ending.load(Ordering::Relaxed) {
            break;
        }
        let reply = stranger.reply().expect("every guess is answered");
        assert!([454, 535].contains(&reply.code), "a guess was taken: {reply:?}");
        answers.fetch_add(1, Ordering::Relaxed);
        let_others_run();
    }
}
