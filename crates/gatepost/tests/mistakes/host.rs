//! What this host has no room or right for: spool, ports, sockets, files of another user.

use std::fs;
use std::process::Command;

use super::*;

#[test]
fn a_spool_that_cannot_be_kept_is_named() {
    each_is_said(
        2,
        &[
            (
                |f| f.change("gatepost.toml", "\"spool\"", "\"spool\"\ncapacity = 0"),
                "DIR/gatepost.toml:6: spool.capacity: 0 bytes are too few: 2 workers need 384MiB; write at least \"384MiB\"",
            ),
            (
                |f| f.change("gatepost.toml", "\"spool\"", "\"spool\"\ncapacity = \"1KiB\""),
                "DIR/gatepost.toml:6: spool.capacity: 1024 bytes are too few: 2 workers need 384MiB; write at least \"384MiB\"",
            ),
            (
                |f| f.change("gatepost.toml", "\"spool\"", "\"spool\"\ncapacity = 2"),
                "DIR/gatepost.toml:6: spool.capacity: 2 bytes are too few: 2 workers need 384MiB; write at least \"384MiB\"",
            ),
            (
                |f| f.change("gatepost.toml", "\"spool\"", "\"spool\"\ncapacity = \"2 apples\""),
                "DIR/gatepost.toml:6: spool.capacity: cannot read \"2 apples\"; write a size such as \"25MiB\", \"20GiB\" or \"1000000\"",
            ),
            (
                |f| f.change("gatepost.toml", "\"spool\"", "\"missing/spool\""),
                "DIR/gatepost.toml:5: spool.path: there is no DIR/missing; create it, or mount it: a start creates the last directory of the path alone",
            ),
            (
                |f| f.change("gatepost.toml", "\"spool\"", "\"tls.crt\""),
                "DIR/gatepost.toml:5: spool.path: DIR/tls.crt is not a directory; move what is there away, or name another directory",
            ),
            (
                |f| f.change("gatepost.toml", "\"spool\"", "\"tls.crt/spool\""),
                "DIR/gatepost.toml:5: spool.path: DIR/tls.crt is not a directory; name another directory",
            ),
        ],
    );
}

#[test]
fn a_port_that_two_sections_use_is_named_with_both() {
    each_is_said(
        2,
        &[
            (
                |f| {
                    f.change("gatepost.toml", "127.0.0.1:0", "127.0.0.1:2525");
                    f.change(
                        "gatepost.toml",
                        "[policy]",
                        "[metrics]\naddress = \"127.0.0.1:2525\"\n[policy]",
                    );
                },
                "DIR/gatepost.toml:15: metrics.address: listener \"smtp\" has the address 127.0.0.1:2525 already; choose another port; the other is at DIR/gatepost.toml:8",
            ),
            (
                |f| {
                    f.change("gatepost.toml", "127.0.0.1:0", "[::]:2525");
                    f.change(
                        "gatepost.toml",
                        "[policy]",
                        "[tickets]\naddress = \"127.0.0.1:2525\"\n[policy]",
                    );
                },
                "DIR/gatepost.toml:15: tickets.address: listener \"smtp\" has port 2525 already: [::]:2525 includes 127.0.0.1:2525; choose another port; the other is at DIR/gatepost.toml:8",
            ),
            (
                |f| {
                    f.change("gatepost.toml", "[policy]", "[metrics]\naddress = \"0.0.0.0:9187\"\n[policy]");
                    f.change(
                        "gatepost.toml",
                        "[policy]",
                        "[admin]\naddress = \"[::]:9187\"\ntokens = \"tokens\"\n[policy]",
                    );
                    f.write("tokens", "");
                },
                "DIR/gatepost.toml:17: admin.address: [metrics] has port 9187 already: [::]:9187 includes 0.0.0.0:9187; choose another port; the other is at DIR/gatepost.toml:15",
            ),
            (
                |f| {
                    f.change("gatepost.toml", "127.0.0.1:0", "0.0.0.0:2525");
                    let second = "[[listener]]\nname = \"in\"\naddress = \"127.0.0.1:2525\"\nrole = \"relay\"\ntls = \"off\"\n[policy]";
                    f.change("gatepost.toml", "[policy]", second);
                },
                "DIR/gatepost.toml:16: listener.address: listener \"smtp\" has port 2525 already: 0.0.0.0:2525 includes 127.0.0.1:2525; choose another port; the other is at DIR/gatepost.toml:8",
            ),
        ],
    );
}

#[test]
fn a_read_only_spool_is_refused_by_both() {
    let folder = files();
    fs::create_dir(folder.join("spool")).unwrap();
    let mounted =
        r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" "$3" --config "$4""#;
    for command in ["check", "run"] {
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", mounted, "sh"])
            .args([
                folder.join("spool").as_os_str(),
                env!("CARGO_BIN_EXE_gatepost").as_ref(),
                command.as_ref(),
            ])
            .arg(folder.node())
            .output()
            .unwrap();
        assert_eq!(
            said(&output, &folder),
            "DIR/gatepost.toml:5: spool.path: DIR/spool lies on a file system that is read-only; \
             mount it for writing, or name another directory"
        );
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn another_user_is_told_whose_the_socket_and_the_spool_are() {
    let folder = files();
    fs::create_dir(folder.join("run")).unwrap();
    folder.change("gatepost.toml", "[policy]", "[admin]\nsocket = \"run/admin.sock\"\n[policy]");
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("run/admin.sock")).unwrap();
    set_mode(&folder.join("run/admin.sock"), 0o600);
    fs::create_dir(folder.join("spool")).unwrap();
    set_mode(&folder.join("spool"), 0o700);
    set_mode(folder.path(), 0o755);
    // As the user nobody, who may read the configuration and not the key.
    let as_nobody = |arguments: &[&str]| {
        let binary = folder.join("gatepost");
        if !binary.exists() {
            // Not by this process: a test beside it that starts a program would pass the open file on, and what is
            // open for writing cannot be run.
            let copied =
                Command::new("cp").arg(env!("CARGO_BIN_EXE_gatepost")).arg(&binary).status().unwrap();
            assert!(copied.success());
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary).args(arguments);
        said(&command.arg("--config").arg(folder.node()).output().unwrap(), &folder)
    };
    let whose = "belongs to user root, and this is user nobody; run the command as root";
    for command in [&["spool", "list"][..], &["spool", "hold", "--all"], &["status"]] {
        assert_eq!(as_nobody(command), format!("gatepost: the admin socket DIR/run/admin.sock {whose}"));
    }
    folder.change("gatepost.toml", "[admin]\nsocket = \"run/admin.sock\"\n", "");
    assert_eq!(as_nobody(&["spool", "list"]), format!("gatepost: the spool DIR/spool {whose}"));
    // Nor may it look into the directory that the spool is in.
    fs::create_dir(folder.join("closed")).unwrap();
    fs::rename(folder.join("spool"), folder.join("closed/spool")).unwrap();
    set_mode(&folder.join("closed"), 0o700);
    folder.change("gatepost.toml", "path = \"spool\"", "path = \"closed/spool\"");
    assert_eq!(as_nobody(&["spool", "list"]), format!("gatepost: the spool DIR/closed/spool {whose}"));
}
