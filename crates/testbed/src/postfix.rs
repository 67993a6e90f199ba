//! A Postfix of our own: configuration, queue and data in one temporary folder.
//!
//! It never looks at the system's Postfix. What would slow it down and is not part of durable relaying
//! is off (TLS, local delivery, DNS, client limits, the pause of `in_flow_delay`), so that a
//! comparison leans to its side. It logs to syslog, whose cost is not counted.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

const MAIN: &str = "\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = relay.proseware.example
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{relay}
disable_dns_lookups = yes
smtp_host_lookup = native
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_hard_error_limit = 1000000
smtpd_soft_error_limit = 1000000
default_process_limit = 300
in_flow_delay = 0
{settings}";

const MASTER: &str = "\
127.0.0.1:{port} inet n - n - 200 smtpd
pickup     unix  n  -  n  60    1  pickup
cleanup    unix  n  -  n  -     0  cleanup
qmgr       unix  n  -  n  300   1  qmgr
tlsmgr     unix  -  -  n  1000? 1  tlsmgr
rewrite    unix  -  -  n  -     -  trivial-rewrite
bounce     unix  -  -  n  -     0  bounce
defer      unix  -  -  n  -     0  bounce
trace      unix  -  -  n  -     0  bounce
verify     unix  -  -  n  -     1  verify
flush      unix  n  -  n  1000? 0  flush
proxymap   unix  -  -  n  -     -  proxymap
smtp       unix  -  -  n  -     -  smtp
relay      unix  -  -  n  -     -  smtp
showq      unix  n  -  n  -     -  showq
error      unix  -  -  n  -     -  error
retry      unix  -  -  n  -     -  error
anvil      unix  -  -  n  -     1  anvil
scache     unix  -  -  n  -     1  scache
";

/// What a Postfix is to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// Where all that it relays goes; nowhere where there is none.
    pub relay_to: Option<SocketAddr>,
    /// Further lines of `main.cf`.
    pub main: &'a str,
    /// What starts it, which must exec its arguments (as `["taskset", "-c", "0"]`).
    pub wrapper: &'a [String],
}

/// A running Postfix; stopped and removed when dropped.
#[derive(Debug)]
pub struct Postfix {
    folder: TempDir,
    address: SocketAddr,
    master: u32,
}

impl Postfix {
    /// Stops it; its queue stays.
    ///
    /// # Errors
    /// A sentence: it does not stop.
    pub fn stop(&self) -> Result<(), String> {
        control(&["postfix".to_owned()], self.folder.path(), "stop")
    }

    /// Starts it again under `wrapper` after [`Self::stop`].
    ///
    /// # Errors
    /// A sentence: it does not start.
    pub fn start_again(&mut self, wrapper: &[String]) -> Result<(), String> {
        let words: Vec<_> = wrapper.iter().cloned().chain(["postfix".to_owned()]).collect();
        control(&words, self.folder.path(), "start")?;
        self.master = self.read_master()?;
        Ok(())
    }

    /// How many messages `postqueue` lists.
    ///
    /// # Errors
    /// A sentence: it could not be run, or failed.
    pub fn listed(&self) -> Result<usize, String> {
        let mut command = Command::new("postqueue");
        command.arg("-c").arg(config(self.folder.path())).arg("-j").stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("cannot run postqueue: {error}"))?;
        match output.status.success() {
            true => Ok(output.stdout.iter().filter(|&&byte| byte == b'\n').count()),
            false => Err(format!("postqueue: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// A sentence: it is not installed, or this is not root.
    pub fn start(settings: Settings<'_>) -> Result<Self, String> {
        let folder = TempDir::with_prefix("gatepost-postfix-")
            .map_err(|error| format!("no temporary folder: {error}"))?;
        let address = crate::net::free_address();
        write(folder.path(), address, settings)
            .map_err(|error| format!("cannot configure Postfix in {}: {error}", folder.path().display()))?;
        let mut words = settings.wrapper.to_vec();
        words.push("postfix".to_owned());
        control(&words, folder.path(), "start")?;
        // From here on it must be stopped, whatever fails.
        let mut postfix = Self { folder, address, master: 0 };
        postfix.master = postfix.read_master()?;
        Ok(postfix)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id of `master`, whose descendants are the whole server.
    #[must_use]
    pub fn master(&self) -> u32 {
        self.master
    }

    /// Whether no message waits to be delivered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        ["incoming", "active", "deferred"]
            .iter()
            .all(|queue| is_empty(&self.folder.path().join("queue").join(queue)))
    }

    fn read_master(&self) -> Result<u32, String> {
        let path = self.folder.path().join("queue/pid/master.pid");
        let mut pid = None;
        crate::net::eventually(crate::net::PATIENCE, || {
            pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            pid.is_some()
        });
        pid.ok_or_else(|| "Postfix's master did not start".to_owned())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if let Err(error) = control(&["postfix".to_owned()], self.folder.path(), "stop") {
            eprintln!("{error}");
        }
        crate::net::eventually(crate::net::PATIENCE, || {
            !Path::new(&format!("/proc/{}", self.master)).exists()
        });
    }
}

fn write(folder: &Path, address: SocketAddr, settings: Settings<'_>) -> std::io::Result<()> {
    // Postfix's own user must be able to walk in.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    // A start looks at every file beside the configuration: the queue must lie elsewhere.
    fs::create_dir(config(folder))?;
    fs::create_dir(folder.join("queue"))?;
    fs::create_dir(folder.join("data"))?;
    let owner = Command::new("chown").arg("postfix").arg(folder.join("data")).status()?;
    if !owner.success() {
        return Err(std::io::Error::other("the data folder cannot be given to the user postfix; be root"));
    }
    let port = |address: SocketAddr| address.port().to_string();
    let main = MAIN
        .replace("{folder}", &folder.display().to_string())
        .replace("{relay}", &port(settings.relay_to.unwrap_or(address)))
        .replace("{settings}", settings.main);
    fs::write(config(folder).join("main.cf"), main)?;
    fs::write(config(folder).join("master.cf"), MASTER.replace("{port}", &port(address)))
}

fn config(folder: &Path) -> PathBuf {
    folder.join("etc")
}

fn control(words: &[String], folder: &Path, order: &str) -> Result<(), String> {
    // Its daemons inherit standard error and would hold a pipe open.
    let status = Command::new(&words[0])
        .args(&words[1..])
        .arg("-c")
        .arg(config(folder))
        .arg(order)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("cannot run postfix: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("postfix -c {} {order} failed ({status}); it must be run by root", folder.display()))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().all(|entry| {
        // Deferred mail lies in folders of one character.
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_empty(&entry.path())
    })
}
