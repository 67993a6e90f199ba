//! The tenant of the six situations (DESIGN.md G5), its people, and the places they connect from.
//!
//! `proseware.example` is the tenant of the gateway under test; `adatum.example` is elsewhere.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::gateway::Configuration;

/// In the tenant's network.
pub const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 5));
/// At another company: in no tenant's network.
pub const WORK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 2, 7));
/// In a hotel: in no tenant's network.
pub const HOTEL: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 3, 9));

/// A login of the tenant, and the one sender that it owns.
pub const LOGIN: &str = "terri@proseware.example";
/// Its password.
pub const PASSWORD: &str = "correct horse battery";
/// `AUTH PLAIN` with both, as RFC 4616 encodes them.
pub const AUTH_PLAIN: &str = "AUTH PLAIN AHRlcnJpQHByb3Nld2FyZS5leGFtcGxlAGNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==";

/// A hash that is quick to check: what is tested is the gateway, not the hash.
const PASSWORD_HASH: &str =
    "$argon2id$v=19$m=64,t=1,p=1$Z2F0ZXBvc3QtdGVzdGJlZA$gy3clQEqPygPfs6UhRGQ/ygwz5KUDH5sPY76KYmY6IA";

/// A verifier of the password for SCRAM-SHA-256, with the fewest rounds that are taken.
const SCRAM: &str = "SCRAM-SHA-256$4096:Z2F0ZXBvc3QtdGVzdGJlZA==$\
    /ffgKlBsVQbP3in1d3TLJtGSm+DrkCbhp04Ph/iiRJc=:cxpuTEx5AEtlzZ5/oTTmA68CtiL6HktanSK5d7laS9Q=";

/// Whom a denied sender may write to.
pub const CONTACT: &str = "postmaster@proseware.example";
/// Where the page of a ticket is found.
pub const PUBLIC_URL: &str = "https://why.proseware.example";

/// A relay listener without TLS; the tenant's mail goes to `own_mail`, everyone else's to `elsewhere`.
#[must_use]
pub fn configuration(own_mail: SocketAddr, elsewhere: SocketAddr) -> Configuration {
    let mut configuration = Configuration::relay(elsewhere);
    let tenant = format!(
        "name = \"proseware\"\nnetworks = [\"127.0.1.0/24\"]\nsenders = [\"@proseware.example\"]\n\n\
         [[relay_domain]]\ndomains = [\"proseware.example\"]\nnext_hops = [\"{own_mail}\"]\ntls = \"off\"\n\n\
         [[identity]]\nlogin = \"{LOGIN}\"\npassword = \"{PASSWORD_HASH}\"\nsenders = [\"{LOGIN}\"]\n"
    );
    configuration.tenants = vec![("proseware".into(), tenant)];
    write!(configuration.node_extra, "\n[tickets]\ncontact = \"{CONTACT}\"\npublic_url = \"{PUBLIC_URL}\"\n")
        .expect("a string takes what is written to it");
    configuration
}

/// Adds a submission listener that takes logins in the clear, for tests that are not about TLS.
pub fn listen_for_clear_logins(configuration: &mut Configuration) -> SocketAddr {
    let address = crate::net::free_address();
    write!(
        configuration.node_extra,
        "\n[[listener]]\nname = \"clear\"\naddress = \"{address}\"\nrole = \"submission\"\ntls = \"off\"\n\
         auth_without_tls = true\n"
    )
    .expect("a string takes what is written to it");
    address
}

/// Gives the tenant's login its verifier, so that logins by SCRAM are taken.
///
/// # Panics
/// When the configuration is not the tenant's.
pub fn take_scram(configuration: &mut Configuration) {
    let (_, tenant) = &mut configuration.tenants[0];
    let login = format!("login = \"{LOGIN}\"\n");
    assert!(tenant.contains(&login), "the tenant has its login");
    *tenant = tenant.replace(&login, &format!("{login}scram = \"{SCRAM}\"\n"));
}
