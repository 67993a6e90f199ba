//! `[admin]`, its tokens file, and `[grants]` of the node and of a tenant.

use std::time::Duration;

use config::{AdminRole, Config, ConfigErrors, Loaded, TokenDigest, admin_socket};
use testbed::folder::{Folder, NODE};

const TENANT: &str = "name = \"NAME\"\nsenders = [\"@NAME.example\"]\n";

const SECRET: &str = "a-token-that-nobody-guesses";

/// `node` is added to the node file, `tokens` is the tokens file, `tenant` is added to two tenants.
fn load(node: &str, tokens: &str, tenants: [&str; 2]) -> Result<Loaded, ConfigErrors> {
    let of = |name: &str, addition: &str| TENANT.replace("NAME", name) + addition;
    let tenants = [("proseware", of("proseware", tenants[0])), ("adatum", of("adatum", tenants[1]))];
    let folder =
        Folder::new(&format!("{NODE}{node}"), &tenants.each_ref().map(|(name, text)| (*name, &**text)));
    folder.write("tokens.toml", tokens);
    folder.write("secret", &format!("{SECRET}\n"));
    Config::load(&folder.node())
}

/// What is wrong, as text.
#[track_caller]
fn complaint(node: &str, tokens: &str, tenants: [&str; 2]) -> String {
    load(node, tokens, tenants).expect_err("it must not load").to_string()
}

const ADMIN: &str =
    "[admin]\nsocket = \"admin.sock\"\naddress = \"127.0.0.1:9188\"\ntokens = \"tokens.toml\"\n";

#[test]
fn a_token_is_known_by_its_digest_however_it_is_written() {
    let digest = TokenDigest::of(SECRET);
    let tokens = format!(
        "[[token]]\nname = \"a\"\nsha256 = \"{digest}\"\nrole = \"admin\"\n\
         [[token]]\nname = \"b\"\ntoken = \"file:secret\"\nrole = \"read\"\ntenant = \"proseware\"\n"
    );
    let admin = load(ADMIN, &tokens, ["", ""]).unwrap().node.admin;
    assert!(admin.socket.unwrap().ends_with("admin.sock"));
    assert_eq!(admin.address, Some("127.0.0.1:9188".parse().unwrap()));
    let [a, b] = admin.tokens.as_slice() else { panic!("two tokens: {:?}", admin.tokens) };
    assert!(a.digest.is(&digest) && b.digest.is(&digest) && !a.digest.is(&TokenDigest::of("another")));
    assert_eq!((a.role, a.tenant.as_deref()), (AdminRole::Admin, None));
    assert_eq!((b.role, b.tenant.as_deref()), (AdminRole::Read, Some("proseware")));
    assert!(!format!("{admin:?}", admin = admin.tokens).contains(&digest.to_string()));
}

#[test]
fn a_token_that_could_be_guessed_or_read_two_ways_is_an_error_without_its_text() {
    for (tokens, key, what) in [
        ("token = \"swordfish\"", "token.token", "can be guessed"),
        ("sha256 = \"swordfish\"", "token.sha256", "64 hex digits"),
        ("token = \"file:secret\"\nsha256 = \"00\"", "token.sha256", "written twice"),
        ("", "token.sha256", "is missing"),
    ] {
        let text =
            complaint(ADMIN, &format!("[[token]]\nname = \"a\"\nrole = \"admin\"\n{tokens}\n"), ["", ""]);
        assert!(text.contains(key) && text.contains(what), "{text}");
        assert!(text.contains("gatepost token") || text.contains("keep sha256"), "{text}");
        assert!(!text.contains("swordfish"), "{text}");
    }
    assert!(complaint("[admin]\ntokens = \"nowhere.toml\"\n", "", ["", ""]).contains("there is no file"));
}

#[test]
fn an_address_without_a_token_is_warned_of() {
    let loaded = load("[admin]\naddress = \"127.0.0.1:9188\"\n", "", ["", ""]).unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.key == "admin.address"), "{:?}", loaded.warnings);
}

#[test]
fn the_socket_is_found_in_a_configuration_that_is_otherwise_broken() {
    let folder = Folder::new("nonsense = 1\n[admin]\nsocket = \"run/admin.sock\"\n", &[]);
    let path = folder.node();
    assert_eq!(admin_socket(&path).unwrap(), folder.join("run/admin.sock"));
    folder.write("gatepost.toml", NODE);
    let text = admin_socket(&path).unwrap_err().to_string();
    assert!(text.contains("[admin]") && text.contains("restart"), "{text}");
}

#[test]
fn grants_hold_for_ten_minutes_unless_the_tenant_says_otherwise() {
    let node = "[grants]\nshared = [\"203.0.113.0/28\", \"2001:db8::1\"]\n";
    let tenants = ["[grants]\ntoken = \"file:../secret\"\n", "[grants]\nttl = \"90s\"\n"];
    let loaded = load(node, "", tenants).unwrap();
    assert_eq!(loaded.node.grants.shared.len(), 2);
    let terms = |name| {
        let tenant = loaded.snapshot.tenant_named(name).unwrap();
        loaded.snapshot.tenant(tenant).grants.clone().unwrap()
    };
    assert_eq!(terms("proseware").ttl, Duration::from_secs(600));
    assert_eq!(terms("proseware").token_sha256, Some(TokenDigest::of(SECRET).into()));
    assert_eq!((terms("adatum").ttl, terms("adatum").token_sha256), (Duration::from_secs(90), None));
}

#[test]
fn a_grant_token_names_its_tenant_and_no_other() {
    let both = "[grants]\ntoken = \"file:../secret\"\n";
    let text = complaint("", "", [both, both]);
    assert!(
        text.contains("two tenants have the same grant token") && text.contains("adatum.toml:3"),
        "{text}"
    );
    for ttl in ["0s", "25h"] {
        let text = complaint("", "", [&format!("[grants]\nttl = \"{ttl}\"\n"), ""]);
        assert!(text.contains("grants.ttl") && text.contains("no grant can hold so long"), "{text}");
    }
}
