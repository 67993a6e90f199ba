//! What DNS says of a domain's mail (RFC 5321 section 5.1), as the key of a site or as a refusal.
//!
//! What DNS says in so many words is final: a domain that does not exist, or that takes no mail (RFC
//! 7505), is told to the sender at once. A DNS that does not answer is a site that is down: one
//! back-off, and the mail waits until it expires. Pure.

use commons::{MxFailure, MxHost};
use mail::{Reply, Status};

use crate::own_reply;

/// Between hosts of the same preference.
const EQUAL: char = '/';
/// Between hosts and those that are tried after them.
const AFTER: char = ',';

/// The hosts as the key of their site, in the order of preference: domains with the same hosts share it. A key
/// is a list of hosts again by [`hosts`], so that no domain chooses hosts for another one.
pub(crate) fn key(found: &[MxHost]) -> String {
    let mut key = String::new();
    for (index, mx_host) in found.iter().enumerate() {
        if let Some(before) = index.checked_sub(1).map(|before| &found[before]) {
            key.push(if before.preference == mx_host.preference { EQUAL } else { AFTER });
        }
        key.extend(mx_host.host.chars().map(|char| char.to_ascii_lowercase()));
    }
    key
}

/// The hosts of a key, each with its rank among the preferences.
pub(crate) fn hosts(key: &str) -> impl Iterator<Item = (u16, &str)> {
    let ranks = (0..=u16::MAX).zip(key.split(AFTER));
    ranks.flat_map(|(rank, equal)| equal.split(EQUAL).map(move |host| (rank, host)))
}

/// What an answer means: hosts to which the mail of `domain` may go, best first, or why there is none.
pub(crate) fn heard(
    result: Result<Vec<MxHost>, MxFailure>,
    domain: &str,
    hostname: &str,
) -> Result<Vec<MxHost>, Reply> {
    let mut found = result.map_err(|failure| refusal(domain, failure))?;
    // What is no name has no address, and must not pass for a list of hosts.
    found.retain(|mx_host| is_host(&mx_host.host));
    if found.is_empty() {
        return Err(own_reply(4, format_args!("the MX records of {domain} name no host")));
    }
    before_us(found, domain, hostname)
}

/// A name, or an address.
fn is_host(host: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) || !byte.is_ascii();
    host.parse::<std::net::IpAddr>().is_ok() || (!host.is_empty() && host.bytes().all(is_of_name))
}

/// The hosts that come before this one: a lesser host hands mail to the better
/// ones only, or it would come back (RFC 5321 section 5.1).
fn before_us(mut found: Vec<MxHost>, domain: &str, hostname: &str) -> Result<Vec<MxHost>, Reply> {
    let ours = found.iter().filter(|mx_host| mx_host.host.eq_ignore_ascii_case(hostname));
    if let Some(limit) = ours.map(|mx_host| mx_host.preference).min() {
        found.retain(|mx_host| mx_host.preference < limit);
    }
    if found.is_empty() {
        let text =
            format_args!("the MX records of {domain} lead back to {hostname}, which does not receive for it");
        return Err(Reply::new(554, Some(Status::new(5, 4, 6)), text));
    }
    Ok(found)
}

fn refusal(domain: &str, failure: MxFailure) -> Reply {
    match failure {
        MxFailure::Missing => {
            let text =
                format_args!("the domain {domain} does not exist, or has neither MX records nor an address");
            Reply::new(550, Some(Status::new(5, 1, 2)), text)
        }
        MxFailure::NoMail => {
            let text = format_args!("the domain {domain} says that it takes no mail (null MX)");
            Reply::new(556, Some(Status::new(5, 1, 10)), text)
        }
        MxFailure::Temporary => {
            own_reply(3, format_args!("DNS could not say which hosts take mail for {domain}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mx_hosts(list: &[(u16, &str)]) -> Vec<MxHost> {
        list.iter().map(|&(preference, host)| MxHost { preference, host: host.into() }).collect()
    }

    #[test]
    fn only_hosts_before_ours_are_used() {
        let all = [(10, "a.example"), (20, "Relay.example"), (20, "b.example"), (30, "c.example")];
        let used = before_us(mx_hosts(&all), "d.example", "relay.example").expect("one is better");
        assert_eq!(used, mx_hosts(&all[..1]));
        assert_eq!(before_us(mx_hosts(&all), "d.example", "other.example").unwrap().len(), 4);
        let refusal = before_us(mx_hosts(&all[1..]), "d.example", "relay.example").unwrap_err();
        assert!(refusal.is_permanent() && refusal.to_string().contains("5.4.6"), "{refusal}");
    }

    #[test]
    fn a_key_is_the_hosts_in_their_order_and_gives_them_again() {
        let all = mx_hosts(&[(10, "a.example"), (10, "B.example"), (20, "2001:db8::1"), (35, "c.example")]);
        assert_eq!(key(&all), "a.example/b.example,2001:db8::1,c.example");
        let again: Vec<(u16, &str)> = hosts("a.example/b.example,2001:db8::1,c.example").collect();
        assert_eq!(again, [(0, "a.example"), (0, "b.example"), (1, "2001:db8::1"), (2, "c.example")]);
        let other = mx_hosts(&[(1, "a.example"), (1, "b.example"), (2, "2001:db8::1"), (3, "c.example")]);
        assert_eq!(key(&all), key(&other), "the numbers themselves mean nothing");
    }

    #[test]
    fn what_is_no_host_is_left_out() {
        let all = [(10, "a.example,b.example"), (10, "a/b"), (20, "10.0.0.1:25 tls=Off"), (30, "mx.example")];
        let heard = |list: &[(u16, &str)]| heard(Ok(mx_hosts(list)), "d.example", "relay.example");
        assert_eq!(heard(&all), Ok(mx_hosts(&all[3..])));
        assert!(heard(&all[..3]).is_err_and(|reply| !reply.is_permanent()));
    }
}
