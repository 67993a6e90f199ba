use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::{Instant, Output, Token};

/// One end of a connection, from `connect` or the handshake to `close`.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) ring: u32,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) peer: Option<u32>,
    pub(super) connecting: Option<Token>,
    pub(super) receiving: Option<Token>,
    /// Arrived and not taken yet.
    pub(super) arrived: VecDeque<Vec<u8>>,
    /// How the incoming stream ended: 0 in order, else an error number.
    pub(super) end: Option<i32>,
    pub(super) sending: Option<Sending>,
    /// No more can be sent, and why.
    pub(super) broken: Option<i32>,
    /// Sent and not taken by the peer yet.
    pub(super) in_flight_bytes: usize,
    /// When the last piece arrives at the peer: none overtakes it.
    pub(super) last_arrival: Instant,
    /// When the last word of a peer that closed arrives here: a reset comes after it.
    pub(super) last_word: Instant,
}

#[derive(Debug)]
pub(super) struct Sending {
    pub(super) token: Token,
    pub(super) output: Output,
    pub(super) at: usize,
}

impl Endpoint {
    pub(super) fn new(ring: u32, local: SocketAddr, remote: SocketAddr, now: Instant) -> Self {
        Self {
            ring,
            local,
            remote,
            peer: None,
            connecting: None,
            receiving: None,
            arrived: VecDeque::new(),
            end: None,
            sending: None,
            broken: None,
            in_flight_bytes: 0,
            last_arrival: now,
            last_word: now,
        }
    }
}
