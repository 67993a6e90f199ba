use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use policy::{Origin, Source};
use ring::{Handle, Waker};
use zeroize::Zeroizing;

use super::*;

fn snapshot(generation: u64) -> Snapshot {
    let origin = Origin::new("gatepost.toml", 1);
    let source = Source {
        generation,
        origin,
        routes: Vec::new(),
        lists: policy::ListsSource::default(),
        limits: Default::default(),
        tenants: Vec::new(),
    };
    Snapshot::compile(&source).expect("an empty configuration compiles")
}

fn verify(key: u32) -> Question {
    Question::Verify(Login {
        worker: 0,
        key: Handle::fixed(key),
        credential: "hash".into(),
        login: "terri".into(),
        trusted_network: None,
        password: Zeroizing::new("swordfish".to_owned()),
    })
}

fn counting_waker() -> (Waker, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    (
        Waker::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }),
        count,
    )
}

#[test]
fn a_full_queue_gives_the_question_back_until_an_answer_is_taken() {
    let (_, links, control) = Commons::new(1, snapshot(1));
    let link = &links[0];
    for key in 0..VERIFICATIONS_MAX as u32 {
        link.ask(verify(key)).expect("there is room");
    }
    assert!(link.ask(verify(99)).is_err());
    let resolve = |key| Question::Resolve { worker: 0, key, host: "mail.example".into() };
    for key in VERIFICATIONS_MAX..QUESTIONS_MAX {
        link.ask(resolve(key as u32)).expect("names have room of their own");
    }
    assert!(link.ask(resolve(0)).is_err());

    // Taken is not answered: the room comes back with the answer only, so that answers never overflow.
    assert!(control.question().is_some());
    assert!(link.ask(verify(99)).is_err());
    control.answer(0, Answer::Verified { key: Handle::fixed(0), outcome: Verification::Fits });
    assert_eq!(link.answer(), Some(Answer::Verified { key: Handle::fixed(0), outcome: Verification::Fits }));
    assert!(link.ask(verify(99)).is_ok());
}

#[test]
fn one_wake_up_serves_a_batch() {
    let (_, links, control) = Commons::new(1, snapshot(1));
    let (waker, woken) = counting_waker();
    control.attach(waker);
    let before = woken.load(Ordering::SeqCst);
    links[0].flush();
    assert_eq!(woken.load(Ordering::SeqCst), before);
    links[0].ask(verify(1)).expect("there is room");
    links[0].ask(verify(2)).expect("there is room");
    links[0].flush();
    links[0].flush();
    assert_eq!(woken.load(Ordering::SeqCst), before + 1);
}

#[test]
fn a_drain_is_heard_once_by_every_worker_even_behind_a_full_queue() {
    let (commons, links, _) = Commons::new(2, snapshot(1));
    for _ in 0..2 * QUESTIONS_MAX {
        commons.link.tell(0, Answer::SnapshotChanged);
    }
    commons.drain();
    commons.drain();
    for link in &links {
        let heard = std::iter::from_fn(|| link.answer()).filter(|answer| *answer == Answer::Drain).count();
        assert_eq!(heard, 1);
    }
    assert_eq!(commons.readiness(), Err(NotReady::Draining));
}

#[test]
fn a_published_snapshot_reaches_every_cache_and_leaves_the_old_one_alive() {
    let (commons, links, _) = Commons::new(1, snapshot(1));
    let mut cache = commons.snapshot_cache();
    let old = cache.load().clone();
    commons.publish(snapshot(2));
    assert_eq!(cache.load().generation, 2);
    assert_eq!(old.generation, 1);
    assert_eq!(links[0].answer(), Some(Answer::SnapshotChanged));
}

#[test]
fn a_configuration_out_of_force_is_freed_by_whoever_asks_and_not_while_a_worker_holds_it() {
    let (commons, _links, _) = Commons::new(1, snapshot(1));
    let held = commons.snapshot();
    let weak = Arc::downgrade(&held);
    commons.publish(snapshot(2));
    assert_eq!(commons.free_retired(), 1);
    drop(held);
    assert!(weak.upgrade().is_some(), "the last worker to let go frees nothing");
    assert_eq!(commons.free_retired(), 0);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_waiting_worker_is_seen_by_holders_and_woken_by_a_release() {
    let (commons, links, _) = Commons::new(2, snapshot(1));
    let (waker, woken) = counting_waker();
    links[1].attach(waker);
    let before = woken.load(Ordering::SeqCst);
    let site = commons.sites().site("mx.example:25");
    assert!(Arc::ptr_eq(&site, &commons.sites().site("mx.example:25")));
    assert!(site.acquire_or_wait(1, 0));
    assert!(!site.is_wanted(0));
    assert!(!site.acquire_or_wait(1, 1));
    assert!(site.is_wanted(0));
    assert!(!site.is_wanted(1), "no worker yields to itself");
    site.release(0);
    assert_eq!(woken.load(Ordering::SeqCst), before + 1);
    assert!(site.acquire_or_wait(1, 1));
    assert_eq!(site.leases(), 1);
}

#[test]
fn leases_never_pass_the_limit_whatever_threads_ask() {
    let (commons, _, _) = Commons::new(4, snapshot(1));
    let site = commons.sites().site("mx.example:25");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let site = &site;
            scope.spawn(move || {
                for _ in 0..10_000 {
                    if site.acquire(2) {
                        assert!(site.leases() <= 2);
                        site.release(worker);
                    }
                }
            });
        }
    });
    assert_eq!(site.leases(), 0);
}

/// The longest back-off of the tests of sites.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(60);

/// Fails a site at a moment; its waits are 10 s a failure.
fn fail(site: &Site, seconds: u64) -> (Arc<SiteFailure>, bool) {
    let reply = mail::Reply::new(421, None, format_args!("at {seconds}"));
    let wait = |failures| std::time::Duration::from_secs(10 * u64::from(failures));
    site.failed(&reply, Some("10.0.0.2:25"), mail::UnixMillis(seconds * 1000), LONGEST, wait)
}

#[test]
fn a_site_that_rests_has_failed_once_whatever_number_of_connections_sees_it() {
    let (commons, _, _) = Commons::new(1, snapshot(1));
    let site = commons.sites().site("mx.example:25");
    let (first, is_news) = fail(&site, 100);
    assert!(is_news);
    assert_eq!((first.since.0, first.next_try.0, first.failures), (100_000, 110_000, 1));
    assert_eq!(fail(&site, 109), (first.clone(), false));
    assert_eq!(site.rest(mail::UnixMillis(104_000), LONGEST).as_secs(), 6);
    let (second, is_news) = fail(&site, 110);
    assert!(is_news);
    assert_eq!((second.since.0, second.next_try.0, second.failures), (100_000, 130_000, 2));
    assert_eq!((second.reply.code(), second.next_hop.as_deref()), (421, Some("10.0.0.2:25")));
    assert_eq!(commons.sites().failing(), [("mx.example:25".into(), second)]);
}

#[test]
fn a_success_ends_a_failure_once_and_shortens_the_rest() {
    let (commons, _, _) = Commons::new(1, snapshot(1));
    let site = commons.sites().site("mx.example:25");
    let succeed = |seconds: u64| {
        let shortest = std::time::Duration::from_secs(10);
        site.succeeded(mail::UnixMillis(seconds * 1000), LONGEST, shortest)
    };
    assert_eq!(succeed(0), None);
    let (failure, _) = fail(&site, 100);
    assert_eq!(succeed(110), Some(failure));
    assert_eq!((site.failure(), succeed(110)), (None, None));

    // One that was open before goes on.
    fail(&site, 200);
    fail(&site, 210);
    let (third, _) = fail(&site, 230);
    assert_eq!(succeed(231), Some(third));
    assert_eq!((site.failure(), commons.sites().failing(), succeed(232)), (None, vec![], None));
    assert_eq!(site.rest(mail::UnixMillis(231_000), LONGEST).as_secs(), 10, "and not 29");
    assert!(!fail(&site, 240).1);
    let (next, is_news) = fail(&site, 241);
    assert_eq!((next.since.0, next.failures, is_news), (241_000, 1, true));
    assert_eq!(site.failure(), Some(next));
}

#[test]
fn a_site_rests_no_longer_than_the_longest_rest_when_the_clock_is_set_back() {
    let (commons, _, _) = Commons::new(1, snapshot(1));
    let site = commons.sites().site("mx.example:25");
    fail(&site, 5000);
    assert!(site.rest(mail::UnixMillis(1_000_000), LONGEST).is_zero());
    assert!(fail(&site, 1000).1, "it may be tried, so that it may fail again");
}

#[test]
fn an_operator_has_a_site_tried_at_once_and_it_has_failed_since_then_all_the_same() {
    let (commons, _, _) = Commons::new(1, snapshot(1));
    let site = commons.sites().site("mx.example:25");
    site.try_now();
    assert_eq!(site.failure(), None);
    fail(&site, 100);
    site.try_now();
    assert!(site.rest(mail::UnixMillis(101_000), LONGEST).is_zero());
    let (failure, is_news) = fail(&site, 101);
    assert_eq!((failure.since.0, failure.failures, is_news), (100_000, 1, true));
}

#[test]
fn a_failing_site_counts_once_in_however_many_queues_mail_waits_for_it() {
    let (commons, _, _) = Commons::new(2, snapshot(1));
    let (one, other) = (commons.sites().site("mx.example:25"), commons.sites().site("far.example:25"));
    one.stall();
    one.stall();
    other.stall();
    assert_eq!(commons.sites().failing_count(), 2);
    one.unstall();
    assert_eq!(commons.sites().failing_count(), 2);
    one.unstall();
    other.unstall();
    assert_eq!(commons.sites().failing_count(), 0);
}

#[test]
fn ready_is_when_every_worker_is() {
    let (commons, _, _) = Commons::new(2, snapshot(1));
    assert_eq!(commons.readiness(), Err(NotReady::Recovering));
    commons.set_state(0, WorkerState::Ready);
    commons.set_state(1, WorkerState::Ready);
    assert_eq!(commons.readiness(), Ok(()));
    commons.set_state(1, WorkerState::Latched);
    assert_eq!(commons.readiness(), Err(NotReady::Latched));
}

#[test]
fn a_password_never_shows_in_a_debug_print() {
    assert!(!format!("{:?}", verify(1)).contains("swordfish"));
}

#[test]
fn checks_leave_room_for_the_questions_of_delivery() {
    let (_, links, control) = Commons::new(1, snapshot(1));
    let link = &links[0];
    let check =
        |key| Question::Domain { worker: 0, key: Handle::fixed(key), domain: "adatum.example".into() };
    for key in 0..CHECKS_MAX as u32 {
        link.ask(check(key)).expect("there is room");
    }
    assert!(link.ask(check(0)).is_err());
    link.ask(Question::Exchangers { worker: 0, key: 0, domain: "adatum.example".into() })
        .expect("delivery has room of its own");
    let ttl = std::time::Duration::from_secs(1);
    control.answer(0, Answer::Recipient { key: Handle::fixed(0), finding: RecipientFinding::Good, ttl });
    assert!(link.answer().is_some());
    link.ask(check(0)).expect("an answer makes room");
}

#[test]
fn requests_about_a_queue_are_bounded_until_their_answers_are_fetched() {
    let (commons, links, control) = Commons::new(2, snapshot(1));
    let request = |number| QueueRequest { number, task: QueueTask::Page(QueuePageRequest::default()) };
    for number in 0..QUEUE_REQUESTS_MAX as u64 {
        assert_eq!(control.ask_queue(1, request(number)), Ok(()));
    }
    assert_eq!(control.ask_queue(1, request(99)), Err(QueueBusy));
    assert_eq!(control.ask_queue(0, request(100)), Ok(()), "the other worker has room");
    let taken = links[1].queue_request().unwrap();
    assert_eq!(taken.number, 0);
    links[1].answer_queue(taken.number, QueueAnswer::Acted(QueueActed::default()));
    assert_eq!(control.ask_queue(1, request(99)), Err(QueueBusy), "the answer is not fetched yet");
    assert_eq!(control.queue_answer(), Some((0, QueueAnswer::Acted(QueueActed::default()))));
    assert_eq!(control.ask_queue(1, request(99)), Ok(()));
    drop(commons);
}
