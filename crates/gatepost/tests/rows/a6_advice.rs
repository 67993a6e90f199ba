//! A6: a denied stranger is told that a login is the way for those whose address changes.

use testbed::proseware::HOTEL;

use crate::house::House;
use crate::tenant::{or_write, worded};

#[test]
fn a_denied_stranger_reads_where_to_log_in_whom_to_ask_and_its_ticket() {
    let house = House::start();
    let mut dialog = house.connect(HOTEL);
    dialog.command("MAIL FROM:<kim@proseware.example>", 250);
    let reply = dialog.command("RCPT TO:<bob@adatum.example>", 550);
    let port = house.submission.port();
    assert_eq!(
        worded(&reply),
        format!(
            "550 5.7.1 <bob@adatum.example>: relaying not permitted for {HOTEL}\n\
             5.7.1 sign in on port {port}, {}",
            or_write()
        )
    );
}
