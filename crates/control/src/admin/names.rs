//! Names that nothing has, and those that may have been meant.

use config::nearest_name;
use policy::Snapshot;

use super::access::Principal;

/// That there is no tenant `name` among `known`.
pub(super) fn no_tenant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest_name(name, known) {
        Some(meant) => format!("there is no tenant {name:?}; did you mean {meant:?}?"),
        None => format!("there is no tenant {name:?}; `gatepost tenants list` names all"),
    }
}

/// That there is no login `login`, or none of `tenant`'s.
pub(super) fn no_login(
    login: &str,
    tenant: Option<&str>,
    snapshot: &Snapshot,
    principal: &Principal,
) -> String {
    let tenants = snapshot
        .tenants()
        .iter()
        .filter(|one| principal.is_for(&one.name) && tenant.is_none_or(|tenant| tenant == &*one.name));
    let sources = tenants.filter_map(|one| Some(snapshot.tenant_source(snapshot.tenant_named(&one.name)?)));
    let logins: Vec<&str> = sources
        .flat_map(|source| source.identities.iter().map(|identity| identity.login.value.as_str()))
        .collect();
    let whose = tenant.map_or(String::new(), |tenant| format!(" of tenant {tenant:?}"));
    match nearest_name(login, logins.into_iter()) {
        Some(meant) => format!("there is no login {login:?}{whose}; did you mean {meant:?}?"),
        None => format!(
            "there is no login {login:?}{whose}; `gatepost tenants show NAME` names those of a tenant"
        ),
    }
}
