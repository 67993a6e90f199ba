//! Remedies that only a running gateway meets with: a real session is refused, the ticket names the
//! remedy, the change is made by a reload, a command or the client, and the same is taken.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use policy::{Remedy, Rule};
use testbed::dialog::Reply;
use testbed::dns::NameServer;
use testbed::net::{PATIENCE, eventually};
use testbed::proseware::{AUTH_PLAIN, HOTEL, INSIDE, LOGIN, WORK, listen_for_clear_logins};
use testbed::{Configuration, Dialog};

use super::{BOB, KIM};
use crate::g2_explanations::{open_to_questions, ticket_of, why};
use crate::house::House;
use crate::tenant::write_sections;

/// A running gateway, and where it takes logins in the clear.
pub(super) struct Place {
    house: House,
    clear: SocketAddr,
}

pub(super) struct Row {
    pub(super) remedy: Remedy,
    rule: Rule,
    /// What is refused.
    denied: fn(&Place) -> Reply,
    /// Each of them makes a change and is taken.
    changes: &'static [fn(&mut Place)],
}

const CONTENT: &str = "From: kim@proseware.example\r\nSubject: x\r\n\r\nhello\r\n";
const FOREIGN: &str = "From: boss@adatum.example\r\n\r\nx\r\n";

pub(super) const ROWS: &[Row] = &[
    Row {
        remedy: Remedy::CorrectCredentials,
        rule: Rule::Credential,
        denied: |at| {
            Dialog::hello_from(HOTEL, at.clear)
                .command("AUTH PLAIN AHRlcnJpQHByb3Nld2FyZS5leGFtcGxlAHdyb25n", 535)
        },
        changes: &[|at| {
            let mut client = Dialog::hello_from(HOTEL, at.clear);
            client.command(AUTH_PLAIN, 235);
            client.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
            client.command(&format!("RCPT TO:<{BOB}>"), 250);
        }],
    },
    Row {
        remedy: Remedy::Wait,
        rule: Rule::Rate,
        denied: |at| {
            at.house.connect(client(1)).deliver(KIM, &[BOB], CONTENT.as_bytes());
            at.house.connect(client(1)).command(&format!("MAIL FROM:<{KIM}>"), 450)
        },
        changes: &[|at| {
            // A bucket that is full stays full, and frees at the new pace: 36 ms for a message.
            at.edit("messages_per_hour = 1\n", "messages_per_hour = 100000\n");
            let is_taken = || {
                let mut dialog = at.house.connect(client(1));
                dialog.send(format!("MAIL FROM:<{KIM}>\r\n"));
                dialog.reply().expect("a command is answered").code == 250
            };
            assert!(eventually(PATIENCE, is_taken), "the limit is as it was");
        }],
    },
    Row {
        remedy: Remedy::Wait,
        rule: Rule::Connections,
        denied: |at| {
            let _first = at.house.connect(client(2));
            Dialog::connect_from(client(2), at.house.gateway.smtp()).expect(421)
        },
        changes: &[|at| {
            at.edit("connections = 1\n", "connections = 2\n");
            let _first = at.house.connect(client(2));
            at.house.connect(client(2));
        }],
    },
    Row {
        remedy: Remedy::LiftSuspension,
        rule: Rule::Suspension,
        denied: |at| {
            at.tenants("suspend");
            at.house.connect(client(3)).command(&format!("MAIL FROM:<{KIM}>"), 550)
        },
        changes: &[|at| {
            at.tenants("resume");
            at.house.connect(client(3)).command(&format!("MAIL FROM:<{KIM}>"), 250);
        }],
    },
    Row {
        remedy: Remedy::OwnHeaderFrom,
        rule: Rule::HeaderFrom,
        denied: |at| at.message(client(4), FOREIGN, 550),
        changes: &[|at| {
            at.message(client(4), CONTENT, 250);
        }],
    },
    Row {
        remedy: Remedy::EndLines,
        rule: Rule::LineEnding,
        denied: |at| at.message(client(5), &CONTENT.replace("hello\r\n", "one\ntwo\r\n"), 550),
        changes: &[|at| {
            at.message(client(5), &CONTENT.replace("hello\r\n", "one\r\ntwo\r\n"), 250);
        }],
    },
    Row {
        remedy: Remedy::SmallerMessage,
        rule: Rule::MessageSize,
        denied: |at| at.message(client(6), &large(), 552),
        changes: &[
            |at| {
                at.message(client(6), CONTENT, 250);
            },
            |at| {
                at.edit("message_size = \"4KiB\"\n", "message_size = \"1MiB\"\n");
                at.message(client(7), &large(), 250);
            },
        ],
    },
    Row {
        remedy: Remedy::FewerRecipients,
        rule: Rule::RecipientCount,
        denied: |at| at.recipients(452).1,
        changes: &[
            |at| {
                let (mut dialog, _) = at.recipients(452);
                dialog.command("RSET", 250);
                dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
                dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
            },
            |at| {
                at.edit("recipients_per_message = 3\n", "recipients_per_message = 4\n");
                at.recipients(250);
            },
        ],
    },
];

/// Those that DNS decides.
pub(super) const BY_DNS: &[Row] = &[
    Row {
        remedy: Remedy::CorrectDomain,
        rule: Rule::DomainExists,
        denied: |at| at.recipient(INSIDE, KIM, "bob@missing.example", 550),
        changes: &[
            |at| {
                at.recipient(INSIDE, KIM, "bob@adatum.example", 250);
            },
            |at| {
                let next_hop = at.house.gateway.configuration().next_hop;
                let route = format!(
                    "[[route]]\nrecipient_domains = [\"missing.example\"]\nnext_hops = [\"{next_hop}\"]\n"
                );
                at.reload(|configuration| write_sections(configuration, &route));
                at.recipient(INSIDE, KIM, "bob@missing.example", 250);
            },
        ],
    },
    Row {
        remedy: Remedy::TakeOffList,
        rule: Rule::Dnsbl,
        denied: |at| at.recipient(WORK, BOB, LOGIN, 554),
        changes: &[|at| {
            at.reload(|configuration| {
                configuration.node_extra.push_str("\n[lists]\nallowed_clients = \"allowed.txt\"\n");
                configuration.files.push(("allowed.txt".into(), format!("{WORK}\n")));
            });
            at.recipient(WORK, BOB, LOGIN, 250);
        }],
    },
];

#[test]
fn the_change_that_a_remedy_names_turns_a_refusal_of_a_running_gateway() {
    let mut place = Place::open(|configuration| {
        let file = &mut configuration.tenants[0].1;
        *file = format!("check_header_from = true\n{file}");
        write_sections(
            configuration,
            "\n[limits]\nrecipients_per_message = 3\nmessage_size = \"4KiB\"\n\n\
             [limits.client]\nconnections = 1\nmessages_per_hour = 1\n",
        );
    });
    assert_rows_turn(&mut place, ROWS);
}

#[test]
fn the_change_that_a_remedy_names_turns_what_dns_decided() {
    let zone = "adatum IN MX 10 mx.adatum\nmx.adatum IN A 127.0.4.1\n7.2.0.127.zen IN A 127.0.0.2";
    let Some(server) = NameServer::start("g2_remedies_by_dns", zone) else { return };
    let mut place = Place::open(|configuration| {
        configuration.by_mx = true;
        configuration.node_extra.push_str(&server.section());
        configuration.node_extra.push_str("\n[[lists.dnsbl]]\nzone = \"zen.example\"\nname = \"Zen\"\n");
    });
    assert_rows_turn(&mut place, BY_DNS);
}

#[track_caller]
fn assert_rows_turn(place: &mut Place, rows: &[Row]) {
    for Row { remedy, rule, denied, changes } in rows {
        let record = why(&place.house, &ticket_of(&denied(place)));
        assert_eq!(record["rule"], rule.as_str(), "{record}");
        assert_eq!(record["remedy"], remedy.sentence(*rule), "{record}");
        for change in *changes {
            change(place);
        }
    }
}

impl Place {
    fn open(change: impl FnOnce(&mut Configuration)) -> Self {
        let mut clear = None;
        let house = House::start_with(|configuration| {
            open_to_questions(configuration);
            clear = Some(listen_for_clear_logins(configuration));
            change(configuration);
        });
        Self { house, clear: clear.expect("the listener was added") }
    }

    #[track_caller]
    fn message(&self, source: IpAddr, content: &str, code: u16) -> Reply {
        let mut dialog = self.house.connect(source);
        dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
        dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
        dialog.command("DATA", 354);
        dialog.send(format!("{content}.\r\n"));
        dialog.expect(code)
    }

    #[track_caller]
    fn recipient(&self, source: IpAddr, from: &str, to: &str, code: u16) -> Reply {
        let mut dialog = self.house.connect(source);
        dialog.command(&format!("MAIL FROM:<{from}>"), 250);
        dialog.command(&format!("RCPT TO:<{to}>"), code)
    }

    /// Three recipients that are taken, and what the fourth is told.
    #[track_caller]
    fn recipients(&self, code: u16) -> (Dialog, Reply) {
        let mut dialog = self.house.connect(client(8));
        dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
        for number in 0..3 {
            dialog.command(&format!("RCPT TO:<user{number}@adatum.example>"), 250);
        }
        let reply = dialog.command(&format!("RCPT TO:<{BOB}>"), code);
        (dialog, reply)
    }

    fn tenants(&self, act: &str) {
        let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
            .args(["tenants", act, "proseware", "--config"])
            .arg(self.house.gateway.config_path())
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{output:?}");
    }

    /// Another line in the tenant's file.
    #[track_caller]
    fn edit(&mut self, from: &str, to: &str) {
        self.reload(|configuration| {
            let file = &mut configuration.tenants[0].1;
            assert_eq!(file.matches(from).count(), 1, "{from:?} in\n{file}");
            *file = file.replace(from, to);
        });
    }

    fn reload(&mut self, change: impl FnOnce(&mut Configuration)) {
        let gateway = &mut self.house.gateway;
        let generation = gateway.metric("gatepost_policy_generation");
        let mut configuration = gateway.configuration().clone();
        change(&mut configuration);
        gateway.rewrite(configuration);
        gateway.signal("HUP");
        gateway.wait_metric("gatepost_policy_generation", generation + 1.0);
    }
}

/// One of the tenant's clients, each of which has its own limits.
fn client(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 1, last))
}

/// Larger than the limit.
fn large() -> String {
    format!("{CONTENT}{}", "all too much\r\n".repeat(500))
}
