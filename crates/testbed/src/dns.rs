//! A name server of another house: Debian's nsd, authoritative for one zone that a test writes; and one
//! that answers as it is told, wrongly too.

pub mod scripted;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::net::{PATIENCE, eventually, free_address};
use crate::tools;

/// A running nsd, and the folder it lives in. It may be stopped and started again at its address.
#[derive(Debug)]
pub struct NameServer {
    program: PathBuf,
    directory: TempDir,
    address: SocketAddr,
    child: Option<Child>,
}

impl NameServer {
    /// Serves the records of `zone` below `example.`, each a line of a zone file with a name such as
    /// `adatum` or `mx.adatum`; `broken.example.` fails with SERVFAIL. `None` where nsd is missing,
    /// after `test` was noted as skipped.
    ///
    /// # Panics
    /// When it does not answer in time.
    #[must_use]
    pub fn start(test: &str, zone: &str) -> Option<Self> {
        let program = tools::find("nsd", test)?;
        let directory = TempDir::with_prefix("gatepost-nsd-").expect("a temporary folder can be made");
        let mut server = Self { program, directory, address: free_address(), child: None };
        // The times are short: what a test changes is seen at once.
        let head =
            "$ORIGIN example.\n$TTL 1\n@ IN SOA ns hostmaster 1 60 60 60 1\n@ IN NS ns\nns IN A 127.0.0.1\n";
        server.write("zone", &format!("{head}{zone}\n"));
        let folder = server.directory.path().display();
        let configuration = format!(
            "server:\n  ip-address: {}@{}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{folder}\"\n  \
             pidfile: \"\"\n  logfile: \"{folder}/log\"\n  xfrdfile: \"\"\n  zonelistfile: \"{folder}/zones\"\n  \
             xfrdir: \"{folder}\"\nremote-control:\n  control-enable: no\n\
             zone:\n  name: \"example.\"\n  zonefile: \"zone\"\n\
             zone:\n  name: \"broken.example.\"\n  zonefile: \"nowhere\"\n",
            server.address.ip(),
            server.address.port()
        );
        server.write("nsd.conf", &configuration);
        server.restart();
        Some(server)
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `[dns]` section that asks it, and gives up soon.
    #[must_use]
    pub fn section(&self) -> String {
        format!("\n[dns]\nservers = [\"{}\"]\ntimeout = \"500ms\"\n", self.address)
    }

    /// It answers no more.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // nsd's first process ends its others when it is asked to end.
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let ended = eventually(PATIENCE, || child.try_wait().is_ok_and(|status| status.is_some()));
            if !ended {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    /// Starts it again.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub fn restart(&mut self) {
        self.child = Some(self.run());
        let answers = eventually(PATIENCE, || {
            // On a busy machine nsd's own processes may miss each other at the start, and it ends
            // ("did not get start signal from main").
            if self.child.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|end| end.is_some())) {
                self.child = Some(self.run());
            }
            is_answering(self.address)
        });
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        assert!(answers, "nsd does not answer: {log}");
    }

    fn run(&self) -> Child {
        let configuration = self.directory.path().join("nsd.conf");
        let mut command = Command::new(&self.program);
        command.arg("-d").arg("-c").arg(configuration).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("nsd can be run")
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.directory.path().join(name), content).expect("the test folder can be written");
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether a question for `example. SOA` is answered (RFC 1035 section 4).
fn is_answering(server: SocketAddr) -> bool {
    const QUESTION: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x00\x00\x06\x00\x01";
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) else { return false };
    let mut answer = [0; 512];
    socket.set_read_timeout(Some(Duration::from_millis(200))).is_ok()
        && socket.send_to(QUESTION, server).is_ok()
        && socket.recv(&mut answer).is_ok_and(|length| length > 12 && answer[3] & 0xf == 0)
}
