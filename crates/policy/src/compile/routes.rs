//! Where mail goes.

use super::Compiler;
use crate::names::is_domain_pattern;
use crate::patterns::{Patterns, domain_ending};
use crate::snapshot::{Route, RouteIx};
use crate::source::{RouteSource, Source, TenantSource};

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

    /// Whoever may relay may relay to any domain: each needs a next hop.
    pub(super) fn catch_all(&mut self, source: &Source, tenant: &TenantSource, node_routes: &Patterns) {
        let relays = !tenant.networks.is_empty() || !tenant.identities.is_empty();
        let own =
            tenant.routes.iter().flat_map(|route| &route.recipient_domains).any(|domain| domain.value == "*");
        // Without any route the node's file says so once, not once for each tenant.
        let said = self.errors.iter().any(|error| error.origin == source.origin && error.key == "route");
        if relays && !own && node_routes.first("").is_none() && !said {
            let message = format!(
                "mail of tenant {:?} for domains without a route would have no next hop (look-up of MX records \
                 is not in this version)",
                tenant.name.value
            );
            let remedy = "add a [[route]] with recipient_domains = [\"*\"] and next_hops, at the end";
            self.error(&source.origin, "route", message, remedy);
        }
    }
}
