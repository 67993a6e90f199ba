//! G1: every denial names its reason in the reply, in the log, in the metric and in the ticket, and the
//! reply says what the sender can do.

mod met;

use std::net::IpAddr;

use mail::Reason;
use testbed::dialog::Reply;
use testbed::dns::NameServer;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::proseware::{self, CONTACT, HOTEL, PUBLIC_URL};
use testbed::{Destination, Dialog, Gateway, tools};

use crate::g2_explanations::{open_to_questions, ticket_of, why};
use crate::house::House;
use crate::tenant::write_login;
use met::{BY_DNS, IN_A_BROKEN_SPOOL, IN_A_CROWD, IN_A_FULL_SPOOL, IN_A_HOUSE, Place, Row, three_tenants};

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";

/// What is promised of every refusal, `REASONS.md`.
const PAGE: &str = include_str!("../../../policy/REASONS.md");

/// The reasons that no gateway gives, and the test that holds their texts.
const NOT_MET: [(&str, &str); 3] = [
    ("spf_failed", "no rule gives it: incoming mail is not authenticated; policy/tests/reasons.rs"),
    ("dkim_failed", "no rule gives it: incoming mail is not authenticated; policy/tests/reasons.rs"),
    ("dmarc_failed", "no rule gives it: incoming mail is not authenticated; policy/tests/reasons.rs"),
];

/// A test for each reason that is met with in the house of three tenants, by its name.
macro_rules! test_each {
    ($($reason:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($reason)),*];
        $(#[test]
        fn $reason() {
            Place::open(three_tenants).assert_tells(&rows_of(IN_A_HOUSE, stringify!($reason)));
        })*
    };
}

test_each! {
    relay_not_permitted routing_syntax recipient_unknown recipient_unverified sender_not_owned second_tenant
    too_many_recipients message_too_large bare_newline loop_detected header_from_not_owned login_required
    tls_required login_failed login_locked client_blocked sender_blocked recipient_blocked rate_limited
    quota_exceeded connection_limit client_suspended identity_suspended tenant_suspended mechanism_withdrawn
}

#[test]
fn recipient_domain_missing() {
    assert_dns_tells("recipient_domain_missing");
}

#[test]
fn recipient_domain_no_mail() {
    assert_dns_tells("recipient_domain_no_mail");
}

#[test]
fn client_blocked_by_a_dns_list() {
    assert_dns_tells("client_blocked");
}

fn assert_dns_tells(reason: &str) {
    let zone = "nomail IN MX 0 .\n7.2.0.127.zen IN A 127.0.0.2";
    let Some(server) = NameServer::start(reason, zone) else { return };
    let place = Place::open(|configuration| {
        configuration.by_mx = true;
        configuration.node_extra.push_str(&server.section());
        configuration.node_extra.push_str("\n[[lists.dnsbl]]\nzone = \"zen.example\"\nname = \"Zen\"\n");
    });
    place.assert_tells(&rows_of(BY_DNS, reason));
}

/// Those of `rows` that are about `reason`.
fn rows_of(rows: &[Row], reason: &str) -> Vec<Row> {
    let rows: Vec<_> = rows.iter().filter(|row| row.0 == reason).copied().collect();
    assert!(!rows.is_empty(), "{reason} is not met with here");
    rows
}

#[test]
fn spool_full() {
    Place::open(|configuration| {
        configuration.capacity = "192MiB".into();
        // One unfinished message is all it takes.
        configuration.spool_extra = "unfinished = \"192MiB\"\nunfinished_per_client = \"192MiB\"\n".into();
        configuration.node_extra.push_str("\n[limits]\nmessage_size = \"192MiB\"\n");
    })
    .assert_tells(IN_A_FULL_SPOOL);
}

#[test]
fn spool_failed() {
    let Some(_) = tools::find("prlimit", "spool_failed") else { return };
    let (own_mail, elsewhere) = (Destination::start(), Destination::start());
    // Nothing is delivered: no outcome is written, and the first write that fails is that of a message.
    let mut configuration = proseware::configuration(own_mail.address(), free_address());
    open_to_questions(&mut configuration);
    let submission = configuration.listen("submission", "submission", "required");
    let clear = proseware::listen_for_clear_logins(&mut configuration);
    // A write past the limit is to fail, not to end the gateway by a signal.
    let wrapper = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"].map(str::to_owned);
    let gateway = Gateway::start_under(env!("CARGO_BIN_EXE_gatepost"), configuration, wrapper.into());
    let house = House { own_mail, elsewhere, gateway, submission };
    Place { house, clear }.assert_tells(IN_A_BROKEN_SPOOL);
}

#[test]
fn login_busy() {
    let place = Place::open(|configuration| {
        write_login(configuration, "slow@proseware.example", "");
        let (before, after) =
            configuration.tenants[0].1.rsplit_once(",t=1,").expect("a hash names its rounds");
        configuration.tenants[0].1 = format!("{before},t=150,{after}");
        configuration.node_extra.push_str(
            "\n[login]\nfailures_per_ip = \"off\"\nfailures_per_identity = \"off\"\n\
             [limits.client]\nconnections = 1000\n",
        );
    });
    place.assert_tells(IN_A_CROWD);
}

#[test]
fn no_reason_is_left_out() {
    let rows = [IN_A_HOUSE, BY_DNS, IN_A_FULL_SPOOL, IN_A_BROKEN_SPOOL, IN_A_CROWD].concat();
    let mut words: Vec<_> = rows.iter().map(|row| row.0).chain(NOT_MET.map(|(word, _)| word)).collect();
    words.sort_unstable();
    words.dedup();
    let mut all = Reason::ALL.map(Reason::as_str);
    all.sort_unstable();
    assert_eq!(words, all);
    assert!(IN_A_HOUSE.iter().all(|row| TESTED.contains(&row.0)), "one of a house has no test");
    for (word, _) in NOT_MET {
        assert!(rows.iter().all(|row| row.0 != word), "{word} is met with after all");
    }
}

impl Place {
    /// Meets with each of `rows` and follows it to the reply, the log, the metric and the ticket.
    fn assert_tells(&self, rows: &[Row]) {
        for &(reason, rule, tenant, provoke) in rows {
            let labels = [&*format!("reason=\"{reason}\""), &*format!("tenant=\"{tenant}\"")];
            let before = self.house.denials(&labels);
            let replies = provoke(self);
            let counted = self.house.denials(&labels) - before;
            assert_eq!(counted, replies.len() as u64, "{reason} is counted for {tenant}");
            for reply in replies {
                let ticket = assert_reply_helps(reason, &reply);
                assert_as_documented((reason, rule), &reply, self.house.submission.port());
                assert_log_tells(&self.house, reason, rule, &ticket);
                self.assert_ticket_tells((reason, rule), &ticket, &reply);
            }
        }
        self.house.gateway.wait_metric("gatepost_tickets_dropped_total", 0.0);
    }

    #[track_caller]
    fn assert_ticket_tells(&self, (reason, rule): (&str, &str), ticket: &str, reply: &Reply) {
        let record = why(&self.house, ticket);
        assert_eq!(record["reason"], reason, "{record}");
        assert_eq!(record["rule"], rule, "{record}");
        let decided = record["steps"].as_array().expect("rules are listed").last().expect("one decided");
        assert_eq!((&decided["rule"], &decided["outcome"]), (&rule.into(), &"deny".into()), "{record}");
        assert!(record["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{reason}: {record}");
        assert_eq!(record["code"].as_str().map(|code| &code[..1]), Some(&reply.code.to_string()[..1]));
    }
}

/// The reply reads as the page of reasons shows it for this reason and rule, up to the names and to what
/// the running gateway adds to the first line.
#[track_caller]
fn assert_as_documented((reason, rule): (&str, &str), reply: &Reply, port: u16) {
    let heading = format!("\n## `{reason}` ");
    let (_, section) = PAGE.split_once(&heading).unwrap_or_else(|| panic!("{reason} has no section"));
    let section = section.split("\n## ").next().expect("a first piece is always there");
    let examples: Vec<_> = section.split("\n```\n").collect();
    let fits = examples
        .windows(2)
        .any(|pair| pair[1].contains(&format!("Rule `{rule}`")) && is_example(pair[0], reply, port));
    assert!(fits, "{reason} by {rule} is told as {reply:?}, not as in{section}");
}

/// Whether `reply` is told in these two lines, as they stand on the page.
fn is_example(example: &str, reply: &Reply, port: u16) -> bool {
    let (Some((first, second)), [told_first, told_second]) =
        (example.trim_start_matches("```\n").trim().split_once('\n'), reply.lines.as_slice())
    else {
        return false;
    };
    let (code, status_and_words) = first.split_once('-').expect("a first line goes on");
    let (status, words) = status_and_words.split_once(' ').expect("words follow the status");
    let about =
        |line: &str| line.split_once(">: ").map_or_else(|| line.to_owned(), |(_, rest)| rest.to_owned());
    let words = about(words);
    let Some(told) = told_first.strip_prefix(status).map(|told| about(told.trim_start())) else {
        return false;
    };
    // The page's client has an address of the documentation's.
    let (words, told) = match words.strip_prefix("198.51.100.7 ") {
        Some(rest) => {
            (rest.to_owned(), told.split_once(' ').map_or_else(String::new, |(_, rest)| rest.into()))
        }
        None => (words, told),
    };
    let (words, told) = match words.strip_suffix(" 198.51.100.7") {
        Some(rest) => {
            (rest.to_owned(), told.rsplit_once(' ').map_or_else(String::new, |(rest, _)| rest.into()))
        }
        None => (words, told),
    };
    let addition = told.strip_prefix(&*words);
    let advice = |line: &str| line.split("ticket ").next().expect("a first piece").to_owned();
    let second = second.strip_prefix(&format!("{code} ")).expect("the same code").to_owned();
    let second = second.replace("587", &port.to_string()).replace("postmaster@relay.example", CONTACT);
    code == reply.code.to_string()
        && addition.is_some_and(|addition| addition.is_empty() || addition.starts_with(": "))
        && advice(&second) == advice(told_second)
}

/// The last line of a refusal: what can be done, whom to ask, the ticket and its page.
#[track_caller]
fn assert_reply_helps(reason: &str, reply: &Reply) -> String {
    let ticket = ticket_of(reply);
    let last = reply.lines.last().expect("a reply has a line");
    let (help, rest) =
        last.split_once("; ticket ").unwrap_or_else(|| panic!("{reason}: {last:?} does not help"));
    let (_, advice) = help.split_once(' ').expect("a status stands first");
    assert!(advice.len() > 10 && advice.contains(CONTACT), "{reason}: {advice:?}");
    assert_eq!(rest, format!("{ticket} {PUBLIC_URL}/{}", ticket.replace('-', "")), "{reason}");
    ticket
}

#[track_caller]
fn assert_log_tells(house: &House, reason: &str, rule: &str, ticket: &str) {
    let mut record = None;
    eventually(PATIENCE, || {
        record = house.gateway.output().lines().find(|line| line.contains(ticket)).map(str::to_owned);
        record.is_some()
    });
    let record = record.unwrap_or_else(|| panic!("{reason}: no log record has the ticket {ticket}"));
    for word in
        ["\"event\":\"relay_denied\"", &format!("\"reason\":\"{reason}\""), &format!("\"rule\":\"{rule}\"")]
    {
        assert!(record.contains(word), "{record} lacks {word}");
    }
}

#[track_caller]
fn begin(house: &House, source: IpAddr, from: &str) -> Dialog {
    let mut dialog = house.connect(source);
    dialog.command(&format!("MAIL FROM:<{from}>"), 250);
    dialog
}

#[test]
fn the_denied_recipients_of_one_transaction_share_a_ticket_that_lists_them() {
    let house = House::start_with(open_to_questions);
    let mut dialog = begin(&house, HOTEL, KIM);
    let mut tickets: Vec<_> = (0..25)
        .map(|number| ticket_of(&dialog.command(&format!("RCPT TO:<user{number}@adatum.example>"), 550)))
        .collect();
    tickets.dedup();
    let [ticket] = tickets.as_slice() else { panic!("more than one ticket: {tickets:?}") };
    let record = why(&house, ticket);
    assert_eq!(record["recipient_count"], 25, "{record}");
    assert_eq!(record["recipients"].as_array().map(Vec::len), Some(20), "{record}");
    assert_eq!(record["recipients"][19], "user19@adatum.example");
}

#[test]
fn a_storm_of_denials_has_few_tickets_and_every_one_of_them_can_be_looked_up() {
    let house = House::start_with(open_to_questions);
    let mut tickets = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let mut dialog = house.connect(HOTEL);
        for _ in 0..19 {
            dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
            tickets.insert(ticket_of(&dialog.command(&format!("RCPT TO:<{BOB}>"), 550)));
            dialog.command("RSET", 250);
        }
    }
    assert_eq!(house.denials(&["reason=\"relay_not_permitted\""]), 190);
    assert!(tickets.len() < 190, "{} tickets for 190 denials of one address", tickets.len());
    for ticket in &tickets {
        assert_eq!(why(&house, ticket)["reason"], "relay_not_permitted");
    }
    house.gateway.wait_metric("gatepost_tickets_dropped_total", 0.0);
}
