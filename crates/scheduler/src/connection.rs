//! A connection as the scheduler sees it.

use crate::event::JobIx;
use crate::jobs::PLACE;
use crate::table::{Linked, Links};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not ready for its first message.
    Opening,
    /// It may carry a message.
    Idle,
    /// It carries one, or what became of that was said and nothing else yet.
    Busy(Option<JobIx>),
    /// It is to end.
    Ending,
}

/// A connection, from the wish for it until it is closed.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) site: u32,
    pub(crate) phase: Phase,
    /// That it has carried.
    pub(crate) messages: u32,
    /// Addresses that failed.
    pub(crate) tried: u8,
    /// Among the idle ones of its site.
    links: Links,
}

impl Connection {
    pub(crate) fn new(site: u32) -> Self {
        Self { site, phase: Phase::Opening, messages: 0, tried: 0, links: Links::NONE }
    }
}

impl Linked<PLACE> for Connection {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}
