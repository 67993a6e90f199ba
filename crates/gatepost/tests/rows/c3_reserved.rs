//! C3: within one tenant, only chosen identities may use chosen senders.

use testbed::Dialog;
use testbed::proseware::{HOTEL, INSIDE, listen_for_clear_logins};

use crate::house::House;
use crate::tenant::{auth, or_write, worded, write_login, write_sections};

#[test]
fn a_reserved_sender_is_the_named_logins_and_denied_to_the_network_and_to_other_logins() {
    let mut clear = None;
    let house = House::start_with(|configuration| {
        write_login(configuration, "billing", "senders = [\"invoice@proseware.example\"]");
        write_login(configuration, "other", "");
        write_sections(
            configuration,
            "\n[[reserved_senders]]\nsenders = [\"@billing.example\", \"invoice@proseware.example\"]\n\
             identities = [\"billing\"]\n",
        );
        clear = Some(listen_for_clear_logins(configuration));
    });
    let clear = clear.expect("the listener was added");
    for (login, from, fine) in [
        (Some("billing"), "any@billing.example", true),
        (Some("billing"), "invoice@proseware.example", true),
        (Some("billing"), "kim@proseware.example", false),
        (Some("other"), "any@billing.example", false),
        (Some("other"), "invoice@proseware.example", false),
        (Some("other"), "kim@proseware.example", true),
        (None, "invoice@proseware.example", false),
        // However it is spelt, it is the same mailbox.
        (None, "\"invoice\"@proseware.example", false),
        (None, "\"in\\voice\"@Proseware.example", false),
        (Some("other"), "\"invoice\"@proseware.example", false),
        (Some("billing"), "\"invoice\"@proseware.example", true),
        (None, "any@billing.example", false),
        (None, "kim@proseware.example", true),
    ] {
        let mut dialog = match login {
            Some(_) => Dialog::hello_from(HOTEL, clear),
            None => house.connect(INSIDE),
        };
        if let Some(login) = login {
            dialog.command(&auth(login), 235);
        }
        dialog.command(&format!("MAIL FROM:<{from}>"), 250);
        let reply = dialog.command("RCPT TO:<bob@adatum.example>", if fine { 250 } else { 553 });
        if !fine {
            let expected = format!(
                "553 5.7.1 <{from}>: you may not send as this address\n\
                 5.7.1 send as an address of your own, {}",
                or_write()
            );
            assert_eq!(worded(&reply), expected, "{login:?}");
        }
    }
}
