use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use mail::UnixMillis;
use policy::{Origin, Snapshot, Source};

use super::store::Store;
use super::*;

const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
const CAPACITY_BYTES: u64 = 8 << 20;

fn ticket(number: u64) -> Ticket {
    // Spread over the key space as random tickets are.
    Ticket::from_random(u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C834))
}

fn record(number: u64, unix_millis: u64) -> Record {
    Record {
        ticket: ticket(number).to_string(),
        time: UnixMillis(unix_millis).rfc3339().to_string(),
        unix_millis,
        listener: "smtp".into(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: false,
        login: None,
        grants: Vec::new(),
        helo: "client.example".into(),
        from: "kim@proseware.example".into(),
        recipients: vec!["bob@adatum.example".into()],
        recipient_count: 1,
        repeated: 0,
        verdict: "deny".into(),
        reason: "relay_not_permitted".into(),
        code: "550 5.7.1".into(),
        rule: "responsibility".into(),
        tenant: None,
        sender_tenants: Vec::new(),
        suspension: None,
        detail: None,
        generation: 1,
        steps: Vec::new(),
        remedy: Some("x".repeat(600)),
    }
}

fn open(path: &Path) -> Store {
    Store::open(path, CAPACITY_BYTES, MONTH).expect("the folder can be written").0
}

#[test]
fn a_tenant_reads_all_of_its_own_peoples_tickets_and_nothing_of_who_others_are() {
    let source = Source {
        generation: 1,
        origin: Origin::new("gatepost.toml", 1),
        routes: Vec::new(),
        lists: policy::ListsSource::default(),
        limits: Default::default(),
        tenants: Vec::new(),
    };
    let snapshot = Snapshot::compile(&source).unwrap();
    let step = RecordedStep {
        rule: "login".into(),
        outcome: "pass".into(),
        detail: "terri@proseware.example has logged in".into(),
        file: Some("tenants/proseware.toml".into()),
        line: Some(7),
    };
    let whole = Record {
        tenant: Some("contoso".into()),
        sender_tenants: vec!["contoso".into()],
        login: Some("terri@proseware.example".into()),
        grants: vec!["terri@proseware.example".into()],
        detail: Some("120 an hour for terri@proseware.example".into()),
        remedy: Some("add it in tenants/proseware.toml".into()),
        steps: vec![step],
        ..record(1, 5000)
    };
    assert_eq!(whole.clone().for_tenant("contoso", &snapshot), whole);
    for sender_tenants in [vec![], vec!["proseware".into()], vec!["contoso".into(), "proseware".into()]] {
        let shown = Record { sender_tenants, ..whole.clone() }.for_tenant("contoso", &snapshot);
        assert_eq!((&shown.ticket, &shown.rule), (&whole.ticket, &whole.rule));
        assert_eq!((&shown.recipients, shown.steps.len()), (&whole.recipients, 1));
        let json = serde_json::to_string(&shown).unwrap();
        assert!(!json.contains("terri") && !json.contains("proseware.toml"), "{json}");
        assert!(shown.sender_tenants.is_empty());
    }
}

#[test]
fn a_ticket_is_found_again_by_the_next_life_of_the_gateway_and_by_a_reader_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tickets.redb");
    let store = open(&path);
    store.write([record(1, 5000)].iter(), UnixMillis(5000)).unwrap();
    assert_eq!(read_stored(&path, ticket(1)).unwrap(), Some(record(1, 5000)));
    assert_eq!(read_stored(&path, ticket(2)).unwrap(), None);
    drop(store);
    assert_eq!(open(&path).read(ticket(1)).unwrap(), Some(record(1, 5000)));
}

#[test]
fn a_file_that_the_process_was_killed_over_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("tickets.redb"), folder.path().join("copy.redb"));
    let store = open(&path);
    store.write([record(1, 5000)].iter(), UnixMillis(5000)).unwrap();
    // What a kill leaves: the file as it is while it is open.
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(open(&copy).read(ticket(1)).unwrap(), Some(record(1, 5000)));
}

#[test]
fn the_oldest_are_forgotten_first_and_the_file_keeps_within_its_capacity() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tickets.redb");
    let store = open(&path);
    for batch in 0..200_u64 {
        let records: Vec<_> = (batch * 100..(batch + 1) * 100).map(|number| record(number, number)).collect();
        store.write(records.iter(), UnixMillis(0)).unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes <= CAPACITY_BYTES, "{bytes} bytes after {batch} batches");
    }
    assert_eq!(store.read(ticket(0)).unwrap(), None);
    let kept = (0..20_000).filter(|&number| store.read(ticket(number)).unwrap().is_some()).count();
    assert!(kept > 1500, "{kept} of {CAPACITY_BYTES} bytes' worth are kept");
    assert!((20_000 - kept as u64..20_000).all(|number| store.read(ticket(number)).unwrap().is_some()));
}

#[test]
fn the_storm_of_one_client_takes_no_other_clients_ticket() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("tickets.redb"));
    let client = |number: u64| IpAddr::V4(Ipv4Addr::from_bits(0xC633_6400 + number as u32));
    // A hundred clients with a few tickets each, the oldest of all.
    let few: Vec<_> =
        (0..300).map(|number| Record { client: client(number % 100), ..record(number, number) }).collect();
    store.write(few.iter(), UnixMillis(0)).unwrap();
    for batch in 1..220_u64 {
        // All of an IPv6 /64 is one client.
        let storm = (batch * 1000..batch * 1000 + 100).map(|number| {
            let address = std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number));
            Record { client: address.into(), ..record(number, number) }
        });
        let storm: Vec<_> = storm.collect();
        store.write(storm.iter(), UnixMillis(0)).unwrap();
    }
    assert!((0..300).all(|number| store.read(ticket(number)).unwrap().is_some()));
    assert_eq!(store.read(ticket(1000)).unwrap(), None, "its own oldest are forgotten");
    assert!(store.read(ticket(219_099)).unwrap().is_some());
}

#[test]
fn who_has_what_is_known_to_the_next_life_of_the_gateway_and_of_older_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tickets.redb");
    let store = open(&path);
    let other = Record { client: "198.51.100.7".parse().unwrap(), ..record(1, 1) };
    store.write([other].iter(), UnixMillis(0)).unwrap();
    drop(store);
    super::store::forget_clients(&path);
    for batch in 1..60_u64 {
        // Opened anew each time.
        let store = open(&path);
        let records: Vec<_> = (batch * 100..(batch + 1) * 100).map(|number| record(number, number)).collect();
        store.write(records.iter(), UnixMillis(0)).unwrap();
    }
    assert!(open(&path).read(ticket(1)).unwrap().is_some());
    assert!(std::fs::metadata(&path).unwrap().len() <= CAPACITY_BYTES);
}

#[test]
fn a_ticket_is_forgotten_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("tickets.redb"));
    store.write([record(1, 1000), record(2, 2000)].iter(), UnixMillis(2000)).unwrap();
    store.write([].iter(), UnixMillis(1500 + MONTH.as_millis() as u64)).unwrap();
    assert_eq!(store.read(ticket(1)).unwrap(), None);
    assert_eq!(store.read(ticket(2)).unwrap(), Some(record(2, 2000)));
}

#[test]
fn what_is_no_file_of_tickets_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tickets.redb");
    std::fs::write(&path, b"this was never a file of tickets".repeat(400)).unwrap();
    let (store, aside) = Store::open(&path, CAPACITY_BYTES, MONTH).expect("a new one is begun");
    assert!(aside.expect("the old one is somewhere").exists());
    assert_eq!(store.read(ticket(1)).unwrap(), None);
}

#[test]
fn a_file_that_another_holds_stops_the_start_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tickets.redb");
    let _holder = open(&path);
    let error = Store::open(&path, CAPACITY_BYTES, MONTH).err().expect("one process writes").to_string();
    assert!(error.contains("tickets.redb") && error.contains("another Gatepost"), "{error}");
}
