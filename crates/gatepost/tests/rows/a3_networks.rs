//! A3: clients inside a tenant's networks relay without a login, and no others do.

use testbed::proseware::{HOTEL, INSIDE};

use crate::house::House;

#[test]
fn a_client_in_the_tenants_network_relays_without_a_login_and_its_neighbour_does_not() {
    let house = House::start();
    house.connect(INSIDE).deliver(
        "kim@proseware.example",
        &["bob@adatum.example"],
        b"Subject: a3\r\n\r\nx\r\n",
    );
    assert_eq!(house.elsewhere.wait_for(1)[0].recipients, ["bob@adatum.example"]);
    let mut stranger = house.connect(HOTEL);
    stranger.command("MAIL FROM:<kim@proseware.example>", 250);
    stranger.command("RCPT TO:<bob@adatum.example>", 550);
}
