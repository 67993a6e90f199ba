use proptest::prelude::*;
use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader, Tlv};

use super::*;

const CLIENT: &str = "203.0.113.9:40001";
const SERVER: &str = "198.51.100.1:25";
const CLIENT_V6: &str = "[2001:db8::9]:40001";
const SERVER_V6: &str = "[2001:db8::1]:25";

/// A header of version 2 by another implementation.
fn v2(header: &ProxyHeader<'_>) -> Vec<u8> {
    let mut buffer = vec![0; HEADER_BYTES_MAX];
    let bytes = header.encode_to_slice_v2(&mut buffer).unwrap();
    buffer.truncate(bytes);
    buffer
}

fn from(client: &str, server: &str) -> ProxyHeader<'static> {
    ProxyHeader::with_address(ProxiedAddress::stream(client.parse().unwrap(), server.parse().unwrap()))
}

/// Appends a checksum extension, as HAProxy's `proxy-v2-options crc32c` does.
fn with_checksum(mut header: Vec<u8>) -> Vec<u8> {
    let at = header.len() + 3;
    header.extend([TLV_CRC32C, 0, 4, 0, 0, 0, 0]);
    let rest = (header.len() - V2_FIXED_BYTES) as u16;
    header[14..16].copy_from_slice(&rest.to_be_bytes());
    let checksum = crc32c::crc32c(&header);
    header[at..].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// What a header says, whatever follows it and wherever it is cut.
fn said(header: &[u8]) -> Result<Option<SocketAddr>, Fault> {
    for cut in 0..header.len() {
        match parse(&header[..cut]) {
            Ok(None) => {}
            Ok(Some(early)) => panic!("{early:?} of {cut} bytes"),
            Err(fault) => return Err(fault),
        }
    }
    for follows in [&b""[..], b"EHLO client.example\r\n", &[0x16, 3, 1]] {
        match parse(&[header, follows].concat())? {
            Some(whole) => assert_eq!(whole.bytes, header.len()),
            None => panic!("all of it has come"),
        }
    }
    Ok(parse(header)?.expect("all of it has come").client)
}

#[test]
fn version_1_names_the_client() {
    for (line, client) in [
        ("PROXY TCP4 203.0.113.9 198.51.100.1 40001 25\r\n", Some(CLIENT)),
        ("PROXY TCP6 2001:db8::9 2001:db8::1 40001 25\r\n", Some(CLIENT_V6)),
        ("PROXY TCP6 ::ffff:203.0.113.9 ::1 40001 25\r\n", Some(CLIENT)),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff:f::f whatever 1 2\r\n", None),
        ("PROXY TCP4 0.0.0.0 198.51.100.1 0 25\r\n", None),
        ("PROXY TCP6 ::ffff:0.0.0.0 ::1 0 25\r\n", None),
    ] {
        assert_eq!(said(line.as_bytes()), Ok(client.map(|text| text.parse().unwrap())), "{line}");
    }
}

#[test]
fn version_1_is_taken_in_its_only_form() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY  TCP4 203.0.113.9 198.51.100.1 40001 25\r\n",
        "PROXY TCP4  203.0.113.9 198.51.100.1 40001 25\r\n",
        "PROXY TCP4 203.0.113.9 198.51.100.1 40001 25 \r\n",
        "PROXY TCP4 203.0.113.9 198.51.100.1 40001\r\n",
        "PROXY TCP4 203.0.113.9 198.51.100.1 40001 65536\r\n",
        "PROXY TCP4 203.0.113.9 198.51.100.1 +1 25\r\n",
        "PROXY TCP4 203.0.113.9 198.51.100.1 01 25\r\n",
        "PROXY TCP4 203.0.113.09 198.51.100.1 1 25\r\n",
        "PROXY TCP4 2001:db8::9 2001:db8::1 40001 25\r\n",
        "PROXY TCP6 203.0.113.9 198.51.100.1 40001 25\r\n",
        "PROXY TCP6 [2001:db8::9] 2001:db8::1 40001 25\r\n",
        "PROXY UDP4 203.0.113.9 198.51.100.1 40001 25\r\n",
        "PROXY tcp4 203.0.113.9 198.51.100.1 40001 25\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4 203.0.113.9 198.51.100.1 40001 25\n",
        "PROXY UNKNOWN \u{e9}\r\rEHLO\n",
    ] {
        assert_eq!(said(line.as_bytes()), Err(Fault::Malformed), "{line}");
    }
}

#[test]
fn version_1_ends_within_107_bytes() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 16));
    assert_eq!((longest.len(), said(longest.as_bytes())), (107, Ok(None)));
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 15));
    assert_eq!(said(longer.as_bytes()), Err(Fault::TooLong));
}

#[test]
fn version_2_names_the_client() {
    assert_eq!(said(&v2(&from(CLIENT, SERVER))), Ok(Some(CLIENT.parse().unwrap())));
    assert_eq!(said(&v2(&from(CLIENT_V6, SERVER_V6))), Ok(Some(CLIENT_V6.parse().unwrap())));
    let mapped = from("[::ffff:203.0.113.9]:40001", SERVER_V6);
    assert_eq!(said(&v2(&mapped)), Ok(Some(CLIENT.parse().unwrap())));
    let mut extended = from(CLIENT, SERVER);
    extended.append_tlv(Tlv::Authority("relay.example".into()));
    extended.append_tlv(Tlv::Noop(100));
    assert_eq!(said(&v2(&extended)), Ok(Some(CLIENT.parse().unwrap())));
    assert_eq!(said(&with_checksum(v2(&extended))), Ok(Some(CLIENT.parse().unwrap())));
}

#[test]
fn version_2_without_an_address_names_no_client() {
    assert_eq!(said(&v2(&ProxyHeader::with_local())), Ok(None));
    assert_eq!(said(&v2(&from("0.0.0.0:0", SERVER))), Ok(None));
    let header = |command: u8, family: u8, rest: &[u8]| {
        let mut header = V2.to_vec();
        header.extend([command, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    };
    assert_eq!(said(&header(0x20, 0x11, b"a LOCAL's addresses, which are not read")), Ok(None));
    assert_eq!(said(&header(0x21, 0x00, b"of an unspecified family")), Ok(None));
    assert_eq!(said(&header(0x21, 0x31, &[b'/'; 216])), Ok(None));
    for (command, family, rest) in [
        (0x21, 0x11, &[1; 11][..]),
        (0x21, 0x21, &[1; 35]),
        (0x21, 0x31, &[1; 215]),
        (0x21, 0x12, &[1; 12]),
        (0x21, 0x41, &[1; 12]),
        (0x22, 0x11, &[1; 12]),
        (0x11, 0x11, &[1; 12]),
        (0x21, 0x11, &[1; 14]),
        (0x21, 0x11, b"addresses...\x03\x00\x03abc"),
        (0x21, 0x11, b"addresses...\x04\x00\x04abc"),
    ] {
        let header = header(command, family, rest);
        assert_eq!(said(&header), Err(Fault::Malformed), "{}", header.escape_ascii());
    }
}

#[test]
fn version_2_is_bounded_and_held_against_its_checksum() {
    let mut header = with_checksum(v2(&from(CLIENT, SERVER)));
    for at in [16, 20, 24, header.len() - 1] {
        header[at] ^= 1;
        assert_eq!(said(&header), Err(Fault::Checksum));
        header[at] ^= 1;
    }
    let rest = (HEADER_BYTES_MAX - V2_FIXED_BYTES + 1) as u16;
    let mut longer = v2(&ProxyHeader::with_local());
    longer[14..16].copy_from_slice(&rest.to_be_bytes());
    assert_eq!(parse(&longer), Err(Fault::TooLong), "before the rest of it is awaited");
}

#[test]
fn whatever_else_comes_is_no_header_at_its_first_odd_byte() {
    for input in ["E", "EHLO client.example\r\n", "PROXIES", "proxy TCP4", "\r\n\r\nQ", "\u{16}\u{3}\u{1}"] {
        assert_eq!(parse(input.as_bytes()), Err(Fault::Missing), "{input:?}");
    }
}

#[test]
fn the_watch_sees_a_header_in_any_pieces_and_only_at_the_start() {
    for header in [&b"PROXY TCP4 203.0.113.9 198.51.100.1 1 25\r\n"[..], &v2(&from(CLIENT, SERVER))] {
        for step in 1..header.len() {
            let mut watch = Watch::default();
            assert_eq!(header.chunks(step).filter(|piece| watch.sees_header(piece)).count(), 1);
            let mut later = Watch::default();
            let input = [b"EHLO a\r\n", header].concat();
            assert!(!input.chunks(step).any(|piece| later.sees_header(piece)));
        }
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(mut input in proptest::collection::vec(any::<u8>(), 0..300), start in 0..4_usize) {
        let starts = [&b""[..], V1, V2, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x40"];
        input.splice(0..0, starts[start].iter().copied());
        if let Ok(Some(header)) = parse(&input) {
            prop_assert!(header.bytes <= input.len());
            prop_assert_eq!(parse(&input[..header.bytes]), Ok(Some(header)));
            prop_assert_eq!(parse(&input[..header.bytes - 1]), Ok(None));
        }
    }

    #[test]
    fn what_is_taken_another_implementation_takes_too(
        line in "PROXY (TCP4|TCP6|UNKNOWN)( [0-9.:a-f]{1,12}){0,2}( [0-9]{1,6}){0,2}\r\n",
        v2_rest in proptest::collection::vec(any::<u8>(), 12..40),
    ) {
        let mut binary = V2.to_vec();
        binary.extend([0x21, if v2_rest.len() < 36 { 0x11 } else { 0x21 }, 0, v2_rest.len() as u8]);
        binary.extend(v2_rest);
        for input in [line.as_bytes(), &binary] {
            let Ok(Some(header)) = parse(input) else { continue };
            let (theirs, bytes) = ProxyHeader::parse(input, ParseConfig::default()).unwrap();
            prop_assert_eq!(bytes, header.bytes);
            prop_assert_eq!(theirs.proxied_address().and_then(|address| known(address.source)), header.client);
        }
    }
}
