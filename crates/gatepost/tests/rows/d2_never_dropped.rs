//! D2: nothing that was accepted is dropped in silence: it is delivered, or its sender is told.

use testbed::dns::NameServer;
use testbed::net::free_address;
use testbed::proseware::INSIDE;
use testbed::{Configuration, Destination, Dialog, Gateway, Rules, proseware};

const FROM: &str = "terri@proseware.example";
const TO: &str = "bob@adatum.example";

/// The text of the bounce that comes back to the sender.
fn bounce(change: impl FnOnce(&mut Configuration), to: &str) -> String {
    let own_mail = Destination::with_rules(Rules { keep_content: true, ..Rules::default() });
    let mut configuration = proseware::configuration(own_mail.address(), free_address());
    change(&mut configuration);
    let gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration);
    Dialog::hello_from(INSIDE, gateway.smtp()).deliver(FROM, &[to], b"Subject: lost\r\n\r\ny\r\n");
    let arrived = &own_mail.wait_for(1)[0];
    assert_eq!(
        (arrived.reverse_path.as_str(), arrived.recipients.as_slice()),
        ("", [FROM.to_owned()].as_slice())
    );
    gateway.wait_metric("gatepost_queue_recipients", 0.0);
    String::from_utf8_lossy(&own_mail.contents()[0]).into_owned()
}

#[test]
fn a_recipient_that_the_destination_refuses_is_reported_to_the_sender() {
    let refuse = Rules { recipient: Some(Box::new(|_| Some("550 5.1.1 who?".into()))), ..Rules::default() };
    let destination = Destination::with_rules(refuse);
    let text = bounce(|configuration| configuration.next_hop = destination.address(), TO);
    assert!(text.contains(TO) && text.contains("550 5.1.1 who?"), "{text}");
}

#[test]
fn mail_that_expires_is_reported_to_the_sender() {
    let expire = |configuration: &mut Configuration| {
        configuration.node_extra = configuration.node_extra.replace("\"1h\"", "\"3s\"");
    };
    let text = bounce(expire, TO);
    assert!(text.contains(TO) && text.contains("Action: failed"), "{text}");
}

#[test]
fn a_domain_that_is_gone_when_its_mail_goes_is_reported_to_the_sender() {
    // No name server answers when the message comes, and the domain is missing when it goes.
    let Some(mut server) = NameServer::start("d2_never_dropped", "other IN A 127.0.0.1") else { return };
    server.stop();
    let own_mail = Destination::with_rules(Rules { keep_content: true, ..Rules::default() });
    let mut configuration = proseware::configuration(own_mail.address(), free_address());
    configuration.by_mx = true;
    configuration.node_extra.push_str(&server.section());
    let gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration);
    Dialog::hello_from(INSIDE, gateway.smtp()).deliver(
        FROM,
        &["bob@gone.example"],
        b"Subject: x\r\n\r\ny\r\n",
    );
    server.restart();
    own_mail.wait_for(1);
    let text = String::from_utf8_lossy(&own_mail.contents()[0]).into_owned();
    assert!(text.contains("Status: 5.1.2") && text.contains("gone.example does not exist"), "{text}");
}
