//! Programs beyond Rust that tests and load test use, and how they come onto the machine.
//!
//! On Debian and its relatives, as root, they are installed without starting a service. Anywhere else
//! nothing is touched: the command to type is named.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What is needed, and the Debian package that brings it.
pub(crate) struct Tool {
    need: Need,
    package: &'static str,
}

enum Need {
    Program(&'static str),
    /// Without it a Perl program runs and does less.
    PerlModule(&'static str),
    /// A library of another language, where Debian puts it.
    Folder(&'static str),
}

impl Need {
    fn is_met(&self) -> bool {
        match self {
            Self::Program(name) => is_there(name),
            Self::PerlModule(name) => {
                let outcome = Command::new("perl")
                    .arg(format!("-M{name}"))
                    .args(["-e", "1"])
                    .stderr(Stdio::null())
                    .status();
                outcome.is_ok_and(|status| status.success())
            }
            Self::Folder(path) => Path::new(path).is_dir(),
        }
    }
}

/// What the tests use.
pub(crate) const TESTS: &[Tool] = &[
    Tool { need: Need::Program("smtp-source"), package: "postfix" },
    Tool { need: Need::Program("smtp-sink"), package: "postfix" },
    Tool { need: Need::Program("swaks"), package: "swaks" },
    // For STARTTLS.
    Tool { need: Need::PerlModule("Net::SSLeay"), package: "libnet-ssleay-perl" },
    Tool { need: Need::Program("postfix"), package: "postfix" },
    Tool { need: Need::Program("haproxy"), package: "haproxy" },
    Tool { need: Need::Program("curl"), package: "curl" },
    Tool { need: Need::Program("msmtp"), package: "msmtp" },
    Tool { need: Need::Program("gsasl"), package: "gsasl" },
    Tool { need: Need::Program("python3"), package: "python3" },
    Tool { need: Need::Folder("/usr/lib/python3/dist-packages/aiosmtplib"), package: "python3-aiosmtplib" },
    Tool { need: Need::Program("node"), package: "nodejs" },
    Tool { need: Need::Folder("/usr/share/nodejs/nodemailer"), package: "node-nodemailer" },
    // A name server.
    Tool { need: Need::Program("nsd"), package: "nsd" },
    // For network namespaces.
    Tool { need: Need::Program("ip"), package: "iproute2" },
    Tool { need: Need::Program("/usr/lib/dovecot/imap-login"), package: "dovecot-imapd" },
    Tool { need: Need::Program("/usr/lib/dovecot/pop3-login"), package: "dovecot-pop3d" },
];

/// What the load test uses; strace shows whether a server syncs before its 250.
pub(crate) const LOADTEST: [Tool; 8] = [
    Tool { need: Need::Program("postfix"), package: "postfix" },
    Tool { need: Need::Program("smtp-source"), package: "postfix" },
    Tool { need: Need::Program("smtp-sink"), package: "postfix" },
    Tool { need: Need::Program("strace"), package: "strace" },
    Tool { need: Need::Program("taskset"), package: "util-linux" },
    // A gateway ends with the load test, and may have few descriptors.
    Tool { need: Need::Program("setpriv"), package: "util-linux" },
    Tool { need: Need::Program("prlimit"), package: "util-linux" },
    Tool { need: Need::Program("ip"), package: "iproute2" },
];

/// What counts instructions.
pub(crate) const INSTRUCTIONS: [Tool; 1] = [Tool { need: Need::Program("valgrind"), package: "valgrind" }];

/// What faults are made with, besides what every Debian has.
pub(crate) const FAULTS: &[Tool] = &[
    Tool { need: Need::Program("qemu-storage-daemon"), package: QEMU_STORAGE_DAEMON },
    Tool { need: Need::Program("mkfs.ext4"), package: "e2fsprogs" },
    Tool { need: Need::Program("ip"), package: "iproute2" },
    Tool { need: Need::Program("losetup"), package: "mount" },
];

/// Debian 12 has it in this package; later ones have it in `qemu-utils`.
const QEMU_STORAGE_DAEMON: &str = "qemu-system-common";

/// Packages that are not there and were not installed.
#[derive(Debug)]
pub(crate) struct Missing {
    packages: Vec<&'static str>,
    reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packages = self.packages.join(" ");
        write!(
            f,
            "{packages} missing: {}; type\n    sudo apt-get update && sudo apt-get install --no-install-recommends {packages}",
            self.reason
        )
    }
}

/// Installs what is missing of `tools` where that is allowed.
pub(crate) fn provide(tools: &[Tool]) -> Result<(), Missing> {
    let packages = missing(tools);
    if packages.is_empty() {
        return Ok(());
    }
    if let Err(reason) = install(&packages) {
        return Err(Missing { packages, reason });
    }
    let packages = missing(tools);
    if packages.is_empty() {
        return Ok(());
    }
    Err(Missing { packages, reason: "still missing after the installation".into() })
}

fn missing(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        tools.iter().filter(|tool| !tool.need.is_met()).map(|tool| tool.package).collect();
    packages.dedup();
    packages
}

/// Debian keeps Postfix's programs in a folder that is not on every user's path.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_path_buf()]).any(|folder| {
        fs::metadata(folder.join(program))
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

fn install(packages: &[&str]) -> Result<(), String> {
    if !is_there("apt-get") {
        return Err("this is not a Debian system".into());
    }
    if !is_root() {
        return Err("only root may install it".into());
    }
    println!("xtask: installing {} (no service is started)", packages.join(" "));
    let quiet = NoServices::begin()?;
    let update = apt(&["update", "-qq"]);
    let mut words = vec!["install", "-y", "-qq", "--no-install-recommends"];
    words.extend(packages);
    // An update that fails may still leave lists that know the packages.
    let outcome = apt(&words).map_err(|error| update.err().unwrap_or(error));
    drop(quiet);
    outcome
}

fn apt(words: &[&str]) -> Result<(), String> {
    let status = Command::new("apt-get")
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("apt-get cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("apt-get {} failed ({status})", words[0])) }
}

pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// Debian's own switch against starting services while packages are installed (policy-rc.d).
struct NoServices {
    is_ours: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn begin() -> Result<Self, String> {
        if Path::new(Self::POLICY).exists() {
            // The machine has its own policy, as containers do; ours must not replace it.
            return Ok(Self { is_ours: false });
        }
        let written = fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755)));
        written.map_err(|error| format!("{} cannot be written: {error}", Self::POLICY))?;
        Ok(Self { is_ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours {
            // Left behind it would keep the machine's services from starting: say so if it stays.
            if let Err(error) = fs::remove_file(Self::POLICY) {
                eprintln!("xtask: remove {} by hand: {error}", Self::POLICY);
            }
        }
    }
}
