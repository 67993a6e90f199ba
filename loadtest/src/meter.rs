//! CPU and memory of a server with all its processes.
//!
//! CPU comes from a cgroup of the server's own (version 1's cpuacct, or version 2), exact to the
//! nanosecond and including processes that have ended. Where no cgroup may be made it is the sum of
//! the process tree's times, exact to a clock tick. Memory is the largest sum of proportional set
//! sizes that a sampler saw, so that pages shared by many processes count once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::servers::ON_CORE_0;

/// How often memory is looked at: reading it costs the generator's core.
const SAMPLE_PERIOD: Duration = Duration::from_millis(500);
/// Kernel clock ticks a second, which every Linux on our targets reports to user space.
const TICKS_PER_SECOND: u64 = 100;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Meters one server from before it starts until the meter is dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    group: Option<Group>,
}

#[derive(Debug)]
struct Group {
    folder: PathBuf,
    is_unified: bool,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let name =
            format!("gatepost-loadtest-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let first = Path::new("/sys/fs/cgroup/cpuacct").join(&name);
        let unified = Path::new("/sys/fs/cgroup").join(&name);
        let group = if fs::create_dir(&first).is_ok() {
            Some(Group { folder: first, is_unified: false })
        } else if Path::new("/sys/fs/cgroup/cgroup.procs").exists() && fs::create_dir(&unified).is_ok() {
            Some(Group { folder: unified, is_unified: true })
        } else {
            None
        };
        Self { group }
    }

    /// How CPU is measured, for the reader of the result.
    pub(crate) fn method(&self) -> &'static str {
        match &self.group {
            Some(group) if group.is_unified => "cgroup v2 cpu.stat",
            Some(_) => "cgroup v1 cpuacct.usage",
            None => "sum of /proc/PID/stat over the process tree",
        }
    }

    /// The words that put before a command start it on core 0 and inside this meter.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let enter = self.group.as_ref().map_or_else(String::new, |group| {
            format!("echo $$ > {}/cgroup.procs && ", group.folder.display())
        });
        let core = ON_CORE_0.join(" ");
        ["sh", "-c", &format!("{enter}exec {core} \"$@\""), "sh"].map(str::to_owned).to_vec()
    }

    /// CPU microseconds used so far by the server whose first process is `root`.
    pub(crate) fn cpu_micros(&self, root: u32) -> Result<u64, String> {
        let Some(group) = &self.group else { return Ok(tree_micros(root)) };
        let name = if group.is_unified { "cpu.stat" } else { "cpuacct.usage" };
        let text = fs::read_to_string(group.folder.join(name))
            .map_err(|error| format!("cannot read {name}: {error}"))?;
        let number = |text: &str| text.trim().parse::<u64>().map_err(|error| format!("{name}: {error}"));
        if group.is_unified {
            number(text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap_or_default())
        } else {
            Ok(number(&text)? / 1000)
        }
    }

    /// Watches the memory of the server whose first process is `root` until the sampler ends.
    pub(crate) fn watch_memory(&self, root: u32) -> Sampler {
        Sampler::start(root)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            // Ended processes leave the group a moment after they are awaited.
            let is_gone =
                testbed::net::eventually(Duration::from_secs(5), || fs::remove_dir(&group.folder).is_ok());
            if !is_gone {
                eprintln!("loadtest: {} is left behind", group.folder.display());
            }
        }
    }
}

/// Takes the peak of memory on a separate thread.
#[derive(Debug)]
pub(crate) struct Sampler {
    peak: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
    wake: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Sampler {
    fn start(root: u32) -> Self {
        let (peak, ending) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (wake, sleep) = mpsc::channel();
        let thread = {
            let (peak, ending) = (Arc::clone(&peak), Arc::clone(&ending));
            thread::spawn(move || {
                loop {
                    peak.fetch_max(tree_bytes(root), Ordering::Relaxed);
                    if ending.load(Ordering::Acquire) {
                        return;
                    }
                    // Woken early by the end, which takes one last sample.
                    let _ = sleep.recv_timeout(SAMPLE_PERIOD);
                }
            })
        };
        Self { peak, ending, wake, thread }
    }

    /// The peak in bytes.
    pub(crate) fn end(self) -> u64 {
        self.ending.store(true, Ordering::Release);
        let _ = self.wake.send(());
        let _ = self.thread.join();
        self.peak.load(Ordering::Relaxed)
    }
}

/// The fields of `/proc/PID/stat` after the command's name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

/// `root` and its living descendants.
fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1).copied()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&pid) = tree.get(next) {
        tree.extend(children.get(&u64::from(pid)).into_iter().flatten());
        next += 1;
    }
    tree
}

/// User and system time of the tree, with that of children already awaited (proc(5), fields 14 to 17).
fn tree_micros(root: u32) -> u64 {
    let ticks: u64 = tree(root)
        .into_iter()
        .filter_map(stat)
        .filter_map(|fields| Some(fields.get(11..15)?.iter().sum::<u64>()))
        .sum();
    ticks * 1_000_000 / TICKS_PER_SECOND
}

/// Memory of `root` and its descendants: the sum of proportional set sizes.
pub(crate) fn tree_bytes(root: u32) -> u64 {
    let pss = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    tree(root).into_iter().filter_map(pss).sum::<u64>() * 1024
}

/// The time that `part` of `sorted` did not pass, in milliseconds; 0 where there is none.
pub(crate) fn millis_at(sorted: &[Duration], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * part) as usize).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tree_has_its_own_time_and_memory() {
        let pid = std::process::id();
        assert!(tree(pid).contains(&pid));
        assert!(tree_bytes(pid) > 0);
    }
}
