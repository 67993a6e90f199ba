//! What is known of queued mail after a restart: what was last said of it, and what a later version wrote.

use serde_json::Value;
use testbed::destination::Rules;
use testbed::{Destination, Dialog, segment};

use crate::stage::{CONTENT, FROM, OTHER, Stage, TO};

/// A destination that refuses some recipients for good and the others for now, each with other words.
fn unwilling(stage: &Stage) -> Destination {
    let judge = |recipient: &str| {
        Some(match recipient {
            OTHER => format!("452 4.2.2 <{recipient}>: mailbox full"),
            GONE => "550 5.1.1 no such user".to_owned(),
            // What turns text round in a terminal is not to do so.
            _ => format!("450 4.7.1 <{recipient}>: gr\u{202e}eylisted, {}", "come again ".repeat(20)),
        })
    };
    let rules = Rules { recipient: Some(Box::new(judge)), ..Rules::default() };
    Destination::at(stage.gateway.configuration().next_hop, rules)
}

const GONE: &str = "gone@far.example";

#[test]
fn what_was_last_said_to_each_recipient_is_shown_after_a_restart() {
    let mut stage = Stage::start(|_| {});
    let destination = unwilling(&stage);
    Dialog::hello(stage.gateway.smtp()).deliver("", &[TO, OTHER, GONE], CONTENT);
    stage.logged("deferred", 2);
    stage.logged("failed", 1);
    let id = stage.ids(&["list"]).pop().expect("it is queued");
    let before = stage.object(&["show", &id]);
    // The outcome and the deferral are on the disk a moment after they are in the log.
    stage.gateway.terminate();
    drop(destination);
    let hop = stage.gateway.configuration().next_hop.to_string();
    let check = |shown: &Value, is_running: bool| {
        let recipients = shown["recipients"].as_array().expect("there are some");
        let find =
            |to: &str| recipients.iter().find(|one| one["address"] == to).expect("it is shown").clone();
        for (to, begins) in [
            (TO, "450 4.7.1 <bob@adatum.example>: gr\u{202e}eylisted, come"),
            (OTHER, "452 4.2.2 <ann@far.example>: mailbox full"),
        ] {
            let one = find(to);
            assert_eq!((&one["state"], &one["attempts"]), (&"deferred".into(), &1.into()), "{one}");
            assert_eq!(one["next_hop"], hop, "{one}");
            assert!(one["reply"].as_str().is_some_and(|reply| reply.starts_with(begins)), "{one}");
            assert!(one["not_before"].as_str() > shown["arrived"].as_str(), "{one}");
        }
        assert!(find(TO)["reply"].as_str().is_some_and(|reply| reply.ends_with('…')), "it is cut");
        if !is_running {
            let gone = find(GONE);
            assert_eq!(
                (&gone["state"], &gone["reply"]),
                (&"failed".into(), &"550 5.1.1 no such user".into())
            );
            assert_eq!(gone["next_hop"], hop);
        }
    };
    let long = before["recipients"][0]["reply"].as_str().expect("a reply").len();
    assert!(long > 200, "until then all of it is known: {before}");
    for words in [&["show", &id][..], &["list"]] {
        check(&stage.object(words), false);
    }
    // And so it is after the next restart, when nothing was tried meanwhile.
    for _ in 0..2 {
        stage.gateway.restart();
        for words in [&["show", &id][..], &["list"]] {
            check(&stage.object(words), true);
        }
        let text = stage.text(&["show", &id]).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["1 attempt, next try in ", "gr\\u202eeylisted, come again", "mailbox full", &hop] {
            assert!(text.contains(part), "{part:?} is missing from\n{text}");
        }
        assert!(!text.contains('\u{202e}'), "{text}");
        stage.gateway.kill();
    }
}

#[test]
fn a_message_of_a_later_version_is_quarantined_by_name_and_removed_by_an_operator() {
    let mut stage = Stage::start(|_| {});
    let (sound, later) = (stage.send(FROM, OTHER), stage.send(FROM, TO));
    stage.gateway.kill();
    let path = stage.gateway.directory().join("spool/shard-000/segment-00000000.log");
    let mut bytes = std::fs::read(&path).expect("a segment can be read");
    segment::graft(&mut bytes, segment::MESSAGE, 0xfe);
    std::fs::write(&path, bytes).expect("a segment can be written");
    let why = "its message record has a field 0xfe that this Gatepost does not know and must not pass over";
    let check = |stage: &Stage| {
        assert_eq!(stage.ids(&["list", "--state", "quarantined"]), [&*later]);
        let shown = stage.object(&["show", &later]);
        assert_eq!((&shown["from"], &shown["record"]["sound"]), (&FROM.into(), &true.into()));
        assert!(shown["refused"].as_str().is_some_and(|refused| refused.starts_with(why)), "{shown}");
        let text = stage.text(&["show", &later]).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(why), "{text}");
        let verified = stage.spool(&["verify"]);
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.code() == Some(1) && said.contains(&format!("{later}: {why}")), "{said}");
    };
    check(&stage);
    stage.gateway.restart();
    let record = &stage.logged("message_quarantined", 1)[0];
    assert_eq!(record["message"], later);
    assert!(record["error"].as_str().is_some_and(|error| error.starts_with(why)), "{record}");
    assert_eq!(stage.logged("spool_recovered", 2)[1]["not_understood"], 1);
    check(&stage);
    let destination = stage.destination();
    assert!(stage.spool(&["retry", "--all"]).status.success());
    assert_eq!(destination.wait_for(1)[0].recipients, [OTHER]);
    stage.gateway.wait_metric("gatepost_spool_quarantined", 1.0);
    assert_eq!(stage.object(&["release", &later])["unchanged"], 1);
    assert_eq!(stage.object(&["remove", &later])["done"], 1);
    stage.gateway.kill();
    assert_eq!((stage.ids(&["list"]), destination.count()), (vec![], 1));
    assert!(stage.spool(&["verify"]).status.success());
    assert_ne!(sound, later);
}
