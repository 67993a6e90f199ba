//! The signals, in a separate process: they are the whole process's.

use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use commons::{Answer, Commons};
use control::ControlOptions;
use observe::{EventLog, Registry};
use policy::{Origin, Snapshot, Source};
use ring::Waker;
use testbed::folder::{Folder, NODE, TENANT};

/// Far more than a signal takes: only a broken build waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn signal(name: &str) {
    let sent = Command::new("kill").args([name, &std::process::id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn sighup_reloads_and_sigterm_drains() {
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
    let (commons, links, link) = Commons::new(1, Snapshot::compile(&source).unwrap());
    let _control = control::start(ControlOptions {
        link,
        registry: Arc::new(Registry::new(1, &["smtp"], 1)),
        log: EventLog::discarding(),
        places: Arc::new(commons::Places::new(1000)),
        http_log: EventLog::discarding(),
        recovery: vec![Arc::default()],
        admin: None,
        tickets: None,
        metrics_address: None,
        config_path: Some(folder.node()),
        kept: config::Kept::default(),
        certificate: None,
        dns: config::DnsConfig::default(),
        call_ahead: call_ahead(),
        verifiers: 1,
        signals: control::Signals::listen().unwrap(),
    })
    .unwrap();
    let (wake, woken) = channel();
    links[0].attach(Waker::new(move || {
        let _ = wake.send(());
    }));
    let answer = || {
        loop {
            match links[0].answer() {
                Some(answer) => return answer,
                None => woken.recv_timeout(PATIENCE).unwrap(),
            }
        }
    };

    signal("-HUP");
    assert_eq!(answer(), Answer::SnapshotChanged);
    assert_eq!(commons.snapshot().generation, 2);
    signal("-TERM");
    assert_eq!(answer(), Answer::Drain);
    assert!(commons.is_draining());
}

/// Calls that trust no certificate.
fn call_ahead() -> control::CallAheadOptions {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let config = Arc::new(config);
    control::CallAheadOptions {
        hostname: "relay.example".into(),
        opportunistic: config.clone(),
        required: config,
    }
}
