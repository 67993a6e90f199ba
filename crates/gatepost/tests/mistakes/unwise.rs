//! What works and is unwise.

use std::time::{Duration, SystemTime};

use super::*;

#[test]
fn what_works_and_is_unwise_is_warned_of() {
    let cases: &[Case] = &[
        (|_| (), ""),
        (
            |f| set_mode(&f.join("tls.key"), 0o644),
            "DIR/gatepost.toml:13: tls.key: every user of this host can read DIR/tls.key: take that right away, `chmod o-r DIR/tls.key`",
        ),
        (
            |f| f.change("gatepost.toml", "relay.proseware.example", "relay"),
            "DIR/gatepost.toml:2: node.hostname: \"relay\" is not a full name, and many receivers refuse mail from it: write the full name of this host, as DNS knows it",
        ),
        (
            |f| f.write("tenants/adatum.yaml", "name: adatum\n"),
            "DIR/gatepost.toml:15: policy.tenants: DIR/tenants/adatum.yaml is not read: the name of a tenant's file ends in .toml",
        ),
        (
            |f| f.write("tenants/adatum", "name = \"adatum\"\n"),
            "DIR/gatepost.toml:15: policy.tenants: DIR/tenants/adatum is not read: the name of a tenant's file ends in .toml",
        ),
        (|f| f.write("tenants/proseware.toml~", "name = \"proseware\"\n"), ""),
    ];
    let mut wrong = String::new();
    for (break_it, expected) in cases {
        let folder = files();
        break_it(&folder);
        let found = warnings(&folder, &[]).join("\n");
        if found != *expected {
            wrong += &format!("wanted: {expected}\nfound:  {found}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Seconds of a day.
const DAY: u64 = 86_400;

#[test]
fn a_certificate_that_ends_soon_is_warned_of_with_its_day() {
    for (days, ago, said) in [
        (3, true, Some("DIR/tls.crt expired 3 days ago, on ")),
        (0, true, Some("DIR/tls.crt expired less than a day ago, on ")),
        (5, false, Some("DIR/tls.crt expires in 5 days, on ")),
        (13, false, Some("DIR/tls.crt expires in 13 days, on ")),
        (14, false, None),
    ] {
        let folder = files();
        // An hour more, so that the days are whole ones by the time they are counted.
        let distance = Duration::from_secs(days * DAY + 3600);
        let end = if ago { SystemTime::now() - distance } else { SystemTime::now() + distance };
        certificate(&folder, |parameters| parameters.not_after = end.into());
        let found = warnings(&folder, &[]);
        let prefix = "DIR/gatepost.toml:12: tls.certificate: the certificate in ";
        let wanted = said.map(|said| format!("{prefix}{said}"));
        let is_right = match wanted {
            Some(wanted) => found.len() == 1 && found[0].starts_with(&wanted),
            None => found.is_empty(),
        };
        assert!(is_right, "{days} days, past: {ago}: {found:?}");
    }
}

#[test]
fn of_very_many_warnings_of_one_kind_the_rest_is_a_number() {
    const TENANTS: usize = 60;
    let folder = files();
    for number in 0..TENANTS {
        let tenant = format!(
            "name = \"t{number}\"\nnetworks = [\"10.0.{number}.0/24\"]\nsenders = [\"@t{number}.example\"]\n"
        );
        folder.write(&format!("tenants/t{number:02}.toml"), &tenant);
    }
    // Of another kind, and after them all.
    folder.write("tenants/z.toml", "name = \"z\"\nsenders = [\"@*\"]\n");
    let found = warnings(&folder, &[]);
    assert_eq!(found.len(), 20 + 1 + 1, "{found:#?}");
    assert!(found[19].starts_with("DIR/tenants/t19.toml:2: networks: "), "{found:#?}");
    assert_eq!(found[20], "networks: 40 more warnings like the last; `gatepost check --json` lists them all");
    assert!(found[21].starts_with("DIR/tenants/z.toml:2: senders: "), "{found:#?}");
    let output = gatepost(&["check", "--json"], &folder.node());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_networks =
        json["warnings"].as_array().unwrap().iter().filter(|warning| warning["key"] == "networks");
    assert_eq!(of_networks.count(), TENANTS);
}
