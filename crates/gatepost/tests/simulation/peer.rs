//! One end of a connection as the scripted actors use it: lines in, bytes out.

use std::sync::Arc;

use ring::sim::SimRing;
use ring::{Chunk, Output, Ring, Socket, Token};
use rustls::ServerConfig;

use super::guard::Seal;

/// A connection of an actor.
pub struct Peer {
    pub socket: Socket,
    token: Token,
    input: Vec<u8>,
    output: Vec<u8>,
    is_sending: bool,
    closes: bool,
    /// What may still be said before an accident.
    left_bytes: Option<usize>,
    is_cut_short: bool,
    seal: Option<Seal>,
}

impl Peer {
    /// An end whose socket is connected already, or will be.
    pub fn new(socket: Socket, token: Token) -> Self {
        Self {
            socket,
            token,
            input: Vec::new(),
            output: Vec::new(),
            is_sending: false,
            closes: false,
            left_bytes: None,
            is_cut_short: false,
            seal: None,
        }
    }

    /// Says so many bytes more, and then nothing.
    pub fn fall_silent_after(&mut self, bytes: usize) {
        self.left_bytes = Some(bytes);
    }

    /// Not everything that was to be said is or will be.
    pub fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// The last byte that will be said has gone out.
    pub fn has_fallen_silent(&self) -> bool {
        self.left_bytes == Some(0) && self.output.is_empty() && !self.is_sending
    }

    /// Takes what arrived.
    pub fn received(&mut self, ring: &mut SimRing, chunk: Chunk) {
        let wire = ring.chunk(&chunk);
        match &mut self.seal {
            None => self.input.extend_from_slice(wire),
            Some(seal) => self.closes |= !seal.open(wire, &mut self.input, &mut self.output),
        }
        ring.release(chunk);
    }

    /// What comes and goes from now on is within TLS.
    pub fn start_tls(&mut self, config: Arc<ServerConfig>) {
        self.seal = Some(Seal::new(config));
    }

    pub fn is_sealed(&self) -> bool {
        self.seal.is_some()
    }

    /// What arrived and was not taken yet.
    pub fn input(&mut self) -> &mut Vec<u8> {
        &mut self.input
    }

    /// The next whole line, without its CRLF.
    pub fn line(&mut self) -> Option<String> {
        let end = self.input.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
        self.input.drain(..end + 2);
        Some(line)
    }

    /// A message's content, once its last dot is there, without dot-stuffing (RFC 5321 section 4.5.2). Up to
    /// `scanned` no last dot was found.
    pub fn content(&mut self, scanned: &mut usize) -> Option<Vec<u8>> {
        let input = &mut self.input;
        let end = if input.starts_with(b".\r\n") {
            0
        } else {
            let found = input[*scanned..].windows(5).position(|window| window == b"\r\n.\r\n");
            match found {
                Some(at) => *scanned + at + 2,
                None => {
                    *scanned = input.len().saturating_sub(4);
                    return None;
                }
            }
        };
        let wire: Vec<u8> = input.drain(..end + 3).collect();
        let mut content = Vec::with_capacity(end);
        for line in wire[..end].split_inclusive(|byte| *byte == b'\n') {
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        Some(content)
    }

    /// The code of the next whole reply (RFC 5321 section 4.2.1).
    pub fn reply(&mut self) -> Option<u16> {
        loop {
            let line = self.line()?;
            if line.as_bytes().get(3) != Some(&b'-') {
                return Some(line.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0));
            }
        }
    }

    /// Says `bytes`, after what was said before.
    pub fn say(&mut self, bytes: &[u8]) {
        let said = self.left_bytes.map_or(bytes.len(), |left| left.min(bytes.len()));
        self.is_cut_short |= said < bytes.len();
        self.left_bytes = self.left_bytes.map(|left| left - said);
        match &mut self.seal {
            None => self.output.extend_from_slice(&bytes[..said]),
            Some(seal) => seal.seal(&bytes[..said], &mut self.output),
        }
    }

    /// Closes once everything was said.
    pub fn close_when_said(&mut self) {
        self.closes = true;
    }

    /// A send has ended.
    pub fn sent(&mut self) {
        self.is_sending = false;
    }

    /// Moves the output on. True when this end is to be closed now.
    #[must_use]
    pub fn pump(&mut self, ring: &mut SimRing) -> bool {
        if !self.is_sending && !self.output.is_empty() {
            self.is_sending = true;
            ring.send(self.socket, Output::Owned(std::mem::take(&mut self.output)), self.token);
        }
        self.closes && !self.is_sending
    }
}
