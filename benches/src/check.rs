//! `gatepost check` on ten thousand tenants, and on a hundred thousand: reading, compiling, and the
//! proof that no stranger relays; then the same at a reload for which one of them has changed. And
//! all of them in one file.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use config::{Config, Loaded};

use crate::measure::{Effort, once_by_all};

/// What `check` is asked to do within five seconds.
pub(crate) const TENANTS: usize = 10_000;

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
             password = \"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA\"\n\
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
                 password = \"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA\"\n"
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

/// A configuration of many tenants in files of a folder, which goes with it.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn write(count: usize) -> Self {
        let files = Self(tempfile::tempdir().expect("a temporary folder can be made"));
        fs::create_dir(files.0.path().join("tenants")).expect("the folder can be written");
        for number in 0..count {
            files.write_tenant(number, &tenant(number));
        }
        fs::write(files.node(), NODE).expect("the folder can be written");
        files
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.0.path().join("gatepost.toml")
    }

    pub(crate) fn load(&self) -> Loaded {
        Config::load(&self.node()).unwrap_or_else(|errors| panic!("a sound configuration: {errors}"))
    }

    /// Reads again what has changed since.
    pub(crate) fn reload(&self, before: &Loaded) -> Loaded {
        Config::reload(&self.node(), &before.kept, &before.snapshot)
            .unwrap_or_else(|errors| panic!("a sound configuration: {errors}"))
    }

    pub(crate) fn change_one(&self) {
        self.write_tenant(0, &(tenant(0) + "\n# changed\n"));
    }

    fn write_tenant(&self, number: usize, text: &str) {
        let path = self.0.path().join(format!("tenants/{number}.toml"));
        fs::write(path, text).expect("the folder can be written");
    }
}

fn check(count: usize) {
    let files = Files::write(count);
    let loaded =
        once_by_all(&format!("check of {count} tenants: read, compiled and proved"), || files.load());
    let policy::Proof { decisions, clients, recipients, .. } = loaded.proof;
    println!("  ({decisions} decisions, {clients} strangers' addresses, {recipients} recipients)");
    files.change_one();
    once_by_all("  reload of them with one changed: read, compiled and proved", || files.reload(&loaded));
}
