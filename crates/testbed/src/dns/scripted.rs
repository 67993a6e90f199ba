//! A name server that answers as a closure says, over UDP: what no honest server would say, too.
//!
//! It writes its bytes itself (RFC 1035 section 4), as far as the tests need them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address of IPv4.
    A,
    /// An address of IPv6.
    Aaaa,
    /// The hosts that take mail.
    Mx,
    /// Anything else.
    Other(u16),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An address.
    A(Ipv4Addr),
    /// An address.
    Aaaa(Ipv6Addr),
    /// One host that takes mail.
    Mx(String),
    /// There is no such record, and the SOA that proves it.
    Nothing,
    /// There is no such record, without a word of who says so.
    BareNothing,
    /// Others know more: an answer with nothing but the name of a server.
    Referral,
    /// There is no such name.
    NoName,
    /// Something is broken.
    ServFail,
}

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    closing: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Scripted {
    /// Answers questions for a name in lower case, without its final dot, as `says`.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(says: impl Fn(&str, Kind) -> Said + Send + 'static) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = socket.local_addr().expect("a bound socket has an address");
        let (asked, closing) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ends) = (asked.clone(), closing.clone());
        let thread = thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                if ends.load(Ordering::Acquire) {
                    return;
                }
                if let Some(answer) = answer(&query[..length], &says) {
                    count.fetch_add(1, Ordering::AcqRel);
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, asked, closing, thread: Some(thread) }
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Questions that were answered.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }

    /// The `[dns]` section that asks it.
    #[must_use]
    pub fn section(&self) -> String {
        format!("\n[dns]\nservers = [\"{}\"]\ntimeout = \"500ms\"\n", self.address)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        // The thread waits for a question: any bytes wake it.
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
            let _ = socket.send_to(&[0], self.address);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The answer to `query`; `None` where it is no question.
fn answer(query: &[u8], says: &impl Fn(&str, Kind) -> Said) -> Option<Vec<u8>> {
    let (name, end) = name(query)?;
    let question = query.get(12..end + 4)?;
    let kind = match u16::from_be_bytes([query[end], query[end + 1]]) {
        1 => Kind::A,
        15 => Kind::Mx,
        28 => Kind::Aaaa,
        other => Kind::Other(other),
    };
    let (code, answer, authority) = match says(&name, kind) {
        Said::ServFail => (2, None, None),
        Said::NoName => (3, None, Some((6, soa()))),
        Said::Nothing => (0, None, Some((6, soa()))),
        Said::BareNothing => (0, None, None),
        Said::Referral => (0, None, Some((2, labels("ns.elsewhere.example")))),
        Said::A(address) => (0, Some((1, address.octets().to_vec())), None),
        Said::Aaaa(address) => (0, Some((28, address.octets().to_vec())), None),
        Said::Mx(host) => (0, Some((15, [&[0, 10][..], &labels(&host)].concat())), None),
    };
    let mut out = query[..2].to_vec();
    // An answer, recursion was wanted and is there; one question.
    out.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::from(answer.is_some()),
        0,
        u8::from(authority.is_some()),
        0,
        0,
    ]);
    out.extend(question);
    for (kind, data) in answer.into_iter().chain(authority) {
        // Its name is that of the question; class IN, a minute.
        out.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60]);
        out.extend(u16::try_from(data.len()).expect("a short record").to_be_bytes());
        out.extend(data);
    }
    Some(out)
}

/// The name that a query is about, and where it ends.
fn name(query: &[u8]) -> Option<(String, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return query.get(at + 3).map(|_| (labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
}

fn labels(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).expect("a label is short"));
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

/// Two names and five numbers, of which the last is how long an absence holds.
fn soa() -> Vec<u8> {
    let numbers = [1_u32, 60, 60, 60, 60].map(u32::to_be_bytes).concat();
    [labels("ns.example"), labels("hostmaster.example"), numbers].concat()
}
