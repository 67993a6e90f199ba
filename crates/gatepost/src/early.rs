//! Early listeners: while the spool is recovered, they tell each client to come again.
//!
//! A separate thread, which waits for no client. It promises that no client is lost at its end: its sockets,
//! with those who wait at them, go to the first worker that has listeners to open, or it tells those who wait
//! before it closes them. It fails by being busy: whom it does not get to waits in the backlog.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use config::ListenerConfig;
use ingress::{BACKLOG, ListenError};
use mail::{Reply, Status};
use observe::EventLog;
use policy::TlsPolicy;
use ring::ListenOptions;
use ring::uring::listen_before;

use crate::events::ClientsPutOff;
use crate::refusal::StartError;

/// The time between two looks at the doors. What is recovered needs the machine more than those who wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Clients of one listener that one look answers: 3200 a second, however many come.
const CLIENTS_A_LOOK_MAX: u32 = 64;
/// How long a client that was told may take to leave: it must hear the reply, over any distance.
const LEAVING_TIME: Duration = Duration::from_secs(1);
/// Clients that are leaving, all listeners together. Where there are more, the first ones must have gone.
const LEAVING_MAX: usize = 128;
/// What one look reads from a client that is leaving: more than anyone says who waits for a greeting.
const READS_A_LOOK_MAX: u32 = 4;

/// A listening socket, and the address that it was opened for.
pub(crate) type Held = (SocketAddr, TcpListener);

/// Early listeners at work. Dropping them tells the clients that wait, and closes.
pub(crate) struct EarlyListeners {
    /// Who asks for the sockets says where to; without it, they are not asked for.
    relief: Option<Sender<Sender<Vec<Held>>>>,
    thread: Option<JoinHandle<()>>,
}

impl EarlyListeners {
    /// Listens at every address of `listeners` and answers for `hostname`.
    pub(crate) fn start(
        listeners: &[ListenerConfig],
        hostname: &str,
        log: EventLog,
    ) -> Result<Self, StartError> {
        let doors: Result<Vec<Door>, ListenError> = listeners.iter().map(Door::open).collect();
        let doors = doors.map_err(StartError::new)?;
        let mut reply = Vec::new();
        let text = format!("{hostname} is starting; try again later");
        Reply::new(421, Some(Status::new(4, 3, 2)), text).write_to(&mut reply);
        let (relief, asked) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("early-listeners".into())
            .spawn(move || attend(doors, &reply, &asked, log))
            .map_err(|error| {
                StartError::new(format_args!("cannot start the thread of the early listeners: {error}"))
            })?;
        Ok(Self { relief: Some(relief), thread: Some(thread) })
    }

    /// Sends it home: its sockets, which block. No client is told any more; those that wait are the caller's.
    pub(crate) fn relieve(mut self) -> Vec<Held> {
        // Those whom it told are still to leave, for which no other should wait; it ends by itself.
        drop(self.thread.take());
        let (held, hand) = mpsc::channel();
        if let Some(relief) = self.relief.take() {
            let _ = relief.send(held);
        }
        hand.recv().unwrap_or_default()
    }
}

impl Drop for EarlyListeners {
    fn drop(&mut self) {
        drop(self.relief.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn attend(mut doors: Vec<Door>, reply: &[u8], relief: &Receiver<Sender<Vec<Held>>>, mut log: EventLog) {
    let mut leaving = Leaving::default();
    let mut told = 0;
    loop {
        leaving.look();
        for door in &doors {
            told += door.tell(CLIENTS_A_LOOK_MAX, reply, &mut leaving);
        }
        match relief.recv_timeout(LOOK_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(hand) => {
                let _ = hand.send(doors.into_iter().filter_map(Door::give).collect());
                break;
            }
            Err(RecvTimeoutError::Disconnected) => {
                for door in doors.drain(..) {
                    // A socket that is closed resets those who wait at it.
                    told += door.tell(BACKLOG, reply, &mut leaving);
                }
                break;
            }
        }
    }
    if told > 0 {
        let put_off = ClientsPutOff { clients: told, reason: "they came while the spool was recovered" };
        log.record(&put_off, SystemTime::now().into());
    }
    drop(log);
    while !leaving.clients.is_empty() {
        std::thread::sleep(LOOK_INTERVAL);
        leaving.look();
    }
}

/// One listener's socket.
struct Door {
    address: SocketAddr,
    listener: TcpListener,
    /// Clients expect TLS: they see only the end of the connection.
    is_mute: bool,
}

impl Door {
    fn open(listener: &ListenerConfig) -> Result<Self, ListenError> {
        let ListenerConfig { policy, address } = listener;
        let options = ListenOptions { address: *address, shared: true, backlog: BACKLOG };
        let opened = listen_before(options).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = opened.map_err(|error| ListenError { address: *address, error })?;
        Ok(Self { address: *address, listener, is_mute: policy.tls == TlsPolicy::Implicit })
    }

    /// The socket, as [`listen_before`] opened it.
    fn give(self) -> Option<Held> {
        self.listener.set_nonblocking(false).ok()?;
        Some((self.address, self.listener))
    }

    /// Tells those who wait, `clients_max` at most; says how many there were.
    fn tell(&self, clients_max: u32, reply: &[u8], leaving: &mut Leaving) -> u64 {
        let reply = if self.is_mute { &[] } else { reply };
        let waiting = std::iter::from_fn(|| self.listener.accept().ok());
        let mut told = 0;
        for (client, _) in waiting.take(clients_max as usize) {
            told += 1;
            // A reply is less than any socket's buffer: what does not take it at once is gone.
            if say(&client, reply).is_ok() {
                leaving.add(client);
            }
        }
        told
    }
}

/// The last thing said on a connection, and its end.
fn say(client: &TcpStream, reply: &[u8]) -> std::io::Result<()> {
    client.set_nonblocking(true)?;
    let mut output = client;
    output.write_all(reply)?;
    client.shutdown(Shutdown::Write)
}

/// Clients that were told, and have not closed their end. Closing over what they still say would send a reset,
/// which takes from them what they have not read yet (RFC 1122, 4.2.2.13).
#[derive(Default)]
struct Leaving {
    /// In the order of their coming, each with the time at which it must have gone.
    clients: VecDeque<(Instant, TcpStream)>,
}

impl Leaving {
    fn add(&mut self, client: TcpStream) {
        if self.clients.len() == LEAVING_MAX
            && let Some((_, first)) = self.clients.pop_front()
        {
            has_gone(&first);
        }
        self.clients.push_back((Instant::now() + LEAVING_TIME, client));
    }

    fn look(&mut self) {
        let now = Instant::now();
        self.clients.retain(|(until, client)| !has_gone(client) && now < *until);
    }
}

/// Throws away what a client says; whether it has said its last.
fn has_gone(client: &TcpStream) -> bool {
    let mut scratch = [0; 4096];
    let mut input = client;
    for _ in 0..READS_A_LOOK_MAX {
        match input.read(&mut scratch) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use policy::{Listener, Role};
    use testbed::net::{PATIENCE, free_address};

    use super::*;

    const REPLY: &str = "421 4.3.2 relay.example is starting; try again later\r\n";

    fn listener(tls: TlsPolicy) -> ListenerConfig {
        let policy = Listener { name: "smtp".into(), role: Role::Relay, tls, auth_without_tls: false };
        ListenerConfig { policy, address: free_address() }
    }

    fn on_duty(listener: &ListenerConfig) -> EarlyListeners {
        let listeners = std::slice::from_ref(listener);
        EarlyListeners::start(listeners, "relay.example", EventLog::discarding())
            .expect("the address is free")
    }

    fn client(listener: &ListenerConfig) -> TcpStream {
        let client = TcpStream::connect(listener.address).expect("the early listeners are open");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        client
    }

    /// All that is said.
    #[track_caller]
    fn heard(client: &mut TcpStream) -> String {
        let mut said = String::new();
        client.read_to_string(&mut said).expect("an orderly end");
        said
    }

    #[test]
    fn whoever_comes_is_told_to_come_again_and_hears_it_whatever_he_says() {
        let listener = listener(TlsPolicy::Required);
        let door = Door::open(&listener).expect("the address is free");
        let mut leaving = Leaving::default();
        let (mut silent, mut hasty) = (client(&listener), client(&listener));
        hasty.write_all(&[b'x'; 8000]).expect("the kernel takes it");
        door.tell(2, REPLY.as_bytes(), &mut leaving);
        leaving.look();
        drop(leaving);
        assert_eq!(heard(&mut hasty), REPLY);
        assert_eq!(heard(&mut silent), REPLY);
        // Not every system lets a program read on what came before a reset, as Linux does.
        assert!(hasty.take_error().expect("it can be asked").is_none(), "it was reset");
    }

    #[test]
    fn of_very_many_clients_that_stay_all_are_told_and_the_first_ones_let_go() {
        let listener = listener(TlsPolicy::Off);
        let door = Door::open(&listener).expect("the address is free");
        let mut leaving = Leaving::default();
        let many = LEAVING_MAX as u32 + 10;
        let mut staying: Vec<_> = (0..many).map(|_| client(&listener)).collect();
        assert_eq!(door.tell(many - 1, REPLY.as_bytes(), &mut leaving), u64::from(many) - 1);
        assert_eq!(door.tell(many, REPLY.as_bytes(), &mut leaving), 1);
        assert_eq!(leaving.clients.len(), LEAVING_MAX);
        let those_left = leaving.clients.iter().map(|(_, client)| client.peer_addr().expect("it is there"));
        let addresses = staying[10..].iter().map(|client| client.local_addr().expect("it is there"));
        assert!(those_left.eq(addresses));
        for client in &mut staying {
            assert_eq!(heard(client), REPLY);
        }
    }

    #[test]
    fn nothing_is_said_in_the_clear_to_a_client_that_begins_with_tls_and_it_is_not_reset() {
        let listener = listener(TlsPolicy::Implicit);
        let door = Door::open(&listener).expect("the address is free");
        let mut leaving = Leaving::default();
        let mut client = client(&listener);
        // The head of a ClientHello, and as much as one may have.
        client.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").expect("the kernel takes it");
        client.write_all(&[7; 506]).expect("the kernel takes it");
        assert_eq!(door.tell(1, REPLY.as_bytes(), &mut leaving), 1);
        leaving.look();
        drop(leaving);
        assert_eq!(heard(&mut client), "");
        assert!(client.take_error().expect("it can be asked").is_none(), "it was reset");
    }

    #[test]
    fn those_who_wait_when_it_closes_are_told_and_then_nobody_listens() {
        let listener = listener(TlsPolicy::Off);
        let early = on_duty(&listener);
        let mut clients: Vec<_> = (0..2 * CLIENTS_A_LOOK_MAX).map(|_| client(&listener)).collect();
        drop(early);
        for client in &mut clients {
            assert_eq!(heard(client), REPLY);
        }
        assert!(TcpStream::connect(listener.address).is_err(), "it listens on");
    }

    #[test]
    fn those_who_wait_when_it_is_relieved_are_the_next_ones() {
        let listener = listener(TlsPolicy::Off);
        let door = Door::open(&listener).expect("the address is free");
        // It is asked for its sockets before it looks for the first time, and one look is too short for all.
        let mut clients: Vec<_> = (0..=CLIENTS_A_LOOK_MAX).map(|_| client(&listener)).collect();
        let (relief, asked) = mpsc::channel();
        let (held, hand) = mpsc::channel();
        relief.send(held).expect("it will be heard");
        let early = std::thread::spawn(move || {
            attend(vec![door], REPLY.as_bytes(), &asked, EventLog::discarding());
        });
        let (address, socket) = hand.recv().expect("it gives them").pop().expect("it has one");
        assert_eq!(address, listener.address);
        // A ring would ask a socket that does not block again and again.
        assert!(!is_nonblocking(&socket));
        // This test rather fails than waits.
        socket.set_nonblocking(true).expect("a socket takes the option");
        let (mut next, _) = socket.accept().expect("a client waits");
        next.write_all(b"220 hello\r\n").expect("the kernel takes it");
        drop(next);
        let mut last = clients.pop().expect("there are many");
        assert_eq!(heard(&mut last), "220 hello\r\n");
        for client in &mut clients {
            assert_eq!(heard(client), REPLY);
        }
        drop(clients);
        early.join().expect("it goes when they have gone");
    }

    /// Whether a socket has the flag `O_NONBLOCK` (proc_pid_fdinfo(5)).
    fn is_nonblocking(socket: &TcpListener) -> bool {
        let path = format!("/proc/self/fdinfo/{}", socket.as_raw_fd());
        let text = std::fs::read_to_string(path).expect("it is open");
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).expect("it has flags");
        u32::from_str_radix(flags.trim(), 8).expect("flags are octal") & 0o4000 != 0
    }
}
