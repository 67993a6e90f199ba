//! What a scene is given: routes and tenants, and the ground that the spool stands on.

use policy::{Limits, LoginRequired, Origin, RouteSource, RouteTls, Snapshot, Source, Sourced, TenantSource};

/// Without next hops, all mail goes by MX.
pub(super) fn snapshot(next_hops: &[&str], connections_max: u32) -> Snapshot {
    snapshot_of(next_hops, connections_max, RouteTls::Off)
}

pub(super) fn snapshot_of(next_hops: &[&str], connections_max: u32, tls: RouteTls) -> Snapshot {
    snapshot_for("proseware", next_hops, connections_max, tls)
}

/// The same with a tenant of this name.
pub(super) fn snapshot_for(
    tenant: &str,
    next_hops: &[&str],
    connections_max: u32,
    tls: RouteTls,
) -> Snapshot {
    let origin = Origin::new("gatepost.toml", 1);
    let route = RouteSource {
        origin: origin.clone(),
        recipient_domains: vec![Sourced::new("*".into(), origin.clone())],
        next_hops: next_hops.iter().map(|hop| hop.parse().expect("a next hop")).collect(),
        tls,
        connections_max,
    };
    let tenant = TenantSource {
        name: Sourced::new(tenant.into(), origin.clone()),
        networks: vec![Sourced::new("192.0.2.0/24".parse().expect("a prefix"), origin.clone())],
        excluded_networks: Vec::new(),
        senders: vec![Sourced::new("@proseware.example".into(), origin.clone())],
        login_required: Sourced::new(LoginRequired::Never, origin.clone()),
        null_sender: Sourced::new(true, origin.clone()),
        sender_rules: policy::SenderRulesSource::default(),
        lists: policy::ListsSource::default(),
        relay_domains: Vec::new(),
        routes: Vec::new(),
        identities: Vec::new(),
        limits: Limits::default(),
        grants: None,
    };
    let routes = if next_hops.is_empty() { Vec::new() } else { vec![route] };
    Snapshot::compile(&Source {
        generation: 1,
        origin,
        routes,
        limits: Default::default(),
        lists: policy::ListsSource::default(),
        tenants: vec![tenant.into()],
    })
    .expect("it compiles")
}

/// What a spool is made of: segments, their bytes, and what compaction moves in a second.
#[derive(Clone, Copy)]
pub(super) struct Ground {
    pub(super) segment_bytes: u64,
    pub(super) compaction_bytes_per_second: u64,
}

pub(super) const GROUND: Ground = Ground {
    segment_bytes: 1 << 20,
    compaction_bytes_per_second: spool::COMPACTION_BYTES_PER_SECOND_DEFAULT,
};
