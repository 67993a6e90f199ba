//! DNS lists of clients (RFC 5782): a reversed address is looked up below each list's zone.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use commons::Listing;
use config::DnsList;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::task::JoinSet;

use super::Dns;

/// A list that has not answered by then says nothing about this client: mail is not held up for it.
const LIST_MAX: Duration = Duration::from_secs(8);

/// What a list says about a client is quoted up to here.
const TEXT_BYTES_MAX: usize = 160;

/// The lists, in the order of the configuration.
pub(crate) struct Lists(Box<[Arc<DnsList>]>);

impl Lists {
    pub(crate) fn new(lists: Vec<DnsList>) -> Self {
        Self(lists.into_iter().map(Arc::new).collect())
    }

    /// The first list on which `client` stands. All are asked at once; one that fails says nothing.
    pub(crate) async fn listing(&self, dns: &Arc<Dns>, client: IpAddr) -> Option<Listing> {
        let mut asked = JoinSet::new();
        for (place, list) in self.0.iter().enumerate() {
            let (dns, list) = (dns.clone(), list.clone());
            asked.spawn(async move {
                let listing = tokio::time::timeout(LIST_MAX, look_up(&dns, &list, client)).await.ok()??;
                Some((place, listing))
            });
        }
        let found = asked.join_all().await.into_iter().flatten();
        found.min_by_key(|(place, _)| *place).map(|(_, listing)| listing)
    }
}

async fn look_up(dns: &Dns, list: &DnsList, client: IpAddr) -> Option<Listing> {
    let resolver = dns.resolver.as_ref()?;
    let name = format!("{}.{}.", reversed(client), list.zone);
    let found = resolver.lookup(&*name, RecordType::A).await.ok()?;
    let is_listed = found.answers().iter().any(|record| match &record.data {
        RData::A(answer) => means_listed(list, answer.0),
        _ => false,
    });
    if !is_listed {
        return None;
    }
    let text = match resolver.txt_lookup(&*name).await {
        Ok(texts) => texts.answers().iter().find_map(|record| match &record.data {
            RData::TXT(text) => Some(printable(&text.txt_data)),
            _ => None,
        }),
        Err(_) => None,
    };
    let text = text.filter(|text| !text.is_empty()).map(Into::into);
    Some(Listing { list: list.name.clone(), text })
}

/// Outside 127.0.0.0/8 a list's domain has been sold, or a resolver lies: no client is denied for it.
fn means_listed(list: &DnsList, answer: Ipv4Addr) -> bool {
    answer.is_loopback() && (list.answers.is_empty() || list.answers.contains(&answer))
}

/// What fits into a reply: printable ASCII on one line.
fn printable(parts: &[Box<[u8]>]) -> String {
    let bytes = parts.iter().flat_map(|part| part.iter().copied());
    let kept = bytes.filter(|byte| matches!(byte, b' '..=b'~')).take(TEXT_BYTES_MAX);
    kept.map(char::from).collect()
}

/// The labels of an address from the last to the first (RFC 5782 sections 2.1 and 2.4).
fn reversed(client: IpAddr) -> String {
    let mut name = String::new();
    match client.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            let _ = write!(name, "{d}.{c}.{b}.{a}");
        }
        IpAddr::V6(v6) => {
            for octet in v6.octets().iter().rev() {
                let dot = if name.is_empty() { "" } else { "." };
                let _ = write!(name, "{dot}{:x}.{:x}", octet & 0xf, octet >> 4);
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_reversed_label_by_label() {
        assert_eq!(reversed("192.0.2.99".parse().unwrap()), "99.2.0.192");
        assert_eq!(reversed("::ffff:192.0.2.99".parse().unwrap()), "99.2.0.192");
        let v6 = reversed("2001:db8:1:2:3:4:567:89ab".parse().unwrap());
        assert_eq!(v6, "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2");
    }

    #[test]
    fn only_answers_of_a_list_mean_listed() {
        let mut list = DnsList { zone: "z".into(), name: "z".into(), answers: Vec::new() };
        assert!(means_listed(&list, Ipv4Addr::new(127, 0, 0, 2)));
        assert!(!means_listed(&list, Ipv4Addr::new(192, 0, 2, 1)));
        list.answers.push(Ipv4Addr::new(127, 0, 0, 4));
        assert!(!means_listed(&list, Ipv4Addr::new(127, 0, 0, 2)));
        assert!(means_listed(&list, Ipv4Addr::new(127, 0, 0, 4)));
    }

    #[test]
    fn what_a_list_says_cannot_break_a_reply() {
        assert_eq!(
            printable(&[b"listed\r\n250 ok".as_slice().into(), b" see".as_slice().into()]),
            "listed250 ok see"
        );
        assert_eq!(printable(&[vec![b'x'; 500].into()]).len(), TEXT_BYTES_MAX);
    }
}
