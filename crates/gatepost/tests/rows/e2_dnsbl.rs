//! E2: clients are looked up on DNS lists, and only a list that answers denies anybody.

use testbed::dns::NameServer;
use testbed::proseware::{AUTH_PLAIN, CONTACT, HOTEL, INSIDE, WORK, listen_for_clear_logins};
use testbed::{Dialog, Gateway};

use crate::house::House;

const RCPT: &str = "RCPT TO:<kim@proseware.example>";

#[test]
fn a_listed_stranger_is_told_which_list_and_whom_to_ask_and_a_broken_list_denies_nobody() {
    // Work and the tenant's own network are listed, the hotel is not; 127.0.9.1 has another answer.
    let zone = "7.2.0.127.zen IN A 127.0.0.2\n7.2.0.127.zen IN TXT \"see https://zen.example\"\n\
                5.1.0.127.zen IN A 127.0.0.2\n1.9.0.127.zen IN A 127.0.0.99\n3.9.0.127.zen IN A 127.0.0.2\n2.9.0.127.zen IN A 192.0.2.1";
    let Some(server) = NameServer::start("e2_dnsbl", zone) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let list = |name: &str, entry: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, entry).expect("the folder can be written");
        format!("{path:?}")
    };
    let (clients, recipients) =
        (list("clients.txt", "127.0.9.3\n"), list("reached.txt", "postmaster@proseware.example\n"));
    let mut logins = None;
    let house = House::start_with(|configuration| {
        logins = Some(listen_for_clear_logins(configuration));
        configuration.node_extra.push_str(&server.section());
        configuration.node_extra.push_str(&format!(
            "\n[lists]\nallowed_clients = {clients}\nallowed_recipients = {recipients}\n"
        ));
        configuration.node_extra.push_str(
            "\n[[lists.dnsbl]]\nzone = \"broken.example\"\n\
             \n[[lists.dnsbl]]\nzone = \"zen.example\"\nname = \"Zen\"\nanswers = [\"127.0.0.2\"]\n",
        );
    });
    let rcpt = |source, code| {
        let mut client = house.connect(source);
        client.command("MAIL FROM:<bob@adatum.example>", 250);
        client.command(RCPT, code)
    };
    let reply = rcpt(WORK, 554);
    assert_eq!(
        reply.lines[0],
        "5.7.1 <kim@proseware.example>: 127.0.2.7 is on a block list: Zen, see https://zen.example"
    );
    assert!(reply.lines[1].contains(CONTACT), "{reply:?}");
    rcpt(HOTEL, 250);
    rcpt(INSIDE, 250);
    rcpt("127.0.9.1".parse().expect("an address"), 250);
    rcpt("127.0.9.2".parse().expect("an address"), 250);
    // An allow list takes this one off, and a client on a list reaches the postmaster about it.
    rcpt("127.0.9.3".parse().expect("an address"), 250);
    let mut listed = house.connect(WORK);
    listed.command("MAIL FROM:<bob@adatum.example>", 250);
    listed.command("RCPT TO:<postmaster@proseware.example>", 250);
    assert_eq!(house.denials(&["reason=\"client_blocked\""]), 1);
    // A client that has logged in is known, wherever the login comes from.
    let mut login = Dialog::hello_from(WORK, logins.expect("just made"));
    login.command(AUTH_PLAIN, 235);
    login.command("MAIL FROM:<terri@proseware.example>", 250);
    login.command(RCPT, 250);
    assert_still_serves(&house.gateway);
}

fn assert_still_serves(gateway: &Gateway) {
    Dialog::hello_from(HOTEL, gateway.smtp()).command("QUIT", 221);
}
