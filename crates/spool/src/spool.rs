//! A worker's part of the spool: its own shard, and those that have no worker any more.
//!
//! New mail goes home. A shard whose number is no worker's belongs to worker `number % workers`, which
//! takes its mail up, notes outcomes (and the bounces they cause) in that same shard, in the same groups as
//! ever, and removes it when nothing is queued in it. A shard in which something is damaged stays, to be
//! looked at. Keys and tokens say which shard they belong to; nothing is kept per message for it.

use std::io;
use std::path::Path;

use mail::{MessageId, UnixMillis};
use ring::{Completion, Disk, Handle, Ring};

use crate::fence;
use crate::place::KIND_DROP;
use crate::place::{self, HOME};
use crate::removal::{self, Removal};
use crate::replay::RecoveredMail;
use crate::scan::{shard_directory, shards};
use crate::{
    Event, LargeKey, MessageKey, NewMessage, Options, Outcome, Place, ReadKey, Recovered, RecoveryProgress,
    RecoveryReport, Refusal, SEGMENTS_MAX, Said, Shard, SpoolError, Stats, StoredMessage,
};

/// The shards of one worker. It is driven as a [`Shard`] is.
#[derive(Debug)]
pub struct Spool {
    home: Shard,
    /// By place, the first at place 1.
    adopted: Vec<Adopted>,
    /// The shard that is asked next for its events.
    next_polled: usize,
    /// All that the recoveries found, taken together.
    report: RecoveryReport,
    /// What shards had counted that are removed now.
    gone: Stats,
    /// Ends of removals, to be reported.
    removed: Vec<Event>,
}

#[derive(Debug)]
enum Adopted {
    Draining(Box<Shard>),
    Removing { shard: u8, removal: Removal },
    Gone,
}

impl Adopted {
    fn shard(&self) -> Option<&Shard> {
        if let Self::Draining(shard) = self { Some(shard) } else { None }
    }

    fn shard_mut(&mut self) -> Option<&mut Shard> {
        if let Self::Draining(shard) = self { Some(shard) } else { None }
    }
}

/// Up to where each shard had noted something: see [`Spool::noted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted(Box<[u64]>);

/// What a start found queued in the shards of a worker, shard by shard, oldest first in each.
#[derive(Debug)]
pub struct RecoveredSpool {
    parts: Vec<(u8, RecoveredMail)>,
}

impl Iterator for RecoveredSpool {
    type Item = Recovered;

    fn next(&mut self) -> Option<Recovered> {
        loop {
            let (place, mail) = self.parts.last_mut()?;
            if let Some(mut recovered) = mail.next() {
                recovered.key.0 = place::outer(*place, recovered.key.0);
                return Some(recovered);
            }
            self.parts.pop();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.parts.iter().map(|(_, mail)| mail.len()).sum();
        (count, Some(count))
    }
}

impl ExactSizeIterator for RecoveredSpool {}

impl Spool {
    /// Opens the shard of a worker and those that it adopts, by blocking calls; also gives what is queued.
    ///
    /// `options` are of the worker's own shard; `workers` is how many there are. Empty shards without a worker
    /// are removed at once. The caller owns the spool: see [`crate::claim`].
    ///
    /// # Errors
    /// As [`Shard::open`], for each of them.
    pub fn open<D: Disk>(
        disk: &mut D,
        options: Options,
        workers: usize,
    ) -> Result<(Self, RecoveredSpool), SpoolError> {
        Self::open_watched(disk, options, workers, &RecoveryProgress::default())
    }

    /// The same, while another thread may look how far it is.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_watched<D: Disk>(
        disk: &mut D,
        options: Options,
        workers: usize,
        progress: &RecoveryProgress,
    ) -> Result<(Self, RecoveredSpool), SpoolError> {
        disk.create_directory(&options.directory).map_err(SpoolError::io("create", &options.directory))?;
        let surplus = surplus(disk, &options.directory, options.shard, workers)?;
        for &shard in surplus.iter().chain([&options.shard]) {
            fence::pass(disk, &shard_directory(&options.directory, shard), progress)?;
        }
        let (home, mail) = Shard::open_at(disk, options.clone(), HOME, progress)?;
        let mut report = home.recovery().clone();
        let (mut adopted, mut parts) = (Vec::new(), Vec::new());
        for shard in surplus {
            let directory = shard_directory(&options.directory, shard);
            if removal::is_remains(disk, &directory)? {
                removal::remove_now(disk, &directory)?;
                continue;
            }
            // It grows for outcomes alone, which must not be refused; nothing is copied in what is to go.
            let options = Options {
                shard,
                capacity_bytes: u64::MAX,
                segments_max: SEGMENTS_MAX,
                hot_bytes_max: 0,
                compaction_bytes_per_second: 0,
                ..options.clone()
            };
            let place = (adopted.len() + 1) as u8;
            let (shard, mail) = Shard::open_at(disk, options, place, progress)?;
            report.add(shard.recovery());
            if shard.is_drained() {
                shard.segments.list.iter().for_each(|segment| disk.close_file(segment.file));
                removal::remove_now(disk, &directory)?;
                continue;
            }
            adopted.push(Adopted::Draining(Box::new(shard)));
            parts.push((place, mail));
        }
        parts.push((HOME, mail));
        progress.end(&report.damage);
        let mut spool =
            Self { home, adopted, next_polled: 0, report, gone: Stats::default(), removed: Vec::new() };
        spool.count_adopted();
        Ok((spool, RecoveredSpool { parts }))
    }

    /// What the recovery of all shards found and did.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// The shards: the worker's own first, then those that are being drained.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        std::iter::once(&self.home).chain(self.adopted.iter().filter_map(Adopted::shard))
    }

    /// The shard of a key, and the key within it.
    fn of(&mut self, key: MessageKey) -> (Option<&mut Shard>, MessageKey) {
        let (place, key) = place::inner(key.0);
        (self.at(place), MessageKey(key))
    }

    fn at(&mut self, place: u8) -> Option<&mut Shard> {
        match usize::from(place).checked_sub(1) {
            None => Some(&mut self.home),
            Some(index) => self.adopted.get_mut(index)?.shard_mut(),
        }
    }

    /// A failed write in one shard stops all: they share a device, and a restart is due. So do files that have
    /// vanished: what was done to one shard was hardly meant for it alone.
    fn check_health(&self) -> Result<(), Refusal> {
        if self.shards().any(|shard| shard.latched) {
            Err(Refusal::Latched)
        } else if self.shards().any(|shard| shard.watch.has_vanished) {
            Err(Refusal::Vanished)
        } else {
            Ok(())
        }
    }

    /// From now on looks every so often whether all files bear their names, beginning with the next
    /// [`Spool::flush`]: see [`Event::Vanished`].
    pub fn watch(&mut self, interval: std::time::Duration) {
        self.home.watch.interval = Some(interval);
        for shard in self.adopted.iter_mut().filter_map(Adopted::shard_mut) {
            shard.watch.interval = Some(interval);
        }
    }

    /// The queued messages that the next start would not find, since their files bear their names no longer. By
    /// blocking calls: for the end.
    pub fn lost<D: Disk>(&self, disk: &mut D) -> Vec<MessageId> {
        self.shards().flat_map(|shard| shard.lost(disk)).collect()
    }

    /// As [`Shard::append`], into the worker's own shard.
    ///
    /// # Errors
    /// As [`Shard::append`].
    pub fn append(
        &mut self,
        message: &NewMessage<'_>,
        waiter: Option<Handle>,
    ) -> Result<MessageKey, Refusal> {
        self.check_health()?;
        self.home.append(message, waiter)
    }

    /// As [`Shard::outcomes`], in the shard of the message, the bounce too.
    ///
    /// # Errors
    /// As [`Shard::outcomes`].
    pub fn outcomes(
        &mut self,
        key: MessageKey,
        outcomes: &[(u16, Outcome)],
        said: &[Said],
        bounce: Option<&NewMessage<'_>>,
    ) -> Result<(), Refusal> {
        let (shard, key) = self.of(key);
        shard.map_or(Ok(()), |shard| shard.outcomes(key, outcomes, said, bounce))
    }

    /// As [`Shard::deferred`].
    ///
    /// # Errors
    /// As [`Shard::deferred`].
    pub fn deferred(
        &mut self,
        key: MessageKey,
        recipients: &[u16],
        until: UnixMillis,
        attempts: u16,
        said: &[Said],
    ) -> Result<(), Refusal> {
        let (shard, key) = self.of(key);
        shard.map_or(Ok(()), |shard| shard.deferred(key, recipients, until, attempts, said))
    }

    /// As [`Shard::held`].
    ///
    /// # Errors
    /// As [`Shard::held`].
    pub fn held(&mut self, key: MessageKey, recipients: &[u16], attempts: u16) -> Result<(), Refusal> {
        let (shard, key) = self.of(key);
        shard.map_or(Ok(()), |shard| shard.held(key, recipients, attempts))
    }

    /// As [`Shard::released`].
    ///
    /// # Errors
    /// As [`Shard::released`].
    pub fn released(&mut self, key: MessageKey, recipients: &[u16], attempts: u16) -> Result<(), Refusal> {
        let (shard, key) = self.of(key);
        shard.map_or(Ok(()), |shard| shard.released(key, recipients, attempts))
    }

    /// As [`Shard::attempt_started`].
    ///
    /// # Errors
    /// As [`Shard::attempt_started`].
    pub fn attempt_started(
        &mut self,
        key: MessageKey,
        recipients: &[u16],
        now: UnixMillis,
        attempts: u16,
    ) -> Result<(), Refusal> {
        let (shard, key) = self.of(key);
        shard.map_or(Ok(()), |shard| shard.attempt_started(key, recipients, now, attempts))
    }

    /// As [`Shard::find`].
    #[must_use]
    pub fn find(&self, key: MessageKey) -> Option<(MessageId, Option<Place>)> {
        let (place, key) = place::inner(key.0);
        let shard = match usize::from(place).checked_sub(1) {
            None => &self.home,
            Some(index) => self.adopted.get(index)?.shard()?,
        };
        shard.find(MessageKey(key))
    }

    /// Up to where all shards have noted something; [`Spool::is_durable`] says when that is durable.
    #[must_use]
    pub fn noted(&self) -> Noted {
        let adopted = self.adopted.iter().map(|one| one.shard().map_or(0, Shard::groups_noted));
        Noted(std::iter::once(self.home.groups_noted()).chain(adopted).collect())
    }

    /// Everything up to there is durable.
    #[must_use]
    pub fn is_durable(&self, noted: &Noted) -> bool {
        let adopted = self.adopted.iter().map(|one| one.shard().map_or(u64::MAX, |shard| shard.groups));
        let groups = std::iter::once(self.home.groups).chain(adopted);
        groups.zip(&noted.0).all(|(groups, &noted)| groups >= noted)
    }

    /// As [`Shard::accepts_mail`]; what adopted shards take counts against the worker's own.
    ///
    /// # Errors
    /// As [`Shard::accepts_mail`].
    pub fn accepts_mail(&self) -> Result<(), Refusal> {
        self.check_health()?;
        self.home.accepts_mail()
    }

    /// As [`Shard::accepts_bytes`].
    ///
    /// # Errors
    /// As [`Shard::accepts_bytes`].
    pub fn accepts_bytes(&self, bytes: u64) -> Result<(), Refusal> {
        self.check_health()?;
        self.home.accepts_bytes(bytes)
    }

    /// As [`Shard::flush`], for all shards; begins to remove what is drained.
    pub fn flush<R: Ring>(&mut self, ring: &mut R) {
        self.home.flush(ring);
        if self.adopted.is_empty() {
            return;
        }
        for one in &mut self.adopted {
            let Adopted::Draining(shard) = one else { continue };
            shard.flush(ring);
            if shard.is_drained() {
                // Its counters stay; what it holds does not.
                self.gone.groups += shard.groups;
                self.gone.committed += shard.committed;
                shard.segments.list.iter().for_each(|segment| ring.close_file(segment.file));
                let directory = shard.segments.directory.clone();
                let numbers = shard.segments.list.iter().map(|segment| segment.number);
                let token = shard.tokens.numbered(KIND_DROP, 0);
                let removal = Removal::begin(ring, directory, numbers, token);
                *one = Adopted::Removing { shard: shard.segments.shard, removal };
            }
        }
        self.count_adopted();
    }

    /// What adopted shards take on disk is not there for new mail.
    fn count_adopted(&mut self) {
        let (mut bytes, mut segments) = (0, 0);
        for shard in self.adopted.iter().filter_map(Adopted::shard) {
            bytes += shard.segments.disk_bytes();
            segments += shard.segments.list.len() as u64;
        }
        (self.home.segments.lent_bytes, self.home.segments.lent_segments) = (bytes, segments);
    }

    /// Takes the end of an operation of this room.
    pub fn complete<R: Ring>(&mut self, ring: &mut R, completion: Completion) {
        let Completion::File { token, .. } = &completion else { return };
        let Some(index) = usize::from(token.part).checked_sub(1) else {
            return self.home.complete(ring, completion);
        };
        let Some(one) = self.adopted.get_mut(index) else { return };
        match (one, completion) {
            (Adopted::Draining(shard), completion) => shard.complete(ring, completion),
            (one @ Adopted::Removing { .. }, Completion::File { token, result, .. })
                if token.kind == KIND_DROP =>
            {
                let Adopted::Removing { shard, removal } = one else { return };
                if let Some(result) = removal.advance(ring, result) {
                    self.removed.push(Event::Removed { shard: *shard, result });
                    *one = Adopted::Gone;
                }
            }
            _ => {}
        }
    }

    /// What happened since the last call; `None` when there is nothing more.
    pub fn poll(&mut self) -> Option<Event> {
        if let Some(event) = self.home.poll() {
            return Some(event);
        }
        if self.adopted.is_empty() {
            return None;
        }
        while let Some(one) = self.adopted.get_mut(self.next_polled) {
            if let Some(mut event) = one.shard_mut().and_then(Shard::poll) {
                mark(&mut event, (self.next_polled + 1) as u8);
                return Some(event);
            }
            self.next_polled += 1;
        }
        self.next_polled = 0;
        self.removed.pop()
    }

    /// As [`Shard::load`].
    pub fn load<R: Ring>(&mut self, ring: &mut R, key: MessageKey, request: Handle) {
        let (place, own) = place::inner(key.0);
        match self.at(place) {
            Some(shard) => shard.load(ring, MessageKey(own), request),
            // It was removed: the worker's own shard says that it has no such message either.
            None => self.home.load(ring, MessageKey(u64::MAX), request),
        }
    }

    /// As [`Shard::large_begin`].
    ///
    /// # Errors
    /// As [`Shard::large_begin`].
    pub fn large_begin<R: Ring>(
        &mut self,
        ring: &mut R,
        expected_bytes: u64,
        waiter: Handle,
    ) -> Result<LargeKey, Refusal> {
        self.check_health()?;
        self.home.large_begin(ring, expected_bytes, waiter)
    }

    /// As [`Shard::large_has_memory`].
    pub fn large_has_memory(&mut self, large: LargeKey) -> bool {
        self.home.large_has_memory(large)
    }

    /// As [`Shard::large_write`].
    pub fn large_write<R: Ring>(&mut self, ring: &mut R, large: LargeKey, bytes: &[u8]) -> bool {
        self.home.large_write(ring, large, bytes)
    }

    /// As [`Shard::large_finish`].
    pub fn large_finish<R: Ring>(&mut self, ring: &mut R, large: LargeKey) {
        self.home.large_finish(ring, large);
    }

    /// As [`Shard::large_abort`].
    pub fn large_abort<R: Ring>(&mut self, ring: &mut R, large: LargeKey) {
        self.home.large_abort(ring, large);
    }

    /// As [`Shard::read_large`].
    pub fn read_large<R: Ring>(
        &mut self,
        ring: &mut R,
        message: &StoredMessage,
        request: Handle,
    ) -> Option<ReadKey> {
        self.at(message.place)?.read_large(ring, message, request)
    }

    /// As [`Shard::read_next`].
    pub fn read_next<R: Ring>(&mut self, ring: &mut R, read: ReadKey) {
        if let Some(shard) = self.at(read.place) {
            shard.read_next(ring, read);
        }
    }

    /// As [`Shard::read_abort`].
    pub fn read_abort<R: Ring>(&mut self, ring: &mut R, read: ReadKey) {
        if let Some(shard) = self.at(read.place) {
            shard.read_abort(ring, read);
        }
    }

    /// Nothing that a caller waits for is open or on its way in any shard.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.shards().all(Shard::idle)
    }

    /// As [`Shard::next_deadline`], of all shards.
    #[must_use]
    pub fn next_deadline(&self, now: ring::Instant) -> Option<ring::Instant> {
        self.shards().filter_map(|shard| shard.next_deadline(now)).min()
    }

    /// The counters of all shards together; the capacity is the worker's share, out of which the adopted ones
    /// take what their files do.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.home.stats();
        stats.groups += self.gone.groups;
        stats.committed += self.gone.committed;
        for shard in self.adopted.iter().filter_map(Adopted::shard) {
            let own = shard.stats();
            stats.messages += own.messages;
            stats.used_bytes += shard.segments.disk_bytes();
            stats.live_bytes += own.live_bytes;
            stats.hot_bytes += own.hot_bytes;
            stats.groups += own.groups;
            stats.committed += own.committed;
            stats.latched |= own.latched;
            stats.vanished |= own.vanished;
        }
        stats
    }

    /// As [`Shard::close`], for all shards.
    ///
    /// # Errors
    /// As the system does.
    pub fn close<D: Disk>(self, disk: &mut D) -> io::Result<()> {
        let adopted = self.adopted.into_iter().filter_map(|one| match one {
            Adopted::Draining(shard) => Some(*shard),
            _ => None,
        });
        let adopted: Vec<_> = adopted.map(|shard| shard.close(disk)).collect();
        self.home.close(disk)?;
        adopted.into_iter().collect()
    }
}

/// Says in an event to which shard its keys belong.
fn mark(event: &mut Event, place: u8) {
    match event {
        Event::Committed { key, message, .. } => {
            key.0 = place::outer(place, key.0);
            message.place = place;
        }
        Event::Loaded { result: Ok(message), .. } => message.place = place,
        _ => {}
    }
}

/// The shards in the spool that have no worker and fall to this one.
fn surplus<D: Disk>(
    disk: &mut D,
    directory: &Path,
    worker: u8,
    workers: usize,
) -> Result<Vec<u8>, SpoolError> {
    let falls_here = |shard: &u8| {
        let shard = usize::from(*shard);
        shard >= workers && shard % workers.max(1) == usize::from(worker)
    };
    Ok(shards(disk, directory)?.into_iter().filter(falls_here).collect())
}
