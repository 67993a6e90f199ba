//! Builds with a planted mistake, each of which the simulation must catch, in which scenario and by what.

use std::panic::AssertUnwindSafe;

use spool::mutant::{Mutant, choose};

#[path = "simulation/mod.rs"]
mod simulation;

use simulation::Run;
use simulation::scenario::Name;
use simulation::shrink::Trim;

/// So many worlds are enough.
const SEEDS: std::ops::Range<u64> = 0..400;

/// The first seed in which the mistake shows as it should.
fn catch(mutant: Mutant, name: Name, shows: impl Fn(&Run) -> bool) -> u64 {
    // In some worlds a mutant trips over itself, as it reads what it has not written: that is no verdict.
    std::panic::set_hook(Box::new(|_| {}));
    choose(Some(mutant));
    let caught = SEEDS.into_iter().find(|&seed| {
        let run = AssertUnwindSafe(|| simulation::run(name, seed, &Trim::default(), false));
        std::panic::catch_unwind(run).is_ok_and(|run| shows(&run))
    });
    choose(None);
    let _ = std::panic::take_hook();
    let seed = caught.unwrap_or_else(|| panic!("{} is not caught by {name} in {SEEDS:?}", mutant.name()));
    let sound = simulation::run(name, seed, &Trim::default(), false);
    assert!(!shows(&sound), "{name}, seed {seed}, is not kept without {} either", mutant.name());
    println!("{} is caught by {name}, seed {seed}", mutant.name());
    seed
}

fn loses_mail(run: &Run) -> bool {
    !run.report.lost.is_empty()
}

fn delivers_twice(run: &Run) -> bool {
    run.faults.iter().any(|fault| fault.contains("without an excuse"))
}

fn reports_damage(run: &Run) -> bool {
    run.faults.iter().any(|fault| fault.contains("are damaged"))
}

/// One test, since the hook on panics is the process's.
#[test]
fn every_planted_mistake_is_caught() {
    catch(Mutant::EarlyAck, Name::PowerCut, loses_mail);
    catch(Mutant::EarlyAck, Name::Kill, loses_mail);
    catch(Mutant::SkipFlush, Name::PowerCut, loses_mail);
    catch(Mutant::SkipFlush, Name::TornWrite, loses_mail);
    catch(Mutant::RetryFlush, Name::DiskError, loses_mail);
    // Where the first group of a segment's new life is torn, the old one shows behind it.
    catch(Mutant::IgnoreEpoch, Name::Recovery, reports_damage);
    catch(Mutant::ForgetOutcome, Name::Kill, delivers_twice);
    // A killed process's write lands on that of the next one.
    catch(Mutant::SkipFence, Name::SlowHost, loses_mail);
}
