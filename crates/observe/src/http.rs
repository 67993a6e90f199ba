use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// A port on which the gateway itself answers HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpPort {
    /// `/metrics`, `/healthz` and `/readyz`.
    Metrics,
    /// The pages of tickets.
    Tickets,
    /// The admin API over TCP.
    Admin,
    /// The admin API on its unix socket.
    AdminSocket,
}

impl HttpPort {
    /// Every port there may be.
    pub const ALL: [Self; 4] = [Self::Metrics, Self::Tickets, Self::Admin, Self::AdminSocket];

    /// The word for it in log and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Tickets => "tickets",
            Self::Admin => "admin",
            Self::AdminSocket => "admin_socket",
        }
    }
}

/// What is counted of the ports of HTTP.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    displaced: [IntCounter; HttpPort::ALL.len()],
}

impl HttpMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        const VALID: &str = "the names are valid and stand once";
        let displaced = Opts::new(
            "gatepost_http_displaced_total",
            "Connections to a port of HTTP that were ended to make room for the next one.",
        );
        let displaced = IntCounterVec::new(displaced, &["port"]).expect(VALID);
        registry.register(Box::new(displaced.clone())).expect(VALID);
        Self { displaced: HttpPort::ALL.map(|port| displaced.with_label_values(&[port.as_str()])) }
    }

    /// A connection to `port` made room for another.
    pub fn displaced(&self, port: HttpPort) {
        self.displaced[port as usize].inc();
    }
}
