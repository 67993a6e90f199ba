//! Debian's HAProxy in front: PROXY headers of both versions, its health checks, TLS passed through;
//! and XCLIENT as swaks sends it.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use testbed::net::{PATIENCE, eventually, free_address};
use testbed::proseware::{HOTEL, INSIDE, LOGIN, listen_for_clear_logins};
use testbed::{Dialog, tools};

use crate::house::House;

/// From where HAProxy connects to the gateway; in a network of the tenant's, to open what it must not.
const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 44));
/// From where swaks speaks for others.
const FILTER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 4, 5));

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";

/// A running HAProxy; ended when dropped.
struct Haproxy {
    child: Child,
    socket: PathBuf,
}

/// One port of HAProxy's, and what it does with it.
struct Front<'a> {
    name: &'a str,
    gateway: SocketAddr,
    /// What stands after `server`'s address.
    options: &'a str,
    /// Further lines of its section.
    lines: &'a str,
}

impl Haproxy {
    fn start(program: &Path, folder: &Path, fronts: &[Front<'_>]) -> (Self, Vec<SocketAddr>) {
        let socket = folder.join("haproxy.sock");
        let mut file = format!(
            "global\n  stats socket {} mode 600\n\ndefaults\n  mode tcp\n  timeout connect 10s\n  \
             timeout client 30s\n  timeout server 30s\n",
            socket.display()
        );
        let mut addresses = Vec::new();
        for Front { name, gateway, options, lines } in fronts {
            let address = free_address();
            write!(
                file,
                "\nlisten {name}\n  bind {address}\n  source {BALANCER}\n{lines}  \
                 server gateway {gateway} {options} check inter 100ms rise 2\n"
            )
            .expect("a string takes what is written to it");
            addresses.push(address);
        }
        let path = folder.join("haproxy.cfg");
        fs::write(&path, file).expect("the test folder can be written");
        let log = fs::File::create(folder.join("haproxy.log")).expect("the test folder can be written");
        let child = Command::new(program)
            .args(["-db", "-f"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("haproxy starts");
        (Self { child, socket }, addresses)
    }

    /// Waits until HAProxy holds every server for alive, by checks that went through.
    fn wait_until_up(&self, fronts: usize) {
        let mut state = String::new();
        let is_up = eventually(PATIENCE, || {
            state = self.state().unwrap_or_default();
            let servers = state.lines().filter(|line| line.contains(",gateway,"));
            servers.filter(|line| ["L4OK", "L7OK"].iter().any(|word| line.contains(word))).count() == fronts
        });
        assert!(is_up && !state.contains(",DOWN,"), "HAProxy's servers:\n{state}");
    }

    fn state(&self) -> std::io::Result<String> {
        let mut socket = UnixStream::connect(&self.socket)?;
        socket.write_all(b"show stat\n")?;
        let mut state = String::new();
        socket.read_to_string(&mut state)?;
        Ok(state)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway that listens to HAProxy's headers, with a listener for TLS from the first byte.
fn house() -> (House, SocketAddr) {
    let mut submissions = None;
    let house = House::start_with(|configuration| {
        submissions = Some(configuration.listen("submissions", "submission", "implicit"));
        let list = format!("\n[proxy_protocol]\nfrom = [\"{BALANCER}\"]\n");
        configuration.node_extra.push_str(&list);
    });
    (house, submissions.expect("the listener was added"))
}

fn relays(front: SocketAddr, client: IpAddr) -> bool {
    let mut dialog = Dialog::hello_from(client, front);
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
    dialog.send(format!("RCPT TO:<{BOB}>\r\n"));
    let reply = dialog.reply().expect("a recipient is answered");
    let names_client = reply.text().contains(&format!("relaying not permitted for {client}"));
    assert!(reply.is_positive() || names_client, "{reply:?}");
    reply.is_positive()
}

#[test]
fn f2_a_client_through_haproxy_is_judged_by_its_own_address() {
    let Some(program) = tools::find("haproxy", "HAProxy in front") else { return };
    let (house, _) = house();
    let gateway = house.gateway.smtp();
    let front = |name, options, lines| Front { name, gateway, options, lines };
    let fronts = [
        front("v1", "send-proxy", ""),
        front("v2", "send-proxy-v2", ""),
        front("checksum", "send-proxy-v2 proxy-v2-options crc32c,unique-id", "  unique-id-format %ci-%cp\n"),
    ];
    let (haproxy, addresses) = Haproxy::start(&program, house.gateway.directory(), &fronts);
    haproxy.wait_until_up(fronts.len());
    for &address in &addresses {
        assert!(relays(address, INSIDE));
        assert!(!relays(address, HOTEL));
    }
    let mut dialog = Dialog::hello_from(INSIDE, addresses[1]);
    dialog.deliver(KIM, &[BOB], b"Subject: through HAProxy\r\n\r\nhello\r\n");
    assert_eq!(house.elsewhere.wait_for(1)[0].reverse_path, KIM);
    assert!(house.gateway.metric("gatepost_peer_faults_total") < 0.5);
}

#[test]
fn f2_haproxys_health_checks_find_the_gateway_alive() {
    let Some(program) = tools::find("haproxy", "HAProxy's health checks") else { return };
    let (house, _) = house();
    let gateway = house.gateway.smtp();
    let smtp = "  option smtpchk EHLO balancer.example\n";
    let front = |name, options, lines| Front { name, gateway, options, lines };
    let fronts = [
        front("connect-v1", "send-proxy", ""),
        front("connect-v2", "send-proxy-v2", ""),
        front("smtp-v1", "send-proxy check-send-proxy", smtp),
        front("smtp-v2", "send-proxy-v2 check-send-proxy", smtp),
    ];
    let (haproxy, _) = Haproxy::start(&program, house.gateway.directory(), &fronts);
    haproxy.wait_until_up(fronts.len());
    // A check is no fault, and no mail.
    assert!(house.gateway.metric("gatepost_peer_faults_total") < 0.5);
    assert_eq!(house.denials(&[]), 0);
}

#[test]
fn f2_tls_passes_through_haproxy() {
    let Some(program) = tools::find("haproxy", "TLS through HAProxy") else { return };
    let (house, gateway) = house();
    let front = |name, options| Front { name, gateway, options, lines: "" };
    let fronts = [front("v1", "send-proxy"), front("v2", "send-proxy-v2")];
    let (haproxy, addresses) = Haproxy::start(&program, house.gateway.directory(), &fronts);
    haproxy.wait_until_up(fronts.len());
    for address in addresses {
        let mut stream = Dialog::connect_from(HOTEL, address).into_stream();
        let mut connection = house.tls_client();
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        let mut greeting = [0; 4];
        tls.read_exact(&mut greeting).expect("a greeting comes through TLS");
        assert_eq!(&greeting, b"220 ");
    }
}

/// Whether swaks, on the filter's host, sent its message; and what it said.
fn swaks(program: &Path, server: SocketAddr, from: &str, xclient: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(["--server", &server.ip().to_string(), "--port", &server.port().to_string()])
        .args(["--local-interface", &FILTER.to_string(), "--ehlo", "filter.example"])
        .args(["--from", from, "--to", BOB])
        .args(xclient)
        .stdin(Stdio::null())
        .output()
        .expect("swaks runs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn f2_swaks_speaks_for_others_by_xclient() {
    let Some(program) = tools::find("swaks", "XCLIENT by swaks") else { return };
    let mut clear = None;
    let house = House::start_with(|configuration| {
        clear = Some(listen_for_clear_logins(configuration));
        let list = format!("\n[xclient]\nfrom = [\"{FILTER}\"]\nlogin = true\n");
        configuration.node_extra.push_str(&list);
    });
    let relay = house.gateway.smtp();
    let (inside, hotel) = (INSIDE.to_string(), HOTEL.to_string());
    let names = ["--xclient-name", "app.proseware.example", "--xclient-helo", "app.proseware.example"];
    let told = [&["--xclient-addr", &inside, "--xclient-proto", "ESMTP"][..], &names].concat();
    let (sent, said) = swaks(&program, relay, KIM, &told);
    assert!(sent, "{said}");
    assert_eq!(house.elsewhere.wait_for(1)[0].reverse_path, KIM);

    let (sent, said) = swaks(&program, relay, KIM, &["--xclient-addr", &hotel]);
    assert!(!sent && said.contains(&format!("relaying not permitted for {hotel}")), "{said}");

    let clear = clear.expect("the listener was added");
    let login = ["--xclient-addr", &hotel, "--xclient-login", LOGIN];
    let (sent, said) = swaks(&program, clear, LOGIN, &login);
    assert!(sent, "{said}");
    assert_eq!(house.elsewhere.wait_for(2)[1].reverse_path, LOGIN);
    let (sent, said) = swaks(&program, clear, KIM, &login);
    assert!(!sent && said.contains("you may not send as this address"), "{said}");
}
