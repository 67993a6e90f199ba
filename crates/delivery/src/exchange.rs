//! Mail that no route matches: the hosts that its domain's MX records name (RFC 5321 section 5.1).
//!
//! What DNS says in so many words is final: a domain that does not exist, or that takes no mail (RFC
//! 7505), is told to the sender at once. A DNS that does not answer is a site that is down: one
//! back-off, and the mail waits until it expires.

use std::time::Duration;

use commons::{ExchangeFailure, Exchanger, Question};
use mail::{Reply, Status};
use policy::{NextHop, SMTP_PORT};
use ring::Ring;
use spool::StoredMessage;

use crate::outcome::Attempt;
use crate::queue::{JobIx, SiteIx};
use crate::schedule::Errand;
use crate::site::Hop;
use crate::{Context, Delivery};

/// An answer stands this long at most, whatever its TTL.
const TTL_MAX: Duration = Duration::from_secs(3600);

impl Delivery {
    /// Asks which hosts take the mail of a site's domain; false: there is no room for the question now.
    pub(crate) fn ask_exchangers<R: Ring>(&mut self, cx: &mut Context<'_, R>, index: SiteIx) -> bool {
        let site = self.sites.get_mut(index);
        let Some(exchange) = &mut site.exchange else { return true };
        let domain = exchange.domain.clone();
        let question = Question::Exchangers { worker: self.settings.worker, key: index.0, domain };
        exchange.asked = cx.link.ask(question).is_ok();
        exchange.asked
    }

    /// The answer to the question of site `index` has come.
    pub(crate) fn exchangers_found<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        index: SiteIx,
        result: Result<Vec<Exchanger>, ExchangeFailure>,
        ttl: Duration,
    ) {
        let now = cx.ring.now();
        let site = self.sites.get_mut(index);
        let Some(exchange) = &mut site.exchange else { return };
        exchange.asked = false;
        // A TTL of nothing still serves the connections that asked.
        exchange.until = now.after(ttl.clamp(Duration::from_secs(1), TTL_MAX));
        let found = result.map_err(|failure| refusal(&exchange.domain, failure));
        match found.and_then(|found| before_us(found, &exchange.domain, &self.settings.hostname)) {
            Ok(exchangers) => {
                exchange.refusal = None;
                let hops = exchangers.into_iter().map(|exchanger| {
                    let next_hop = NextHop { host: exchanger.host, port: SMTP_PORT };
                    Hop::new(next_hop, exchanger.preference)
                });
                let hops = hops.collect();
                site.set_hops(hops);
            }
            Err(reply) if reply.is_permanent() => {
                exchange.refusal = Some(reply);
                exchange.until = now;
                // The place at the site becomes the errand's.
                self.errands.extend(site.waiting.drain(..).map(Errand::Refuse));
                self.run_errands(cx);
            }
            Err(reply) => {
                exchange.refusal = None;
                exchange.until = now;
                self.site_failed(cx, index, None, reply);
            }
        }
        self.serve(cx, index);
        self.rest(index);
    }

    /// Gives a job up whose domain takes no mail, unless DNS has come to say otherwise.
    pub(crate) fn refuse<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, stored: &StoredMessage) {
        let index = self.queue.job(job).site;
        let site = self.sites.get_mut(index);
        match site.exchange.as_ref().and_then(|exchange| exchange.refusal.clone()) {
            Some(refusal) => self.conclude(cx, job, stored, &Attempt::unmade(&refusal)),
            None => {
                self.wait_at(index, job);
                self.serve(cx, index);
            }
        }
    }

    /// Puts hosts of equal preference into another order for each connection, to share the load among them.
    pub(crate) fn shuffle_exchangers<R: Ring>(&mut self, cx: &mut Context<'_, R>, index: SiteIx) {
        let site = self.sites.get_mut(index);
        // A connection that goes through the list must find it as it was.
        if site.exchange.is_none() || site.opening > 0 {
            return;
        }
        for equal in site.hops.chunk_by_mut(|a, b| a.preference == b.preference) {
            for last in (1..equal.len()).rev() {
                equal.swap(last, cx.random() as usize % (last + 1));
            }
        }
    }
}

/// The hosts that come before this one: a lesser host hands mail to the better
/// ones only, or it would come back (RFC 5321 section 5.1).
fn before_us(mut found: Vec<Exchanger>, domain: &str, hostname: &str) -> Result<Vec<Exchanger>, Reply> {
    let ours = found.iter().filter(|exchanger| exchanger.host.eq_ignore_ascii_case(hostname));
    if let Some(limit) = ours.map(|exchanger| exchanger.preference).min() {
        found.retain(|exchanger| exchanger.preference < limit);
    }
    if found.is_empty() {
        let text =
            format_args!("the MX records of {domain} lead back to {hostname}, which does not receive for it");
        return Err(Reply::new(554, Some(Status::new(5, 4, 6)), text));
    }
    Ok(found)
}

fn refusal(domain: &str, failure: ExchangeFailure) -> Reply {
    match failure {
        ExchangeFailure::Missing => {
            let text =
                format_args!("the domain {domain} does not exist, or has neither MX records nor an address");
            Reply::new(550, Some(Status::new(5, 1, 2)), text)
        }
        ExchangeFailure::NoMail => {
            let text = format_args!("the domain {domain} says that it takes no mail (null MX)");
            Reply::new(556, Some(Status::new(5, 1, 10)), text)
        }
        ExchangeFailure::Temporary => {
            Delivery::own_reply(3, format_args!("DNS could not say which hosts take mail for {domain}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchangers(list: &[(u16, &str)]) -> Vec<Exchanger> {
        list.iter().map(|&(preference, host)| Exchanger { preference, host: host.into() }).collect()
    }

    #[test]
    fn only_hosts_before_ours_are_used() {
        let all = [(10, "a.example"), (20, "Relay.example"), (20, "b.example"), (30, "c.example")];
        let used = before_us(exchangers(&all), "d.example", "relay.example").expect("one is better");
        assert_eq!(used, exchangers(&all[..1]));
        assert_eq!(before_us(exchangers(&all), "d.example", "other.example").unwrap().len(), 4);
        let refusal = before_us(exchangers(&all[1..]), "d.example", "relay.example").unwrap_err();
        assert!(refusal.is_permanent() && refusal.to_string().contains("5.4.6"), "{refusal}");
    }
}
