//! Which hosts take a domain's mail (RFC 5321 section 5.1, RFC 7505).

use std::time::{Duration, Instant};

use commons::{ExchangeFailure, Exchanger, RecipientFinding};
use hickory_resolver::proto::rr::RData;

use super::{Absence, Dns, FOREVER, LOOKUP_MAX, Presence, SHORTEST, TEMPORARY, absence, literal};

/// Hosts of one domain, at most: the largest providers name half a dozen.
const EXCHANGERS_MAX: usize = 16;

type Exchangers = (Result<Vec<Exchanger>, ExchangeFailure>, Duration);

impl Dns {
    /// The hosts that take mail for `domain`, lowest preference first, and how long that holds. A
    /// domain without MX records that has an address takes its mail itself.
    pub(crate) async fn exchangers(&self, domain: &str) -> Exchangers {
        if let Some(address) = literal(domain) {
            return (Ok(vec![Exchanger { preference: 0, host: address.to_string().into() }]), FOREVER);
        }
        let temporary = (Err(ExchangeFailure::Temporary), TEMPORARY);
        tokio::time::timeout(LOOKUP_MAX, self.look_up_exchangers(domain)).await.unwrap_or(temporary)
    }

    /// Whether mail for `domain` could ever arrive, as far as DNS says so in so many words.
    pub(crate) async fn recipient_domain(&self, domain: &str) -> (RecipientFinding, Duration) {
        let (result, ttl) = self.exchangers(domain).await;
        let finding = match result {
            Ok(_) => RecipientFinding::Good,
            Err(ExchangeFailure::Missing) => RecipientFinding::DomainMissing,
            Err(ExchangeFailure::NoMail) => RecipientFinding::DomainNoMail,
            Err(ExchangeFailure::Temporary) => RecipientFinding::Undecided,
        };
        (finding, ttl)
    }

    async fn look_up_exchangers(&self, domain: &str) -> Exchangers {
        let Some(resolver) = &self.resolver else { return (Err(ExchangeFailure::Temporary), TEMPORARY) };
        // A final dot keeps the search list of the host out of it.
        let found = match resolver.mx_lookup(format!("{domain}.")).await {
            Ok(found) => found,
            Err(error) => {
                return match absence(&error) {
                    Some(absence) => self.implicit_exchanger(domain, absence).await,
                    None => (Err(ExchangeFailure::Temporary), TEMPORARY),
                };
            }
        };
        let ttl = found.valid_until().saturating_duration_since(Instant::now()).max(SHORTEST);
        let mut exchangers = Vec::new();
        let mut no_mail = false;
        for record in found.answers() {
            let RData::MX(exchange) = &record.data else { continue };
            if exchange.exchange.is_root() {
                no_mail = true;
            } else {
                let host = exchange.exchange.to_ascii();
                let host = host.trim_end_matches('.').to_ascii_lowercase().into();
                exchangers.push(Exchanger { preference: exchange.preference, host });
            }
        }
        exchangers.sort_by(|a, b| (a.preference, &a.host).cmp(&(b.preference, &b.host)));
        exchangers.dedup_by(|a, b| a.host == b.host);
        exchangers.truncate(EXCHANGERS_MAX);
        if exchangers.is_empty() {
            let failure = if no_mail { ExchangeFailure::NoMail } else { ExchangeFailure::Temporary };
            return (Err(failure), ttl);
        }
        (Ok(exchangers), ttl)
    }

    /// Without MX records, as `absence` says, the domain itself is the host, if it has an address of either
    /// kind. That it has none is said only where DNS proves it.
    async fn implicit_exchanger(&self, domain: &str, absence: Absence) -> Exchangers {
        match self.presence(&format!("{domain}.")).await {
            Presence::There => (Ok(vec![Exchanger { preference: 0, host: domain.into() }]), absence.ttl),
            Presence::Absent(addresses) if absence.and(addresses).is_proved => {
                (Err(ExchangeFailure::Missing), absence.and(addresses).ttl)
            }
            Presence::Absent(_) | Presence::Unknown => (Err(ExchangeFailure::Temporary), TEMPORARY),
        }
    }
}
