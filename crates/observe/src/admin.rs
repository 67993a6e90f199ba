use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What the control plane counts of the admin API and of grants. Not for the data plane: a label
/// that is new takes a lock.
#[derive(Clone, Debug)]
pub struct AdminMetrics {
    held: IntGauge,
    opened: IntCounter,
    refused: IntCounterVec,
    unauthorized: IntCounter,
}

impl AdminMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        const VALID: &str = "the names are valid and stand once";
        let refused =
            Opts::new("gatepost_grants_refused_total", "Mailbox logins that opened no grant, by reason.");
        let metrics = Self {
            held: IntGauge::new("gatepost_grants", "Grants of mailbox logins in force.").expect(VALID),
            opened: IntCounter::new("gatepost_grants_opened_total", "Grants opened or renewed.")
                .expect(VALID),
            refused: IntCounterVec::new(refused, &["reason"]).expect(VALID),
            unauthorized: IntCounter::new(
                "gatepost_admin_unauthorized_total",
                "Requests to the admin API without a token that opens it.",
            )
            .expect(VALID),
        };
        registry.register(Box::new(metrics.held.clone())).expect(VALID);
        registry.register(Box::new(metrics.opened.clone())).expect(VALID);
        registry.register(Box::new(metrics.refused.clone())).expect(VALID);
        registry.register(Box::new(metrics.unauthorized.clone())).expect(VALID);
        metrics
    }

    /// How many grants are in force now.
    pub fn set_grants(&self, held: usize) {
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    /// A grant was opened or renewed.
    pub fn grant_opened(&self) {
        self.opened.inc();
    }

    /// A login opened none; `reason` is one of a few words of the program's own.
    pub fn grant_refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// A request had no token that opens anything.
    pub fn unauthorized(&self) {
        self.unauthorized.inc();
    }
}
