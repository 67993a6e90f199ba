//! What a request says of its reader: the language, the address, and the ticket as it was typed.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};
use ipnet::IpNet;
use mail::Ticket;

use super::super::texts::Language;
use crate::door::Peer;

/// Where proxies write the address that they were asked from, each after those before it.
const FORWARDED: &str = "x-forwarded-for";

/// As asked for by name, else the one that the reader's program prefers (RFC 9110 section 12.5.4), else English.
pub(super) fn language(asked: Option<&str>, headers: &HeaderMap) -> Language {
    if let Some(language) = asked.and_then(Language::of_tag) {
        return language;
    }
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let mut best = (Language::English, 0.0);
    for range in accepted.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let Some(language) = parts.next().and_then(Language::of_tag) else { continue };
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        if let Ok(weight) = weight
            && weight > best.1
        {
            best = (language, weight);
        }
    }
    best.0
}

/// Who asks: the peer, or where that is one of `proxies`, the last address of its list that is none. What
/// stands further left was written by the reader, who may write anything; so may a peer that is no proxy.
pub(super) fn client(peer: Peer, headers: &HeaderMap, proxies: &[IpNet]) -> Option<IpAddr> {
    let Peer::Address(peer) = peer else { return None };
    let mut nearest = peer.to_canonical();
    let is_proxy = |address: IpAddr| proxies.iter().any(|net| net.contains(&address));
    if !is_proxy(nearest) {
        return Some(nearest);
    }
    let lines = headers.get_all(FORWARDED).into_iter().rev();
    for hop in lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',')) {
        // Behind what is no address nothing can be trusted: the proxy that passed it on answers for it.
        let Some(address) = address_of(hop.trim()) else { break };
        nearest = address;
        if !is_proxy(address) {
            break;
        }
    }
    Some(nearest)
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4711`.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| hop.parse().ok().map(|hop: SocketAddr| hop.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// The ticket in a text that a person typed or pasted: in any case, with spaces, dashes or none between its
/// groups, alone or within the reply or the address that holds it.
pub(super) fn ticket_in(text: &str) -> Option<Ticket> {
    let digits = |text: &str| text.chars().filter(|char| char.is_alphanumeric()).collect::<String>();
    let alone = digits(text).parse().ok();
    alone.or_else(|| {
        let mut words = text.split(|char: char| char.is_whitespace() || char == '/');
        words.find_map(|word| digits(word).parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_language_is_the_one_asked_for_else_the_one_preferred() {
        let table = [
            (None, "", Language::English),
            (None, "fr", Language::French),
            (None, "fr-CA, en;q=0.5", Language::French),
            (None, "en;q=0.8, fr;q=0.9", Language::French),
            (None, "de, fr;q=0.3", Language::French),
            (None, "en, fr", Language::English),
            (None, "fr;q=0", Language::English),
            (None, "fr;q=none, *", Language::English),
            (Some("en"), "fr", Language::English),
            (Some("fr"), "en", Language::French),
            (Some("xx"), "fr", Language::French),
        ];
        for (asked, accepted, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(accepted));
            assert_eq!(language(asked, &headers), expected, "{asked:?} {accepted:?}");
        }
    }

    #[test]
    fn proxies_name_the_reader_and_no_one_else_does() {
        let proxies = ["10.8.0.0/24".parse().unwrap(), "2001:db8:8::/64".parse().unwrap()];
        let table: [(&str, &[&str], &str); 14] = [
            ("203.0.113.9", &["198.51.100.7"], "203.0.113.9"),
            ("10.8.0.2", &[], "10.8.0.2"),
            ("::ffff:10.8.0.2", &["198.51.100.7"], "198.51.100.7"),
            ("10.8.0.2", &["198.51.100.7:4711"], "198.51.100.7"),
            ("10.8.0.2", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.8.0.2", &["[2001:db8::7]"], "2001:db8::7"),
            ("2001:db8:8::2", &["2001:db8::7"], "2001:db8::7"),
            ("10.8.0.2", &["192.0.2.66, 198.51.100.7"], "198.51.100.7"),
            ("10.8.0.2", &["192.0.2.66, 198.51.100.7 , 10.8.0.3"], "198.51.100.7"),
            ("10.8.0.2", &["192.0.2.66", "198.51.100.7"], "198.51.100.7"),
            ("10.8.0.2", &["10.8.0.4, 10.8.0.3"], "10.8.0.4"),
            ("10.8.0.2", &["198.51.100.7, unknown"], "10.8.0.2"),
            ("10.8.0.2", &["198.51.100.7, <script>, 10.8.0.3"], "10.8.0.3"),
            ("10.8.0.2", &[",,"], "10.8.0.2"),
        ];
        for (peer, lines, expected) in table {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED, HeaderValue::from_static(line));
            }
            let found = client(Peer::Address(peer.parse().unwrap()), &headers, &proxies);
            assert_eq!(found, Some(expected.parse().unwrap()), "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_ticket_is_read_however_a_person_types_or_pastes_it() {
        let ticket: Ticket = "7QK0-M9X1-T4WD-3".parse().unwrap();
        for typed in [
            "7QK0-M9X1-T4WD-3",
            "7qk0m9x1t4wd3",
            "  7QK0 M9X1 T4WD 3\n",
            "7QKO–M9XL–T4WD–3",
            "7qko-m9xi-t4wd-3.",
            "ticket 7QK0-M9X1-T4WD-3",
            "https://why.relay.example/7QK0M9X1T4WD3",
            "550 5.7.1 sign in on port 587; ticket 7QK0-M9X1-T4WD-3 https://why.relay.example/7QK0M9X1T4WD3",
        ] {
            assert_eq!(ticket_in(typed), Some(ticket), "{typed:?}");
        }
        for typed in
            ["", "/", "ticket", "7QK0-M9X1-T4WD", "7QK0-M9X1-T4WD-33", "7QK0-M9X1-T4WU-3", "７QK0M9X1T4WD3"]
        {
            assert_eq!(ticket_in(typed), None, "{typed:?}");
        }
    }
}
