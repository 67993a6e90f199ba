//! Files that are no text, or no files.

use super::*;

#[test]
fn files_that_are_no_text_are_refused_in_one_sentence() {
    each_is_said(
        2,
        &[
            (
                |f| {
                    bytes(
                        f,
                        "gatepost.toml",
                        &NODE
                            .replace("proseware", "pr\u{f6}seware")
                            .chars()
                            .map(|c| c as u8)
                            .collect::<Vec<_>>(),
                    )
                },
                "DIR/gatepost.toml:2: this line is not UTF-8; save the file as UTF-8",
            ),
            (
                |f| bytes(f, "tenants/proseware.toml", b"name = \"proseware\"\nnetworks = [\"\xff\"]\n"),
                "DIR/tenants/proseware.toml:2: this line is not UTF-8; save the file as UTF-8",
            ),
            (
                |f| bytes(f, "tenants/list.txt", b"kim\nterri\nj\xf6rg\n"),
                "DIR/tenants/list.txt:3: relay_domain.recipients: this line is not UTF-8; save the file as UTF-8",
            ),
            (
                |f| f.write("gatepost.toml", &NODE.replace('\n', "\r")),
                "DIR/gatepost.toml: the lines end in CR alone, so that all of it is one line; save the file with LF line ends",
            ),
            (
                |f| f.write("tenants/proseware.toml", &TENANT.replace('\n', "\r")),
                "DIR/tenants/proseware.toml: the lines end in CR alone, so that all of it is one line; save the file with LF line ends",
            ),
            (
                |f| f.write("tenants/list.txt", "kim\rterri\r"),
                "DIR/tenants/list.txt: relay_domain.recipients: the lines end in CR alone, so that all of it is one line; save the file with LF line ends",
            ),
        ],
    );
}

#[test]
fn pipes_devices_and_directories_are_refused_and_not_read_for_ever() {
    each_is_said(
        2,
        &[
            (
                |f| pipe(f, "tenants/list.txt"),
                "DIR/tenants/proseware.toml:7: relay_domain.recipients: DIR/tenants/list.txt is a pipe; name a regular file",
            ),
            (
                |f| f.change("tenants/proseware.toml", "list.txt", "/dev/zero"),
                "DIR/tenants/proseware.toml:7: relay_domain.recipients: /dev/zero is a device; name a regular file",
            ),
            (
                |f| f.change("tenants/proseware.toml", "list.txt", "."),
                "DIR/tenants/proseware.toml:7: relay_domain.recipients: DIR/tenants/. is a directory; name a regular file",
            ),
            (
                |f| pipe(f, "tenants/proseware.toml"),
                "DIR/tenants/proseware.toml: the file is a pipe; name a regular file",
            ),
            (|f| pipe(f, "gatepost.toml"), "DIR/gatepost.toml: the file is a pipe; name a regular file"),
            (
                |f| {
                    f.change(
                        "gatepost.toml",
                        "[policy]",
                        "[lists]\nblocked_clients = \"/dev/zero\"\n[policy]",
                    );
                },
                "DIR/gatepost.toml:15: lists.blocked_clients: /dev/zero is a device; name a regular file",
            ),
            (
                |f| {
                    pipe(f, "credentials");
                    f.change(
                        "tenants/proseware.toml",
                        "[[relay_domain]]",
                        "credentials = \"../credentials\"\n[[relay_domain]]",
                    );
                },
                "DIR/tenants/proseware.toml:4: credentials: DIR/tenants/../credentials is a pipe; name a regular file",
            ),
            (
                |f| {
                    pipe(f, "secret");
                    f.change(
                        "tenants/proseware.toml",
                        "[[relay_domain]]",
                        "[grants]\ntoken = \"file:../secret\"\n[[relay_domain]]",
                    );
                },
                "DIR/tenants/proseware.toml:5: grants.token: DIR/tenants/../secret is a pipe; name a regular file",
            ),
            (
                |f| {
                    pipe(f, "tokens");
                    f.change("gatepost.toml", "[policy]", "[admin]\ntokens = \"tokens\"\n[policy]");
                },
                "DIR/tokens: the file is a pipe; name a regular file",
            ),
        ],
    );
}
