//! Closing a full segment: its footer is chosen a little each turn and written behind its groups.

use ring::{AlignedBuffer, BLOCK_BYTES, Disk, Durability, Ring};

use crate::fail_point::fail_point;
use crate::footer::Summary;
use crate::format::{Identity, Last, Trailer};
use crate::place::KIND_FOOTER;
use crate::segment::{FooterState, Segment};
use crate::shard::Shard;

/// A segment whose footer is being chosen.
#[derive(Debug)]
pub(crate) struct Sealing {
    segment: u32,
    /// Behind its last group.
    end: u64,
    last: Last,
    summary: Summary,
}

impl Shard {
    /// The segment that was written until now, up to `end`, is full.
    pub(crate) fn begin_footer<R: Ring>(&mut self, ring: &mut R, segment: u32, end: u64) {
        // The one before is not finished when a segment fills within a few turns.
        if let Some(mut before) = self.sealing.take() {
            before.summary.judge_all(&self.index);
            self.write_footer(ring, before);
        }
        let mut summary = std::mem::replace(&mut self.summary, std::mem::take(&mut self.spare_summary));
        summary.seal();
        self.segments.list[segment as usize].footer = FooterState::Coming;
        self.segments.list[segment as usize].sealed_at = Some(ring.now());
        self.sealing = Some(Sealing { segment, end, last: self.last, summary });
    }

    /// Goes on with the footer that is being chosen.
    pub(crate) fn seal_on<R: Ring>(&mut self, ring: &mut R) {
        let is_chosen = self.sealing.as_mut().is_some_and(|sealing| sealing.summary.judge(&self.index));
        if let Some(sealing) = self.sealing.take_if(|_| is_chosen) {
            self.write_footer(ring, sealing);
        }
    }

    fn write_footer<R: Ring>(&mut self, ring: &mut R, mut sealing: Sealing) {
        let slot = sealing.segment as usize;
        let is_dead = self.segments.list[slot].live == 0 && !self.segments.list[slot].has_references();
        let footer = if is_dead { None } else { self.footer(&sealing, true) };
        match footer {
            Some((buffer, bytes)) => {
                let token = self.tokens.numbered(KIND_FOOTER, sealing.segment);
                let (file, at) = (self.segments.list[slot].file, self.segments.segment_bytes - bytes);
                fail_point!("before-footer");
                ring.write_file(file, at, buffer, 0..bytes as usize, Durability::Durable, token);
            }
            None => {
                self.segments.list[slot].footer = FooterState::Missing;
                self.segments.refresh();
            }
        }
        sealing.summary.clear();
        self.spare_summary = sealing.summary;
    }

    /// Footer and trailer of a segment, and their length; `None` where they have no room.
    fn footer(&mut self, sealing: &Sealing, is_sealed: bool) -> Option<(AlignedBuffer, u64)> {
        let epoch = self.segments.list[sealing.segment as usize].epoch;
        let trailer = trailer(self.segments.salt, epoch, sealing.last, sealing.end, is_sealed)?;
        let pool = &mut self.pool;
        let (buffer, bytes) = sealing.summary.write(trailer, |bytes| pool.take(bytes));
        if sealing.end + bytes > self.segments.segment_bytes {
            pool.give_back(buffer);
            return None;
        }
        Some((buffer, bytes))
    }

    /// The end of a footer's write.
    pub(crate) fn footer_written(
        &mut self,
        slot: u32,
        result: std::io::Result<usize>,
        buffer: Option<AlignedBuffer>,
    ) {
        if let Some(buffer) = buffer {
            self.pool.give_back(buffer);
        }
        let segment_bytes = self.segments.segment_bytes;
        let segment = &mut self.segments.list[slot as usize];
        match result {
            Ok(written) => {
                segment.footer = FooterState::There { at: (segment_bytes - written as u64) as u32 }
            }
            Err(error) => {
                segment.footer = FooterState::Missing;
                self.segment_write_failed(slot, error);
            }
        }
        self.segments.refresh();
        self.tell_room();
    }

    /// Writes a footer behind what the current segment holds, by blocking calls, so that the next start need
    /// not read it. To be called when nothing is under way; without it the start takes longer, no more.
    ///
    /// # Errors
    /// As the system does.
    pub fn close<D: Disk>(mut self, disk: &mut D) -> std::io::Result<()> {
        if self.latched || self.in_flight.is_some() || self.segments.position == BLOCK_BYTES as u64 {
            return Ok(());
        }
        if let Some(mut sealing) = self.sealing.take() {
            sealing.summary.judge_all(&self.index);
            if let Some((buffer, bytes)) = self.footer(&sealing, true) {
                let file = self.segments.list[sealing.segment as usize].file;
                disk.write_at(file, self.segments.segment_bytes - bytes, &buffer[..bytes as usize])?;
                disk.sync(file)?;
            }
        }
        let mut summary = std::mem::take(&mut self.summary);
        summary.judge_all(&self.index);
        let (segment, end) = (self.segments.current, self.segments.position);
        let sealing = Sealing { segment, end, last: self.last, summary };
        let Some((buffer, bytes)) = self.footer(&sealing, false) else { return Ok(()) };
        let file = self.segments.list[segment as usize].file;
        disk.write_at(file, self.segments.segment_bytes - bytes, &buffer[..bytes as usize])?;
        disk.sync(file)
    }
}

/// Gives a segment that was full when the process ended the footer that it lacks, by blocking calls, where
/// there is room for one. It holds whatever the segment does.
pub(crate) fn add_footer<D: Disk>(
    disk: &mut D,
    identity: &Identity,
    segment: &mut Segment,
    (end, last): (u64, Last),
    summary: &Summary,
) -> std::io::Result<()> {
    let Some(trailer) = trailer(identity.salt, segment.epoch, last, end, true) else { return Ok(()) };
    let (buffer, bytes) = summary.write(trailer, AlignedBuffer::zeroed);
    let Some(at) = identity.segment_bytes.checked_sub(bytes).filter(|&at| at >= end) else { return Ok(()) };
    disk.write_at(segment.file, at, &buffer[..bytes as usize])?;
    disk.sync(segment.file)?;
    segment.footer = FooterState::There { at: at as u32 };
    Ok(())
}

/// `None` for a segment whose life has seen no group.
fn trailer(salt: u64, epoch: u64, last: Last, end: u64, is_sealed: bool) -> Option<Trailer> {
    (last.epoch >= epoch).then_some(Trailer {
        is_sealed,
        salt,
        epoch,
        last,
        end: end as u32,
        length: 0,
        footer_crc: 0,
    })
}
