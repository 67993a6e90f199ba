//! What was last said of each recipient that waits: a text once, however many it was said of.

use std::collections::HashMap;
use std::sync::Arc;

use mail::{LastReply, Reply};
use scheduler::Note;
use slab::Slab;

/// Different replies that are kept by one worker: 4 MiB at their longest. A thousand destinations
/// with a few reasons each are as many; past it only the code of another one is kept.
const REPLIES_MAX: usize = 4096;

/// Replies of which only the code is kept, in the room beyond: each code of each of so many next hops.
const CODES_MAX: usize = 1024;

/// Bytes of a reply that are kept: what RFC 5321 section 4.5.3.1.5 lets one line have.
const TEXT_BYTES_MAX: usize = 512;

const _: () = assert!(REPLIES_MAX + CODES_MAX < Note::NONE.0 as usize);

#[derive(Debug)]
struct Kept {
    reply: Arc<LastReply>,
    recipients: u32,
}

/// The replies of one worker's queue.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    kept: Slab<Kept>,
    places: HashMap<Arc<LastReply>, Note>,
}

impl Replies {
    /// Keeps a reply for one more recipient.
    pub(crate) fn keep(&mut self, reply: LastReply) -> Note {
        if let Some(known) = self.find(&reply) {
            return known;
        }
        if self.kept.len() < REPLIES_MAX {
            return self.add(reply);
        }
        let code = LastReply { text: "(the rest is in the log)".into(), status: None, ..reply };
        match self.find(&code) {
            Some(known) => known,
            None if self.kept.len() < REPLIES_MAX + CODES_MAX => self.add(code),
            None => Note::NONE,
        }
    }

    fn find(&mut self, reply: &LastReply) -> Option<Note> {
        let known = *self.places.get(reply)?;
        self.kept[usize::from(known.0)].recipients += 1;
        Some(known)
    }

    fn add(&mut self, reply: LastReply) -> Note {
        let reply = Arc::new(reply);
        let index = self.kept.insert(Kept { reply: reply.clone(), recipients: 1 });
        let index = Note(u16::try_from(index).expect("fewer are kept"));
        self.places.insert(reply, index);
        index
    }

    /// A recipient for which it was kept is gone, or has another.
    pub(crate) fn release(&mut self, index: Note) {
        if index == Note::NONE {
            return;
        }
        let kept = &mut self.kept[usize::from(index.0)];
        kept.recipients -= 1;
        if kept.recipients == 0 {
            let kept = self.kept.remove(usize::from(index.0));
            self.places.remove(&kept.reply);
        }
    }

    pub(crate) fn get(&self, index: Note) -> Option<&Arc<LastReply>> {
        self.kept.get(usize::from(index.0)).map(|kept| &kept.reply)
    }
}

/// What is kept of a reply that `next_hop` gave, or that we gave for it, to the recipient of `address`.
pub(crate) fn last_reply(reply: &Reply, next_hop: Option<&str>, address: Option<&str>) -> LastReply {
    LastReply::of(reply, next_hop, address, TEXT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use mail::Status;

    use super::*;

    fn said(text: &str) -> LastReply {
        last_reply(&Reply::new(450, Some(Status::new(4, 2, 1)), text), Some("mx.example:25"), None)
    }

    #[test]
    fn a_reply_is_kept_once_and_as_long_as_a_recipient_has_it() {
        let mut replies = Replies::default();
        let (one, other, third) =
            (replies.keep(said("busy")), replies.keep(said("busy")), replies.keep(said("full")));
        assert_eq!((one, replies.kept.len()), (other, 2));
        replies.release(one);
        assert_eq!(replies.get(other).map(|reply| reply.told_to("")), Some("450 4.2.1 busy".to_owned()));
        replies.release(other);
        replies.release(third);
        replies.release(Note::NONE);
        assert!(replies.kept.is_empty() && replies.places.is_empty());
    }

    #[test]
    fn replies_that_differ_by_the_recipient_alone_are_one() {
        let mut replies = Replies::default();
        for address in ["kim@a.example", "lee@a.example"] {
            let reply = Reply::new(450, None, format_args!("<{address}>: greylisted"));
            let index = replies.keep(last_reply(&reply, None, Some(address)));
            assert_eq!(
                replies.get(index).expect("it is kept").told_to(address),
                format!("450 <{address}>: greylisted")
            );
        }
        assert_eq!(replies.kept.len(), 1);
    }

    #[test]
    fn of_more_replies_than_are_kept_the_code_is_known() {
        let mut replies = Replies::default();
        for number in 0..REPLIES_MAX {
            replies.keep(said(&number.to_string()));
        }
        let (one, other) = (replies.keep(said("one")), replies.keep(said("other")));
        assert_eq!(one, other);
        assert_eq!(
            replies.get(one).map(|reply| reply.told_to("")),
            Some("450 (the rest is in the log)".to_owned())
        );
        assert_eq!(replies.kept.len(), REPLIES_MAX + 1);
        assert!(said(&"é".repeat(600)).text.len() <= TEXT_BYTES_MAX);
    }
}
