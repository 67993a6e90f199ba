//! A start that cannot succeed: one clear error with its remedy, exit code 2, nothing half started. And one
//! that cannot succeed yet: it waits, and says for what.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use tempfile::TempDir;
use testbed::gateway::write_certificate;
use testbed::http::http_get;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::{Configuration, Destination, Dialog, Gateway};

const GATEPOST: &str = env!("CARGO_BIN_EXE_gatepost");

/// It works, and `check` has nothing to remark about it.
fn configuration() -> Configuration {
    let mut configuration = Configuration::relay(free_address());
    let tenant = "name = \"proseware\"\nnetworks = [\"192.0.2.0/24\"]\nsenders = [\"@proseware.example\"]\n";
    configuration.tenants = vec![("proseware".into(), tenant.into())];
    configuration
}

/// Runs a gateway that must not start; returns the one error that it gives.
#[track_caller]
fn refused(config: &Path) -> String {
    let stderr = fs::File::create(config.with_extension("stderr")).expect("the test folder can be written");
    let stdout = fs::File::create(config.with_extension("stdout")).expect("the test folder can be written");
    let mut child = Command::new(GATEPOST)
        .args(["run", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .expect("gatepost was built");
    let mut status = None;
    eventually(PATIENCE, || {
        status = child.try_wait().expect("a child of ours can be awaited");
        status.is_some()
    });
    if status.is_none() {
        child.kill().expect("a child of ours can be killed");
        child.wait().expect("a child of ours can be awaited");
    }
    let said =
        |extension: &str| fs::read_to_string(config.with_extension(extension)).expect("it was written above");
    let (stdout, stderr) = (said("stdout"), said("stderr"));
    let status = status.unwrap_or_else(|| panic!("it runs all the same:\n{stdout}{stderr}"));
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(stdout, "", "standard output is for what a gateway does");
    // Where tests keep their files may be worth a warning, as in a container.
    let errors: Vec<_> = stderr.lines().filter(|line| !line.starts_with("warning: ")).collect();
    assert_eq!(errors.len(), 1, "not one clear error:\n{stderr}");
    errors[0].to_owned()
}

#[track_caller]
fn assert_says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{error:?} lacks {word:?}");
    }
}

/// Writes `configuration`, which must not start; nothing of a spool may be left.
#[track_caller]
fn refused_without_a_trace(configuration: &Configuration, words: &[&str]) {
    let directory = TempDir::with_prefix("gatepost-test-").expect("a temporary folder can be made");
    assert_says(&refused(&configuration.write(directory.path())), words);
    assert!(!directory.path().join("spool").exists(), "a spool was begun");
}

#[track_caller]
fn still_serves(gateway: &Gateway, destination: &Destination) {
    let served = destination.count();
    Dialog::hello(gateway.smtp()).deliver(
        "kim@proseware.example",
        &["bob@adatum.example"],
        b"Subject: x\r\n\r\n",
    );
    destination.wait_for(served + 1);
}

fn running() -> (Gateway, Destination) {
    let destination = Destination::start();
    (Gateway::start(GATEPOST, Configuration::relay(destination.address())), destination)
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    let mut configuration = configuration();
    configuration.node_extra = "[retry]\nlongst = \"1h\"\n".into();
    refused_without_a_trace(&configuration, &["gatepost.toml:", "longst", "longest"]);
}

#[test]
fn a_malformed_prefix_is_shown_how_to_write_one() {
    let mut configuration = configuration();
    let tenant = "name = \"proseware\"\nnetworks = [\"127.0.0.0/33\"]\nsenders = [\"@proseware.example\"]\n";
    configuration.tenants = vec![("proseware".into(), tenant.into())];
    refused_without_a_trace(&configuration, &["proseware.toml:2", "networks", "198.51.100.0/24"]);
}

#[test]
fn a_network_of_everyone_is_refused() {
    let mut configuration = configuration();
    let tenant = "name = \"proseware\"\nnetworks = [\"0.0.0.0/0\"]\nsenders = [\"@proseware.example\"]\n";
    configuration.tenants = vec![("proseware".into(), tenant.into())];
    refused_without_a_trace(&configuration, &["proseware.toml:2", "0.0.0.0/0", "/8"]);
}

#[test]
fn a_tenant_without_senders_is_refused() {
    let mut configuration = configuration();
    let tenant = "name = \"proseware\"\nnetworks = [\"127.0.0.0/8\"]\n";
    configuration.tenants = vec![("proseware".into(), tenant.into())];
    refused_without_a_trace(&configuration, &["proseware.toml", "senders"]);
}

#[test]
fn two_tenants_with_one_login_are_refused() {
    let mut configuration = configuration();
    let tenant = |name: &str| {
        let content = format!(
            "name = \"{name}\"\nsenders = [\"@{name}.example\"]\n\n\
             [[identity]]\nlogin = \"terri@proseware.example\"\n\
             password = \"$argon2id$v=19$m=64,t=1,p=1$Z2F0ZXBvc3QtdGVzdGJlZA$gy3clQEqPygPfs6UhRGQ/ygwz5KUDH5sPY76KYmY6IA\"\n"
        );
        (name.to_owned(), content)
    };
    configuration.tenants = vec![tenant("adatum"), tenant("proseware")];
    let words = ["proseware.toml:5", "adatum.toml:5", "terri@proseware.example"];
    refused_without_a_trace(&configuration, &words);
}

#[test]
fn a_missing_certificate_is_named() {
    let mut configuration = configuration();
    configuration.listeners[0].tls = "starttls".into();
    configuration.node_extra = "[tls]\ncertificate = \"missing.crt\"\nkey = \"tls.key\"\n".into();
    let directory = TempDir::with_prefix("gatepost-test-").expect("a temporary folder can be made");
    write_certificate(directory.path());
    let error = refused(&configuration.write(directory.path()));
    assert_says(&error, &["gatepost.toml:", "missing.crt", "put the PEM file there"]);
    assert!(!directory.path().join("spool").exists(), "a spool was begun");
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let mut configuration = configuration();
    configuration.listeners[0].tls = "starttls".into();
    configuration.node_extra = "[tls]\ncertificate = \"bad.crt\"\nkey = \"tls.key\"\n".into();
    let directory = TempDir::with_prefix("gatepost-test-").expect("a temporary folder can be made");
    write_certificate(directory.path());
    fs::write(directory.path().join("bad.crt"), "none\n").expect("the test folder can be written");
    assert_says(&refused(&configuration.write(directory.path())), &["bad.crt", "PEM"]);
    assert!(!directory.path().join("spool").exists(), "a spool was begun");
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_begun() {
    let mut configuration = configuration();
    let second = configuration.listen("second", "relay", "off");
    let holder = TcpListener::bind(second).expect("the port was free");
    refused_without_a_trace(&configuration, &["second", &second.to_string(), "choose another port"]);
    drop(holder);
}

#[test]
fn a_port_in_use_by_another_gatepost_is_noticed_and_the_other_serves_on() {
    let (gateway, destination) = running();
    let mut configuration = configuration();
    configuration.listeners[0].address = gateway.smtp();
    let port = gateway.smtp().to_string();
    refused_without_a_trace(&configuration, &["\"smtp\"", &port, "another Gatepost"]);
    still_serves(&gateway, &destination);
}

#[test]
fn a_metrics_port_in_use_is_named() {
    let configuration = configuration();
    let holder = TcpListener::bind(configuration.metrics).expect("the port was free");
    let directory = TempDir::with_prefix("gatepost-test-").expect("a temporary folder can be made");
    let error = refused(&configuration.write(directory.path()));
    assert_says(&error, &["metrics", &configuration.metrics.to_string(), "another"]);
    drop(holder);
}

#[test]
fn a_spool_in_use_names_the_process_that_has_it_and_that_serves_on() {
    let (gateway, destination) = running();
    let directory = TempDir::with_prefix("gatepost-test-").expect("a temporary folder can be made");
    let config = configuration().write(directory.path());
    let file = fs::read_to_string(&config).expect("it was written above");
    let own = directory.path().join("spool").display().to_string();
    let theirs = gateway.directory().join("spool").display().to_string();
    fs::write(&config, file.replace(&own, &theirs)).expect("the test folder can be written");
    let owner = format!("process {}", gateway.pid());
    assert_says(&refused(&config), &[&theirs, &owner, "name another spool directory"]);
    still_serves(&gateway, &destination);
}

#[test]
fn a_spool_that_is_no_directory_is_named_and_left_alone() {
    let directory = TempDir::with_prefix("gatepost-test-").expect("a temporary folder can be made");
    let configuration = configuration();
    let config = configuration.write(directory.path());
    let spool = directory.path().join("spool");
    fs::write(&spool, "precious").expect("the test folder can be written");
    assert_says(&refused(&config), &[&spool.display().to_string(), "directory"]);
    assert_eq!(fs::read_to_string(&spool).expect("it is still there"), "precious");
    assert!(TcpStream::connect(configuration.listeners[0].address).is_err(), "a socket listens");
}

#[test]
fn a_spool_with_a_foreign_file_for_a_shard_is_named_and_left_alone() {
    let directory = TempDir::with_prefix("gatepost-test-").expect("a temporary folder can be made");
    let config = configuration().write(directory.path());
    let shard = directory.path().join("spool").join("shard-000");
    fs::create_dir(directory.path().join("spool")).expect("the test folder can be written");
    fs::write(&shard, "precious").expect("the test folder can be written");
    assert_says(&refused(&config), &[&shard.display().to_string(), "directory"]);
    assert_eq!(fs::read_to_string(&shard).expect("it is still there"), "precious");
}

/// A gateway that starts after a kill while the lock of each shard's segment is held, as by a write that the
/// disk has not ended; it says that it waits.
fn waiting(change: impl FnOnce(&mut Configuration)) -> (Gateway, Destination, Vec<fs::File>) {
    let destination = Destination::start();
    let mut configuration = Configuration::relay(destination.address());
    change(&mut configuration);
    let mut gateway = Gateway::start(GATEPOST, configuration);
    still_serves(&gateway, &destination);
    gateway.kill();
    let writer = |shard: u32| {
        let segment = gateway.directory().join(format!("spool/shard-{shard:03}/segment-00000000.log"));
        let writer = fs::File::options().write(true).open(segment).expect("the gateway made it");
        writer.lock().expect("its owner is gone");
        writer
    };
    let writers = (0..gateway.configuration().workers).map(writer).collect();
    gateway.spawn();
    let mut said = String::new();
    let says_so = eventually(PATIENCE, || {
        said =
            http_get(gateway.configuration().metrics, "/readyz").map_or_else(String::new, |(_, body)| body);
        said.contains("waits for the disk") && gateway.output().contains("spool_awaited")
    });
    assert!(says_so, "{said}\n{}", gateway.output());
    assert_says(&said, &["shard 0 ", "segment-00000000.log"]);
    (gateway, destination, writers)
}

fn refuse(configuration: &mut Configuration) {
    configuration.spool_extra = "while_recovering = \"refuse\"\n".into();
}

#[test]
fn a_start_waits_until_the_writes_of_a_killed_process_have_ended() {
    let (gateway, destination, writers) = waiting(|_| ());
    assert!(TcpStream::connect(gateway.smtp()).is_err(), "it takes mail although it cannot keep it");
    drop(writers);
    let is_ready =
        || http_get(gateway.configuration().metrics, "/readyz").is_some_and(|(code, _)| code == 200);
    assert!(eventually(PATIENCE, is_ready), "{}", gateway.output());
    still_serves(&gateway, &destination);
}

#[test]
fn a_start_that_waits_for_the_disk_ends_when_it_is_asked_to() {
    let (mut gateway, _destination, _writers) = waiting(|_| ());
    assert_eq!(gateway.terminate().code(), Some(2));
    assert_says(&gateway.output(), &["gatepost: a write to ", "segment-00000000.log", "has not ended"]);
}

/// Comes again and again until it was greeted `greetings` times; how often it was put off before.
fn insist(address: SocketAddr, greetings: u32) -> u32 {
    let (mut put_off, mut greeted) = (0, 0);
    while greeted < greetings {
        let mut dialog = Dialog::connect(address);
        match dialog.reply().unwrap_or_else(|| panic!("reset after {put_off} and {greeted}")).code {
            421 => {
                let end = dialog.into_stream().read(&mut [0]);
                assert!(matches!(end, Ok(0)), "{end:?}");
                put_off += 1;
            }
            code => {
                assert_eq!(code, 220);
                greeted += 1;
            }
        }
    }
    put_off
}

#[test]
fn a_start_that_refuses_while_it_waits_says_so_and_then_serves_all_who_come() {
    let mut implicit = None;
    let (gateway, destination, writers) = waiting(|configuration| {
        refuse(configuration);
        configuration.workers = 2;
        implicit = Some(configuration.listen("submissions", "submission", "implicit"));
    });
    let mut early = Dialog::connect(gateway.smtp());
    assert_eq!(early.expect(421).lines, ["4.3.2 relay.proseware.example is starting; try again later"]);
    assert_eq!(early.expect_end(), b"");
    let mut secret = Dialog::connect(implicit.expect("it was configured"));
    secret.send(b"\x16\x03\x01\x02\x00\x01");
    let end = secret.into_stream().read(&mut [0]);
    assert!(matches!(end, Ok(0)), "{end:?}");

    let address = gateway.smtp();
    let clients: Vec<_> = (0..16).map(|_| thread::spawn(move || insist(address, 50))).collect();
    Dialog::connect(address).expect(421);
    drop(writers);
    let put_off = clients.into_iter().map(|client| client.join().expect("no client was reset")).sum::<u32>();
    assert!(put_off > 0, "no client came before it was ready");
    still_serves(&gateway, &destination);
}

#[test]
fn a_start_that_refuses_while_it_waits_ends_when_it_is_asked_to() {
    let (mut gateway, _destination, _writers) = waiting(refuse);
    Dialog::connect(gateway.smtp()).expect(421);
    assert_eq!(gateway.terminate().code(), Some(2));
    assert!(TcpStream::connect(gateway.smtp()).is_err(), "a socket listens");
    assert_says(&gateway.output(), &["clients_put_off", "has not ended"]);
}

#[test]
fn a_spool_of_format_version_1_is_refused_and_named_with_the_remedy() {
    let directory = TempDir::new().expect("a folder can be made");
    let config = configuration().write(directory.path());
    let spool = directory.path().join("spool");
    let shard = spool.join("shard-000");
    fs::create_dir_all(&shard).expect("a folder can be made");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spool/tests/golden/version-1.bin");
    let sample = fs::read(sample).expect("the sample is there");
    fs::write(shard.join("identity"), &sample[..4096]).expect("a file can be written");
    let error = refused(&config);
    let named =
        format!("the spool {} was written by an earlier Gatepost in format version 1", spool.display());
    for part in [&*named, "this one reads and writes version 2", "move the folder away", "spool.path"] {
        assert!(error.contains(part), "{part:?} is missing from {error}");
    }
}
