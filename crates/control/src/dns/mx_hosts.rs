//! Which hosts take a domain's mail (RFC 5321 section 5.1, RFC 7505).

use std::time::{Duration, Instant};

use commons::{MxFailure, MxHost, RecipientFinding};
use hickory_resolver::proto::rr::RData;

use super::{Absence, Dns, FOREVER, LOOKUP_MAX, Presence, SHORTEST, TEMPORARY, absence, literal};

/// Hosts of one domain, at most: the largest providers name half a dozen.
const MX_HOSTS_MAX: usize = 16;

type MxHosts = (Result<Vec<MxHost>, MxFailure>, Duration);

impl Dns {
    /// The hosts that take mail for `domain`, lowest preference first, and how long that holds. A
    /// domain without MX records that has an address takes its mail itself.
    pub(crate) async fn mx_hosts(&self, domain: &str) -> MxHosts {
        if let Some(address) = literal(domain) {
            return (Ok(vec![MxHost { preference: 0, host: address.to_string().into() }]), FOREVER);
        }
        let temporary = (Err(MxFailure::Temporary), TEMPORARY);
        tokio::time::timeout(LOOKUP_MAX, self.look_up_mx_hosts(domain)).await.unwrap_or(temporary)
    }

    /// Whether mail for `domain` could ever arrive, as far as DNS says so in so many words.
    pub(crate) async fn recipient_domain(&self, domain: &str) -> (RecipientFinding, Duration) {
        let (result, ttl) = self.mx_hosts(domain).await;
        let finding = match result {
            Ok(_) => RecipientFinding::Good,
            Err(MxFailure::Missing) => RecipientFinding::DomainMissing,
            Err(MxFailure::NoMail) => RecipientFinding::DomainNoMail,
            Err(MxFailure::Temporary) => RecipientFinding::Undecided,
        };
        (finding, ttl)
    }

    async fn look_up_mx_hosts(&self, domain: &str) -> MxHosts {
        let Some(resolver) = &self.resolver else { return (Err(MxFailure::Temporary), TEMPORARY) };
        // A final dot keeps the search list of the host out of it.
        let found = match resolver.mx_lookup(format!("{domain}.")).await {
            Ok(found) => found,
            Err(error) => {
                return match absence(&error) {
                    Some(absence) => self.implicit_mx_host(domain, absence).await,
                    None => (Err(MxFailure::Temporary), TEMPORARY),
                };
            }
        };
        let ttl = found.valid_until().saturating_duration_since(Instant::now()).max(SHORTEST);
        let mut mx_hosts = Vec::new();
        let mut no_mail = false;
        for record in found.answers() {
            let RData::MX(exchange) = &record.data else { continue };
            if exchange.exchange.is_root() {
                no_mail = true;
            } else {
                let host = exchange.exchange.to_ascii();
                let host = host.trim_end_matches('.').to_ascii_lowercase().into();
                mx_hosts.push(MxHost { preference: exchange.preference, host });
            }
        }
        mx_hosts.sort_by(|a, b| (a.preference, &a.host).cmp(&(b.preference, &b.host)));
        mx_hosts.dedup_by(|a, b| a.host == b.host);
        mx_hosts.truncate(MX_HOSTS_MAX);
        if mx_hosts.is_empty() {
            let failure = if no_mail { MxFailure::NoMail } else { MxFailure::Temporary };
            return (Err(failure), ttl);
        }
        (Ok(mx_hosts), ttl)
    }

    /// Without MX records, as `absence` says, the domain itself is the host, if it has an address of either
    /// kind. That it has none is said only where DNS proves it.
    async fn implicit_mx_host(&self, domain: &str, absence: Absence) -> MxHosts {
        match self.presence(&format!("{domain}.")).await {
            Presence::There => (Ok(vec![MxHost { preference: 0, host: domain.into() }]), absence.ttl),
            Presence::Absent(addresses) if absence.and(addresses).is_proved => {
                (Err(MxFailure::Missing), absence.and(addresses).ttl)
            }
            Presence::Absent(_) | Presence::Unknown => (Err(MxFailure::Temporary), TEMPORARY),
        }
    }
}
