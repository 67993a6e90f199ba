use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use commons::{Answer, Commons, Login, WorkerLink, WorkerState};
use observe::{Form, LogWriter};
use policy::{Origin, Snapshot, Source};
use testbed::folder::{Folder, NODE, TENANT};
use zeroize::Zeroizing;

use super::*;

/// Far more than anything here takes: only a broken build waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A control plane, the worker that asks it, and what it logs.
struct Stage {
    control: Control,
    link: WorkerLink,
    woken: Receiver<()>,
    commons: Arc<Commons>,
    log: Receiver<String>,
    folder: Folder,
    _writer: LogWriter,
}

/// Passes each write on as a text.
struct Lines(std::sync::mpsc::Sender<String>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn stage() -> Stage {
    let folder = Folder::new(NODE, &[("proseware", TENANT)]);
    let origin = Origin::new("gatepost.toml", 1);
    let source = Source {
        generation: 1,
        origin,
        routes: Vec::new(),
        lists: policy::ListsSource::default(),
        limits: Default::default(),
        tenants: Vec::new(),
    };
    let (commons, mut links, control) = Commons::new(1, Snapshot::compile(&source).unwrap());
    let link = links.remove(0);
    let registry = Arc::new(Registry::new(1, &["smtp"], 10));
    registry.set_backend("io_uring");
    let (lines, log) = channel();
    let writer = LogWriter::start(Lines(lines), Form::Json, "relay.example", &registry).unwrap();
    let control = start(ControlOptions {
        link: control,
        registry,
        log: writer.log(),
        places: Arc::new(commons::Places::new(1000)),
        http_log: writer.log(),
        recovery: vec![Arc::default()],
        admin: None,
        tickets: None,
        metrics_address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        config_path: Some(folder.node()),
        kept: config::Kept::default(),
        certificate: None,
        dns: config::DnsConfig::default(),
        call_ahead: call_ahead(),
        verifiers: 1,
        signals: Signals::none(),
    })
    .unwrap();
    let (wake, woken) = channel();
    link.attach(Waker::new(move || {
        let _ = wake.send(());
    }));
    Stage { control, link, woken, commons, log, folder, _writer: writer }
}

impl Stage {
    fn ask(&self, question: Question) -> Answer {
        self.link.ask(question).unwrap();
        self.link.flush();
        self.answer()
    }

    fn answer(&self) -> Answer {
        loop {
            if let Some(answer) = self.link.answer() {
                return answer;
            }
            self.woken.recv_timeout(PATIENCE).unwrap();
        }
    }

    fn verify(&self, credential: &str, password: &str) -> bool {
        let key = ring::Handle::fixed(3);
        let answer = self.ask(Question::Verify(Login {
            worker: 0,
            key,
            credential: credential.into(),
            login: "terri@proseware.example".into(),
            trusted_network: None,
            password: Zeroizing::new(password.to_owned()),
        }));
        let Answer::Verified { key: answered, outcome } = answer else { panic!("{answer:?}") };
        assert_eq!(answered, key);
        outcome == commons::Verification::Fits
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.control.metrics_address().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn logged(&self, event: &str) -> serde_json::Value {
        loop {
            let lines = self.log.recv_timeout(PATIENCE).unwrap();
            for line in lines.lines() {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                if record["event"] == event {
                    return record;
                }
            }
        }
    }
}

#[test]
fn passwords_are_verified_off_the_data_plane_known_wrong_and_unknown() {
    let stage = stage();
    let credential = password::hash("correct horse");
    assert!(stage.verify(&credential, "correct horse"));
    assert!(!stage.verify(&credential, "battery staple"));
    assert!(!stage.verify("", "correct horse"));
}

#[test]
fn hosts_are_resolved_for_the_worker_that_asked() {
    let stage = stage();
    let answer = stage.ask(Question::Resolve { worker: 0, key: 5, host: "192.0.2.25".into() });
    let Answer::Resolved { key: 5, result: Ok(addresses), ttl } = answer else { panic!("{answer:?}") };
    assert_eq!(addresses, [IpAddr::from([192, 0, 2, 25])]);
    assert!(ttl > Duration::ZERO);
}

#[test]
fn metrics_are_served_with_every_name_of_the_interface() {
    let stage = stage();
    let (status, text) = stage.get("/metrics");
    assert_eq!(status, 200);
    for name in [
        "gatepost_relay_denials_total{listener=\"smtp\",tenant=\"none\",reason=\"relay_not_permitted\"} 0",
        "gatepost_messages_accepted_total{",
        "gatepost_acceptance_seconds_count",
        "gatepost_commit_seconds_count",
        "gatepost_commit_messages_count",
        "gatepost_spool_messages ",
        "gatepost_spool_bytes ",
        "gatepost_deliveries_total{",
        "gatepost_delivery_seconds_count",
        "gatepost_queue_recipients{state=",
        "gatepost_policy_generation 1",
        "gatepost_policy_reload_failures_total 0",
        "gatepost_connections{listener=\"smtp\",state=\"open\"} 0",
        "gatepost_possible_duplicates_total 0",
        "gatepost_io_backend{backend=\"io_uring\"} 1",
        "gatepost_log_lines_dropped_total 0",
    ] {
        assert!(text.contains(name), "{name} is missing from\n{text}");
    }
    assert_eq!(stage.get("/elsewhere").0, 404);
}

#[test]
fn health_is_not_readiness() {
    let stage = stage();
    assert_eq!(stage.get("/healthz"), (200, "ok\n".into()));
    let reason = |stage: &Stage| {
        let (status, body) = stage.get("/readyz");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        (status, body["reason"].as_str().map(ToOwned::to_owned))
    };
    assert_eq!(reason(&stage), (503, Some("recovering".into())));
    let (_, body) = stage.get("/readyz");
    assert!(body.contains("recovering: shard 0, 0 of 0 segments, 0 messages"), "{body}");
    stage.commons.set_state(0, WorkerState::Ready);
    assert_eq!(reason(&stage), (200, None));
    stage.commons.set_state(0, WorkerState::Latched);
    assert_eq!(reason(&stage), (503, Some("latched".into())));
    let (status, body) = stage.get("/healthz");
    assert!(status == 503 && body.contains("a restart recovers it"), "{status} {body}");
    stage.commons.set_state(0, WorkerState::Vanished);
    assert_eq!(reason(&stage), (503, Some("vanished".into())));
    assert!(stage.get("/readyz").1.contains("put the files back"), "it says what to do");
    assert_eq!(stage.get("/healthz"), (200, "ok\n".into()), "a restart would find nothing");
    stage.commons.set_state(0, WorkerState::Ready);
    stage.commons.drain();
    assert_eq!(reason(&stage), (503, Some("draining".into())));
    assert_eq!(stage.get("/healthz").0, 200);
}

#[test]
fn a_reload_publishes_the_next_generation() {
    let stage = stage();
    stage.control.reload();
    assert_eq!(stage.answer(), Answer::SnapshotChanged);
    let snapshot = stage.commons.snapshot();
    assert_eq!(snapshot.generation, 2);
    assert!(snapshot.tenant_named("proseware").is_some());
    let record = stage.logged("policy_reloaded");
    assert_eq!(record["generation"], 2);
    let fixed = record["needs_a_restart"].as_str().unwrap();
    for section in ["dns", "lists.dnsbl", "admin socket and address", "proxy_protocol", "xclient", "login"] {
        assert!(fixed.contains(section), "{section}: {fixed}");
    }
    let (_, text) = stage.get("/metrics");
    assert!(text.contains("gatepost_policy_generation 2"));
    assert!(text.contains("tenant=\"proseware\""));
}

#[test]
fn a_broken_reload_changes_nothing_and_says_so() {
    let stage = stage();
    let tenant = format!("{TENANT}networx = []\n");
    stage.folder.write("tenants/proseware.toml", &tenant);
    stage.control.reload();
    let record = stage.logged("policy_reload_failed");
    assert!(record["error"].as_str().unwrap().contains("networx"), "{record}");
    assert_eq!(stage.commons.snapshot().generation, 1);
    assert!(stage.get("/metrics").1.contains("gatepost_policy_reload_failures_total 1"));

    stage.folder.write("tenants/proseware.toml", TENANT);
    stage.control.reload();
    assert_eq!(stage.logged("policy_reloaded")["generation"], 2);
}

#[test]
fn a_reload_with_more_errors_than_the_log_holds_says_so_counts_them_and_shows_the_first() {
    let stage = stage();
    // The first needs a separate record that is longer than the log takes, unless it is shortened.
    let long = "\\u0001".repeat(20_000);
    let more: String = (0..700).map(|number| format!("\"{number}-{}\",\n", "x".repeat(90))).collect();
    let tenant =
        format!("name = \"proseware\"\nsenders = [\"@p.example\"]\nnetworks = [\n\"{long}\",\n{more}]\n");
    stage.folder.write("tenants/proseware.toml", &tenant);
    stage.control.reload();
    assert_eq!(stage.logged("policy_reload_failed")["errors"], 701);
    assert!(stage.get("/metrics").1.contains("gatepost_log_lines_dropped_total 0"));
}

#[test]
fn a_metrics_address_that_is_taken_stops_the_start() {
    let first = stage();
    let taken = first.control.metrics_address().unwrap();
    let origin = Origin::new("gatepost.toml", 1);
    let source = Source {
        generation: 1,
        origin,
        routes: Vec::new(),
        lists: policy::ListsSource::default(),
        limits: Default::default(),
        tenants: Vec::new(),
    };
    let (_, _, link) = Commons::new(1, Snapshot::compile(&source).unwrap());
    let error = start(ControlOptions {
        link,
        registry: Arc::new(Registry::new(1, &[], 1)),
        log: EventLog::discarding(),
        places: Arc::new(commons::Places::new(1000)),
        http_log: EventLog::discarding(),
        recovery: vec![Arc::default()],
        admin: None,
        tickets: None,
        metrics_address: Some(taken),
        config_path: None,
        kept: config::Kept::default(),
        certificate: None,
        dns: config::DnsConfig::default(),
        call_ahead: call_ahead(),
        verifiers: 1,
        signals: Signals::none(),
    })
    .unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&taken.to_string()) && text.contains("choose another [metrics] address"), "{text}");
}

/// Calls that trust no certificate.
fn call_ahead() -> CallAheadOptions {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let config = Arc::new(config);
    CallAheadOptions { hostname: "relay.example".into(), opportunistic: config.clone(), required: config }
}
