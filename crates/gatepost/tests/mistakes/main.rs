//! What people get wrong in a configuration: each mistake is one sentence with file, line, key and remedy, and
//! `run` says what `check` says.

mod form;
mod host;
mod keys;
mod texts;
mod unwise;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use testbed::Folder;

const NODE: &str = r#"[node]
hostname = "relay.proseware.example"
workers = 2
[spool]
path = "spool"
[[listener]]
name = "smtp"
address = "127.0.0.1:0"
role = "relay"
tls = "off"
[tls]
certificate = "tls.crt"
key = "tls.key"
[policy]
tenants = "tenants"
[[route]]
recipient_domains = ["*"]
next_hops = ["127.0.0.1:9"]
"#;

const TENANT: &str = r#"name = "proseware"
networks = ["198.51.100.0/24"]
senders = ["@proseware.example"]
[[relay_domain]]
domains = ["proseware.example"]
next_hops = ["mail.proseware.example"]
recipients = "list.txt"
[[identity]]
login = "terri"
password = "$argon2id$v=19$m=64,t=1,p=1$Z2F0ZXBvc3QtdGVzdGJlZA$gy3clQEqPygPfs6UhRGQ/ygwz5KUDH5sPY76KYmY6IA"
"#;

/// A word that stands in files which are named by mistake: no message may show it.
const SECRET: &str = "hunter2";

/// A sound configuration with everything in it that a case gets wrong.
fn files() -> Folder {
    let folder = Folder::new(NODE, &[("proseware", TENANT)]);
    folder.write("tenants/list.txt", "kim\n");
    certificate(&folder, |_| ());
    folder
}

/// Writes a certificate with its key, which its owner alone may read.
fn certificate(folder: &Folder, change: impl FnOnce(&mut rcgen::CertificateParams)) {
    let mut parameters = rcgen::CertificateParams::new(["relay.proseware.example".to_owned()]).unwrap();
    change(&mut parameters);
    let key = rcgen::KeyPair::generate().unwrap();
    folder.write("tls.crt", &parameters.self_signed(&key).unwrap().pem());
    folder.write("tls.key", &key.serialize_pem());
    set_mode(&folder.join("tls.key"), 0o600);
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn gatepost(arguments: &[&str], node: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatepost"));
    command.args(arguments).arg("--config").arg(node).stdin(Stdio::null()).output().unwrap()
}

/// What a command said on standard error, with the folder written as DIR.
fn said(output: &Output, folder: &Folder) -> String {
    let text = String::from_utf8_lossy(&output.stderr).replace(&folder.path().display().to_string(), "DIR");
    text.trim_end().to_owned()
}

fn pipe(folder: &Folder, name: &str) {
    let path = folder.join(name);
    let _ = fs::remove_file(&path);
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

fn bytes(folder: &Folder, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).unwrap();
}

type Case = (fn(&Folder), &'static str);

/// Each mistake, and the one line about it.
#[track_caller]
fn each_is_said(code: i32, cases: &[Case]) {
    let mut wrong = String::new();
    for (number, (break_it, expected)) in cases.iter().enumerate() {
        let folder = files();
        break_it(&folder);
        let check = gatepost(&["check"], &folder.node());
        // What `check` takes would run.
        assert_ne!(check.status.code(), Some(0), "case {number}: {expected}");
        let run = gatepost(&["run"], &folder.node());
        let codes = (check.status.code(), run.status.code());
        let (check, run) = (said(&check, &folder), said(&run, &folder));
        if check != *expected || run != *expected || codes != (Some(code), Some(2)) {
            wrong += &format!("case {number}, {codes:?}\n  wanted: {expected}\n  check:  {check}\n");
            if run != check {
                wrong += &format!("  run:    {run}\n");
            }
        }
        assert!(!check.contains(SECRET), "{check}");
        assert!(!folder.join("spool").is_dir(), "case {number}: a spool was begun");
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What `check` warns of, with the folder written as DIR; it is sound all the same.
#[track_caller]
fn warnings(folder: &Folder, arguments: &[&str]) -> Vec<String> {
    let output = gatepost(&[&["check"], arguments].concat(), &folder.node());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output, folder));
    let text = String::from_utf8(output.stdout).unwrap().replace(&folder.path().display().to_string(), "DIR");
    let warnings = text.lines().filter_map(|line| line.strip_prefix("warning: "));
    // Where tests keep their files is not what they are about.
    warnings.filter(|line| !line.contains(" spool.path: ")).map(ToOwned::to_owned).collect()
}

#[test]
fn what_the_cases_begin_with_is_sound() {
    let folder = files();
    let check = gatepost(&["check"], &folder.node());
    assert_eq!(check.status.code(), Some(0), "{}", said(&check, &folder));
}
