//! C1: a client that relays owns the envelope sender, decided at each recipient that means relaying.

use std::net::SocketAddr;

use testbed::Dialog;
use testbed::proseware::{HOTEL, INSIDE, LOGIN, listen_for_clear_logins};

use crate::house::House;
use crate::tenant::{auth, or_write, worded, write_keys, write_login};

const OUT: &str = "RCPT TO:<bob@adatum.example>";

fn house() -> (House, SocketAddr) {
    let mut clear = None;
    let house = House::start_with(|configuration| {
        write_keys(configuration, "plus_addressing = true");
        let file = &mut configuration.tenants[0].1;
        *file = file.replace("\"@proseware.example\"]", "\"@proseware.example\", \"@*.proseware.example\"]");
        write_login(configuration, "robot", "senders = [\"a@proseware.example\", \"b@proseware.example\"]");
        write_login(configuration, "mailer", "null_sender = true");
        clear = Some(listen_for_clear_logins(configuration));
    });
    (house, clear.expect("the listener was added"))
}

#[test]
fn a_sender_is_relayed_where_it_is_one_of_the_logins_else_of_the_tenants() {
    let (house, clear) = house();
    for (login, from, code) in [
        (Some(LOGIN), LOGIN, 250),
        (Some(LOGIN), "terri+shop@proseware.example", 250),
        (Some(LOGIN), "kim@proseware.example", 553),
        (Some("robot"), "a@proseware.example", 250),
        (Some("robot"), "B@Proseware.example", 250),
        (Some("robot"), "c@proseware.example", 553),
        (Some("mailer"), "c@proseware.example", 250),
        (Some("mailer"), "c@deep.sub.proseware.example", 250),
        (Some("mailer"), "c@notproseware.example", 553),
        (None, "kim@proseware.example", 250),
        (None, "kim@sub.proseware.example", 250),
        (None, "kim@adatum.example", 553),
        // The null sender is for whom it is written.
        (Some(LOGIN), "", 553),
        (Some("mailer"), "", 250),
        (None, "", 553),
    ] {
        let mut dialog = match login {
            Some(login) => {
                let mut dialog = Dialog::hello_from(HOTEL, clear);
                dialog.command(&auth(login), 235);
                dialog
            }
            None => house.connect(INSIDE),
        };
        dialog.command(&format!("MAIL FROM:<{from}>"), 250);
        let reply = dialog.command(OUT, code);
        if code == 553 {
            let expected = format!(
                "553 5.7.1 <{from}>: you may not send as this address\n\
                 5.7.1 send as an address of your own, {}",
                or_write()
            );
            assert_eq!(worded(&reply), expected, "{login:?}");
        }
        // No insider gets less than a stranger.
        dialog.command("RCPT TO:<kim@proseware.example>", 250);
    }
}
