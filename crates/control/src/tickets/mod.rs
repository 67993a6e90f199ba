//! Tickets: what a denied sender, and the gateway's operator, may read about a denial afterwards.
//!
//! A separate thread takes the denials that the workers hand over, explains each with the
//! configuration that decided it, and writes them in batches to a file beside the spool. A ticket is
//! found from the moment its reply goes; a crash loses those of the last second at most, a restart
//! none. A file that takes no more costs tickets, never mail: they are counted as dropped.

mod page;
mod record;
mod store;
pub mod texts;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use commons::{ControlLink, DENIALS_MAX};
use ipnet::IpNet;
use mail::Ticket;
use observe::{EventLog, HttpPort, Registry};
use parking_lot::Mutex;
use policy::Listener;
use ring::Waker;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

pub use record::{Record, RecordedStep, RecordedSuspension};
pub use store::{StoreError, read_stored};

use crate::StartError;
use crate::door::Doors;
use store::Store;

/// Between two looks at what was denied: what a crash may lose, and no more than people wait.
const KEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Tickets that are looked up at the same time; the others wait, some microseconds each. Without a bound
/// guessers would get a thread each.
const LOOKUPS_MAX: usize = 4;

/// What tickets are kept with, and what their page says.
#[derive(Debug)]
pub struct TicketOptions {
    /// The file.
    pub path: PathBuf,
    /// Bytes that it may take.
    pub capacity_bytes: u64,
    /// How long a ticket is kept.
    pub keep: Duration,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<Listener>,
    /// Where the pages are served; without it they are not.
    pub address: Option<SocketAddr>,
    /// What they say.
    pub page: PageOptions,
    /// Its own log.
    pub log: EventLog,
}

/// What the page of every ticket says.
#[derive(Clone, Debug)]
pub struct PageOptions {
    /// Our name.
    pub hostname: Box<str>,
    /// Whom a denied sender may write to.
    pub contact: Option<Box<str>>,
    /// The port on which a stranger may log in.
    pub submission_port: Option<u16>,
    /// Proxies in front of the pages, which say who asks.
    pub proxies: Box<[IpNet]>,
}

/// Opens the file, keeps tickets in it and serves their pages by the listener. To be called in the runtime.
pub(crate) fn start(
    options: TicketOptions,
    link: &ControlLink,
    registry: &Arc<Registry>,
    pages: (Option<TcpListener>, &Doors),
) -> Result<(Arc<Tickets>, Keeper), StartError> {
    let TicketOptions { path, capacity_bytes, keep, listeners, page, mut log, .. } = options;
    let (store, aside) = Store::open(&path, capacity_bytes, keep).map_err(StartError::Tickets)?;
    if let Some(aside) = aside {
        log.event("tickets_damaged", crate::now()).display("moved_to", aside.display()).end();
        log.flush();
    }
    let tickets = Arc::new(Tickets {
        link: link.clone(),
        registry: registry.clone(),
        listeners,
        store,
        fresh: Mutex::default(),
        lost: AtomicU64::new(0),
        lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        log: Mutex::new(log),
    });
    let (listener, doors) = pages;
    if let Some(listener) = listener {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Runtime)?;
        let router = page::router(page, tickets.clone());
        tokio::spawn(doors.clone().serve(HttpPort::Tickets, listener, router));
    }
    let keeper = Keeper::start(tickets.clone()).map_err(StartError::Thread)?;
    Ok((tickets, keeper))
}

/// The tickets of a running gateway.
pub(crate) struct Tickets {
    link: ControlLink,
    registry: Arc<Registry>,
    listeners: Vec<Listener>,
    store: Store,
    fresh: Mutex<Fresh>,
    /// Records that the file did not take.
    lost: AtomicU64,
    lookups: Arc<Semaphore>,
    log: Mutex<EventLog>,
}

/// What is not in the file yet.
#[derive(Default)]
struct Fresh {
    /// Explained since the last batch began.
    waiting: HashMap<Ticket, Record>,
    /// The batch that is being written.
    writing: Arc<HashMap<Ticket, Record>>,
}

/// The thread that keeps tickets; dropping it writes what is left and ends it.
pub(crate) struct Keeper {
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tickets {
    /// The record of a ticket, if there is one. The runtime goes on meanwhile: what denials there are
    /// is explained first, and the file is read.
    pub(crate) async fn find(self: &Arc<Self>, ticket: Ticket) -> Option<Record> {
        let tickets = self.clone();
        let turn = self.lookups.clone().acquire_owned().await.expect("the semaphore is never closed");
        let found = spawn_blocking(move || {
            // It goes along: an asker that leaves does not make it one more at a time.
            let _turn = turn;
            tickets.find_here(ticket)
        });
        // A panic there was reported when it happened.
        found.await.ok().flatten()
    }

    fn find_here(&self, ticket: Ticket) -> Option<Record> {
        self.absorb();
        let fresh = self.fresh.lock();
        if let Some(record) = fresh.waiting.get(&ticket).or_else(|| fresh.writing.get(&ticket)) {
            return Some(record.clone());
        }
        drop(fresh);
        self.store.read(ticket).ok().flatten()
    }

    /// Explains what the workers have handed over; what comes meanwhile waits for the next time.
    fn absorb(&self) {
        let mut fresh = self.fresh.lock();
        for denial in std::iter::from_fn(|| self.link.denial()).take(DENIALS_MAX) {
            if denial.is_more {
                if let Some(mut record) = self.earlier(&fresh, denial.ticket) {
                    record.add(&denial);
                    fresh.waiting.insert(denial.ticket, record);
                }
            } else {
                fresh.waiting.insert(
                    denial.ticket,
                    Record::of(&denial, &self.listeners, self.link.commons().limits().suspensions()),
                );
            }
            self.link.give_back(denial);
            // On the core of a worker it is the worker's turn before the slice is over.
            thread::yield_now();
        }
        let dropped = self.link.commons().tickets_dropped() + self.lost.load(Ordering::Relaxed);
        self.registry.set_tickets_dropped(dropped);
    }

    fn earlier(&self, fresh: &Fresh, ticket: Ticket) -> Option<Record> {
        let record = fresh.waiting.get(&ticket).or_else(|| fresh.writing.get(&ticket));
        record.cloned().or_else(|| self.store.read(ticket).ok().flatten())
    }

    /// Writes what is new to the file.
    fn keep(&self) {
        self.absorb();
        let batch = {
            let mut fresh = self.fresh.lock();
            fresh.writing = Arc::new(std::mem::take(&mut fresh.waiting));
            fresh.writing.clone()
        };
        if batch.is_empty() {
            return;
        }
        let now = crate::now();
        if let Err(error) = self.store.write(batch.values(), now) {
            self.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
            let mut log = self.log.lock();
            let record = log.event("tickets_not_kept", now).number("tickets", batch.len() as u64);
            record.display("error", error).end();
            log.flush();
        }
        self.fresh.lock().writing = Arc::default();
    }
}

impl Keeper {
    fn start(tickets: Arc<Tickets>) -> io::Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let (is_ending, link) = (ending.clone(), tickets.link.clone());
        let thread = thread::Builder::new().name("gatepost-tickets".into()).spawn(move || {
            // A wish: the tickets are kept anyway.
            let _ = ring::turns::give_way();
            while !is_ending.load(Ordering::Acquire) {
                tickets.keep();
                thread::park_timeout(KEEP_INTERVAL);
            }
            tickets.keep();
        })?;
        let keeper = thread.thread().clone();
        link.attach_tickets(Waker::new(move || keeper.unpark()));
        Ok(Self { ending, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
