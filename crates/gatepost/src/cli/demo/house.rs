//! The demo's house: a folder with a configuration, a gateway that runs on it, and a destination.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use config::{Config, Loaded};
use policy::Origin;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use super::destination::{Arrival, Destination};
use crate::run::{self, Output, Running};

/// The client address that the sample tenant lists.
pub(super) const TRUSTED: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// One that no tenant lists: a stranger, or a hotel's network.
pub(super) const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// The sample tenant's login.
pub(super) const LOGIN: &str = "terri@proseware.example";
/// Its password, for everyone to see: the gateway is on loopback, and gone in a minute.
pub(super) const PASSWORD: &str = "correct-horse";
/// The name of the listener for trusted networks and relay domains.
pub(super) const RELAY: &str = "smtp";
/// The name of the listener for logins.
pub(super) const SUBMISSION: &str = "submission";

/// Everything that runs; [`House::close`] drains it.
pub(super) struct House {
    /// The configuration that the gateway runs on, to explain it by.
    pub(super) loaded: Loaded,
    /// Trusts the gateway's certificate.
    pub(super) tls: Arc<ClientConfig>,
    pub(super) arrivals: Receiver<Arrival>,
    pub(super) destination: Destination,
    running: Running,
    directory: TempDir,
}

impl House {
    /// Writes the configuration and starts everything.
    ///
    /// # Errors
    /// One sentence for a person.
    pub(super) fn open() -> Result<Self, String> {
        let (destination, arrivals) =
            Destination::start().map_err(|error| format!("cannot start the destination: {error}"))?;
        let directory = TempDir::with_prefix("gatepost-demo-")
            .map_err(|error| format!("cannot make a temporary folder: {error}; set TMPDIR to another"))?;
        let (node, tls) = write(directory.path(), destination.address)?;
        let load = || Config::load(&node).map_err(|errors| errors.to_string());
        let loaded = load()?;
        let running = run::start(load()?, Output::Quiet).map_err(|error| error.to_string())?;
        Ok(Self { loaded, tls, arrivals, destination, running, directory })
    }

    /// The address of a listener.
    pub(super) fn listener(&self, name: &str) -> SocketAddr {
        let listener = self.loaded.node.listeners.iter().find(|listener| &*listener.policy.name == name);
        listener.expect("the demo names only listeners that it has written").address
    }

    /// `text` with the files of the demo named relative to its folder.
    pub(super) fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }

    /// A configuration line, named shortly.
    pub(super) fn place(&self, origin: &Origin) -> String {
        self.short(&origin.to_string())
    }

    /// The folder of the configuration.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Drains the gateway, then closes the destination and removes the folder.
    pub(super) fn close(self) {
        self.running.stop();
    }
}

fn write(
    directory: &Path,
    destination: SocketAddr,
) -> Result<(std::path::PathBuf, Arc<ClientConfig>), String> {
    let credential = control::password::hash(PASSWORD);
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .map_err(|error| format!("cannot make a certificate: {error}"))?;
    let relay = free_address().and_then(|relay| Ok((relay, free_address()?)));
    let (relay, submission) = relay.map_err(|error| format!("no free port on loopback: {error}"))?;
    let node = node_file(relay, submission, destination);
    let tenant = tenant_file(destination, &credential);
    let node_path = directory.join("gatepost.toml");
    let write_all = || -> io::Result<()> {
        fs::create_dir(directory.join("tenants"))?;
        fs::write(&node_path, node)?;
        fs::write(directory.join("tenants/proseware.toml"), tenant)?;
        fs::write(directory.join("recipients.txt"), "terri\npostmaster\n")?;
        fs::write(directory.join("tls.crt"), certified.cert.pem())?;
        fs::write(directory.join("tls.key"), certified.signing_key.serialize_pem())
    };
    write_all().map_err(|error| format!("cannot write to {}: {error}", directory.display()))?;
    let config = client_config(certified.cert.der().clone())
        .map_err(|error| format!("cannot trust the gateway's own certificate: {error}"))?;
    Ok((node_path, Arc::new(config)))
}

fn client_config(
    certificate: rustls::pki_types::CertificateDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A port that is free now.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn node_file(relay: SocketAddr, submission: SocketAddr, destination: SocketAddr) -> String {
    format!(
        r#"[node]
hostname = "relay.proseware.example"
workers = 1

[spool]
path = "spool"
capacity = "1GiB"

[[listener]]
name = "{RELAY}"
address = "{relay}"
role = "relay"
tls = "starttls"

[[listener]]
name = "{SUBMISSION}"
address = "{submission}"
role = "submission"
tls = "required"

[tls]
certificate = "tls.crt"
key = "tls.key"

[policy]
tenants = "tenants"

[[route]]
recipient_domains = ["*"]
next_hops = ["{destination}"]
tls = "off"

[tickets]
contact = "postmaster@relay.proseware.example"
"#
    )
}

fn tenant_file(destination: SocketAddr, credential: &str) -> String {
    format!(
        r#"name = "proseware"
networks = ["{TRUSTED}/32"]
senders = ["@proseware.example"]
null_sender = true

[[relay_domain]]
domains = ["proseware.example"]
next_hops = ["{destination}"]
tls = "off"
recipients = "../recipients.txt"

[[identity]]
login = "{LOGIN}"
password = "{credential}"
senders = ["{LOGIN}"]
"#
    )
}
