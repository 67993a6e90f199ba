use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use axum::body::Bytes;
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};

use super::*;

/// Far more than anything here takes: only a broken build waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// More connections than a port has places for, and then some.
const CROWD: usize = 2 * PORT_DESCRIPTORS_MAX + ACCEPTS_A_TURN;

/// An answer that fits in no socket's buffers.
static LONG_ANSWER: [u8; 8 << 20] = [b'x'; 8 << 20];

/// A port in service on a separate thread, with `/healthz`, `/long`, and `/slow`, which answers when it is told.
struct Stand {
    address: SocketAddr,
    registry: Arc<Registry>,
    /// What has arrived at `/slow`, each with the way to have it answered.
    slow: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Stand {
    fn start() -> Self {
        Self::start_with(|| ())
    }

    /// `beside` runs in the runtime, where it may serve another port.
    fn start_with(beside: impl FnOnce() + Send + 'static) -> Self {
        let listener = bind(HttpPort::Metrics, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Arc::new(Registry::new(1, &["smtp"], 1));
        let doors = Doors::new(registry.clone(), EventLog::discarding());
        let (arrived, slow) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::spawn(doors.serve(HttpPort::Metrics, listener, router(arrived)));
                beside();
                let _ = stopped.await;
            });
        });
        Self { address, registry, slow, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// So many connections, one after the other, each of which does `what`.
    fn crowd(&self, what: impl Fn(&mut TcpStream)) -> Vec<TcpStream> {
        let connection = |_| {
            let mut stream = self.connect();
            what(&mut stream);
            stream
        };
        (0..CROWD).map(connection).collect()
    }

    fn displaced(&self) -> u64 {
        let text = self.registry.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("gatepost_http_displaced_total{port=\"metrics\"} "));
        line.unwrap().parse().unwrap()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn router(arrived: mpsc::UnboundedSender<oneshot::Sender<()>>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/long", get(async || Bytes::from_static(&LONG_ANSWER)))
        .route(
            "/slow",
            get(async move || {
                let (answer, told) = oneshot::channel();
                arrived.send(answer).unwrap();
                told.await.unwrap();
                "at last\n"
            }),
        )
}

fn ask(stream: &mut (impl Read + Write), path: &str) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\n\r\n").unwrap();
}

/// The answer to what was asked, up to its last line.
#[track_caller]
fn answer(stream: &mut (impl Read + Write), last: &str) {
    let mut text = Vec::new();
    let mut piece = [0; 1024];
    while !text.ends_with(last.as_bytes()) {
        let bytes = stream.read(&mut piece).unwrap();
        assert!(bytes > 0, "it ended after {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..bytes]);
    }
    assert!(text.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&text));
}

#[track_caller]
fn is_healthy(stand: &Stand) {
    let mut stream = stand.connect();
    ask(&mut stream, "/healthz");
    answer(&mut stream, "ok\n");
}

/// Whether the other end has closed; where that is still to come, after waiting for it.
fn is_ended(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 64 << 10];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// Whether it is open and nothing has come.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn the_longest_silent_gives_way_and_health_waits_for_no_ones_time_to_be_up() {
    type What = fn(&mut TcpStream);
    let kinds: [(&str, What); 3] = [
        ("silent", |_| {}),
        ("within a head", |stream| write!(stream, "GET /healthz HTTP/1.1\r\nHo").unwrap()),
        ("idle after an answer", |stream| {
            ask(stream, "/healthz");
            answer(stream, "ok\n");
        }),
    ];
    for (kind, what) in kinds {
        let stand = Stand::start();
        let mut crowd = stand.crowd(what);
        is_healthy(&stand);
        // Where it waited for others to time out, it is too late for many of these.
        let (gone, left) = crowd.split_at_mut(CROWD + 1 - PLACES);
        for stream in gone {
            assert!(is_ended(stream), "{kind}: the first to come are the first to go");
        }
        let silent = left.iter_mut().filter_map(|stream| is_silent(stream).then_some(())).count();
        assert_eq!(silent, PLACES - 1, "{kind}: the youngest keep their places");
        assert_eq!(stand.displaced(), (CROWD + 1 - PLACES) as u64);
    }
}

#[test]
fn who_reads_no_answer_gives_way() {
    let stand = Stand::start();
    let mut crowd = stand.crowd(|stream| ask(stream, "/long"));
    is_healthy(&stand);
    // The last of them have been accepted, and perhaps not answered yet.
    for stream in &mut crowd[..CROWD - PLACES] {
        assert!(is_ended(stream));
    }
    drop(crowd);
}

#[test]
fn a_request_under_way_is_answered_whatever_the_crowd() {
    let mut stand = Stand::start();
    let mut asker = stand.connect();
    ask(&mut asker, "/slow");
    let told = stand.slow.blocking_recv().unwrap();
    let _crowd = stand.crowd(|_| {});
    is_healthy(&stand);
    told.send(()).unwrap();
    answer(&mut asker, "at last\n");
}

#[test]
fn what_is_done_to_one_port_costs_another_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let stand = Stand::start_with(move || {
        let doors = Doors::new(Arc::new(Registry::new(1, &[], 1)), EventLog::discarding());
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        tokio::spawn(doors.serve(HttpPort::AdminSocket, listener, router(mpsc::unbounded_channel().0)));
    });
    let connect = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut person = connect();
    let mut crowd = stand.crowd(|_| {});
    ask(&mut person, "/healthz");
    answer(&mut person, "ok\n");
    // The other way round, the socket's own crowd gives way on the socket.
    is_healthy(&stand);
    let before = stand.displaced();
    let _hoarders: Vec<_> = (0..CROWD).map(|_| connect()).collect();
    let mut person = connect();
    ask(&mut person, "/healthz");
    answer(&mut person, "ok\n");
    assert_eq!(stand.displaced(), before);
    assert!(is_silent(crowd.last_mut().unwrap()));
}

#[test]
fn a_head_without_end_is_refused() {
    let stand = Stand::start();
    let mut stream = stand.connect();
    let _ = write!(stream, "GET /{} HTTP/1.1\r\n\r\n", "x".repeat(4 * HEAD_BYTES_MAX));
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
}
