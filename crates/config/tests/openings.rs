//! Two hundred random configurations, each sound, and each then opened to the world in a random way:
//! none of the opened ones loads, and the error names the line that opened it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use config::{Config, Kept};
use testbed::folder::{Folder, NODE, TENANT};

const CONFIGURATIONS: u64 = 200;

/// A small generator: the sequence is a function of the seed (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// One tenant file: each list is written one element a line, so that an error's line is one of them.
#[derive(Default)]
struct Tenant {
    name: String,
    networks: Vec<String>,
    excluded: Vec<String>,
    relay_domains: Vec<String>,
    extra: String,
}

impl Tenant {
    fn random(number: u64, random: &mut Random) -> Self {
        let name = format!("tenant{number}");
        let mut tenant = Self { name: name.clone(), ..Self::default() };
        for index in 0..1 + random.below(4) {
            let (a, b) = (16 + number, index * 32 + random.below(32));
            tenant.networks.push(match random.below(3) {
                0 => format!("198.{a}.{b}.0/24"),
                1 => format!("198.{a}.{b}.{}", random.below(256)),
                _ => format!("2001:db8:{a:x}:{b:x}::/64"),
            });
        }
        if random.below(2) == 0 {
            tenant.excluded.push(format!("198.{}.0.0/16", 16 + number));
        }
        for index in 0..random.below(3) {
            tenant.relay_domains.push(format!("in{index}.{name}.example"));
        }
        let login = random.one_of(&["never", "outside", "always"]);
        let null = random.one_of(&["true", "false"]);
        tenant.extra = format!(
            "senders = [\"@{name}.example\", \"@*.{name}.example\", \"one@single{number}.example\"]\n\
             login_required = \"{login}\"\nnull_sender = {null}\n"
        );
        tenant
    }

    fn text(&self) -> String {
        let mut text = format!("name = \"{}\"\n{}", self.name, self.extra);
        for (key, list) in [("networks", &self.networks), ("excluded_networks", &self.excluded)] {
            let _ = writeln!(text, "{key} = [");
            for net in list {
                let _ = writeln!(text, "  \"{net}\",");
            }
            text.push_str("]\n");
        }
        for domain in &self.relay_domains {
            let _ = write!(
                text,
                "[[relay_domain]]\ndomains = [\"{domain}\"]\nnext_hops = [\"mail.inside.example\"]\n"
            );
        }
        text
    }
}

/// A whole configuration: the node file's last lines, and its tenants.
struct House {
    node_extra: String,
    role: &'static str,
    tenants: Vec<Tenant>,
}

impl House {
    fn random(random: &mut Random) -> Self {
        let count = 1 + random.below(4);
        Self {
            node_extra: String::new(),
            role: random.one_of(&[
                "relay",
                "relay",
                "relay\"\ntls = \"off\"\n\n[[listener]]\nname = \"sub\"\n\
                address = \"127.0.0.1:1\"\nauth_without_tls = true\nrole = \"submission",
            ]),
            tenants: (0..count).map(|number| Tenant::random(number, random)).collect(),
        }
    }

    fn write(&self, folder: &Path) -> std::path::PathBuf {
        fs::create_dir_all(folder.join("tenants")).unwrap();
        for tenant in &self.tenants {
            fs::write(folder.join(format!("tenants/{}.toml", tenant.name)), tenant.text()).unwrap();
        }
        let role = format!("role = \"{}\"", self.role);
        let node = NODE.replace("role = \"relay\"", &role) + &self.node_extra;
        let path = folder.join("gatepost.toml");
        fs::write(&path, node).unwrap();
        path
    }

    /// Opens it, and gives a text that stands on a line that did.
    fn open(&mut self, random: &mut Random) -> String {
        let victim = random.below(self.tenants.len() as u64) as usize;
        let tenant = &mut self.tenants[victim];
        match random.below(11) {
            0 => tenant.add(short_v4(random.below(8), random)),
            1 => tenant.add(short_v6(random.below(20), random)),
            2 => tenant.add(format!("::ffff:0.0.0.0/{}", 96 + random.below(8))),
            3 => tenant.add_union(&["32.0.0.0/8", "64.0.0.0/9"]),
            4 => {
                // Sixteen bits at a time: 257 of them are more than a /8.
                let nets: Vec<_> = (0..257).map(|n| format!("{}.{}.0.0/16", 48 + n / 256, n % 256)).collect();
                tenant.add_union(&nets.iter().map(String::as_str).collect::<Vec<_>>())
            }
            5 => tenant.add_union(&["2400::/20", "2600::/20", "2a00::/32"]),
            6 => self.believe("proxy_protocol", random),
            7 => self.believe("xclient", random),
            8 => tenant.add(behind_a_translator(&short_v4(random.below(8), random))),
            9 => tenant.add_union(&["64:ff9b::4000:0/104", "64:ff9b:1::4100:0/105"]),
            // Half the world each.
            _ => {
                let halves = ["32.0.0.0/8", "33.0.0.0/8"];
                let _ = write!(self.node_extra, "\n[proxy_protocol]\nfrom = {halves:?}\n");
                halves[0].to_owned()
            }
        }
    }

    /// Lets the world say from where it comes.
    fn believe(&mut self, list: &str, random: &mut Random) -> String {
        let net = match random.below(2) {
            0 => short_v4(random.below(8), random),
            _ => short_v6(random.below(20), random),
        };
        let _ = write!(self.node_extra, "\n[{list}]\nfrom = [\"{net}\"]\n");
        net
    }
}

impl Tenant {
    fn add(&mut self, net: String) -> String {
        self.networks.push(net.clone());
        net
    }

    fn add_union(&mut self, nets: &[&str]) -> String {
        // A client in one of them relays: that takes a tenant whose networks need no login.
        self.extra = self.extra.replace("\"outside\"", "\"never\"").replace("\"always\"", "\"never\"");
        self.networks.extend(nets.iter().map(|net| (*net).to_owned()));
        nets[0].to_owned()
    }
}

fn short_v4(bits: u64, random: &mut Random) -> String {
    let address = random.below(1 << bits).checked_shl(32 - bits as u32).unwrap_or(0) as u32;
    format!("{}/{bits}", std::net::Ipv4Addr::from(address))
}

fn short_v6(bits: u64, random: &mut Random) -> String {
    let address = u128::from(random.below(1 << bits)).checked_shl(128 - bits as u32).unwrap_or(0);
    format!("{}/{bits}", std::net::Ipv6Addr::from(address))
}

/// The same by RFC 6052.
fn behind_a_translator(v4: &str) -> String {
    let net: ipnet::Ipv4Net = v4.parse().unwrap();
    format!("64:ff9b::{}/{}", net.addr(), 96 + net.prefix_len())
}

#[test]
fn no_opened_configuration_loads_and_the_error_names_the_line() {
    for seed in 0..CONFIGURATIONS {
        let mut random = Random(seed);
        let mut house = House::random(&mut random);
        let folder = tempfile::tempdir().unwrap();
        let path = house.write(folder.path());
        let sound = Config::load(&path).unwrap_or_else(|errors| panic!("seed {seed} is sound: {errors}"));
        assert!(sound.proof.holds() && sound.proof.decisions > 0, "seed {seed}");
        let opened_by = house.open(&mut random);
        let path = house.write(folder.path());
        let Err(errors) = Config::load(&path) else {
            panic!("seed {seed}: opened by {opened_by}, and loaded");
        };
        assert!(errors.are_openings(), "seed {seed}: {errors}");
        let named = errors.iter().any(|error| line_of(&error.origin).contains(&opened_by));
        assert!(named, "seed {seed}: {opened_by} is not named by: {errors}");
    }
}

/// Networks of which none is too wide, and all are.
const TOO_WIDE: &str = "name = \"wide\"\nsenders = [\"@wide.example\"]\nnetworks = [\n\"64.0.0.0/9\",\n\
                        \"64.128.0.0/9\",\n\"65.0.0.0/8\",\n]\n";

#[test]
fn a_reload_may_open_no_listener_that_runs_whatever_the_new_file_makes_of_it() {
    let relay = "name = \"smtp\"\naddress = \"127.0.0.1:0\"\nrole = \"relay\"\n";
    assert!(NODE.contains(relay));
    let submission =
        "name = \"smtp\"\naddress = \"127.0.0.1:0\"\nrole = \"submission\"\nauth_without_tls = true\n";
    for replaced in [submission.to_owned(), submission.replace("\"smtp\"", "\"other\"")] {
        let folder = Folder::new(NODE, &[("proseware", TENANT)]);
        let started = Config::load(&folder.node()).unwrap_or_else(|errors| panic!("{errors}"));
        // Of itself the new file is sound: on a submission listener no client relays without a login.
        folder.write("gatepost.toml", &NODE.replace(relay, &replaced));
        let reloaded = Config::reload(&folder.node(), &started.kept, &started.snapshot)
            .unwrap_or_else(|errors| panic!("{errors}"));
        folder.write("tenants/wide.toml", TOO_WIDE);
        assert!(Config::load(&folder.node()).is_ok(), "a restart closes the relay listener");
        // Also at the second reload after the change.
        for kept in [&started.kept, &reloaded.kept] {
            let errors = Config::reload(&folder.node(), kept, &reloaded.snapshot).unwrap_err();
            assert!(errors.are_openings(), "{errors}");
            assert!(errors.to_string().contains("on listener smtp (as it runs until a restart)"), "{errors}");
        }
    }
    // One that is to be opened by the restart counts as well.
    let folder = Folder::new(&NODE.replace(relay, submission), &[("wide", TOO_WIDE)]);
    let started = Config::load(&folder.node()).unwrap_or_else(|errors| panic!("{errors}"));
    folder.write("gatepost.toml", NODE);
    assert!(Config::reload(&folder.node(), &started.kept, &started.snapshot).is_err());
    assert!(Config::reload(&folder.node(), &Kept::default(), &started.snapshot).is_err());
}

#[test]
fn a_relay_domain_may_have_any_name() {
    let names = "\"elsewhere.invalid\", \"Elsewhere0.invalid\", \"stranger.invalid\", \"relay.example\"";
    let relay = format!("{TENANT}[[relay_domain]]\ndomains = [{names}]\nnext_hops = [\"mail.example\"]\n");
    let folder = Folder::new(NODE, &[("proseware", &relay)]);
    let loaded = Config::load(&folder.node()).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(loaded.proof.holds());
}

fn line_of(origin: &policy::Origin) -> String {
    let text = fs::read_to_string(&*origin.file).unwrap();
    text.lines().nth(origin.line as usize - 1).unwrap_or_default().to_owned()
}
