//! The checker: what clients sent and saw acknowledged, against what destinations received.
//!
//! The promise it holds Gatepost to: every acknowledged recipient is delivered, bounced or still
//! queued; every content is byte-identical; nothing was invented. Duplicates are listed, since a
//! crash between a delivery and its record may cause one and nothing else may. Pure: it fits sockets
//! and the simulator alike.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::message::{self, Fingerprint};

/// How a transaction ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client saw the 250 after the last dot: from here on the message must not be lost.
    Acknowledged,
    /// The client saw a 5xx: the message must not be delivered.
    Refused,
    /// A 4xx, or the connection was lost: the message may be delivered or not.
    Unknown,
}

/// One message as the client knows it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Unique in the ledger; carried in the message.
    pub serial: u64,
    /// The reverse-path without brackets.
    pub reverse_path: String,
    /// The recipients that were answered with 250.
    pub recipients: Vec<String>,
    /// Of the content as handed over.
    pub fingerprint: Fingerprint,
    /// What the client saw in the end.
    pub outcome: Outcome,
}

/// One transaction as the destination saw it, up to and including the last dot.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The serial number that the message carries; none when it is not of the ledger.
    pub serial: Option<u64>,
    /// The reverse-path without brackets.
    pub reverse_path: String,
    /// The recipients of this transaction.
    pub recipients: Vec<String>,
    /// Of the content without the gateway's own `Received` field.
    pub fingerprint: Fingerprint,
    /// For a delivery status notification, the recipients that it reports as failed (RFC 3464).
    pub bounced: Vec<String>,
}

impl Arrival {
    /// What a destination records of `content`: not dot-stuffed, with the gateway's trace still on it.
    #[must_use]
    pub fn new(reverse_path: &str, recipients: &[String], content: &[u8]) -> Self {
        let stripped = message::without_trace(content);
        let bounced = if reverse_path.is_empty() { failed_recipients(content) } else { Vec::new() };
        Self {
            serial: message::serial_of(content),
            reverse_path: reverse_path.to_owned(),
            recipients: recipients.to_vec(),
            fingerprint: Fingerprint::of(stripped),
            bounced,
        }
    }
}

fn failed_recipients(content: &[u8]) -> Vec<String> {
    message::field(content, "Final-Recipient")
        .map(|value| value.rsplit(';').next().unwrap_or_default().trim().to_owned())
        .collect()
}

/// A recipient of a message of the ledger: serial number and address.
pub type Delivery = (u64, String);

/// Both ledgers of a run, and what the spool still holds.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What clients sent.
    pub sent: Vec<Sent>,
    /// What destinations received, in order of arrival.
    pub arrivals: Vec<Arrival>,
    /// Recipients that a dump of the spool shows as still queued.
    pub queued: BTreeSet<Delivery>,
}

/// What the checker found. Every list names serial number and recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that were acknowledged to a client.
    pub acknowledged: u64,
    /// Recipients of acknowledged messages that were delivered.
    pub delivered: u64,
    /// Recipients of acknowledged messages that were reported to their sender as failed.
    pub bounced: u64,
    /// Recipients of acknowledged messages that are still queued.
    pub queued: u64,
    /// Acknowledged recipients that are neither delivered nor bounced nor queued.
    pub lost: Vec<Delivery>,
    /// Deliveries whose content or reverse-path is not what was sent.
    pub altered: Vec<Delivery>,
    /// Deliveries that were not asked for: unknown message, unknown recipient, or a refused message.
    pub invented: Vec<Delivery>,
    /// Deliveries that arrived more than once.
    pub duplicated: Vec<Delivery>,
}

impl Report {
    /// Nothing lost, altered or invented. Duplicates are allowed: judge them where no crash happened
    /// with [`Report::is_exact`].
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.lost.is_empty() && self.altered.is_empty() && self.invented.is_empty()
    }

    /// Nothing lost, altered, invented or duplicated.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.is_kept() && self.duplicated.is_empty()
    }

    /// # Panics
    /// With the report, unless [`Report::is_kept`].
    pub fn assert_kept(&self) {
        assert!(self.is_kept(), "the promise was broken: {self}");
    }

    /// # Panics
    /// With the report, unless [`Report::is_exact`].
    pub fn assert_exact(&self) {
        assert!(self.is_exact(), "the promise was broken: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged; recipients: {} delivered, {} bounced, {} queued",
            self.acknowledged, self.delivered, self.bounced, self.queued
        )?;
        let lists = [
            ("lost", &self.lost),
            ("altered", &self.altered),
            ("invented", &self.invented),
            ("duplicated", &self.duplicated),
        ];
        for (name, list) in lists {
            write!(f, ", {} {name}", list.len())?;
            for (serial, recipient) in list.iter().take(5) {
                write!(f, " [{serial} to {recipient}]")?;
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// Compares the ledgers.
    #[must_use]
    pub fn check(&self) -> Report {
        let sent: BTreeMap<u64, &Sent> = self.sent.iter().map(|sent| (sent.serial, sent)).collect();
        assert_eq!(sent.len(), self.sent.len(), "a serial number was used for two messages");
        let mut report = Report::default();
        let mut delivered: BTreeMap<Delivery, u32> = BTreeMap::new();
        let mut bounced: BTreeSet<Delivery> = BTreeSet::new();
        for arrival in &self.arrivals {
            if arrival.bounced.is_empty() {
                judge_delivery(arrival, &sent, &mut delivered, &mut report);
            } else {
                judge_bounce(arrival, &sent, &mut bounced, &mut report);
            }
        }
        report.duplicated =
            delivered.iter().filter(|(_, times)| **times > 1).map(|(to, _)| to.clone()).collect();
        for message in self.sent.iter().filter(|sent| sent.outcome == Outcome::Acknowledged) {
            report.acknowledged += 1;
            for recipient in &message.recipients {
                let delivery = (message.serial, recipient.clone());
                if delivered.contains_key(&delivery) {
                    report.delivered += 1;
                } else if bounced.contains(&delivery) {
                    report.bounced += 1;
                } else if self.queued.contains(&delivery) {
                    report.queued += 1;
                } else {
                    report.lost.push(delivery);
                }
            }
        }
        report
    }
}

fn judge_delivery(
    arrival: &Arrival,
    sent: &BTreeMap<u64, &Sent>,
    delivered: &mut BTreeMap<Delivery, u32>,
    report: &mut Report,
) {
    let origin = arrival.serial.and_then(|serial| sent.get(&serial));
    for recipient in &arrival.recipients {
        let delivery = (arrival.serial.unwrap_or_default(), recipient.clone());
        match origin {
            Some(sent) if sent.outcome != Outcome::Refused && sent.recipients.contains(recipient) => {
                if sent.fingerprint == arrival.fingerprint && sent.reverse_path == arrival.reverse_path {
                    // Only an intact copy is a delivery: an altered one leaves its recipient unserved.
                    *delivered.entry(delivery).or_default() += 1;
                } else {
                    report.altered.push(delivery);
                }
            }
            _ => report.invented.push(delivery),
        }
    }
}

fn judge_bounce(
    arrival: &Arrival,
    sent: &BTreeMap<u64, &Sent>,
    bounced: &mut BTreeSet<Delivery>,
    report: &mut Report,
) {
    let serial = arrival.serial.unwrap_or_default();
    for recipient in &arrival.bounced {
        let delivery = (serial, recipient.clone());
        let is_due = sent.get(&serial).is_some_and(|sent| {
            sent.recipients.contains(recipient)
                && !sent.reverse_path.is_empty()
                && arrival.recipients.iter().all(|to| *to == sent.reverse_path)
        });
        if is_due {
            bounced.insert(delivery);
        } else {
            report.invented.push(delivery);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(serial: u64) -> Vec<u8> {
        message::content(serial, 1, 500)
    }

    fn sent(serial: u64, outcome: Outcome) -> Sent {
        Sent {
            serial,
            reverse_path: "app@proseware.example".into(),
            recipients: vec!["a@far.example".into(), "b@far.example".into()],
            fingerprint: Fingerprint::of(&message(serial)),
            outcome,
        }
    }

    fn traced(content: &[u8]) -> Vec<u8> {
        [b"Received: from client\r\n\tby relay; now\r\n", content].concat()
    }

    fn arrival(serial: u64, recipients: &[&str]) -> Arrival {
        let recipients: Vec<String> = recipients.iter().map(|&to| to.to_owned()).collect();
        Arrival::new("app@proseware.example", &recipients, &traced(&message(serial)))
    }

    fn kept() -> Ledger {
        Ledger {
            sent: vec![sent(1, Outcome::Acknowledged), sent(2, Outcome::Unknown), sent(3, Outcome::Refused)],
            arrivals: vec![arrival(1, &["a@far.example"]), arrival(1, &["b@far.example"])],
            queued: BTreeSet::new(),
        }
    }

    #[test]
    fn a_kept_promise_is_green() {
        let report = kept().check();
        report.assert_exact();
        assert_eq!((report.acknowledged, report.delivered), (1, 2));
    }

    #[test]
    fn a_lost_recipient_is_red() {
        let mut ledger = kept();
        ledger.arrivals.pop();
        let report = ledger.check();
        assert!(!report.is_kept());
        assert_eq!(report.lost, [(1, "b@far.example".to_owned())]);
    }

    #[test]
    fn a_lost_message_is_red() {
        let mut ledger = kept();
        ledger.arrivals.clear();
        assert_eq!(ledger.check().lost.len(), 2);
    }

    #[test]
    fn one_altered_byte_is_red_and_serves_nobody() {
        let mut ledger = kept();
        let mut content = traced(&message(1));
        let last = content.len() - 3;
        content[last] ^= 1;
        ledger.arrivals[1] = Arrival::new("app@proseware.example", &["b@far.example".into()], &content);
        let report = ledger.check();
        assert_eq!(report.altered, [(1, "b@far.example".to_owned())]);
        assert_eq!(report.lost, report.altered);
    }

    #[test]
    fn a_second_gateway_header_is_an_alteration() {
        let mut ledger = kept();
        let content = traced(&traced(&message(1)));
        ledger.arrivals[0] = Arrival::new("app@proseware.example", &["a@far.example".into()], &content);
        assert!(!ledger.check().is_kept());
    }

    #[test]
    fn another_reverse_path_is_an_alteration() {
        let mut ledger = kept();
        ledger.arrivals[0].reverse_path = "mallory@elsewhere.example".into();
        assert_eq!(ledger.check().altered.len(), 1);
    }

    #[test]
    fn an_invented_message_recipient_or_refused_delivery_is_red() {
        for invented in
            [arrival(9, &["a@far.example"]), arrival(1, &["c@far.example"]), arrival(3, &["a@far.example"])]
        {
            let mut ledger = kept();
            ledger.arrivals.push(invented);
            let report = ledger.check();
            assert!(!report.is_kept());
            assert_eq!(report.invented.len(), 1);
        }
    }

    #[test]
    fn mail_that_carries_no_serial_is_invented() {
        let mut ledger = kept();
        ledger.arrivals.push(Arrival::new("", &["a@far.example".into()], b"Subject: hello\r\n\r\n"));
        assert_eq!(ledger.check().invented.len(), 1);
    }

    #[test]
    fn a_duplicate_is_listed_and_only_exactness_forbids_it() {
        let mut ledger = kept();
        ledger.arrivals.push(arrival(1, &["a@far.example"]));
        let report = ledger.check();
        assert_eq!(report.duplicated, [(1, "a@far.example".to_owned())]);
        assert!(report.is_kept() && !report.is_exact());
    }

    #[test]
    fn an_unknown_outcome_may_go_either_way() {
        let mut ledger = kept();
        ledger.arrivals.push(arrival(2, &["a@far.example"]));
        ledger.check().assert_exact();
    }

    #[test]
    fn what_is_queued_is_not_lost() {
        let mut ledger = kept();
        ledger.arrivals.pop();
        ledger.queued.insert((1, "b@far.example".into()));
        let report = ledger.check();
        report.assert_exact();
        assert_eq!(report.queued, 1);
    }

    #[test]
    fn a_bounce_to_the_sender_accounts_for_its_recipient() {
        let mut ledger = kept();
        ledger.arrivals.pop();
        let notice = format!(
            "From: MAILER-DAEMON\r\n\r\nFinal-Recipient: rfc822; b@far.example\r\nAction: failed\r\n\r\n{}: 1\r\n",
            message::SERIAL_FIELD
        );
        ledger.arrivals.push(Arrival::new("", &["app@proseware.example".into()], notice.as_bytes()));
        let report = ledger.check();
        report.assert_exact();
        assert_eq!(report.bounced, 1);
        ledger.arrivals.push(Arrival::new("", &["victim@elsewhere.example".into()], notice.as_bytes()));
        assert_eq!(ledger.check().invented.len(), 1);
    }
}
