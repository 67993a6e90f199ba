//! What the fuzz targets reach of this room: each call takes any bytes, and must not panic.

use mail::ScramVerifier;

use crate::command::Command;
use crate::proxy;
use crate::sasl::{Exchange, Mechanism, Next};

/// A command line without its CRLF.
pub fn command(line: &[u8]) {
    let _ = Command::parse(line).map_err(|fault| fault.write_to(&mut mail::Reply::default()));
}

/// A mechanism's name, then the client's answers, one a line.
///
/// # Panics
/// When an exchange without the right proof ends in one.
pub fn sasl(lines: &[u8]) {
    let mut lines = lines.split(|&byte| byte == b'\n');
    let name = lines.next().and_then(|name| std::str::from_utf8(name).ok());
    let Some(mechanism) = name.and_then(Mechanism::parse) else { return };
    let (_, mut exchange) = mechanism.begin();
    for line in lines {
        exchange = match exchange.answer(line) {
            Next::Challenge(_, next) => next,
            Next::Verifier(first) => {
                let (stored_key, server_key) = ([7; 32], [8; 32]);
                let verifier = ScramVerifier {
                    iterations: 4096,
                    salt: b"salt".as_slice().into(),
                    stored_key,
                    server_key,
                };
                Exchange::ScramFinal(first.challenge(verifier, b"nonce", b"binding").1)
            }
            Next::Shown(shown) => return drop(shown.parts()),
            Next::Proof(proof) => return assert!(!proof.proved, "no client knows a key to this verifier"),
            Next::Malformed => return,
        };
    }
}

/// A header whole, and at every cut.
///
/// # Panics
/// When a cut changes what a header says.
pub fn proxy_header(input: &[u8]) {
    let whole = proxy::parse(input);
    for cut in 0..input.len().min(proxy::HEADER_BYTES_MAX) {
        match proxy::parse(&input[..cut]) {
            Ok(None) => {}
            early => return assert_eq!(early, whole, "a shorter input was answered, and otherwise"),
        }
    }
}
