//! What is told of connections for which there was no place: one record in a while, however many come.

use std::net::IpAddr;
use std::time::Duration;

use commons::{Holder, Places};
use observe::ShedCause;
use ring::{Instant, Ring};

use crate::Context;
use crate::events::ConnectionsShed;

/// One record of a worker in so long, so that a flood of connections is none of the log.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Those since the last record.
#[derive(Debug, Default)]
pub(crate) struct Shed {
    counts: [u64; ShedCause::ALL.len()],
    /// The last of them.
    client: Option<IpAddr>,
    /// No record before.
    not_before: Instant,
}

impl Shed {
    pub(crate) fn add(&mut self, cause: ShedCause, client: IpAddr) {
        self.counts[cause as usize] += 1;
        self.client = Some(client);
    }

    /// Whether there is something to tell.
    pub(crate) fn has_news(&self) -> bool {
        self.client.is_some()
    }

    /// Writes the record if it is due.
    pub(crate) fn report<R: Ring>(&mut self, cx: &mut Context<'_, R>, places: &Places) {
        let now = cx.ring.now();
        if self.not_before > now {
            return;
        }
        let Some(client) = self.client.take() else { return };
        self.not_before = now.after(REPORT_INTERVAL);
        let counts = std::mem::take(&mut self.counts);
        let shed = ConnectionsShed {
            client,
            address: counts[ShedCause::Address as usize],
            full: counts[ShedCause::Full as usize],
            displaced: counts[ShedCause::Displaced as usize],
            silent: counts[ShedCause::Silent as usize],
            strangers: places.held_up_to(Holder::Stranger),
            strangers_max: places.ceiling(Holder::Stranger),
            connections: places.held_up_to(Holder::Login),
            connections_max: places.ceiling(Holder::Login),
        };
        cx.log.record(&shed, cx.now());
    }
}
