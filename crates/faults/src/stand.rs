//! A gateway under test between the two ledgers: started, loaded, broken, started again, and judged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testbed::ledger::Delivery;
use testbed::net::eventually;
use testbed::{Configuration, Destination, Gateway, LedgerClient, LoadOptions, Observer, Rules, Sent};

use crate::Plan;
use crate::device::text;
use crate::spool_dump;
use crate::verdict::{End, Verdict};

/// How long anything may take before the run gives up on it: recoveries and queues included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Segments that turn over every few hundred messages, so that every stage of their life is met.
pub(crate) const SEGMENT_BYTES: u64 = 2 << 20;

/// Serial numbers that a client may use, so that several share a ledger.
const SERIALS_A_CLIENT: u64 = 10_000_000;

/// Every so many recipients the destination refuses for good: their senders get bounces.
const REFUSED_ONE_IN: u64 = 16;

/// Every so many recipients wait while the gate for them is shut, a few in each segment.
const LATE_ONE_IN: u64 = 40;

/// What a [`Stand`] is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The folder that is made for the spool, on the device under test.
    pub(crate) spool: PathBuf,
    /// What the spool may hold, as the node file writes it.
    pub(crate) capacity: &'static str,
    /// Of each segment.
    pub(crate) segment_bytes: u64,
    /// What the destination does besides refusing some recipients.
    pub(crate) rules: Rules,
}

impl Setup {
    /// A spool of 64 MiB in small segments at `spool`.
    pub(crate) fn at(spool: PathBuf) -> Self {
        Self { spool, capacity: "64MiB", segment_bytes: SEGMENT_BYTES, rules: Rules::default() }
    }
}

/// Whether the destination takes mail, or that of some recipients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Shuts it.
    pub(crate) fn shut(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Opens it.
    pub(crate) fn open(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn is_shut(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The gateway, its destination, and what happened to them.
#[derive(Debug)]
pub(crate) struct Stand {
    /// The gateway.
    pub(crate) gateway: Gateway,
    /// Where its mail goes.
    pub(crate) destination: Destination,
    /// The way there; the destination answers 421 at connect while it is shut.
    pub(crate) gate: Gate,
    /// The way of one recipient in 40, who is answered 451 while it is shut.
    pub(crate) late_gate: Gate,
    binary: PathBuf,
    ends: Vec<End>,
    clients: u64,
    /// The pieces of environment of the gateway's lives.
    environment: Vec<String>,
}

impl Stand {
    /// Starts destination and gateway.
    pub(crate) fn start(plan: &Plan, setup: Setup) -> Self {
        let (gate, late_gate) = (Gate::default(), Gate::default());
        let mut rules = setup.rules;
        let (all, late) = (gate.clone(), late_gate.clone());
        rules
            .greeting
            .get_or_insert_with(|| Box::new(move |_| all.is_shut().then(|| "421 4.3.2 not now".to_owned())));
        rules.recipient.get_or_insert_with(|| {
            Box::new(move |recipient| {
                let waits = late.is_shut() && is_late(recipient);
                refuse_some(recipient).or_else(|| waits.then(|| "451 4.2.0 not yet".to_owned()))
            })
        });
        let destination = Destination::with_rules(rules);
        let mut configuration = Configuration::relay(destination.address());
        configuration.spool = Some(setup.spool);
        configuration.capacity = setup.capacity.into();
        let wrapper = vec!["env".to_owned(), format!("GATEPOST_SEGMENT_BYTES={}", setup.segment_bytes)];
        let gateway = Gateway::start_under(&plan.gatepost, configuration, wrapper.clone());
        Self {
            gateway,
            destination,
            gate,
            late_gate,
            binary: plan.gatepost.clone(),
            ends: Vec::new(),
            clients: 0,
            environment: wrapper,
        }
    }

    /// A client whose serial numbers are its own, with the usual load; `change` makes it unusual.
    pub(crate) fn client(&mut self, seed: u64, change: impl FnOnce(&mut LoadOptions)) -> LedgerClient {
        let mut options = LoadOptions::new(self.gateway.smtp());
        options.seed = seed;
        options.first_serial = 1 + self.clients * SERIALS_A_CLIENT;
        self.clients += 1;
        change(&mut options);
        LedgerClient::start(options)
    }

    /// A client on one connection with `messages` messages, most of them too large for a segment.
    pub(crate) fn large_client(
        &mut self,
        seed: u64,
        messages: u64,
        observer: Option<Observer<Sent>>,
    ) -> LedgerClient {
        self.client(seed, |options| {
            options.observer = observer;
            options.sessions = 1;
            options.body_bytes_max = 3 << 20;
            options.messages_max = Some(messages);
        })
    }

    /// From the next start on it has so many workers.
    pub(crate) fn set_workers(&mut self, workers: u32) {
        let configuration = Configuration { workers, ..self.gateway.configuration().clone() };
        self.gateway.rewrite(configuration);
    }

    /// From the next start on the gateway crashes when it comes to `point` for the `visit`th time.
    pub(crate) fn arm(&mut self, point: &str, visit: u64) {
        let mut wrapper = self.environment.clone();
        wrapper.push(format!("GATEPOST_FAIL_POINT={point}:{visit}"));
        self.gateway.wrap(wrapper);
    }

    /// From the next start on it does not.
    pub(crate) fn disarm(&mut self) {
        self.gateway.wrap(self.environment.clone());
    }

    /// From the next start on `wrapper`, which must exec its arguments, runs the gateway.
    pub(crate) fn wrap(&mut self, wrapper: &[&str]) {
        let wrapper = wrapper.iter().map(|&word| word.to_owned());
        self.gateway.wrap(self.environment.iter().cloned().chain(wrapper).collect());
    }

    /// From now on the spool is read by this build, and the gateway is it from the next start on.
    pub(crate) fn take(&mut self, build: &Path) {
        self.binary = build.to_owned();
        // The words that follow begin with the gateway that would be run otherwise.
        let script = format!("shift; exec {} \"$@\"", text(build));
        self.wrap(&["sh", "-c", &script, "sh"]);
    }

    /// SIGKILL; notes what had arrived and what the spool then holds.
    pub(crate) fn kill(&mut self) {
        self.gateway.kill();
        self.note_end();
    }

    /// The gateway has ended: notes what had arrived and what the spool then holds.
    pub(crate) fn note_end(&mut self) {
        self.settle_destination();
        self.ends.push(End { arrivals: self.destination.count(), queued: self.queued() });
    }

    /// What the spool holds without an outcome.
    pub(crate) fn queued(&self) -> BTreeSet<Delivery> {
        spool_dump::queued(&self.binary, self.gateway.config_path())
    }

    /// The gateway has ended and its disk cannot be read: notes what had arrived; what the spool then
    /// holds is to be noted by [`Stand::note_queued`].
    pub(crate) fn note_blind_end(&mut self) {
        self.settle_destination();
        let arrivals = self.destination.count();
        self.ends.push(End { arrivals, queued: Default::default() });
    }

    /// Notes what the spool held at the last end, now that it can be read.
    pub(crate) fn note_queued(&mut self) {
        let queued = self.queued();
        self.ends.last_mut().expect("an end was noted before").queued = queued;
    }

    /// Nothing in the spool is damaged.
    pub(crate) fn assert_sound(&self) {
        let (is_sound, said) = self.verify();
        assert!(is_sound, "the spool is not sound after a crash: {said}");
    }

    /// Whether nothing in the spool is damaged, and what `gatepost spool verify` says of it.
    pub(crate) fn verify(&self) -> (bool, String) {
        spool_dump::is_sound(&self.binary, self.gateway.config_path())
    }

    /// Waits until nothing is queued any more.
    pub(crate) fn drain(&self) {
        self.gate.open();
        self.late_gate.open();
        // The metric is 0 also where nothing is served, and until the first turn after a recovery: the
        // spool itself has the last word.
        let is_empty = || {
            self.gateway.metric("gatepost_spool_messages") == 0.0
                && spool_dump::is_empty(&self.binary, self.gateway.config_path())
        };
        let drained = eventually(PATIENCE, is_empty);
        assert!(
            drained,
            "{} messages are still queued:\n{}",
            self.gateway.metric("gatepost_spool_messages"),
            self.output()
        );
        self.settle_destination();
    }

    /// Drains and compares the ledgers.
    pub(crate) fn verdict(&self, sent: Vec<Sent>) -> Verdict {
        self.drain();
        Verdict::of(sent, self.destination.arrivals(), &self.ends)
    }

    /// How often, in all its lives, the gateway said that a write had failed for good.
    pub(crate) fn latches(&self) -> usize {
        self.gateway.output().matches("\"spool_latched\"").count()
    }

    /// The end of what the gateway wrote.
    pub(crate) fn output(&self) -> String {
        tail(&self.gateway.output()).to_owned()
    }

    /// What there is to see of a gateway that does not get on: its oldest messages and its files.
    pub(crate) fn state(&self) -> String {
        let config = self.gateway.config_path().display().to_string();
        let spool = self.gateway.configuration().spool.clone().unwrap_or_default();
        let of = |program: &Path, arguments: &[&str]| match Command::new(program).args(arguments).output() {
            Ok(output) => [output.stdout, output.stderr]
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .concat(),
            Err(error) => format!("{}: {error}\n", program.display()),
        };
        [
            of(&self.binary, &["spool", "list", "--json", "--limit", "20", "--config", &config]),
            of(Path::new("ls"), &["-lR", &spool.display().to_string()]),
        ]
        .join("\n")
    }

    /// Bytes that a gateway had on its way when it ended may still be on theirs.
    pub(crate) fn settle_destination(&self) {
        if self.gateway.is_running() {
            return;
        }
        let is_quiet = eventually(PATIENCE, || self.destination.is_quiet());
        assert!(is_quiet, "connections of a gateway that has ended are still open");
    }
}

/// Refuses some recipients for good, always the same.
pub(crate) fn refuse_some(recipient: &str) -> Option<String> {
    let serial = spool_dump::serial_of(recipient)?;
    (serial % REFUSED_ONE_IN == 3).then(|| "550 5.1.1 nobody of that name".to_owned())
}

fn is_late(recipient: &str) -> bool {
    spool_dump::serial_of(recipient).is_some_and(|serial| serial % LATE_ONE_IN == 1)
}

/// The end of what a gateway wrote.
fn tail(output: &str) -> &str {
    let lines = output.rmatch_indices('\n').nth(30).map_or(0, |(at, _)| at + 1);
    &output[lines..]
}
