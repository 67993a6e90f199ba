//! A separate `gatepost` in a separate folder: configured, started, awaited, killed, restarted.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub use crate::http::http_get;
use crate::net::{PATIENCE, eventually, free_address};

/// One listener of a [`Configuration`].
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in metrics and logs.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// `relay` or `submission`.
    pub role: String,
    /// `off`, `starttls`, `required` or `implicit`.
    pub tls: String,
}

/// The files of a gateway under test; [`Configuration::relay`] gives one that works.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Listeners; the first is the one that [`Gateway::smtp`] names.
    pub listeners: Vec<Listener>,
    /// Where all mail goes that no tenant routes elsewhere.
    pub next_hop: SocketAddr,
    /// No such route: all that mail goes by MX.
    pub by_mx: bool,
    /// Workers; 0 is one a core.
    pub workers: u32,
    /// Where the spool is; `spool` in the gateway's folder without it.
    pub spool: Option<PathBuf>,
    /// What the spool may hold, as the node file writes it.
    pub capacity: String,
    /// More lines of `[spool]`.
    pub spool_extra: String,
    /// Where `/metrics` and `/readyz` are served.
    pub metrics: SocketAddr,
    /// Further lines of the node file, at its end.
    pub node_extra: String,
    /// Tenant files: name without `.toml`, and content.
    pub tenants: Vec<(String, String)>,
    /// Further files beside the node file: name and content.
    pub files: Vec<(String, String)>,
    /// Make a certificate for `localhost` and point the node file to it.
    pub certificate: bool,
}

impl Configuration {
    /// One listener without TLS, and a tenant on loopback that owns `proseware.example`.
    #[must_use]
    pub fn relay(next_hop: SocketAddr) -> Self {
        let tenant = "name = \"proseware\"\nnetworks = [\"127.0.0.0/8\"]\nsenders = [\"@proseware.example\"]\n\
                      null_sender = true\n";
        Self {
            listeners: vec![Listener {
                name: "smtp".into(),
                address: free_address(),
                role: "relay".into(),
                tls: "off".into(),
            }],
            next_hop,
            by_mx: false,
            workers: 1,
            spool: None,
            capacity: "1GiB".into(),
            spool_extra: String::new(),
            metrics: free_address(),
            node_extra: "[retry]\nfirst = \"1s\"\nlongest = \"2s\"\nexpire = \"1h\"\n\
                         [delivery]\nprivate_destinations = true\n"
                .into(),
            tenants: vec![("proseware".into(), tenant.into())],
            files: Vec::new(),
            certificate: false,
        }
    }

    /// Adds a listener on a free port and returns its address.
    pub fn listen(&mut self, name: &str, role: &str, tls: &str) -> SocketAddr {
        let address = free_address();
        self.listeners.push(Listener { name: name.into(), address, role: role.into(), tls: tls.into() });
        self.certificate |= tls != "off";
        address
    }

    /// Writes all files below `directory`; returns the path of the node file.
    ///
    /// # Panics
    /// When the directory cannot be written.
    #[must_use]
    pub fn write(&self, directory: &Path) -> PathBuf {
        let tenants = directory.join("tenants");
        fs::create_dir_all(&tenants).expect("the test folder can be written");
        for (name, content) in &self.tenants {
            fs::write(tenants.join(format!("{name}.toml")), content).expect("the test folder can be written");
        }
        for (name, content) in &self.files {
            fs::write(directory.join(name), content).expect("the test folder can be written");
        }
        if self.certificate {
            write_certificate(directory);
        }
        let path = directory.join("gatepost.toml");
        fs::write(&path, self.node_file(directory)).expect("the test folder can be written");
        path
    }

    fn node_file(&self, directory: &Path) -> String {
        let spool = self.spool.clone().unwrap_or_else(|| directory.join("spool"));
        let mut file = format!(
            "[node]\nhostname = \"relay.proseware.example\"\nworkers = {}\n\n\
             [spool]\npath = \"{}\"\ncapacity = \"{}\"\n{}\n",
            self.workers,
            spool.display(),
            self.capacity,
            self.spool_extra
        );
        for listener in &self.listeners {
            let Listener { name, address, role, tls } = listener;
            write!(
                file,
                "[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\nrole = \"{role}\"\ntls = \"{tls}\"\n\n"
            )
            .expect("a string takes what is written to it");
        }
        if self.certificate {
            file.push_str("[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n\n");
        }
        if !self.by_mx {
            write!(
                file,
                "[[route]]\nrecipient_domains = [\"*\"]\nnext_hops = [\"{}\"]\ntls = \"off\"\n\n",
                self.next_hop
            )
            .expect("a string takes what is written to it");
        }
        write!(
            file,
            "[policy]\ntenants = \"tenants\"\n\n[metrics]\naddress = \"{}\"\n\n{}",
            self.metrics, self.node_extra
        )
        .expect("a string takes what is written to it");
        file
    }
}

/// Writes `tls.crt` and `tls.key` for `localhost`, self-signed, into `directory`.
///
/// # Panics
/// When no key can be made or the directory cannot be written.
pub fn write_certificate(directory: &Path) {
    let names = vec!["localhost".to_owned(), "relay.proseware.example".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).expect("a key can be generated");
    fs::write(directory.join("tls.crt"), certified.cert.pem()).expect("the test folder can be written");
    fs::write(directory.join("tls.key"), certified.signing_key.serialize_pem())
        .expect("the test folder can be written");
}

/// A running gateway. Its folder, and so its spool, outlives every kill; both go when it is dropped.
#[derive(Debug)]
pub struct Gateway {
    binary: PathBuf,
    configuration: Configuration,
    config_path: PathBuf,
    directory: TempDir,
    child: Option<Child>,
    wrapper: Vec<String>,
}

impl Gateway {
    /// Starts `binary` and waits until it is ready.
    ///
    /// # Panics
    /// When it is not ready in time; with what it wrote.
    #[must_use]
    pub fn start(binary: impl Into<PathBuf>, configuration: Configuration) -> Self {
        Self::start_under(binary, configuration, Vec::new())
    }

    /// The same, run by `wrapper` (as `["taskset", "-c", "0"]`), which must exec its arguments.
    ///
    /// # Panics
    /// When it is not ready in time; with what it wrote.
    #[must_use]
    pub fn start_under(
        binary: impl Into<PathBuf>,
        configuration: Configuration,
        wrapper: Vec<String>,
    ) -> Self {
        let directory = TempDir::with_prefix("gatepost-test-").expect("a temporary folder can be made");
        let config_path = configuration.write(directory.path());
        let mut gateway =
            Self { binary: binary.into(), configuration, config_path, directory, child: None, wrapper };
        gateway.restart();
        gateway
    }

    /// Starts it again on the same files after [`Gateway::kill`] or [`Gateway::terminate`].
    ///
    /// # Panics
    /// When it runs already, or is not ready in time.
    pub fn restart(&mut self) {
        self.spawn();
        let address = self.configuration.metrics;
        let mut ended = None;
        let is_ready = eventually(PATIENCE, || {
            ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            ended.is_some() || http_status(address, "/readyz") == Some(200)
        });
        assert!(is_ready && ended.is_none(), "gatepost is not ready ({ended:?}):\n{}", self.output());
    }

    /// Starts the process and does not wait for it.
    ///
    /// # Panics
    /// When it runs already or cannot be started.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the gateway runs already");
        let log = |name: &str| {
            File::options()
                .create(true)
                .append(true)
                .open(self.directory.path().join(name))
                .expect("the test folder can be written")
        };
        let mut words = self.wrapper.iter().map(PathBuf::from).chain([self.binary.clone()]);
        let child = Command::new(words.next().expect("the binary is always there"))
            .args(words)
            .args(["run", "--config"])
            .arg(&self.config_path)
            .stdin(Stdio::null())
            .stdout(log("stdout.log"))
            .stderr(log("stderr.log"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()));
        self.child = Some(child);
    }

    /// The address of the first listener.
    #[must_use]
    pub fn smtp(&self) -> SocketAddr {
        self.configuration.listeners[0].address
    }

    /// What it was started with.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Writes other files; they count after a restart or [`Gateway::signal`] with `HUP`.
    pub fn rewrite(&mut self, configuration: Configuration) {
        self.config_path = configuration.write(self.directory.path());
        self.configuration = configuration;
    }

    /// The folder of the files; the spool is in `spool`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The path of the node file.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// What runs it from the next start on, in place of the wrapper that it was started with.
    pub fn wrap(&mut self, wrapper: Vec<String>) {
        self.wrapper = wrapper;
    }

    /// Waits until it ends by itself, at most for `patience`; `None` when it does not, and then it runs on.
    pub fn wait_end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut status = None;
        eventually(patience, || {
            status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            status.is_some()
        });
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// Whether it was started and has neither been killed nor been seen to end.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the gateway runs").id()
    }

    /// SIGKILL: nothing is written any more, as in a crash of the process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the gateway runs");
        child.kill().expect("a child of ours can be killed");
        child.wait().expect("a child of ours can be awaited");
    }

    /// Sends a signal by its name without `SIG`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, name: &str) {
        // The shell's own kill is on every system; signals by system call would need unsafe code.
        let script = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &script]).status().expect("a shell is there");
        assert!(status.success(), "cannot send {name} to the gateway");
    }

    /// SIGTERM, then waits for the drain to end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let mut child = self.child.take().expect("signal found it running");
        let mut status = None;
        let has_ended = eventually(PATIENCE, || {
            status = child.try_wait().expect("a child of ours can be awaited");
            status.is_some()
        });
        if !has_ended {
            let _ = child.kill();
            let _ = child.wait();
        }
        status.unwrap_or_else(|| panic!("the gateway does not end after SIGTERM:\n{}", self.output()))
    }

    /// What it wrote to standard output and standard error, over all its runs.
    #[must_use]
    pub fn output(&self) -> String {
        ["stdout.log", "stderr.log"]
            .iter()
            .map(|name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default())
            .collect()
    }

    /// The sum over all label sets of the metric `name`; 0 when it is not there.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let body =
            http_get(self.configuration.metrics, "/metrics").map_or_else(String::new, |(_, body)| body);
        metric_sum(&body, name)
    }

    /// Waits until the sum of the metric `name` is `value`.
    ///
    /// # Panics
    /// When it is not in time.
    #[track_caller]
    pub fn wait_metric(&self, name: &str, value: f64) {
        let is_reached = eventually(PATIENCE, || (self.metric(name) - value).abs() < 0.5);
        assert!(is_reached, "{name} is {}, not {value}", self.metric(name));
    }

    /// Bytes of memory resident now.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Most bytes of memory that were ever resident.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the gateway runs");
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(name));
        kilobytes
            .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
            .map_or(0, |kb| kb * 1024)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn metric_sum(text: &str, name: &str) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn http_status(address: SocketAddr, path: &str) -> Option<u16> {
    http_get(address, path).map(|(status, _)| status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_over_its_namesakes() {
        let text = "# HELP a x\na{b=\"c d\"} 2\na{b=\"e\"} 3\na_total 9\na 1\n";
        assert!((metric_sum(text, "a") - 6.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_node_file_names_every_listener() {
        let mut configuration = Configuration::relay(free_address());
        configuration.listen("submission", "submission", "required");
        let directory = TempDir::new().expect("a temporary folder can be made");
        let path = configuration.write(directory.path());
        let file = fs::read_to_string(path).expect("it was written");
        assert_eq!(file.matches("[[listener]]").count(), 2);
        assert!(directory.path().join("tls.key").exists());
    }
}
