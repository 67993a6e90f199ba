//! `gatepost check` on ten thousand tenants, and on a hundred thousand: reading, compiling, and the
//! proof that no stranger relays; then the same at a reload for which one of them has changed. And
//! all of them in one file.

use std::fmt::Write as _;
use std::fs;

use config::Config;

use crate::measure::{Effort, once_by_all};

/// What `check` is asked to do within five seconds.
const TENANTS: usize = 10_000;

/// The most that Gatepost is built for; of such a `check` nothing is asked but that it ends.
const TENANTS_MAX: usize = 100_000;

const NODE: &str = "[node]\nhostname = \"relay.example\"\n\n[spool]\npath = \"spool\"\n\n\
    [[listener]]\nname = \"smtp\"\naddress = \"127.0.0.1:25\"\nrole = \"relay\"\ntls = \"off\"\n\n\
    [[listener]]\nname = \"submission\"\naddress = \"127.0.0.1:587\"\nrole = \"submission\"\ntls = \"off\"\n\
    auth_without_tls = true\n\n[policy]\ntenants = \"tenants\"\n\n\
    [[route]]\nrecipient_domains = [\"*\"]\nnext_hops = [\"smarthost.example\"]\n";

/// A tenant with three networks, an excluded range, two sender domains, a relay domain and ten logins.
fn tenant(number: usize) -> String {
    let (a, b, c) = (number >> 16, number >> 8 & 255, number & 255);
    let mut text = format!(
        "name = \"tenant{number}\"\n\
         networks = [\"{}.{b}.{c}.0/24\", \"{}.{b}.{c}.64/26\", \"2001:db{a:x}:{b:x}{c:02x}::/48\"]\n\
         excluded_networks = [\"{}.{b}.{c}.128/25\"]\n\
         senders = [\"@tenant{number}.example\", \"@*.tenant{number}.example\"]\n\n\
         [[relay_domain]]\ndomains = [\"in.tenant{number}.example\"]\nnext_hops = [\"mail{number}.example\"]\n",
        198 + a,
        203 + a,
        198 + a
    );
    for login in 0..10 {
        let _ = write!(
            text,
            "\n[[identity]]\nlogin = \"user{login}@tenant{number}.example\"\n\
             password = \"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA\"\n\
             senders = [\"user{login}@tenant{number}.example\"]\n"
        );
    }
    text
}

pub(crate) fn run(effort: Effort) {
    check(effort.of(TENANTS));
}

pub(crate) fn run_largest(effort: Effort) {
    check(effort.of(TENANTS_MAX));
}

/// All tenants in one `tenants.toml`, and one tenant with as many logins: four times as many must
/// take four times as long.
pub(crate) fn run_one_file(effort: Effort) {
    for count in [TENANTS_MAX / 4, TENANTS_MAX] {
        let count = effort.of(count);
        let blocks = (0..count).map(|number| {
            format!(
                "[[tenant]]\nname = \"tenant{number}\"\nsenders = [\"@tenant{number}.example\"]\n\
                 networks = [\"{}.{}.{}.0/24\"]\n\n",
                198 + (number >> 16),
                number >> 8 & 255,
                number & 255
            )
        });
        load_one(&format!("{count} tenants"), &blocks.collect::<String>());
        let logins = (0..count).map(|number| {
            format!(
                "[[tenant.identity]]\nlogin = \"user{number}\"\n\
                 password = \"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA\"\n"
            )
        });
        let tenant = "[[tenant]]\nname = \"tenant\"\nsenders = [\"@tenant.example\"]\n";
        load_one(
            &format!("one tenant with {count} logins"),
            &logins.fold(tenant.to_owned(), |file, login| file + &login),
        );
    }
}

fn load_one(what: &str, file: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::write(folder.path().join("tenants.toml"), file).expect("the folder can be written");
    let path = folder.path().join("gatepost.toml");
    let node = NODE.replace("tenants = \"tenants\"", "tenants = \"tenants.toml\"");
    fs::write(&path, node).expect("the folder can be written");
    once_by_all(&format!("{what} in one file: read, compiled and proved"), || {
        Config::load(&path).unwrap_or_else(|errors| panic!("a sound configuration: {errors}"))
    });
}

fn check(count: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let tenants = folder.path().join("tenants");
    fs::create_dir(&tenants).expect("the folder can be written");
    for number in 0..count {
        fs::write(tenants.join(format!("{number}.toml")), tenant(number)).expect("the folder can be written");
    }
    let path = folder.path().join("gatepost.toml");
    fs::write(&path, NODE).expect("the folder can be written");
    let loaded = once_by_all(&format!("check of {count} tenants: read, compiled and proved"), || {
        Config::load(&path).unwrap_or_else(|errors| panic!("a sound configuration: {errors}"))
    });
    let policy::Proof { decisions, clients, recipients, .. } = loaded.proof;
    println!("  ({decisions} decisions, {clients} strangers' addresses, {recipients} recipients)");
    fs::write(tenants.join("0.toml"), tenant(0) + "\n# changed\n").expect("the folder can be written");
    once_by_all("  reload of them with one changed: read, compiled and proved", || {
        Config::reload(&path, 2, &loaded.kept).expect("a sound configuration")
    });
}
