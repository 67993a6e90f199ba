//! A4: a tenant may demand a login even from its own networks.

use testbed::Dialog;
use testbed::proseware::{HOTEL, INSIDE, LOGIN, listen_for_clear_logins};

use crate::house::House;
use crate::tenant::{auth, or_write, worded, write_keys};

const OWN: &str = "RCPT TO:<kim@proseware.example>";
const OUT: &str = "RCPT TO:<bob@adatum.example>";

/// A house whose tenant is strict, and where it takes logins.
fn strict(mode: &str) -> (House, std::net::SocketAddr) {
    let mut clear = None;
    let house = House::start_with(|configuration| {
        write_keys(configuration, &format!("login_required = \"{mode}\""));
        clear = Some(listen_for_clear_logins(configuration));
    });
    (house, clear.expect("the listener was added"))
}

#[test]
fn outside_asks_for_a_login_only_where_the_recipient_is_in_no_relay_domain() {
    let (house, clear) = strict("outside");
    let mut dialog = house.connect(INSIDE);
    dialog.command("MAIL FROM:<kim@proseware.example>", 250);
    let reply = dialog.command(OUT, 530);
    let port = house.submission.port();
    assert_eq!(
        worded(&reply),
        format!(
            "530 5.7.0 <bob@adatum.example>: login required\n5.7.0 sign in on port {port} with {}, {}",
            methods(&reply),
            or_write()
        )
    );
    dialog.command(OWN, 250);
    let mut login = Dialog::hello_from(INSIDE, clear);
    login.command(&auth(LOGIN), 235);
    login.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
    login.command(OUT, 250);
}

#[test]
fn always_asks_for_a_login_for_every_recipient_and_leaves_strangers_as_they_are() {
    let (house, _) = strict("always");
    let mut inside = house.connect(INSIDE);
    inside.command("MAIL FROM:<kim@proseware.example>", 250);
    inside.command(OWN, 530);
    inside.command(OUT, 530);
    let mut stranger = house.connect(HOTEL);
    stranger.command("MAIL FROM:<kim@proseware.example>", 250);
    stranger.command(OWN, 250);
    stranger.command(OUT, 550);
}

/// The methods that the reply names: those of the gateway, whichever they are.
fn methods(reply: &testbed::dialog::Reply) -> String {
    let (_, rest) = reply.lines[1].split_once(" with ").expect("the reply names methods");
    let (methods, _) = rest.split_once(", or write").expect("the contact follows them");
    assert!(methods.starts_with("AUTH PLAIN"), "{methods}");
    methods.to_owned()
}
