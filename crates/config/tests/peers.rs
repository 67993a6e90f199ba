//! `[proxy_protocol]` and `[xclient]`: who may speak for others.

use std::fs;
use std::path::Path;

use config::{Config, ConfigErrors, Loaded};
use testbed::folder::{Folder, NODE};

fn load(peers: &str, tenant: &str) -> Result<Loaded, ConfigErrors> {
    let tenant = format!("name = \"proseware\"\nsenders = [\"@proseware.example\"]\n{tenant}");
    Config::load(&Folder::new(&format!("{NODE}{peers}"), &[("proseware", &tenant)]).node())
}

const TENANT: &str = "networks = [\"198.51.100.0/24\"]\n";

#[test]
fn the_samples_sections_load() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/gatepost.toml");
    let sample = fs::read_to_string(sample).unwrap();
    let keys = ["[proxy_protocol]", "[xclient]", "from = ", "login = "];
    let lines = sample.lines().filter_map(|line| line.strip_prefix("# "));
    let lines: Vec<_> = lines.filter(|line| keys.iter().any(|key| line.starts_with(key))).collect();
    let peers = load(&lines.join("\n"), TENANT).unwrap_or_else(|errors| panic!("{errors}")).node.peers;
    assert_eq!(peers.proxies[0].value.to_string(), "10.8.0.0/24");
    assert_eq!((peers.xclient[0].value.to_string().as_str(), peers.xclient_login), ("10.8.0.9/32", false));
}

#[test]
fn nobody_speaks_for_others_unless_he_is_listed() {
    let peers = load("", TENANT).unwrap().node.peers;
    assert_eq!((peers.proxies.len(), peers.xclient.len(), peers.xclient_login), (0, 0, false));
}

#[test]
fn a_list_that_lets_too_many_speak_for_others_is_refused() {
    for (list, says) in [
        ("[\"0.0.0.0/0\"]", "wider than /8"),
        ("[\"10.0.0.0/7\"]", "wider than /8"),
        ("[\"2001::/19\"]", "wider than /20"),
        ("[\"64:ff9b::/96\"]", "behind a translator"),
        ("[\"64:ff9b:1::/48\"]", "behind a translator"),
        ("[\"10.8.0.1/24\"]", "bits set"),
        ("[\"::ffff:10.8.0.9\"]", "write it as IPv4"),
        ("[\"balancer.example\"]", "no address"),
    ] {
        for section in ["proxy_protocol", "xclient"] {
            let errors = load(&format!("[{section}]\nfrom = {list}\n"), TENANT).unwrap_err();
            let error = errors.iter().next().unwrap();
            assert_eq!(error.key, format!("{section}.from"));
            assert!(error.to_string().contains(says), "{error}");
        }
    }
    let errors = load("[proxy_protocol]\n", TENANT).unwrap_err();
    assert!(errors.to_string().contains("proxy_protocol.from: is missing"), "{errors}");
}

#[test]
fn a_list_that_adds_up_to_the_world_is_an_open_relay() {
    let list: Vec<_> = (1..224).map(|first| format!("\"{first}.0.0.0/8\"")).collect();
    for section in ["proxy_protocol", "xclient"] {
        let peers = format!("[{section}]\nfrom = [\n{}\n]\n", list.join(",\n"));
        let errors = load(&peers, TENANT).unwrap_err();
        assert!(errors.are_openings(), "{errors}");
    }
}

#[test]
fn a_proxy_in_a_tenants_network_is_warned_of() {
    let peers = "[proxy_protocol]\nfrom = [\"198.51.100.8\"]\n[xclient]\nfrom = [\"203.0.113.0/24\"]\n";
    let tenant = "networks = [\"198.51.100.0/24\", \"203.0.113.7\"]\n";
    let warnings = load(peers, tenant).unwrap().warnings;
    let texts: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].contains("198.51.100.0/24 of tenant proseware holds the proxy 198.51.100.8/32"));
    assert!(texts[1].contains("203.0.113.7/32 of tenant proseware holds the proxy 203.0.113.0/24"));
}

#[test]
fn what_excludes_a_proxy_is_the_most_specific_entry_and_no_wider_one() {
    let warnings = |from: &str, tenant: &str| {
        let peers = format!("[xclient]\nfrom = [\"{from}\"]\n");
        load(&peers, tenant).unwrap_or_else(|errors| panic!("{errors}")).warnings
    };
    let wide = "networks = [\"198.51.100.0/24\"]\nexcluded_networks = ";
    for excluded in ["198.51.100.8", "198.51.100.0/28", "::ffff:198.51.100.8"] {
        assert_eq!(warnings("198.51.100.8", &format!("{wide}[\"{excluded}\"]\n")), [], "{excluded}");
    }
    for excluded in ["198.51.100.9", "198.51.0.0/16"] {
        assert_eq!(warnings("198.51.100.8", &format!("{wide}[\"{excluded}\"]\n")).len(), 1, "{excluded}");
    }
    // The proxy's own address relays, whatever range around it is excluded.
    for net in ["203.0.113.9", "203.0.113.9/32"] {
        for from in ["203.0.113.9", "203.0.113.0/24"] {
            let tenant = format!("networks = [\"{net}\"]\nexcluded_networks = [\"203.0.113.0/24\"]\n");
            let [warning] = &*warnings(from, &tenant) else { panic!("one warning") };
            assert!(warning.to_string().ends_with("take it out of networks"), "{warning}");
        }
    }
    // One network in another: the inner one decides.
    let nested = "networks = [\"198.51.100.0/24\", \"198.51.100.0/26\"]\n";
    let [warning] = &*warnings("198.51.100.8", nested) else { panic!("one warning") };
    assert!(warning.to_string().contains("198.51.100.0/26 of tenant"), "{warning}");
}

#[test]
fn a_login_by_xclient_is_warned_of() {
    let warnings = load("[xclient]\nfrom = [\"10.8.0.9\"]\nlogin = true\n", TENANT).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].key, "xclient.login");
}
