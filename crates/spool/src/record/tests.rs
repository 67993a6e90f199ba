//! Records with whatever fields: what is known comes back, what is not is passed over or refuses its message.

use std::net::IpAddr;

use fastrand::Rng;
use mail::{Address, Envelope, LastReply, MessageId, ReversePath, Status, UnixMillis};

use super::tags::{REQUIRED, message, outcome, said, schedule};
use super::*;
use crate::group::{GroupBuffer, Pool};
use crate::{Content, NewMessage, Outcome};

fn id() -> MessageId {
    MessageId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
}

/// What is read of a record of that message.
fn read(record: &[u8]) -> Record<'_> {
    let (of, read) = parse(record).expect("it is a record");
    assert_eq!(of, id());
    read
}
const CASES: u64 = 2000;

/// Runs `check` with many seeds, and names the one with which it fails.
fn for_all(check: impl Fn(&mut Rng)) {
    for seed in 0..CASES {
        let failed =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut Rng::with_seed(seed))));
        assert!(failed.is_ok(), "seed {seed}");
    }
}

/// A record of these fields and this content, as a group has it.
fn record(kind: u8, fields: &[u8], content: &[u8]) -> Vec<u8> {
    let (mut group, mut pool) = (GroupBuffer::default(), Pool::default());
    group.reserve(HEADER_BYTES + fields.len() + content.len(), &mut pool);
    let (start, length) = group.put_record(kind, id(), fields, &[content]);
    group.bytes(start, length).to_vec()
}

/// The fields with others between them, which no version knows; none of `numbers`.
fn with_strangers(random: &mut Rng, fields: &[u8], numbers: &[u8], bit: u8) -> Vec<u8> {
    let known: Vec<_> = Fields::parse(fields).expect("they are whole").collect();
    let strange = random.usize(0..=known.len());
    let mut out = Vec::new();
    for place in 0..=known.len() {
        if place == strange {
            let unused: Vec<u8> = (1..0x80).filter(|number| !numbers.contains(number)).collect();
            let number = random.choice(&unused).expect("there are some");
            let value: Vec<u8> = (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
            super::fields::put(&mut out, number | bit, &[&value]);
        }
        if let Some(field) = known.get(place) {
            super::fields::put(&mut out, field.tag, &[field.value]);
        }
    }
    out
}

const MESSAGE_NUMBERS: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const SAID_NUMBERS: [u8; 4] = [said::TO, said::REPLY, said::STATUS, said::NEXT_HOP];
const SCHEDULE_NUMBERS: [u8; 7] = [1, 2, 3, said::TO, said::REPLY, said::STATUS, said::NEXT_HOP];

fn text(random: &mut Rng, bytes_max: usize) -> String {
    let mut text: String = (0..random.usize(0..bytes_max)).map(|_| random.char(..)).collect();
    while text.len() > bytes_max {
        text.pop();
    }
    text
}

struct Message {
    envelope: Envelope,
    tenant: String,
    identity: String,
    client: Option<IpAddr>,
    large: Option<LargeBody>,
    head: Vec<u8>,
}

fn any_message(random: &mut Rng) -> Message {
    let mut envelope = Envelope::default();
    let address =
        |random: &mut Rng| format!("{}@d{}.example", "x".repeat(random.usize(1..300)), random.u16(..));
    let from = address(random);
    envelope.begin(if random.bool() {
        ReversePath::Null
    } else {
        ReversePath::Address(Address::parse(&from).unwrap())
    });
    envelope.set_eight_bit(random.bool());
    for _ in 0..random.usize(1..20) {
        envelope.push_recipient(Address::parse(&address(random)).unwrap());
    }
    let client: Option<IpAddr> = match random.u8(..3) {
        0 => None,
        1 => Some(random.u32(..).to_be_bytes().into()),
        _ => Some(random.u128(..).to_be_bytes().into()),
    };
    let login = if random.bool() { "app@acme" } else { "" };
    Message {
        envelope,
        tenant: text(random, 100),
        identity: client.map_or(login.to_owned(), |ip| format!("[{ip}]")),
        client,
        large: random.bool().then(|| LargeBody {
            number: random.u64(..),
            bytes: random.u64(..),
            crc: random.u32(..),
        }),
        head: (0..random.usize(0..500)).map(|_| random.u8(..)).collect(),
    }
}

impl Message {
    fn record(&self, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let new = self.as_new();
        let body = self.large.map_or(Body::Inline(b"the body\r\n"), Body::Large);
        let mut fields = Vec::new();
        put_message(&mut fields, &new, &body).expect("it has room");
        record(kind::MESSAGE, &change(&fields), &content(&new, &body).concat())
    }

    fn as_new(&self) -> NewMessage<'_> {
        NewMessage {
            id: id(),
            arrived: UnixMillis(1_795_390_496_123),
            tenant: &self.tenant,
            identity: &self.identity,
            envelope: &self.envelope,
            head: &self.head,
            content: Content::Inline(b""),
        }
    }

    fn expect(&self, view: &MessageView<'_>) {
        assert_eq!((view.id(), view.arrived(), view.foreign()), (id(), UnixMillis(1_795_390_496_123), None));
        assert_eq!((view.tenant(), view.client(), view.large()), (&*self.tenant, self.client, self.large));
        assert_eq!(view.identity(), if self.client.is_none() { &*self.identity } else { "" });
        assert_eq!(view.reverse_path(), self.envelope.reverse_path());
        assert_eq!(view.is_eight_bit(), self.envelope.is_eight_bit());
        assert!(view.recipients().eq(self.envelope.recipients()));
        let body: &[u8] = if self.large.is_some() { b"" } else { b"the body\r\n.\r\n" };
        assert_eq!(view.content_bytes(), self.head.len() + body.len());
    }
}

fn message_of(record: &[u8]) -> MessageView<'_> {
    match read(record) {
        Record::Message(view) => view,
        other => panic!("{other:?} is no message"),
    }
}

#[test]
fn a_message_comes_back_whatever_optional_fields_are_beside() {
    for_all(|random| {
        let message = any_message(random);
        let record = message.record(|fields| with_strangers(random, fields, &[], 0));
        assert_eq!(sound_length(&record), Some(record.len()));
        message.expect(&message_of(&record));
        // A footer repeats all but the content.
        message.expect(&message_of(&record[..outline_length(&record)]));
    });
}

#[test]
fn a_required_field_that_is_not_known_refuses_the_message() {
    for_all(|random| {
        let message = any_message(random);
        let record = message.record(|fields| with_strangers(random, fields, &MESSAGE_NUMBERS, REQUIRED));
        let view = message_of(&record);
        assert!(matches!(view.foreign(), Some(Foreign::Unknown { kind: kind::MESSAGE, .. })), "{view:?}");
        assert_eq!(view.recipient_count(), message.envelope.recipient_count(), "what is known is shown");
    });
}

fn any_replies(random: &mut Rng, recipients: &[u16]) -> Vec<Said> {
    let replies: Vec<_> = (0..random.usize(1..4))
        .map(|_| LastReply {
            next_hop: random.bool().then(|| text(random, 200).into()),
            code: random.u16(..600),
            status: random.bool().then(|| Status::new(random.u8(..), random.u16(..), random.u16(..))),
            text: text(random, said_text_max()).into(),
        })
        .collect();
    let told = recipients.iter().filter(|_| random.bool()).copied().collect::<Vec<_>>();
    Said::grouped(told.into_iter().map(|recipient| (recipient, random.choice(&replies).unwrap().clone())))
}

fn said_text_max() -> usize {
    super::said::TEXT_BYTES_MAX
}

/// Who was told what, ascending.
fn told(fields: Fields<'_>, recipients: &[u16]) -> Vec<(u16, LastReply)> {
    let told = crate::replies::told(read_said(fields).into_iter(), recipients.iter().copied());
    let mut told: Vec<_> = told.map(|(recipient, reply)| (recipient, (*reply).clone())).collect();
    told.sort_unstable_by_key(|(recipient, _)| *recipient);
    told
}

fn expected(said: &[Said]) -> Vec<(u16, LastReply)> {
    let each = |said: &Said| said.recipients.iter().map(|to| (*to, said.reply.clone())).collect::<Vec<_>>();
    let mut all: Vec<_> = said.iter().flat_map(each).collect();
    all.sort_unstable_by_key(|(recipient, _)| *recipient);
    all
}

fn any_recipients(random: &mut Rng) -> Vec<u16> {
    (0..random.u16(1..200)).filter(|_| random.u8(..3) == 0).chain([200]).collect()
}

#[test]
fn attempts_and_deferrals_come_back_with_what_was_said() {
    for_all(|random| {
        let recipients = any_recipients(random);
        let replies = any_replies(random, &recipients);
        let (time, attempts) = (UnixMillis(random.u64(..)), random.u16(..));
        let mut fields = Vec::new();
        put_schedule(&mut fields, &recipients, time, attempts, &replies);
        let fields = with_strangers(random, &fields, &SAID_NUMBERS, 0);
        for scheduled in [Scheduled::Attempt, Scheduled::Deferred] {
            let record = record(scheduled.kind(), &fields, b"");
            let view = match read(&record) {
                Record::Attempt(view) if scheduled == Scheduled::Attempt => view,
                Record::Deferred(view) if scheduled == Scheduled::Deferred => view,
                other => panic!("{other:?}"),
            };
            assert_eq!((view.time(), view.attempts()), (time, attempts));
            assert!(view.recipients().eq(recipients.iter().copied()));
            assert_eq!(told(view.fields(), &recipients), expected(&replies));
        }
        let fields = with_strangers(random, &fields, &SCHEDULE_NUMBERS, REQUIRED);
        let record = record(kind::DEFERRED, &fields, b"");
        let foreign = read(&record).foreign();
        assert!(matches!(foreign, Some(Foreign::Unknown { kind: kind::DEFERRED, .. })), "{foreign:?}");
    });
}

#[test]
fn outcomes_come_back_with_what_was_said() {
    for_all(|random| {
        let outcomes: Vec<_> = any_recipients(random)
            .into_iter()
            .map(|to| (to, *random.choice(&[Outcome::Delivered, Outcome::Failed, Outcome::Expired]).unwrap()))
            .collect();
        let recipients: Vec<_> = outcomes.iter().map(|(to, _)| *to).collect();
        let replies = any_replies(random, &recipients);
        let mut fields = Vec::new();
        put_outcomes(&mut fields, &outcomes, &replies);
        let whole = record(kind::OUTCOME, &with_strangers(random, &fields, &SAID_NUMBERS, 0), b"");
        let Record::Outcome(view) = read(&whole) else { panic!("{whole:?}") };
        let mut found: Vec<_> = view.outcomes().collect();
        found.sort_unstable_by_key(|(to, _)| *to);
        assert_eq!(found, outcomes);
        assert_eq!(told(view.fields(), &recipients), expected(&replies));
        let strange =
            record(kind::OUTCOME, &with_strangers(random, &fields, &SCHEDULE_NUMBERS, REQUIRED), b"");
        let foreign = read(&strange).foreign();
        assert!(matches!(foreign, Some(Foreign::Unknown { kind: kind::OUTCOME, .. })), "{foreign:?}");
    });
}

#[test]
fn a_type_that_is_not_known_is_passed_over_or_refuses_its_message() {
    let of = |kind| read(&record(kind, &[], b"something")).foreign();
    assert_eq!((of(0x7f), of(0xff)), (None, Some(Foreign::Kind(0xff))));
}

/// One field.
fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    super::fields::put(&mut out, tag, &[value]);
    out
}

/// What is not understood of a record of these fields.
fn foreign(kind: u8, fields: &[Vec<u8>]) -> Option<Foreign> {
    read(&record(kind, &fields.concat(), b"")).foreign()
}

#[test]
fn what_cannot_be_read_of_a_message_names_the_field() {
    let arrived = field(message::ARRIVED, &[0; 8]);
    let tenant = field(message::TENANT, b"acme");
    let to = field(message::RECIPIENT, b"a@b.example");
    let good = [arrived.clone(), tenant.clone(), to.clone()];
    assert_eq!(foreign(kind::MESSAGE, &good), None);
    for (tag, value) in [
        (message::ARRIVED, &[0; 7][..]),
        (message::TENANT, b"\xff"),
        (message::LOGIN, b"\xff"),
        (message::CLIENT, &[0; 5]),
        (message::REVERSE_PATH, b"no address"),
        (message::REVERSE_PATH, b""),
        (message::EIGHT_BIT, b"1"),
        (message::LARGE, &[0; 19]),
        (message::RECIPIENT, b"no address"),
        (message::RECIPIENT, b"\xff@b.example"),
        // These stand there already.
        (message::TENANT, b"acme"),
        (message::ARRIVED, &[0; 8]),
    ] {
        let fields = [&good[..], &[field(tag, value)]].concat();
        assert_eq!(
            foreign(kind::MESSAGE, &fields),
            Some(Foreign::Value { kind: kind::MESSAGE, tag }),
            "{tag:#x}"
        );
    }
    for (fields, tag) in [
        ([&tenant, &to], message::ARRIVED),
        ([&arrived, &to], message::TENANT),
        ([&arrived, &tenant], message::RECIPIENT),
    ] {
        let missing = Some(Foreign::Missing { kind: kind::MESSAGE, tag });
        assert_eq!(foreign(kind::MESSAGE, &fields.map(Clone::clone)), missing);
    }
}

#[test]
fn what_cannot_be_read_of_a_deferral_or_an_outcome_names_the_field() {
    let (time, attempts) = (field(schedule::TIME, &[0; 8]), field(schedule::ATTEMPTS, &[0; 2]));
    let deferred = |fields: &[Vec<u8>]| foreign(kind::DEFERRED, fields);
    assert_eq!(deferred(&[time.clone(), attempts.clone()]), None);
    let kind = kind::DEFERRED;
    assert_eq!(
        deferred(std::slice::from_ref(&time)),
        Some(Foreign::Missing { kind, tag: schedule::ATTEMPTS })
    );
    assert_eq!(
        deferred(std::slice::from_ref(&attempts)),
        Some(Foreign::Missing { kind, tag: schedule::TIME })
    );
    for wrong in
        [field(schedule::RECIPIENTS, &[1]), field(schedule::TIME, &[1]), field(schedule::ATTEMPTS, &[1; 2])]
    {
        let tag = wrong[0];
        let fields = [time.clone(), attempts.clone(), wrong];
        assert_eq!(deferred(&fields), Some(Foreign::Value { kind, tag }));
    }
    let outcome = foreign(kind::OUTCOME, &[field(outcome::FAILED, &[1])]);
    assert_eq!(outcome, Some(Foreign::Value { kind: kind::OUTCOME, tag: outcome::FAILED }));
    assert!(outcome.unwrap().to_string().starts_with("its outcome record has a field 0x82 that "));
}

#[test]
fn what_was_said_is_passed_over_where_it_is_malformed() {
    let all_told = |fields: &[(u8, &[u8])]| {
        let mut out = Vec::new();
        fields.iter().for_each(|(tag, value)| super::fields::put(&mut out, *tag, &[value]));
        told(Fields::parse(&out).unwrap(), &[0, 1])
            .into_iter()
            .map(|(to, reply)| (to, reply.told_to("")))
            .collect::<Vec<_>>()
    };
    let busy = (said::REPLY, &b"\xc2\x01busy"[..]);
    let all = [(0, "450 busy".to_owned()), (1, "450 busy".to_owned())];
    assert_eq!(all_told(&[busy]), all);
    assert_eq!(all_told(&[busy, (said::STATUS, b"1")]), all, "a status of one byte");
    assert_eq!(all_told(&[busy, (said::NEXT_HOP, b"\xff")]), all, "a next hop that is no text");
    assert_eq!(all_told(&[busy, (said::REPLY, b"\xc3\x01full")]), all, "two replies to all");
    assert_eq!(all_told(&[(said::REPLY, b"\xc2")]), []);
    assert_eq!(all_told(&[(said::REPLY, b"\xc2\x01\xff")]), []);
    assert_eq!(all_told(&[(said::TO, b"\x01"), busy]), [], "a list that is none");
    assert_eq!(all_told(&[(said::TO, b"\x01\0"), busy]), all[1..]);
    // A status of a reply that is not taken belongs to no other.
    assert_eq!(
        all_told(&[(said::TO, b"\x01\0"), busy, (said::REPLY, b"x"), (said::STATUS, &[4, 0, 0, 0, 0])]),
        all[1..]
    );
}

#[test]
fn a_reply_is_kept_in_120_bytes_of_whole_characters() {
    let long = LastReply { next_hop: None, code: 550, status: None, text: "é".repeat(100).into() };
    let mut fields = Vec::new();
    put_said(&mut fields, &[Said { recipients: vec![0], reply: long }], 1);
    let [(None, reply)] = &read_said(Fields::parse(&fields).unwrap())[..] else { panic!("one reply to all") };
    assert_eq!(&*reply.text, format!("{}…", "é".repeat(58)));
    assert!(reply.text.len() <= 120);
}

#[test]
fn hostile_bytes_are_read_without_harm() {
    for_all(|random| {
        let message = any_message(random);
        let mut record = message.record(<[u8]>::to_vec);
        if random.bool() {
            let recipients = any_recipients(random);
            let mut fields = Vec::new();
            put_schedule(&mut fields, &recipients, UnixMillis(7), 1, &any_replies(random, &recipients));
            record = self::record(random.u8(..6) | REQUIRED, &fields, b"");
        }
        for _ in 0..random.usize(1..8) {
            let at = random.usize(..record.len());
            record[at] = random.u8(..);
        }
        record.truncate(random.usize(..=record.len()));
        if record.len() >= HEADER_BYTES && random.bool() {
            let length = record.len() as u32;
            record[LENGTH_AT..CRC_AT].copy_from_slice(&length.to_le_bytes());
        }
        sound_length(&record);
        let Some((_, read)) = parse(&record) else { return };
        match read {
            Record::Message(view) if view.foreign().is_none() => {
                assert_eq!(view.recipients().count(), view.recipient_count());
                let _ = (view.reverse_path(), view.tenant(), view.identity(), view.content_bytes());
            }
            Record::Message(view) => assert_eq!(view.recipient_texts().count(), view.recipient_count()),
            Record::Attempt(view) | Record::Deferred(view) => drop(told(view.fields(), &[0, 1])),
            Record::Outcome(view) => drop(view.outcomes().count()),
            Record::Foreign(_) | Record::Other => {}
        }
    });
}

/// What version 1 took for the records of a message and of its delivery.
fn bytes_in_version_1(message: &NewMessage<'_>, content: usize) -> usize {
    let envelope = message.envelope;
    let recipients: usize = envelope.recipients().map(|to| 2 + to.text().len()).sum();
    let texts = message.tenant.len() + message.identity.len() + envelope.reverse_path().text().len();
    (64 + texts + recipients + content) + (24 + 4 * envelope.recipient_count())
}

#[test]
fn a_plain_message_that_is_delivered_takes_at_most_2_percent_more_than_in_version_1() {
    for recipients in [1, 2, 10, 100] {
        for content in [200, 1000, 10_000] {
            let mut envelope = Envelope::default();
            envelope.begin(ReversePath::Address(Address::parse("app@proseware.example").unwrap()));
            for number in 0..recipients {
                envelope.push_recipient(Address::parse(&format!("someone{number}@far.example")).unwrap());
            }
            let head = vec![b'x'; content];
            let new = NewMessage {
                id: id(),
                arrived: UnixMillis(1_795_390_496_000),
                tenant: "proseware",
                identity: "app@proseware.example",
                envelope: &envelope,
                head: &head,
                content: Content::Inline(b""),
            };
            let (mut fields, mut delivered) = (Vec::new(), Vec::new());
            put_message(&mut fields, &new, &Body::Inline(b"")).unwrap();
            let outcomes: Vec<_> = (0..recipients).map(|to| (to, Outcome::Delivered)).collect();
            put_outcomes(&mut delivered, &outcomes, &[]);
            let content = content + 3;
            let now = record_bytes(&fields, content).unwrap() + record_bytes(&delivered, 0).unwrap();
            let before = bytes_in_version_1(&new, content);
            assert!(now * 100 <= before * 102, "{now} bytes, {before} before, for {recipients} recipients");
        }
    }
}
