//! `gatepost spool` on a real gateway, running and stopped: what is queued, and what an operator does about it.

mod restart;
mod stage;

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testbed::net::{PATIENCE, eventually};
use testbed::{Dialog, LedgerClient, LoadOptions};

use stage::{CONTENT, FROM, OTHER, Stage, TO};

#[test]
fn what_is_queued_is_listed_and_shown_and_found_by_each_of_its_marks() {
    let mut stage = Stage::start(|_| {});
    let (one, two) = (stage.send(FROM, TO), stage.send("", OTHER));
    stage.logged("site_unavailable", 1);
    let list = stage.text(&["list"]);
    for part in [
        &*one,
        &*two,
        "proseware",
        "from <terri@proseware.example>",
        "to   <bob@adatum.example>",
        "from <>",
        "2 messages, ",
    ] {
        assert!(list.contains(part), "{part:?} is missing from\n{list}");
    }
    for (words, found) in [
        (&["--tenant", "proseware"][..], &[&one, &two][..]),
        (&["--tenant", "nobody"], &[]),
        (&["--sender", "TERRI@proseware.example"], &[&one]),
        (&["--sender", "@proseware.example"], &[&one]),
        (&["--sender", "<>"], &[&two]),
        (&["--domain", "Far.example"], &[&two]),
        (&["--domain", "far.example", "--sender", FROM], &[]),
        (&["--older-than", "1h"], &[]),
        (&["--older-than", "1ms"], &[&one, &two]),
        (&["--state", "deferred"], &[&one, &two]),
        (&["--state", "ready"], &[]),
        (&["--state", "held"], &[]),
        (&["--limit", "1"], &[&one]),
        (&[&one], &[&one]),
        (&[&two, &one], &[&two, &one]),
        (&[&two, &one, "--limit", "1"], &[&two]),
        (&[&one, &two, "--sender", "<>", "--older-than", "1ms"], &[&two]),
        (&[&one, "--state", "held"], &[]),
        (&["0000000000000000"], &[]),
    ] {
        let words = [&["list"], words].concat();
        let ids = stage.ids(&words);
        assert_eq!(ids.iter().collect::<Vec<_>>(), found, "{words:?}");
    }
    let shown = stage.object(&["show", &one]);
    assert_eq!((&shown["from"], &shown["tenant"]), (&FROM.into(), &"proseware".into()));
    assert_eq!(shown["record"]["sound"], true);
    let record = stage.spool(&["show", &one, "--raw"]).stdout;
    assert!(record.windows(18).any(|bytes| bytes == b"the words of terri"), "{record:?}");
    assert_eq!(stage.spool(&["show", "0000000000000000"]).status.code(), Some(1));
    assert_eq!(stage.spool(&["show", "nonsense"]).status.code(), Some(2));
    // The same of a stopped gateway, from its files.
    assert!(stage.spool(&["hold", &one]).status.success());
    stage.gateway.terminate();
    assert_eq!(stage.ids(&["list"]), [&*one, &*two]);
    assert_eq!(stage.ids(&["list", "--state", "held"]), [&*one]);
    assert_eq!(stage.ids(&["list", "--sender", "<>"]), [&*two]);
    assert_eq!(stage.ids(&["list", &two]), [&*two]);
    assert_eq!(stage.ids(&["list", &two, &one, "--state", "held"]), [&*one]);
    assert_eq!(stage.ids(&["list", "0000000000000000"]), [""; 0]);
    let shown = stage.text(&["show", &one]);
    assert!(shown.contains("held") && shown.contains("<bob@adatum.example>"), "{shown}");
    assert!(stage.text(&["list"]).contains("no gateway answers: read from"));
    assert_eq!(stage.spool(&["hold", &two]).status.code(), Some(2), "no gateway is there to do it");
    assert!(stage.spool(&["verify"]).status.success());
}

#[test]
fn a_next_hop_that_is_dead_is_named_wherever_an_operator_looks() {
    let stage = Stage::start(|configuration| configuration.workers = 2);
    let id = stage.send(FROM, TO);
    stage.logged("site_unavailable", 1);
    // What comes while it is known to be dead waits as well.
    Dialog::hello(stage.gateway.smtp()).deliver(FROM, &[TO, OTHER], CONTENT);
    stage.gateway.wait_metric("gatepost_queue_recipients{state=\"deferred\"}", 3.0);
    stage.gateway.wait_metric("gatepost_queue_recipients{state=\"ready\"}", 0.0);
    assert_eq!(stage.gateway.metric("gatepost_failing_sites"), 1.0);
    let has_age = || stage.gateway.metric("gatepost_oldest_message_age_seconds") >= 1.0;
    assert!(eventually(PATIENCE, has_age), "the oldest message has an age");
    let hop = stage.gateway.configuration().next_hop.to_string();
    let status = stage.status(&["--json"]);
    let status: Value = serde_json::from_str(&status).expect("one object");
    assert_eq!((&status["failing_sites"], &status["queue_recipients"]["deferred"]), (&1.into(), &3.into()));
    let site = &status["failing"][0];
    assert_eq!((&site["site"], &site["next_hop"]), (&hop.clone().into(), &hop.clone().into()));
    assert_eq!((&site["messages"], &site["recipients"]), (&2.into(), &3.into()));
    assert!(site["since"].as_str() < site["next_try"].as_str(), "{site}");
    let reply = site["reply"].as_str().expect("a reply");
    assert!(reply.starts_with("451 4.4.1 cannot connect"), "{site}");
    let text = stage.status(&[]);
    assert_eq!(testbed::terminal::misfits(&text), [""; 0], "{text}");
    // Lines are broken between words.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let deferred = "0 ready, 0 active, 3 deferred, 0 held recipients; the oldest came ";
    for part in
        [deferred, "1 site takes no mail", &hop, reply, "2 messages for 3 recipients wait", "next try in "]
    {
        assert!(text.contains(part), "{part:?} is missing from\n{text}");
    }
    let listed = stage.objects(&["list", "--state", "deferred"]);
    assert_eq!(listed.len(), 2);
    let shown = stage.object(&["show", &id]);
    for recipient in [&listed[0]["recipients"][0], &shown["recipients"][0]] {
        assert_eq!((&recipient["state"], &recipient["site"]), (&"deferred".into(), &hop.clone().into()));
        assert_eq!((&recipient["reply"], &recipient["next_hop"]), (&reply.into(), &hop.clone().into()));
        assert_eq!(recipient["not_before"], site["next_try"]);
    }
    for words in [&["list"][..], &["show", &id]] {
        let text = stage.text(words).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["deferred", &hop, reply, "next try in "] {
            assert!(text.contains(part), "{part:?} is missing from\n{text}");
        }
    }
    let destination = stage.destination();
    assert_eq!(stage.object(&["retry", "--all"])["done"], 2);
    destination.wait_for(2);
    stage.gateway.wait_metric("gatepost_queue_recipients", 0.0);
    assert_eq!(stage.gateway.metric("gatepost_failing_sites"), 0.0);
    let text = stage.status(&[]);
    assert!(!text.contains("failing") && !text.contains("oldest"), "{text}");
}

#[test]
fn what_is_held_waits_over_a_restart_and_goes_when_it_is_released() {
    let mut stage = Stage::start(|_| {});
    let (held, free) = (stage.send(FROM, TO), stage.send(FROM, OTHER));
    let counted = stage.object(&["hold", "--domain", "adatum.example", "--dry-run"]);
    assert_eq!((&counted["selected"], &counted["done"]), (&1.into(), &0.into()));
    let counted = stage.object(&["hold", &free, &held, "--domain", "adatum.example", "--dry-run"]);
    assert_eq!((&counted["selected"], &counted["missing"][0]), (&1.into(), &free.clone().into()));
    assert_eq!(stage.spool(&["hold", &held, "--all"]).status.code(), Some(2), "which, then?");
    assert_eq!(stage.ids(&["list", "--state", "held"]), [""; 0]);
    let text = stage.text(&["hold", "--domain", "adatum.example"]);
    assert_eq!(text, "1 message held\n");
    let again = stage.spool(&["hold", &held]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("1 message left as they are"), "{again:?}");
    stage.gateway.kill();
    let destination = stage.destination();
    stage.gateway.restart();
    destination.wait_for(1);
    stage.gateway.wait_metric("gatepost_deliveries_total", 1.0);
    assert_eq!(stage.ids(&["list"]), [&*held]);
    assert_eq!(stage.object(&["list", "--state", "held"])["recipients"][0]["state"], "held");
    assert_eq!(stage.object(&["retry", "--all"])["unchanged"], 1, "held mail is not retried");
    assert_eq!(stage.object(&["release", &held, "--sender", "<>"])["missing"][0], held);
    assert_eq!(stage.object(&["release", &held, "--sender", FROM])["done"], 1);
    assert_eq!(destination.wait_for(2).len(), 2);
    stage.gateway.wait_metric("gatepost_queue_recipients", 0.0);
    assert_eq!(stage.spool(&["release", &held]).status.code(), Some(1));
    let orders = stage.logged("queue_order", 4);
    assert_eq!(orders[1]["selection"], format!("id={held}"));
    let me = String::from_utf8(Command::new("id").arg("-u").output().expect("id is there").stdout)
        .expect("a number");
    assert_eq!(orders[0]["by"], format!("uid {}", me.trim()));
    assert_eq!(orders[0]["selection"], "domain=adatum.example");
    let acts = stage.logged("queue_act", 2);
    assert_eq!((&acts[0]["act"], &acts[0]["message"]), (&"hold".into(), &held.clone().into()));
    assert_ne!(held, free);
}

#[test]
fn a_retry_does_not_wait_and_a_bounce_tells_the_sender() {
    let stage = Stage::start(|_| {});
    let (one, _) = (stage.send(FROM, TO), stage.send("", OTHER));
    stage.logged("site_unavailable", 1);
    let destination = stage.destination();
    assert_eq!(stage.object(&["retry", &one])["done"], 1);
    destination.wait_for(2);
    stage.gateway.wait_metric("gatepost_queue_recipients", 0.0);
    drop(destination);
    let (one, null) = (stage.send(FROM, TO), stage.send("", OTHER));
    stage.logged("site_unavailable", 2);
    let unselected = stage.spool(&["bounce"]);
    assert_eq!(unselected.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unselected.stderr).contains("--all"), "{unselected:?}");
    let bounced = stage.object(&["bounce", &one, "--domain", "far.example"]);
    assert_eq!((&bounced["done"], &bounced["missing"][0]), (&0.into(), &one.clone().into()));
    let bounced = stage.object(&["bounce", &one, &null, "--reason", "sent by mistake"]);
    assert_eq!(bounced["done"], 2);
    let left = stage.objects(&["list"]);
    assert_eq!(left.len(), 1, "the bounce waits, and there is none for the null sender: {left:?}");
    assert_eq!((&left[0]["from"], &left[0]["recipients"][0]["address"]), (&"".into(), &FROM.into()));
    let destination = stage.destination();
    assert_eq!(stage.object(&["retry", "--all"])["done"], 1);
    destination.wait_for(1);
    let text = String::from_utf8_lossy(&destination.contents()[0]).into_owned();
    for part in ["bob@adatum.example", "sent by mistake", "Action: failed"] {
        assert!(text.contains(part), "{part:?} is missing from\n{text}");
    }
}

#[test]
fn a_queue_of_many_thousands_is_listed_by_pages_while_mail_goes_on() {
    const QUEUED: u64 = 50_000;
    let stage = Stage::start(|configuration| configuration.workers = 2);
    let load = |count, first_serial| LoadOptions {
        messages_max: count,
        messages_per_connection_max: 500,
        recipients_max: 1,
        body_bytes_max: 500,
        first_serial,
        ..LoadOptions::new(stage.gateway.smtp())
    };
    let sent = LedgerClient::start(load(Some(QUEUED), 1));
    assert!(sent.wait_acknowledged(QUEUED, Duration::from_secs(300)), "{} accepted", sent.acknowledged());
    let more = LedgerClient::start(LoadOptions { sessions: 2, ..load(None, QUEUED + 1) });
    let before = more.acknowledged();
    let ids = stage.ids(&["list"]);
    let unique: HashSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "none is listed twice");
    assert!(unique.len() as u64 >= QUEUED, "{} are listed", unique.len());
    assert!(more.wait_acknowledged(before + 100, PATIENCE), "mail goes on");
    drop(more.stop());
    let counted = stage.object(&["hold", "--sender", "ledger@proseware.example", "--dry-run"]);
    assert!(counted["selected"].as_u64() >= Some(QUEUED), "{counted}");
    let held = stage.object(&["hold", "--all"]);
    assert_eq!(held["done"], held["selected"], "{held}");
    let all = stage.gateway.metric("gatepost_spool_messages");
    assert!((held["done"].as_f64().expect("a number") - all).abs() < 0.5, "{held}: {all}");
    assert_eq!(stage.ids(&["list", "--state", "ready", "--limit", "1"]), [""; 0]);
}

#[test]
fn a_message_that_is_damaged_while_it_waits_is_quarantined_and_never_delivered() {
    let mut stage = Stage::start(|_| {});
    let (damaged, sound) = (stage.send("damaged@proseware.example", TO), stage.send(FROM, OTHER));
    // After a restart it is no longer in memory.
    stage.gateway.kill();
    stage.gateway.restart();
    stage.damage(b"damaged@proseware.example");
    // No worker has tried to deliver it, and it is not missing for that.
    let listed = stage.ids(&["list"]);
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(stage.text(&["show", &damaged]).contains("damaged: its checksum fails"));
    let destination = stage.destination();
    assert!(stage.spool(&["retry", "--all"]).status.success());
    assert_eq!(destination.wait_for(1)[0].recipients, [OTHER]);
    let records = stage.logged("message_quarantined", 1);
    assert_eq!(records[0]["message"], damaged);
    stage.gateway.wait_metric("gatepost_spool_quarantined", 1.0);
    assert_eq!(stage.ids(&["list", "--state", "quarantined"]), [&*damaged]);
    let shown = stage.text(&["show", &damaged]);
    for part in ["quarantined", "damaged: its checksum fails", "000000", "shard-000/segment-"] {
        assert!(shown.contains(part), "{part:?} is missing from\n{shown}");
    }
    let raw = stage.spool(&["show", &damaged, "--raw"]).stdout;
    assert!(raw.windows(24).any(|bytes| bytes == b"amaged@proseware.example"), "{raw:?}");
    for act in ["retry", "release", "hold", "bounce"] {
        assert_eq!(stage.object(&[act, &damaged])["unchanged"], 1, "{act}");
    }
    assert_eq!(destination.count(), 1);
    assert_ne!(damaged, sound);
    let text = stage.status(&[]);
    assert!(text.contains("quarantined") && text.contains("1 message and 0 damaged places"), "{text}");
    assert_eq!(testbed::terminal::misfits(&text), [""; 0], "{text}");
}

#[test]
fn a_quarantined_message_is_removed_by_its_id_and_nothing_else_is() {
    let mut stage = Stage::start(|_| {});
    let (damaged, _) = (stage.send("damaged@proseware.example", TO), stage.send(FROM, OTHER));
    let sound = stage.send(FROM, TO);
    assert_eq!(stage.object(&["hold", &sound])["done"], 1);
    stage.gateway.kill();
    stage.gateway.restart();
    stage.damage(b"damaged@proseware.example");
    let destination = stage.destination();
    stage.spool(&["retry", "--all"]);
    destination.wait_for(1);
    stage.logged("message_quarantined", 1);
    assert_eq!(stage.spool(&["remove"]).status.code(), Some(2), "which one?");
    assert_eq!(stage.object(&["remove", &sound])["unchanged"], 1, "it is sound");
    assert_eq!(stage.object(&["remove", &damaged, "--dry-run"])["done"], 0);
    assert_eq!(stage.ids(&["list", "--state", "quarantined"]), [&*damaged]);
    assert_eq!(stage.text(&["remove", &damaged]), "1 message removed\n");
    let is_it = |act: &Value| act["act"] == "remove" && act["message"] == damaged;
    assert!(eventually(PATIENCE, || stage.logged("queue_act", 1).iter().any(is_it)), "it is logged");
    stage.gateway.wait_metric("gatepost_spool_quarantined", 0.0);
    assert_eq!(stage.ids(&["list"]), [&*sound], "no sender is told, and it is gone");
    stage.gateway.kill();
    stage.gateway.restart();
    assert!(stage.spool(&["release", &sound]).status.success());
    destination.wait_for(2);
    stage.gateway.wait_metric("gatepost_queue_recipients", 0.0);
    assert_eq!(destination.count(), 2);
}

#[test]
fn what_was_removed_stays_so_over_a_restart() {
    let mut stage = Stage::start(|_| {});
    let content = [
        CONTENT,
        &b"a line of seventy characters, of which there are many in this message\r\n".repeat(20_000),
    ];
    let (damaged, sound) = (stage.send_content(FROM, TO, &content.concat()), stage.send(FROM, TO));
    stage.gateway.kill();
    let shard = stage.gateway.directory().join("spool/shard-000");
    let body = std::fs::read_dir(shard).expect("there is a shard").flatten();
    let body = body.map(|file| file.path()).find(|path| path.to_string_lossy().contains("large-"));
    std::fs::remove_file(body.expect("it has a file of its own")).expect("it can be removed");
    stage.gateway.restart();
    assert_eq!(stage.logged("message_quarantined", 1)[0]["message"], damaged);
    for _ in 0..2 {
        assert_eq!(stage.ids(&["list", "--state", "quarantined"]), [&*damaged], "without an order it stays");
        stage.gateway.kill();
        stage.gateway.restart();
    }
    assert_eq!(stage.object(&["remove", &damaged])["done"], 1);
    stage.gateway.kill();
    assert_eq!(stage.ids(&["list"]), [&*sound]);
    assert!(stage.spool(&["verify"]).status.success());
    stage.gateway.restart();
    assert_eq!(stage.ids(&["list"]), [&*sound]);
    stage.gateway.wait_metric("gatepost_spool_quarantined", 0.0);
}

#[test]
fn damage_in_a_stopped_spool_is_reported_and_what_can_be_read_of_it_is_shown() {
    let mut stage = Stage::start(|_| {});
    let damaged = stage.send("damaged@proseware.example", TO);
    let sound = stage.send(FROM, OTHER);
    assert!(stage.spool(&["verify"]).status.success(), "nothing is damaged, and the gateway runs");
    stage.gateway.kill();
    stage.damage(b"damaged@proseware.example");
    let check = |stage: &Stage, is_running: bool| {
        assert_eq!(stage.spool(&["verify"]).status.code(), Some(1));
        assert_eq!(stage.ids(&["list", "--state", "quarantined"]), [&*damaged], "running: {is_running}");
        let shown = stage.text(&["show", &damaged]);
        assert!(shown.contains("its checksum fails") && shown.contains("Damaged@proseware"), "{shown}");
    };
    check(&stage, false);
    stage.gateway.restart();
    check(&stage, true);
    stage.logged("spool_damaged", 1);
    stage.gateway.wait_metric("gatepost_spool_quarantined", 1.0);
    let destination = stage.destination();
    assert_eq!(stage.object(&["retry", &sound])["done"], 1);
    assert_eq!(destination.wait_for(1)[0].recipients, [OTHER]);
    stage.gateway.wait_metric("gatepost_queue_recipients", 0.0);
    assert_eq!(destination.count(), 1);
}
