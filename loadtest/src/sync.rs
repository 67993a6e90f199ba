//! Evidence that both servers sync before their 250: without it the comparison means nothing.
//!
//! Both get a few messages one after the other on one session, so that no two can share a sync. What
//! they did is taken from outside where that can be seen: Postfix's calls by strace, Gatepost's writes
//! through io_uring, which no tracer of calls shows, by its commits, by how its segments are opened and
//! by what reached the disk. For both the writes and flushes that the disk completed are counted.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use testbed::{Configuration, Dialog, Gateway};

use crate::servers::start_postfix;

/// Messages sent one by one.
const MESSAGES: u64 = 20;
/// `O_DIRECT` in `/proc/PID/fdinfo` (octal 040000 on x86-64, 0200000 on arm64).
const O_DIRECT: u32 = if cfg!(target_arch = "aarch64") { 0o20_0000 } else { 0o4_0000 };

/// Describes the disk under `folder`; a folder in memory is refused, since a sync there is nothing.
pub(crate) fn disk(folder: &Path) -> Result<String, String> {
    let output = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(folder)
        .output()
        .map_err(|error| format!("cannot run stat: {error}"))?;
    let kind = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if kind == "tmpfs" || kind == "ramfs" {
        return Err(format!("{} is in memory; name a folder on a disk by TMPDIR", folder.display()));
    }
    Ok(format!("{} ({kind})", folder.display()))
}

/// Commits and disk writes of Gatepost for single messages.
pub(crate) fn gatepost(binary: &Path) -> Result<String, String> {
    let gateway = Gateway::start(binary, Configuration::relay(testbed::net::free_address()));
    let commits_before = gateway.metric("gatepost_commit_seconds_count");
    let before = DiskCounters::read();
    send(gateway.smtp());
    let disk = DiskCounters::read().since(before);
    let commits = gateway.metric("gatepost_commit_seconds_count") - commits_before;
    if commits < MESSAGES as f64 {
        return Err(format!(
            "gatepost made {commits} commits for {MESSAGES} single messages: it does not sync each"
        ));
    }
    let direct = direct_files(gateway.pid(), &gateway.directory().join("spool"));
    Ok(format!(
        "gatepost: {MESSAGES} messages one by one, {commits} commits awaited before their 250, \
         {direct} spool files open with O_DIRECT; {disk}"
    ))
}

/// Sync calls of Postfix for single messages.
pub(crate) fn postfix() -> Result<String, String> {
    let postfix = start_postfix(None, &["env".to_owned()])?;
    let trace = tempfile::NamedTempFile::new().map_err(|error| format!("no temporary file: {error}"))?;
    let mut strace = Command::new("strace")
        .args(["-f", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(trace.path())
        .args(["-p", &postfix.master().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot run strace: {error}"))?;
    let status = format!("/proc/{}/status", postfix.master());
    let is_traced = testbed::net::eventually(testbed::net::PATIENCE, || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    });
    let before = DiskCounters::read();
    send(postfix.address());
    let disk = DiskCounters::read().since(before);
    let syncs = fs::read_to_string(trace.path()).unwrap_or_default();
    let syncs =
        syncs.lines().filter(|line| line.contains("sync(") && !line.contains("resumed")).count() as u64;
    // It detaches when it is asked to end; Postfix is stopped only afterwards.
    let _ = Command::new("sh").args(["-c", &format!("kill -INT {}", strace.id())]).status();
    let _ = strace.wait();
    if !is_traced || syncs < MESSAGES {
        return Err(format!("strace saw {syncs} sync calls of Postfix for {MESSAGES} single messages"));
    }
    Ok(format!(
        "postfix: {MESSAGES} messages one by one, {syncs} fsync/fdatasync calls seen by strace; {disk}"
    ))
}

fn send(address: std::net::SocketAddr) {
    let mut dialog = Dialog::hello(address);
    for serial in 0..MESSAGES {
        let content = testbed::message::content(serial, 1, 4096);
        dialog.deliver("app@proseware.example", &["someone@far.example"], &content);
    }
    dialog.command("QUIT", 221);
}

fn direct_files(pid: u32, spool: &Path) -> usize {
    let is_direct = |descriptor: &Path| {
        let name = descriptor.file_name()?.to_str()?;
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{name}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        Some(u32::from_str_radix(flags.trim(), 8).ok()? & O_DIRECT != 0)
    };
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(spool)))
        .filter(|entry| is_direct(&entry.path()) == Some(true))
        .count()
}

/// Writes and flushes completed by all disks together.
#[derive(Clone, Copy, Debug, Default)]
struct DiskCounters {
    writes: u64,
    flushes: u64,
}

impl DiskCounters {
    fn read() -> Self {
        let text = fs::read_to_string("/proc/diskstats").unwrap_or_default();
        text.lines().fold(Self::default(), |sum, line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Partitions would count their disk's writes twice; they have no flushes.
            let is_disk = fields.get(2).is_some_and(|name| Path::new("/sys/block").join(name).exists());
            let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok()).unwrap_or(0);
            if is_disk {
                Self { writes: sum.writes + number(7), flushes: sum.flushes + number(18) }
            } else {
                sum
            }
        })
    }

    fn since(self, before: Self) -> String {
        format!(
            "the disks completed {} writes and {} flushes",
            self.writes - before.writes,
            self.flushes - before.flushes
        )
    }
}
