//! What is kept of a denial: the decision as it was made, in words, so that it can still be read when
//! the configuration has long been another.

use std::net::IpAddr;

use commons::{DENIED_RECIPIENTS_MAX, Denial, Suspension, Suspensions};
use mail::{ForwardPath, Reason, ReversePath, Ticket, Verdict};
use policy::{Explanation, Facts, Listener, Outcome, Rule, Snapshot, Step};
use serde::{Deserialize, Serialize};

/// A denial, explained. Its JSON form is what the admin API and `gatepost why --json` give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// As the reply printed it.
    pub ticket: String,
    /// When, in RFC 3339 form, UTC.
    pub time: String,
    /// The same in milliseconds since 1970.
    pub unix_millis: u64,
    /// The listener's name.
    pub listener: String,
    /// The client's address.
    pub client: IpAddr,
    /// Whether the session ran over TLS.
    pub tls: bool,
    /// Who had logged in, or tried to.
    pub login: Option<String>,
    /// The logins that held a grant for the client's address.
    pub grants: Vec<String>,
    /// The name that the client gave.
    pub helo: String,
    /// The reverse-path; empty for the null one, and before MAIL.
    pub from: String,
    /// The denied recipients, the first of them at least.
    pub recipients: Vec<String>,
    /// How many they were.
    pub recipient_count: u32,
    /// Further denials of this client for this cause within the same second, which were given the same ticket.
    #[serde(default)]
    pub repeated: u32,
    /// `deny` or `defer`.
    pub verdict: String,
    /// The reason's word.
    pub reason: String,
    /// The reply's code and enhanced status.
    pub code: String,
    /// The rule that decided.
    pub rule: String,
    /// The tenant concerned.
    pub tenant: Option<String>,
    /// The tenants of the login, of the grants and of the client's network: none for a stranger.
    #[serde(default)]
    pub sender_tenants: Vec<String>,
    /// The suspension that decided, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<RecordedSuspension>,
    /// What the running gateway knew beside the configuration.
    pub detail: Option<String>,
    /// The number of the configuration since the start of the gateway.
    pub generation: u64,
    /// Every rule in order; the last one decided.
    pub steps: Vec<RecordedStep>,
    /// The smallest change that would have turned it, for the gateway's operator.
    pub remedy: Option<String>,
}

/// A suspension, as it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedSuspension {
    /// When it ends, in milliseconds since 1970; `None` until it is lifted.
    pub until_unix_millis: Option<u64>,
}

/// One rule of the decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedStep {
    /// Which rule.
    pub rule: String,
    /// `pass`, `skip` or `deny`.
    pub outcome: String,
    /// Why.
    pub detail: String,
    /// The configuration file behind it, as it was then.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
}

impl Record {
    /// Explains a denial with the configuration that decided it.
    pub(crate) fn of(denial: &Denial, listeners: &[Listener], suspensions: &Suspensions) -> Self {
        let snapshot = denial.snapshot.as_ref().expect("only a blank record has no configuration");
        let identity = if denial.is_logged_in { snapshot.identity(&denial.login) } else { None };
        let listener = &listeners[denial.listener];
        let facts =
            Facts { listener, client: denial.client, tls: denial.tls, identity, grants: &denial.grants };
        let (steps, remedy) = explain(denial, snapshot, &facts);
        let decision = &denial.decision;
        let (code, status) = decision.reply_code().expect("only a refusal is recorded");
        let tenant = decision.tenant.map(|tenant| snapshot.tenant(tenant).name.to_string());
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            ticket: denial.ticket.to_string(),
            time: denial.time.rfc3339().to_string(),
            unix_millis: denial.time.0,
            listener: listener.name.to_string(),
            client: denial.client,
            tls: denial.tls,
            login: text(&denial.login),
            grants: denial.grants.iter().map(|&grant| snapshot.identity_login(grant).to_owned()).collect(),
            helo: denial.helo.clone(),
            from: denial.from.clone(),
            recipients: denial.recipients().map(str::to_owned).collect(),
            recipient_count: denial.recipient_count,
            repeated: denial.repeated,
            verdict: if matches!(decision.verdict, Verdict::Defer(_)) { "defer" } else { "deny" }.to_owned(),
            reason: decision.verdict.reason().map_or("", |reason| reason.as_str()).to_owned(),
            code: format!("{code} {status}"),
            rule: decision.rule.to_string(),
            tenant,
            sender_tenants: sender_tenants(denial, snapshot),
            suspension: suspension(denial, snapshot, suspensions).map(RecordedSuspension::from),
            detail: text(&denial.detail),
            generation: snapshot.generation,
            steps: steps.into_iter().map(RecordedStep::from).collect(),
            remedy,
        }
    }

    /// Adds the recipients that were denied, and how often the ticket was given again, after the first record went.
    pub(crate) fn add(&mut self, more: &Denial) {
        let room = (DENIED_RECIPIENTS_MAX as usize).saturating_sub(self.recipients.len());
        self.recipients.extend(more.recipients().take(room).map(str::to_owned));
        self.recipient_count += more.recipient_count;
        self.repeated = self.repeated.saturating_add(more.repeated);
    }

    /// What a token of the tenant `own` may read. Where others than its own people sent, or where it is not
    /// known who sent, it reads what happened, but neither who they are nor how they are configured.
    pub(crate) fn for_tenant(mut self, own: &str, snapshot: &Snapshot) -> Self {
        if !self.sender_tenants.is_empty() && self.sender_tenants.iter().all(|tenant| tenant == own) {
            return self;
        }
        let is_own = |login: &String| {
            let identity = snapshot.identity(login);
            identity.is_some_and(|identity| *snapshot.tenant(snapshot.identity_tenant(identity)).name == *own)
        };
        self.login = self.login.filter(is_own);
        self.grants.retain(is_own);
        self.sender_tenants.clear();
        (self.detail, self.remedy) = (None, None);
        for step in &mut self.steps {
            step.detail.clear();
            (step.file, step.line) = (None, None);
        }
        self
    }

    /// Which ticket this is the record of.
    #[must_use]
    pub fn key(&self) -> Option<Ticket> {
        self.ticket.parse().ok()
    }
}

impl From<Suspension> for RecordedSuspension {
    fn from(suspension: Suspension) -> Self {
        Self { until_unix_millis: suspension.until.map(|until| until.0) }
    }
}

impl From<Step> for RecordedStep {
    fn from(step: Step) -> Self {
        let Step { rule, outcome, detail, origin } = step;
        let line = origin.as_ref().map(|origin| origin.line).filter(|&line| line > 0);
        Self {
            rule: rule.to_string(),
            outcome: outcome.as_str().to_owned(),
            detail,
            file: origin.map(|origin| origin.file.to_string()),
            line,
        }
    }
}

fn sender_tenants(denial: &Denial, snapshot: &Snapshot) -> Vec<String> {
    let login = snapshot.identity(&denial.login);
    let logins = login.into_iter().chain(denial.grants.iter().copied());
    let tenants = logins.map(|identity| snapshot.identity_tenant(identity));
    let tenants = tenants.chain(snapshot.network_tenant(denial.client));
    let mut names: Vec<_> = tenants.map(|tenant| snapshot.tenant(tenant).name.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The suspension that a denial is for, if it is still known: it was a moment ago.
fn suspension(denial: &Denial, snapshot: &Snapshot, suspensions: &Suspensions) -> Option<Suspension> {
    let tenant = denial.decision.tenant.map(|tenant| &*snapshot.tenant(tenant).name);
    match denial.decision.verdict.reason()? {
        Reason::TenantSuspended => suspensions.tenant(tenant?, denial.time),
        Reason::IdentitySuspended => {
            let granted = denial.grants.iter().map(|&grant| snapshot.identity_login(grant));
            let mut logins = granted.chain([denial.login.as_str()]);
            logins.find_map(|login| suspensions.login(login, denial.time))
        }
        Reason::ClientSuspended => suspensions
            .client(denial.client, tenant, denial.time)
            .or_else(|| suspensions.client(denial.client, None, denial.time)),
        _ => None,
    }
}

/// The rules up to the one that decided, and the remedy. The static ones are asked again, of the same
/// configuration; one that only the running gateway could ask is put after those that come before it.
fn explain(denial: &Denial, snapshot: &Snapshot, facts: &Facts<'_>) -> (Vec<Step>, Option<String>) {
    let decision = &denial.decision;
    let from = ReversePath::parse(&denial.from).unwrap_or(ReversePath::Null);
    let to = denial.recipients().next().and_then(|to| ForwardPath::parse(to).ok());
    let is_before_mail =
        matches!(decision.rule, Rule::ClientList | Rule::Connections | Rule::LoginLock | Rule::Credential);
    let explanation: Option<Explanation> = match to {
        _ if is_before_mail => None,
        Some(to) => Some(snapshot.explain_recipient(facts, from, to, denial.transaction_tenant)),
        None => Some(snapshot.explain_mail(facts, from)),
    };
    if let Some(explanation) = &explanation
        && (explanation.decision.rule, explanation.decision.verdict) == (decision.rule, decision.verdict)
    {
        return (explanation.steps.clone(), explanation.remedy.clone());
    }
    let mut steps = explanation.map_or_else(Vec::new, |explanation| explanation.steps);
    steps.retain(|step| step.rule < decision.rule);
    for step in &mut steps {
        if step.outcome == Outcome::Accept {
            step.outcome = Outcome::Pass;
        }
    }
    let detail = match decision.verdict.reason() {
        Some(reason) if denial.detail.is_empty() => reason.summary().to_owned(),
        _ => denial.detail.clone(),
    };
    steps.push(Step { rule: decision.rule, outcome: Outcome::Deny, detail, origin: None });
    (steps, snapshot.remedy(facts, from, to, decision))
}
