//! A gateway that is short of something: descriptors, memory, processor time, a fast disk.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use testbed::random::Random;

use crate::Plan;
use crate::device::Ext4;
use crate::stand::{PATIENCE, Setup, Stand};

const IMAGE_BYTES: u64 = 256 << 20;
/// Fewer than connections that will be opened.
const DESCRIPTORS: &str = "--nofile=400:400";
const CONNECTIONS: usize = 600;
/// Less than the gateway's pools take when its queue is long.
const MEMORY_BYTES: &str = "100663296";
/// Acknowledgements in each kind of want.
const ACKNOWLEDGED: u64 = 200;

/// One kind of want a cycle, in turn, under load.
pub(crate) fn run(plan: &Plan) -> String {
    let mut random = Random::new(plan.seed);
    let disk = Ext4::create(&plan.work.join("disk"), IMAGE_BYTES);
    let mut stand = Stand::start(plan, Setup::at(disk.path().join("spool")));
    let client = stand.client(plan.seed, |_| {});
    let mut sent = Vec::new();
    let mut killed = 0;
    for cycle in 0..plan.cycles {
        match cycle % 3 {
            0 => frozen(&stand, &mut random),
            1 => few_descriptors(&mut stand),
            _ => {
                let large = stand.large_client(random.bits(), 20, None);
                killed += u64::from(little_memory(&mut stand));
                sent.extend(large.stop());
            }
        }
        let wanted = client.acknowledged() + ACKNOWLEDGED;
        assert!(client.wait_acknowledged(wanted, PATIENCE), "no mail is taken:\n{}", stand.output());
    }
    sent.extend(client.stop());
    let verdict = stand.verdict(sent);
    verdict.assert_kept();
    format!(
        "frozen, without descriptors and in little memory in turn ({killed} times killed for memory); {verdict}"
    )
}

/// SIGSTOP for a while, then SIGCONT.
fn frozen(stand: &Stand, random: &mut Random) {
    stand.gateway.signal("STOP");
    thread::sleep(Duration::from_millis(random.below(2000)));
    stand.gateway.signal("CONT");
}

/// More connections than there are descriptors; when they are gone, all is well by itself.
fn few_descriptors(stand: &mut Stand) {
    stand.wrap(&["prlimit", DESCRIPTORS]);
    stand.kill();
    stand.gateway.restart();
    let open: Vec<_> =
        (0..CONNECTIONS).filter_map(|_| TcpStream::connect(stand.gateway.smtp()).ok()).collect();
    assert!(open.len() > CONNECTIONS / 2, "only {} connections could be made", open.len());
    thread::sleep(Duration::from_millis(200));
    drop(open);
    stand.disarm();
}

/// A memory cgroup that is too small; says whether the kernel killed the gateway for it. It runs without
/// limit afterwards.
fn little_memory(stand: &mut Stand) -> bool {
    let group = MemoryGroup::create();
    let script = format!("echo $$ > {}; exec \"$@\"", group.0.join("cgroup.procs").display());
    stand.wrap(&["sh", "-c", &script, "sh"]);
    stand.kill();
    stand.gate.shut();
    stand.gateway.spawn();
    let killed = stand.gateway.wait_end(Duration::from_secs(5)).is_some();
    stand.gate.open();
    stand.disarm();
    if killed {
        stand.note_end();
    } else {
        stand.kill();
    }
    stand.gateway.restart();
    killed
}

/// A cgroup (version 1) with a limit, removed when dropped: no process may be in it then.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn create() -> Self {
        let path = PathBuf::from("/sys/fs/cgroup/memory").join(format!("gatepost-faults-{}", own_name()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let group = Self(path);
        fs::write(group.0.join("memory.limit_in_bytes"), MEMORY_BYTES).expect("the cgroup is ours");
        group
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The kernel lets go of a process's memory a moment after it is gone.
        let is_removed = testbed::net::eventually(Duration::from_secs(5), || fs::remove_dir(&self.0).is_ok());
        if !is_removed {
            eprintln!("faults: remove {} by hand", self.0.display());
        }
    }
}

/// The process id is 1 in every run's namespace: the namespace itself has a number.
fn own_name() -> String {
    let name = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    name.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}
