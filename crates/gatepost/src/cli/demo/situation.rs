//! The sample messages, and what becomes of each.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use mail::{ForwardPath, ReversePath};
use policy::{Explanation, Facts};

use super::client::{Client, Line};
use super::destination::Arrival;
use super::house::{House, LOGIN, PASSWORD, RELAY, STRANGER, SUBMISSION, TRUSTED};

/// On loopback, a message that takes longer will never come.
const PATIENCE: Duration = Duration::from_secs(30);

/// One message that the demo sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) title: &'static str,
    pub(super) story: &'static str,
    pub(super) client: Ipv4Addr,
    /// Whether it goes to the submission listener, over TLS and with a login.
    pub(super) logs_in: bool,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) text: &'static str,
    /// What must become of it.
    pub(super) accepted: bool,
}

/// Two providers: proseware.example is the gateway's tenant, adatum.example is elsewhere.
pub(super) const SITUATIONS: [Situation; 6] = [
    Situation {
        title: "A trusted network relays",
        story: "A server in proseware's own network writes to someone elsewhere.",
        client: TRUSTED,
        logs_in: false,
        from: "orders@proseware.example",
        to: "bob@adatum.example",
        text: "Your order has left our house.\r\n.A line may begin with a dot.\r\n",
        accepted: true,
    },
    Situation {
        title: "Anyone may write to the tenant",
        story: "A stranger writes to proseware: its mail is what the gateway is there to take.",
        client: STRANGER,
        logs_in: false,
        from: "bob@adatum.example",
        to: "terri@proseware.example",
        text: "Thank you, it has arrived.\r\n",
        accepted: true,
    },
    Situation {
        title: "A stranger relays nothing, and is told why",
        story: "Terri, in a hotel, has not logged in. For the gateway she is a stranger.",
        client: STRANGER,
        logs_in: false,
        from: "terri@proseware.example",
        to: "bob@adatum.example",
        text: "Greetings from the hotel.\r\n",
        accepted: false,
    },
    Situation {
        title: "A login over TLS relays from anywhere",
        story: "Terri does what the reply said: the same hotel, the submission port, her login.",
        client: STRANGER,
        logs_in: true,
        from: "terri@proseware.example",
        to: "bob@adatum.example",
        text: "Greetings from the hotel, this time with a login.\r\n",
        accepted: true,
    },
    Situation {
        title: "A login does not own every sender",
        story: "Terri's login writes as the head of her own company.",
        client: STRANGER,
        logs_in: true,
        from: "director@proseware.example",
        to: "bob@adatum.example",
        text: "Please pay this invoice today.\r\n",
        accepted: false,
    },
    Situation {
        title: "A routing trick opens nothing",
        story: "A second address hidden in the first is how relays used to be fooled.",
        client: STRANGER,
        logs_in: false,
        from: "bob@adatum.example",
        to: "bob%adatum.example@proseware.example",
        text: "Does this come through?\r\n",
        accepted: false,
    },
];

/// A situation, and what became of it.
pub(super) struct Played {
    pub(super) situation: Situation,
    pub(super) dialog: Vec<Line>,
    pub(super) accepted: bool,
    pub(super) explanation: Explanation,
    /// What the destination got, and how long after the reply to the last dot.
    pub(super) arrival: Option<(Arrival, Duration)>,
}

impl Situation {
    pub(super) fn listener(&self) -> &'static str {
        if self.logs_in { SUBMISSION } else { RELAY }
    }

    /// Sends the message, asks why it was decided so, and waits for what was accepted.
    ///
    /// # Errors
    /// What should not have happened, for a person.
    pub(super) fn play(self, house: &House) -> Result<Played, String> {
        let message = self.message();
        let (dialog, accepted) = self
            .send(house, &message)
            .map_err(|error| format!("{}: the dialog failed: {error}", self.title))?;
        let replied = Instant::now();
        let explanation = self.explain(house);
        if accepted != self.accepted || explanation.decision.verdict.is_accept() != accepted {
            return Err(format!("{}: this is not what should have been decided: {dialog:?}", self.title));
        }
        let arrival = match accepted {
            true => Some(self.arrival(house, &message, replied)?),
            false => None,
        };
        Ok(Played { situation: self, dialog, accepted, explanation, arrival })
    }

    fn send(&self, house: &House, message: &str) -> std::io::Result<(Vec<Line>, bool)> {
        let mut client = Client::connect(self.client.into(), house.listener(self.listener()))?;
        if self.logs_in {
            client.start_tls(house.tls.clone())?;
            client.log_in(LOGIN, PASSWORD)?;
        }
        let accepted = client.send(self.from, self.to, message)?;
        Ok((client.dialog, accepted))
    }

    fn explain(&self, house: &House) -> Explanation {
        const WELL_FORMED: &str = "the sample addresses are well-formed";
        let snapshot = &house.loaded.snapshot;
        let listeners = &house.loaded.node.listeners;
        let listener = listeners.iter().find(|listener| &*listener.policy.name == self.listener());
        let facts = Facts {
            listener: &listener.expect("the demo has written this listener").policy,
            client: IpAddr::V4(self.client),
            tls: self.logs_in,
            identity: snapshot.identity(LOGIN).filter(|_| self.logs_in),
            grants: &[],
        };
        let from = ReversePath::parse(self.from).expect(WELL_FORMED);
        snapshot.explain(&facts, from, ForwardPath::parse(self.to).expect(WELL_FORMED))
    }

    fn arrival(&self, house: &House, message: &str, replied: Instant) -> Result<(Arrival, Duration), String> {
        let arrival = house.arrivals.recv_timeout(PATIENCE);
        let arrival = arrival.map_err(|_| format!("{}: accepted, and not delivered in time", self.title))?;
        if !arrival.bytes.ends_with(message.as_bytes()) {
            return Err(format!("{}: what arrived is not what was sent", self.title));
        }
        let after = arrival.at.saturating_duration_since(replied);
        Ok((arrival, after))
    }

    fn message(&self) -> String {
        let Self { from, to, title, text, .. } = self;
        format!("From: <{from}>\r\nTo: <{to}>\r\nSubject: {title}\r\n\r\n{text}")
    }
}
