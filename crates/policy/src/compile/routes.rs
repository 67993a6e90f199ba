//! Where mail goes.

use super::Compiler;
use crate::index::RouteIx;
use crate::names::is_domain_pattern;
use crate::patterns::{Patterns, domain_ending};
use crate::snapshot::Route;
use crate::source::RouteSource;

impl Compiler {
    pub(super) fn route_list(&mut self, sources: &[RouteSource]) -> Patterns {
        let mut endings = Vec::new();
        for source in sources {
            let route = self.route(source);
            if source.recipient_domains.is_empty() {
                let message = "a route without recipient domains matches nothing".to_owned();
                self.error(&source.origin, "recipient_domains", message, "add recipient_domains = [\"*\"]");
            }
            for domain in &source.recipient_domains {
                if is_domain_pattern(&domain.value) {
                    endings.push((domain_ending(&domain.value), route.0));
                } else {
                    let message = format!("{:?} is no domain pattern", domain.value);
                    let remedy = "write \"example.com\", \"*.example.com\" or \"*\"";
                    self.error(&domain.origin, "recipient_domains", message, remedy);
                }
            }
        }
        Patterns::build(endings.into_iter())
    }

    pub(super) fn route(&mut self, source: &RouteSource) -> RouteIx {
        if source.next_hops.is_empty() {
            let message = "a route without a next hop leads nowhere".to_owned();
            self.error(
                &source.origin,
                "next_hops",
                message,
                "add next_hops = [\"mail.its-domain.example:25\"]",
            );
        }
        if source.connections_max == 0 {
            let message = "a route with no connection delivers nothing".to_owned();
            self.error(&source.origin, "connections", message, "write at least 1, or leave it out");
        }
        let hops: Vec<_> = source.next_hops.iter().map(ToString::to_string).collect();
        self.routes.push(Route {
            next_hops: source.next_hops.clone(),
            tls: source.tls,
            key: hops.join(",").into(),
            connections_max: source.connections_max,
            origin: source.origin.clone(),
        });
        RouteIx(u32::try_from(self.routes.len() - 1).expect("fewer routes than 2^32"))
    }
}
