//! A destination that is out to do harm with its replies: too many, too late, torn, none, or a broken
//! connection, at any moment of the dialogue.
//!
//! It does not lie about mail: no reply of its making can be taken for the answer to a last dot that
//! it did not see, none refuses for good, and none one recipient alone. What is left of a dialogue may still be out of step, so
//! that what was taken over such a connection may be sent again.

use std::time::Duration;

use testbed::random::Random;

use super::peer::Peer;

/// Where in the dialogue a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Greeting,
    Hello,
    StartTls,
    /// Its part of the handshake.
    Handshake,
    Mail,
    Recipient,
    Data,
    LastDot,
    Reset,
    Quit,
}

const MOMENTS: [Moment; 10] = [
    Moment::Greeting,
    Moment::Hello,
    Moment::StartTls,
    Moment::Handshake,
    Moment::Mail,
    Moment::Recipient,
    Moment::Data,
    Moment::LastDot,
    Moment::Reset,
    Moment::Quit,
];

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// Another one in the same write.
    OneMore(&'static str),
    /// The same once more, in the same write.
    Twice,
    /// Another one later, whatever is being said then.
    OneMoreLater(&'static str, Duration),
    Late(Duration),
    Missing,
    /// So many bytes of it, and no more for now.
    Cut(usize),
    /// So many bytes of it, then the end of the connection.
    CutAndClose(usize),
    /// All of it, then the end of the connection.
    Close,
    Drop,
    Reset,
    Nonsense,
}

/// The beginning of a handshake's record that is longer than all of this.
const RECORD: &[u8] = b"\x16\x03\x03\x3f\x7f\x02\x00\x3f\x7b\x03\x03";

const LEAVING: &str = "421 4.7.0 too many connections\r\n";
const NOT_NOW: &str = "451 4.3.0 not now\r\n";
/// The answer to STARTTLS.
pub const READY: &str = "220 2.0.0 ready\r\n";

/// Longer than any patience of a client with a next hop but for the last dot's.
const LATE_MAX: Duration = Duration::from_secs(400);

fn misdeed(random: &mut Random, moment: Moment) -> Misdeed {
    let late = Duration::from_millis(random.below(LATE_MAX.as_millis() as u64));
    let soon = late / 100;
    match random.below(13) {
        // The next answer before it is asked for.
        0 if moment == Moment::Hello => Misdeed::OneMore(READY),
        0 | 1 => Misdeed::OneMore(LEAVING),
        2 => Misdeed::OneMore(NOT_NOW),
        // Behind a 354 it would be a promise for a message that was not seen.
        3 if moment != Moment::Data => Misdeed::Twice,
        3 | 4 => Misdeed::OneMoreLater(LEAVING, soon),
        5 => Misdeed::OneMoreLater(NOT_NOW, soon),
        6 => Misdeed::Late(late),
        7 => Misdeed::Missing,
        8 => Misdeed::Cut(random.below(12) as usize),
        9 => Misdeed::CutAndClose(random.below(12) as usize),
        10 => Misdeed::Close,
        11 => [Misdeed::Drop, Misdeed::Reset][random.below(2) as usize],
        _ => Misdeed::Nonsense,
    }
}

impl Misdeed {
    /// What is said in place of a handshake, where anything is.
    pub fn break_handshake(self, peer: &mut Peer) {
        peer.input().clear();
        match self {
            Self::Missing | Self::Late(_) | Self::Drop | Self::Reset => {}
            Self::Cut(bytes) => peer.say(&RECORD[..bytes.min(RECORD.len())]),
            Self::CutAndClose(bytes) => {
                peer.say(&RECORD[..bytes.min(RECORD.len())]);
                peer.close_when_said();
            }
            Self::OneMore(_) | Self::Twice | Self::OneMoreLater(..) | Self::Close | Self::Nonsense => {
                peer.say(b"what is a handshake?\r\n");
                peer.close_when_said();
            }
        }
    }
}

/// When it misbehaves.
#[derive(Clone, Copy, Debug)]
pub enum Hostility {
    /// Always in the same way at the same moment.
    Always(Moment, Misdeed),
    /// At one of so many replies, in any way.
    OneIn(u64),
}

impl Hostility {
    pub fn of(random: &mut Random) -> Self {
        let moment = match random.below(5) {
            0 => MOMENTS[random.below(MOMENTS.len() as u64) as usize],
            // Where a storm is likeliest: the connection is there, and nothing can be said on it.
            1 => Moment::Hello,
            2 => [Moment::StartTls, Moment::Handshake][random.below(2) as usize],
            _ => return Self::OneIn([2, 6, 20][random.below(3) as usize]),
        };
        Self::Always(moment, misdeed(random, moment))
    }

    /// What becomes of the reply at `moment`.
    pub fn act(self, random: &mut Random, moment: Moment) -> Option<Misdeed> {
        match self {
            Self::Always(at, misdeed) => (at == moment).then_some(misdeed),
            Self::OneIn(of) => (random.below(of) == 0).then(|| misdeed(random, moment)),
        }
    }
}
