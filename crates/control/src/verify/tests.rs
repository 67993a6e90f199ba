use std::collections::HashMap;

use commons::{Commons, Question, WorkerLink};
use policy::{Origin, Snapshot, Source};

use super::*;

fn ask(link: &WorkerLink, control: &ControlLink, pool: &Verifiers, key: u32, password: &str) {
    let question = Question::Verify {
        worker: 0,
        key,
        generation: 1,
        credential: "hash".into(),
        login: "terri".into(),
        password: password.to_owned().into(),
    };
    link.ask(question).unwrap();
    let Some(Question::Verify { worker, key, generation, credential, login, password }) = control.question()
    else {
        panic!("it was asked")
    };
    pool.verify(Login { worker, key, generation, login, credential, password });
}

#[test]
fn a_storm_is_told_to_come_again_and_what_fitted_before_passes_through_it() {
    let origin = Origin::new("gatepost.toml", 1);
    let source = Source {
        generation: 1,
        origin,
        routes: Vec::new(),
        limits: Default::default(),
        lists: Default::default(),
        tenants: Vec::new(),
    };
    let (_commons, mut links, control) = Commons::new(1, Snapshot::compile(&source).unwrap());
    let link = links.remove(0);
    // Nobody takes from the queue: it is as full as a storm makes it.
    let (pool, waiting) = Verifiers::without_threads(&control);
    let fingerprint = pool.successes.lock().fingerprint("terri", "hash", "correct horse");
    pool.successes.lock().remember(fingerprint, Instant::now());
    let storm = WAITING_MAX as u32 + 3;
    for key in 0..storm {
        ask(&link, &control, &pool, key, "battery staple");
    }
    ask(&link, &control, &pool, storm, "correct horse");
    let answers: HashMap<u32, Verification> = std::iter::from_fn(|| link.answer())
        .map(|answer| match answer {
            Answer::Verified { key, outcome, .. } => (key, outcome),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = (WAITING_MAX as u32..storm).map(|key| (key, Verification::Busy));
    assert_eq!(answers, expected.chain([(storm, Verification::Fits)]).collect());
    assert_eq!(waiting.len(), WAITING_MAX);
}
