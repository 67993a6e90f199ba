//! Words and forms that mean something else than their writer thinks.

use super::*;

#[test]
fn what_means_something_else_than_its_writer_thinks_is_refused() {
    each_is_said(
        2,
        &[
            (
                |f| f.change("tenants/proseware.toml", "198.51.100.0/24", "198.051.100.0/24"),
                "DIR/tenants/proseware.toml:2: networks: \"198.051.100.0/24\": a number with leading zeros, which some programs read as octal; write a prefix such as \"198.51.100.0/24\" or \"2001:db8::/48\", or one address",
            ),
            (
                |f| {
                    f.change(
                        "tenants/proseware.toml",
                        "\"proseware.example\"]\nnext",
                        "\"[127.0.0.1]\"]\nnext",
                    )
                },
                "DIR/tenants/proseware.toml:5: domains: \"[127.0.0.1]\" is on every host another address; name the domain that mail is received for",
            ),
            (
                |f| {
                    f.change(
                        "tenants/proseware.toml",
                        "\"proseware.example\"]\nnext",
                        "\"[IPv6:::1]\"]\nnext",
                    )
                },
                "DIR/tenants/proseware.toml:5: domains: \"[IPv6:::1]\" is on every host another address; name the domain that mail is received for",
            ),
            (
                |f| f.write("tenants/list.txt", &format!("kim\n{SECRET} {SECRET}\n")),
                "DIR/tenants/list.txt:2: recipients: this line is no recipient of these relay domains; write a local part, or an address in one of the block's domains",
            ),
            (
                |f| {
                    f.change("gatepost.toml", "[policy]", "[lists]\nblocked_clients = \"clients\"\n[policy]");
                    f.write("clients", "198.051.100.7\n");
                },
                "DIR/clients:1: lists.blocked_clients: this line is a number with leading zeros, which some programs read as octal; write one a line, such as 198.51.100.7 or 2001:db8::/32",
            ),
        ],
    );
}

#[test]
fn mistakes_of_form_are_named() {
    each_is_said(
        2,
        &[
            (
                |f| f.change("gatepost.toml", "[[listener]]", "[listener]"),
                "DIR/gatepost.toml:6: listener: is a section in single brackets, and there can be several; write [[listener]]",
            ),
            (
                |f| f.change("gatepost.toml", "[spool]", "[[spool]]"),
                "DIR/gatepost.toml:4: spool: is a section in double brackets, and there can be only one; write [spool]",
            ),
            (
                |f| f.change("gatepost.toml", "[[route]]", "[route]"),
                "DIR/gatepost.toml:16: route: is a section in single brackets, and there can be several; write [[route]]",
            ),
            (
                |f| f.change("tenants/proseware.toml", "[[identity]]", "[identity]"),
                "DIR/tenants/proseware.toml:8: identity: is a section in single brackets, and there can be several; write [[identity]]",
            ),
            (
                |f| {
                    f.write(
                        "gatepost.toml",
                        "# ours\nnode:\n  hostname: relay.proseware.example\nspool:\n  path: spool\n",
                    )
                },
                "DIR/gatepost.toml:2: this is YAML, and not TOML; write key = \"value\", and [section] on a line of its own before the keys of a section",
            ),
            (
                |f| f.write("gatepost.toml", "{\"node\": {\"hostname\": \"relay.proseware.example\"}}\n"),
                "DIR/gatepost.toml:1: this is JSON, and not TOML; write key = \"value\", and [section] on a line of its own before the keys of a section",
            ),
            (
                |f| f.write("tenants/proseware.toml", "---\nname: proseware\n"),
                "DIR/tenants/proseware.toml:1: this is YAML, and not TOML; write key = \"value\", and [section] on a line of its own before the keys of a section",
            ),
            (
                |f| f.change("gatepost.toml", "certificate =", "cert ="),
                "DIR/gatepost.toml:12: tls.cert: unknown key; did you mean \"certificate\"?",
            ),
            (
                |f| f.change("gatepost.toml", "\"tenants\"", "\"tls.crt\""),
                "DIR/gatepost.toml:15: policy.tenants: DIR/tls.crt is one file, whose name ends in neither .toml nor .jsonl; call it tenants.toml with a [[tenant]] each, or tenants.jsonl with a line of JSON each",
            ),
            (
                |f| f.change("tenants/proseware.toml", "KYmY6IA", "KYmY6"),
                "DIR/tenants/proseware.toml:10: identity.password: is an argon2 hash that was cut off, or changed in copying; make one with `gatepost password`",
            ),
            (
                |f| f.change("tenants/proseware.toml", "$gy3clQEqPygPfs6UhRGQ/ygwz5KUDH5sPY76KYmY6IA", ""),
                "DIR/tenants/proseware.toml:10: identity.password: is an argon2 hash that was cut off, or changed in copying; make one with `gatepost password`",
            ),
            (
                |f| {
                    f.change("gatepost.toml", "127.0.0.1:0", "[::]:2525");
                    f.change("gatepost.toml", "127.0.0.1:9", "127.0.0.1:2525");
                },
                "DIR/gatepost.toml:16: route.next_hops: the next hop 127.0.0.1:2525 is this gateway itself, listener \"smtp\"; name the server behind it: mail would come back until it has gone round 50 times",
            ),
            (
                |f| {
                    f.change("gatepost.toml", "127.0.0.1:0", "192.0.2.7:25");
                    f.change(
                        "tenants/proseware.toml",
                        "\"mail.proseware.example\"",
                        "\"relay.proseware.example\"",
                    );
                },
                "DIR/tenants/proseware.toml:4: relay_domain.next_hops: the next hop relay.proseware.example:25 is this gateway itself, listener \"smtp\"; name the server behind it: mail would come back until it has gone round 50 times",
            ),
            (
                |f| f.change("gatepost.toml", "[policy]", "[admin]\nsocket = \"run/admin.sock\"\n[policy]"),
                "DIR/gatepost.toml:15: admin.socket: there is no directory DIR/run; create it, owned by the user that runs Gatepost (RuntimeDirectory= of systemd does)",
            ),
        ],
    );
}

#[test]
fn networks_of_everybody_are_what_the_proof_finds_open() {
    each_is_said(
        1,
        &[
            (
                |f| f.change("tenants/proseware.toml", "198.51.100.0/24", "0.0.0.0/0"),
                "DIR/tenants/proseware.toml:2: networks: 0.0.0.0/0 is wider than /8: that is no customer's IPv4 network; list the networks that are the tenant's own",
            ),
            (
                |f| f.change("tenants/proseware.toml", "198.51.100.0/24", "198.0.0.0/7"),
                "DIR/tenants/proseware.toml:2: networks: 198.0.0.0/7 is wider than /8: that is no customer's IPv4 network; list the networks that are the tenant's own",
            ),
            (
                |f| f.change("tenants/proseware.toml", "198.51.100.0/24", "::/0"),
                "DIR/tenants/proseware.toml:2: networks: ::/0 is 0.0.0.0/0 behind a translator (RFC 6052), which is wider than /8: that is no customer's IPv4 network; list the networks that are the tenant's own",
            ),
        ],
    );
}
