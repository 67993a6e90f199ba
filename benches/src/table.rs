//! A made-up configuration of any size: tenants with networks, logins, senders and relay domains in
//! the mixture that a provider's have, the same for the same seed.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use policy::{
    CONNECTIONS_DEFAULT, IdentitySource, NextHop, Origin, RecipientsSource, RelayDomainSource, RouteSource,
    RouteTls, Source, Sourced, TenantSource,
};

/// What `gatepost password` makes, in its length.
const CREDENTIAL: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$Z2F0ZXBvc3Qtc2FtcGxlAA$cO1vW6WkPBpj0Q1nCzKZ2WlQ8mYh3m7x1R6q0l2oXzE";

/// How large a configuration is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) tenants: usize,
    pub(crate) prefixes: usize,
    pub(crate) identities: usize,
}

/// The size that Gatepost is built for.
pub(crate) const LARGEST: Size = Size { tenants: 100_000, prefixes: 1_000_000, identities: 1_000_000 };

impl Size {
    /// One `part`th of it.
    pub(crate) fn part(self, part: usize) -> Self {
        Self {
            tenants: self.tenants / part,
            prefixes: self.prefixes / part,
            identities: self.identities / part,
        }
    }
}

/// A configuration of this size; every tenant has its share.
pub(crate) fn source(size: Size, seed: u64) -> Source {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut prefixes = prefixes(size.prefixes, &mut random).into_iter();
    let tenant = |index: usize| {
        let share = |whole: usize| whole * (index + 1) / size.tenants - whole * index / size.tenants;
        let networks = prefixes.by_ref().take(share(size.prefixes)).collect();
        tenant(index, networks, share(size.identities), &mut random)
    };
    Source {
        generation: seed,
        origin: Origin::new("gatepost.toml", 0),
        routes: vec![route(&["*"], "smarthost.example")],
        limits: Default::default(),
        lists: policy::ListsSource::default(),
        tenants: (0..size.tenants).map(tenant).map(Arc::new).collect(),
    }
}

/// One tenant: a relay domain, two sender domains, and logins of which every other one has senders
/// of its own.
pub(crate) fn tenant(
    index: usize,
    networks: Vec<IpNet>,
    identities: usize,
    random: &mut fastrand::Rng,
) -> TenantSource {
    let file: Arc<str> = format!("tenants/tenant-{index:06}.toml").into();
    let mut line = 0;
    let mut next = || {
        line += 1;
        Origin::new(file.clone(), line)
    };
    let name = Sourced::new(format!("tenant-{index:06}"), next());
    let domain = domain(index);
    let senders = [format!("@{domain}"), format!("@*.{domain}")];
    let recipients = index.is_multiple_of(4).then(|| RecipientsSource {
        origin: next(),
        recipients: (0..8).map(|local| Sourced::new(recipient(local), next())).collect(),
    });
    let identity = |number: usize| {
        let login = login(index, number);
        let own = random.bool().then(|| Sourced::new(login.clone(), next()));
        let identity = IdentitySource::new(Sourced::new(login, next()), CREDENTIAL.to_owned());
        IdentitySource { senders: own.into_iter().collect(), ..identity }
    };
    let identities = (0..identities).map(identity).collect();
    TenantSource {
        networks: networks.into_iter().map(|net| Sourced::new(net, next())).collect(),
        senders: senders.into_iter().map(|pattern| Sourced::new(pattern, next())).collect(),
        null_sender: Sourced::new(true, next()),
        relay_domains: vec![RelayDomainSource {
            domains: vec![Sourced::new(domain, next())],
            route: route(&[], "mail.tenant.example"),
            recipients,
            call_ahead: false,
        }],
        identities,
        ..TenantSource::named(name)
    }
}

/// The domain of a tenant: names of several lengths.
pub(crate) fn domain(tenant: usize) -> String {
    match tenant % 3 {
        0 => format!("t{tenant}.example"),
        1 => format!("mail.customer-{tenant}.example"),
        _ => format!("the-long-name-of-customer-{tenant}.example"),
    }
}

pub(crate) fn login(tenant: usize, number: usize) -> String {
    format!("user{number}@{}", domain(tenant))
}

pub(crate) fn recipient(number: usize) -> String {
    format!("recipient{number}")
}

/// Distinct prefixes, nine of ten IPv4; half of those are /24s, as in the world's own table.
pub(crate) fn prefixes(count: usize, random: &mut fastrand::Rng) -> Vec<IpNet> {
    let mut seen = HashSet::with_capacity(count);
    let mut prefixes = Vec::with_capacity(count);
    while prefixes.len() < count {
        let net = if prefixes.len() % 10 == 9 { IpNet::V6(v6(random)) } else { IpNet::V4(v4(random)) };
        if seen.insert(net) {
            prefixes.push(net);
        }
    }
    prefixes
}

fn v4(random: &mut fastrand::Rng) -> Ipv4Net {
    let bits = match random.u8(..8) {
        0..4 => 24,
        4 => random.u8(16..24),
        5 | 6 => random.u8(25..32),
        _ => 32,
    };
    // Unicast only: what customers have.
    let address = Ipv4Addr::from(random.u32(0x0100_0000..0xe000_0000));
    Ipv4Net::new(address, bits).expect("at most 32 bits").trunc()
}

fn v6(random: &mut fastrand::Rng) -> Ipv6Net {
    let bits = random.choice([32, 40, 44, 48, 48, 48, 56, 64, 64, 128]).expect("there are some");
    // 2000::/8: long prefixes are dense there as they are in the world's own table.
    let address = Ipv6Addr::from((random.u128(..) >> 8) | (0x20 << 120));
    Ipv6Net::new(address, bits).expect("at most 128 bits").trunc()
}

/// An address somewhere in `net`.
pub(crate) fn within(net: IpNet, random: &mut fastrand::Rng) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let host = random.u32(..) & u32::from(net.hostmask());
            IpAddr::V4(Ipv4Addr::from(u32::from(net.network()) | host))
        }
        IpNet::V6(net) => {
            let host = random.u128(..) & u128::from(net.hostmask());
            IpAddr::V6(Ipv6Addr::from(u128::from(net.network()) | host))
        }
    }
}

fn route(domains: &[&str], next_hop: &str) -> RouteSource {
    let origin = Origin::new("gatepost.toml", 1);
    RouteSource {
        origin: origin.clone(),
        recipient_domains: domains
            .iter()
            .map(|domain| Sourced::new((*domain).to_owned(), origin.clone()))
            .collect(),
        next_hops: vec![next_hop.parse::<NextHop>().expect("it is one")],
        tls: RouteTls::Opportunistic,
        connections_max: CONNECTIONS_DEFAULT,
    }
}
