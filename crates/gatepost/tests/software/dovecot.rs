//! Debian's Dovecot reports its logins by its auth-policy request, and they open relaying (A2).

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use testbed::dialog::Reply;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::proseware::{LOGIN, PASSWORD};
use testbed::{netns, tools};

use crate::house::House;

const HOTEL: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
/// In the next room of the hotel.
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";
const TOKEN: &str = "the-mailbox-servers-token";

/// As deploy/handbook/pop-before-smtp.md shows it, with ports and folders of the test's own.
const CONFIGURATION: &str = r#"
base_dir = DIRECTORY/run
state_dir = DIRECTORY/state
log_path = DIRECTORY/dovecot.log
protocols = imap pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:DIRECTORY/mail/%u
first_valid_uid = 1
service imap-login {
  inet_listener imap {
    port = IMAP_PORT
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3-login {
  inet_listener pop3 {
    port = POP3_PORT
  }
  inet_listener pop3s {
    port = 0
  }
}
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u DIRECTORY/passwd
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=DIRECTORY/mail/%u
}
auth_policy_server_url = http://ADMIN/v1/grants/dovecot
auth_policy_server_api_header = "Authorization: Bearer TOKEN"
auth_policy_hash_nonce = a-few-random-words-of-this-server
auth_policy_check_before_auth = no
auth_policy_check_after_auth = no
auth_policy_report_after_auth = yes
"#;

/// A Dovecot in a separate folder, on this network namespace's loopback.
struct Dovecot {
    child: Child,
    directory: TempDir,
    imap: SocketAddr,
    pop3: SocketAddr,
}

impl Dovecot {
    fn start(program: &Path, admin: SocketAddr) -> Self {
        let directory = TempDir::with_prefix("gatepost-dovecot-").expect("a temporary folder can be made");
        let (imap, pop3) = (free_address(), free_address());
        // Its processes run as separate users, who must get as far as its folders.
        open_to_all(directory.path());
        let mail = directory.path().join("mail");
        fs::create_dir(&mail).expect("the test folder can be written");
        fs::set_permissions(&mail, Permissions::from_mode(0o777)).expect("the folder is ours");
        let passwd = directory.path().join("passwd");
        fs::write(&passwd, format!("{LOGIN}:{{PLAIN}}{PASSWORD}\n")).expect("the test folder can be written");
        open_to_all(&passwd);
        let text = CONFIGURATION
            .replace("DIRECTORY", directory.path().to_str().expect("the folder has a plain name"))
            .replace("IMAP_PORT", &imap.port().to_string())
            .replace("POP3_PORT", &pop3.port().to_string())
            .replace("ADMIN", &admin.to_string())
            .replace("TOKEN", TOKEN);
        let config = directory.path().join("dovecot.conf");
        fs::write(&config, text).expect("the test folder can be written");
        let output = File::create(directory.path().join("output")).expect("the test folder can be written");
        let child = Command::new(program)
            .arg("-F")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            .spawn()
            .expect("dovecot was found");
        let dovecot = Self { child, directory, imap, pop3 };
        let is_open = |address| std::net::TcpStream::connect(address).is_ok();
        let listens = eventually(PATIENCE, || is_open(dovecot.pop3) && is_open(dovecot.imap));
        assert!(listens, "dovecot does not listen:\n{}", dovecot.said());
        dovecot
    }

    fn said(&self) -> String {
        let read = |name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        read("output") + &read("dovecot.log")
    }

    /// A dialog by lines: each command, and how the last line of its answer begins.
    fn login(&self, source: IpAddr, server: SocketAddr, lines: &[(&str, &str)]) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        socket.bind(&SocketAddr::new(source, 0).into()).expect("the address is the namespace's");
        socket.connect(&server.into()).expect("dovecot listens");
        let stream = std::net::TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set on a socket");
        let mut reader = BufReader::new(stream.try_clone().expect("a socket can be shared"));
        let (mut stream, mut line) = (stream, String::new());
        reader.read_line(&mut line).expect("a greeting");
        for (command, answer) in lines {
            write!(stream, "{command}\r\n").expect("dovecot takes what is sent");
            loop {
                line.clear();
                let bytes = reader.read_line(&mut line).unwrap_or(0);
                assert!(bytes > 0, "{command}: the connection ended:\n{}", self.said());
                if !line.starts_with('*') {
                    break;
                }
            }
            assert!(line.starts_with(answer), "{command}: {line}:\n{}", self.said());
        }
    }

    fn login_by_pop3(&self, source: IpAddr) {
        let password = format!("PASS {PASSWORD}");
        self.login(
            source,
            self.pop3,
            &[(&format!("USER {LOGIN}"), "+OK"), (&password, "+OK"), ("QUIT", "+OK")],
        );
    }

    fn login_by_imap(&self, source: IpAddr) {
        let login = format!("a LOGIN {LOGIN} \"{PASSWORD}\"");
        self.login(source, self.imap, &[(&login, "a OK"), ("b LOGOUT", "b OK")]);
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // SIGTERM, so that its processes go with it.
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("the folder is ours");
}

/// A gateway and a Dovecot that reports to it; `None` where one of them cannot be had.
fn start(test: &str, ttl: &str) -> Option<(House, Dovecot)> {
    let program = tools::find("dovecot", test)?;
    if !netns::enter(test, &[&format!("{HOTEL}/32"), &format!("{NEIGHBOUR}/32")]) {
        return None;
    }
    let admin = free_address();
    let house = House::start_with(|configuration| {
        configuration.node_extra.push_str(&format!("\n[admin]\naddress = \"{admin}\"\n"));
        let grants = format!("\n[grants]\nttl = \"{ttl}\"\ntoken = \"{TOKEN}\"\n");
        configuration.tenants[0].1.push_str(&grants);
    });
    let dovecot = Dovecot::start(&program, admin);
    Some((house, dovecot))
}

fn ask(house: &House, source: IpAddr, from: &str) -> Reply {
    let mut dialog = house.connect(source);
    dialog.command(&format!("MAIL FROM:<{from}>"), 250);
    dialog.send(format!("RCPT TO:<{BOB}>\r\n"));
    dialog.reply().expect("a recipient is answered")
}

#[track_caller]
fn is_a_stranger(house: &House, source: IpAddr) {
    let reply = ask(house, source, LOGIN);
    assert_eq!(reply.code, 550, "{reply:?}");
    assert_eq!(reply.lines[0], format!("5.7.1 <{BOB}>: relaying not permitted for {source}"));
}

/// The login's address relays, with its own sender only, and no other does.
#[track_caller]
fn opens_relaying(house: &House, dovecot: &Dovecot) {
    let opened = eventually(PATIENCE, || ask(house, HOTEL, LOGIN).code == 250);
    assert!(opened, "no grant came:\n{}\n{}", dovecot.said(), house.gateway.output());
    house.connect(HOTEL).deliver(LOGIN, &[BOB], b"Subject: after POP\r\n\r\nHello.\r\n");
    let reply = ask(house, HOTEL, KIM);
    assert_eq!(reply.code, 553, "{reply:?}");
    is_a_stranger(house, NEIGHBOUR);
}

#[test]
fn dovecot_opens_relaying_by_a_pop3_login() {
    let Some((house, dovecot)) = start("dovecot_opens_relaying_by_a_pop3_login", "10m") else { return };
    is_a_stranger(&house, HOTEL);
    dovecot.login_by_pop3(HOTEL);
    opens_relaying(&house, &dovecot);
    assert_eq!(house.elsewhere.wait_for(1)[0].reverse_path, LOGIN);
}

#[test]
fn dovecot_opens_relaying_by_an_imap_login() {
    let Some((house, dovecot)) = start("dovecot_opens_relaying_by_an_imap_login", "10m") else { return };
    dovecot.login_by_imap(HOTEL);
    opens_relaying(&house, &dovecot);
}

#[test]
fn what_dovecot_opened_ends_on_time() {
    let Some((house, dovecot)) = start("what_dovecot_opened_ends_on_time", "2s") else { return };
    dovecot.login_by_pop3(HOTEL);
    assert!(eventually(PATIENCE, || ask(&house, HOTEL, LOGIN).code == 250), "{}", dovecot.said());
    assert!(eventually(PATIENCE, || ask(&house, HOTEL, LOGIN).code == 550), "the grant has no end");
    is_a_stranger(&house, HOTEL);
}

#[test]
fn a_failed_mailbox_login_opens_nothing_and_one_from_loopback_neither() {
    let Some((house, dovecot)) = start("a_failed_mailbox_login_opens_nothing", "10m") else { return };
    let login = format!("a LOGIN {LOGIN} \"battery staple\"");
    dovecot.login(HOTEL, dovecot.imap, &[(&login, "a NO")]);
    dovecot.login_by_imap(IpAddr::V4(Ipv4Addr::LOCALHOST));
    // The second report is heard, and refused; the first was sent before it.
    house.gateway.wait_metric("gatepost_grants_refused_total", 1.0);
    assert!(house.gateway.output().contains(r#""reason":"loopback_address""#));
    assert_eq!(house.gateway.metric("gatepost_grants_opened_total"), 0.0);
    is_a_stranger(&house, HOTEL);
}
