//! Mail out, and questions ahead of it, over TLS: each policy of a route against each kind of
//! destination, over real sockets. What counts is what the destination saw.

use std::fmt::Write as _;

use tempfile::TempDir;
use testbed::authority::{Authority, Vouched};
use testbed::destination::Tls;
use testbed::net::{PATIENCE, eventually};
use testbed::proseware::{INSIDE, WORK};
use testbed::{Configuration, Destination, Dialog, Gateway, Rules, proseware};

const HOST: &str = "127.0.0.1";
const CONTENT: &[u8] = b"Subject: sealed or not\r\n\r\nhello\r\n";

/// What a destination offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Good,
    WrongName,
    Expired,
    Untrusted,
    Nothing,
    Refusal,
    BrokenHandshake,
}

const OFFERS: [Offer; 7] = [
    Offer::Good,
    Offer::WrongName,
    Offer::Expired,
    Offer::Untrusted,
    Offer::Nothing,
    Offer::Refusal,
    Offer::BrokenHandshake,
];

const POLICIES: [&str; 3] = ["off", "opportunistic", "required"];

/// Whether mail goes within TLS; `None`: it does not go.
fn expected(policy: &str, offer: Offer) -> Option<bool> {
    match (policy, offer) {
        ("off", _) => Some(false),
        // RFC 7435: some protection where there is some, and none rather than no mail.
        ("opportunistic", Offer::Good | Offer::WrongName | Offer::Expired | Offer::Untrusted) => Some(true),
        ("opportunistic", Offer::Nothing | Offer::Refusal | Offer::BrokenHandshake) => Some(false),
        ("required", Offer::Good) => Some(true),
        ("required", _) => None,
        _ => unreachable!("there are three policies"),
    }
}

/// One policy against one destination.
struct Case {
    policy: &'static str,
    offer: Offer,
    destination: Destination,
    domain: String,
}

impl Case {
    fn new(authority: &Authority, policy: &'static str, offer: Offer) -> Self {
        let offered = |vouched| Tls::Offered(authority.server(vouched));
        let tls = match offer {
            Offer::Good => offered(Vouched::For(HOST)),
            Offer::WrongName => offered(Vouched::For("elsewhere.example")),
            Offer::Expired => offered(Vouched::Until2001(HOST)),
            Offer::Untrusted => offered(Vouched::BySelf(HOST)),
            Offer::Nothing => Tls::Off,
            Offer::Refusal => Tls::Refused,
            Offer::BrokenHandshake => Tls::Broken,
        };
        let destination = Destination::with_rules(Rules { tls, ..Rules::default() });
        let domain = format!("{offer:?}.{policy}.example").to_ascii_lowercase();
        Self { policy, offer, destination, domain }
    }

    fn expected(&self) -> Option<bool> {
        expected(self.policy, self.offer)
    }

    fn told(&self) -> String {
        format!("a {:?} destination, policy {:?}", self.offer, self.policy)
    }
}

/// Every policy against every destination, and a gateway that trusts the authority; `route` writes how
/// mail for the domain of a case goes.
fn stand(route: impl Fn(&Case, &mut Configuration)) -> (Vec<Case>, Gateway, TempDir) {
    let authority = Authority::new();
    let cases = POLICIES.iter().flat_map(|policy| OFFERS.iter().map(move |offer| (*policy, *offer)));
    let cases: Vec<Case> = cases.map(|(policy, offer)| Case::new(&authority, policy, offer)).collect();
    let nobody = cases[0].destination.address();
    let mut configuration = proseware::configuration(nobody, nobody);
    configuration.by_mx = true;
    for case in &cases {
        route(case, &mut configuration);
    }
    let folder = TempDir::with_prefix("gatepost-authority-").expect("a temporary folder can be made");
    let trusted = folder.path().join("authority.pem");
    std::fs::write(&trusted, authority.pem()).expect("the test folder can be written");
    let environment = vec!["env".to_owned(), format!("SSL_CERT_FILE={}", trusted.display())];
    let gateway = Gateway::start_under(env!("CARGO_BIN_EXE_gatepost"), configuration, environment);
    (cases, gateway, folder)
}

#[test]
fn mail_goes_within_tls_in_the_clear_or_not_at_all_as_the_route_says() {
    let (cases, gateway, _folder) = stand(|case, configuration| {
        let route = format!(
            "\n[[route]]\nrecipient_domains = [\"{}\"]\nnext_hops = [\"{}\"]\ntls = \"{}\"\n",
            case.domain,
            case.destination.address(),
            case.policy
        );
        configuration.node_extra.write_str(&route).expect("a string takes it");
    });
    let recipients: Vec<String> = cases.iter().map(|case| format!("kim@{}", case.domain)).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    Dialog::hello_from(INSIDE, gateway.smtp()).deliver("terri@proseware.example", &recipients, CONTENT);
    for case in &cases {
        let destination = &case.destination;
        match case.expected() {
            Some(is_secured) => {
                assert!(
                    destination.wait_until(PATIENCE, |arrivals| !arrivals.is_empty()),
                    "nothing came to {}",
                    case.told()
                );
                assert_eq!(destination.secured(), [is_secured], "{}", case.told());
            }
            // What was tried twice, and was not let in, was not let in for a reason.
            None => {
                let is_tried = eventually(PATIENCE, || destination.connections() >= 3);
                assert!(is_tried, "{} was not tried again", case.told());
                assert_eq!(destination.count(), 0, "{}", case.told());
                assert_eq!(destination.named(), [], "a recipient was named to {}", case.told());
            }
        }
    }
    gateway.wait_metric(
        "gatepost_queue_recipients",
        cases.iter().filter(|case| case.expected().is_none()).count() as f64,
    );
}

#[test]
fn recipients_are_asked_for_within_tls_in_the_clear_or_not_at_all_as_the_relay_domain_says() {
    let (cases, gateway, _folder) = stand(|case, configuration| {
        let relay_domain = format!(
            "\n[[relay_domain]]\ndomains = [\"{}\"]\nnext_hops = [\"{}\"]\ntls = \"{}\"\n\
             recipients = \"call-ahead\"\n",
            case.domain,
            case.destination.address(),
            case.policy
        );
        configuration.tenants[0].1.push_str(&relay_domain);
    });
    for case in &cases {
        let mut stranger = Dialog::hello_from(WORK, gateway.smtp());
        stranger.command("MAIL FROM:<bob@adatum.example>", 250);
        let recipient = format!("kim@{}", case.domain);
        stranger.send(format!("RCPT TO:<{recipient}>\r\n"));
        let reply = stranger.reply().expect("an answer");
        let named = case.destination.named();
        match case.expected() {
            Some(is_secured) => {
                assert_eq!(reply.code, 250, "{}: {reply:?}", case.told());
                assert_eq!(named, [(recipient, is_secured)], "{}", case.told());
            }
            None => {
                assert_eq!(reply.code, 451, "{}: {reply:?}", case.told());
                assert_eq!(named, [], "a recipient was named to {}", case.told());
            }
        }
    }
}
