//! A small configuration in a separate folder, for tests that read it and start nothing.

use std::path::{Path, PathBuf};
use std::{fs, io};

use tempfile::TempDir;

/// A node file with nothing in it that a test is about: one listener, one route, tenants in `tenants`.
pub const NODE: &str = r#"[node]
hostname = "relay.example"

[spool]
path = "spool"

[[listener]]
name = "smtp"
address = "127.0.0.1:0"
role = "relay"
tls = "off"

[policy]
tenants = "tenants"

[[route]]
recipient_domains = ["*"]
next_hops = ["smarthost.example"]
"#;

/// A tenant with a network and its senders.
pub const TENANT: &str = r#"name = "proseware"
networks = ["198.51.100.0/24"]
senders = ["@proseware.example"]
"#;

/// Removes a folder into which a running program still writes.
///
/// # Errors
/// When it cannot be removed, or new files come faster than they go.
pub fn remove_in_use(folder: &Path) -> io::Result<()> {
    for _ in 0..100 {
        match fs::remove_dir_all(folder) {
            // A file was made after the names were read.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            ended => return ended,
        }
    }
    fs::remove_dir_all(folder)
}

/// A folder with a node file and tenant files; it goes when this is dropped.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// Writes `node` to `gatepost.toml`, and each tenant, by its name, to `tenants`.
    ///
    /// # Panics
    /// When there is no room for temporary files.
    #[must_use]
    pub fn new(node: &str, tenants: &[(&str, &str)]) -> Self {
        let folder = Self(TempDir::with_prefix("gatepost-test-").expect("a temporary folder can be made"));
        folder.write("gatepost.toml", node);
        fs::create_dir(folder.join("tenants")).expect("the test folder can be written");
        for (name, text) in tenants {
            folder.write(&format!("tenants/{name}.toml"), text);
        }
        folder
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of one of its files.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of the node file.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        self.join("gatepost.toml")
    }

    /// Writes a file anew.
    ///
    /// # Panics
    /// When its folder cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.join(name), text).expect("the test folder can be written");
    }

    /// Replaces one piece of a file.
    ///
    /// # Panics
    /// When the file does not hold `old`.
    #[track_caller]
    pub fn change(&self, name: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.join(name)).expect("the file was written");
        assert!(text.contains(old), "{name} holds no {old:?}");
        self.write(name, &text.replacen(old, new, 1));
    }
}
