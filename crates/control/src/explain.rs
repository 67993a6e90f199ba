//! What would become of a message, rule by rule: of the files alone, or of a gateway as it
//! is now, with its grants, its suspensions and what limits have been used.

use std::net::IpAddr;

use commons::{Account, Commons, Limits, Over};
use config::{ListenerConfig, NodeConfig, nearest_name};
use mail::{ForwardPath, Reason, Reply, ReversePath, UnixMillis, Verdict};
use policy::{
    Counted, Decision, Explanation, Facts, IdentityIx, Origin, Period, Remedy, ReplyFacts, Role, Rule,
    Snapshot, TlsPolicy, Witness,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The question, as a person puts it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The client's address.
    pub client: IpAddr,
    /// The listener's name; without it the first of the role that fits.
    pub listener: Option<String>,
    /// Who has logged in.
    pub login: Option<String>,
    /// Logins whose mailbox was opened from the client's address, beside those that the gateway knows of.
    #[serde(default)]
    pub grant: Vec<String>,
    /// The session runs over TLS.
    #[serde(default)]
    pub tls: bool,
    /// The envelope sender, with or without angle brackets.
    pub from: String,
    /// The recipient.
    pub to: String,
}

/// The answer of the files alone: the decision, its rules and what would turn it.
///
/// # Errors
/// A sentence, when the question makes no sense for this configuration.
pub fn of_files(question: &Question, node: &NodeConfig, snapshot: &Snapshot) -> Result<Value, String> {
    let grants = question.grants(snapshot)?;
    let asked = question.understood(node, snapshot, &grants)?;
    let explanation = snapshot.explain(&asked.facts, asked.from, asked.to);
    Ok(asked.as_json(&explanation))
}

/// The answer of a running gateway.
pub(crate) fn of_gateway(
    question: &Question,
    node: &NodeConfig,
    commons: &Commons,
    now: UnixMillis,
) -> Result<Value, String> {
    let snapshot = commons.snapshot();
    let snapshot = &*snapshot;
    let mut grants = question.grants(snapshot)?;
    let held = commons.limits().grants().of(question.client, now, snapshot);
    grants.extend(held.as_slice().iter().filter(|held| !question_names(question, snapshot, **held)));
    let asked = question.understood(node, snapshot, &grants)?;
    let explanation = snapshot.explain(&asked.facts, asked.from, asked.to);
    let mut answer = asked.as_json(&explanation);
    answer["generation"] = snapshot.generation.into();
    let logins = held.as_slice().iter().map(|identity| snapshot.identity_login(*identity));
    answer["grants"] = logins.collect();
    asked.add_what_is_now(&mut answer, &explanation.decision, commons.limits(), now);
    Ok(answer)
}

fn question_names(question: &Question, snapshot: &Snapshot, identity: IdentityIx) -> bool {
    question.grant.iter().any(|login| snapshot.identity(login) == Some(identity))
}

impl Question {
    fn grants(&self, snapshot: &Snapshot) -> Result<Vec<IdentityIx>, String> {
        let find = |login: &String| snapshot.identity(login).ok_or_else(|| no_login(login, snapshot));
        self.grant.iter().map(find).collect()
    }

    fn understood<'a>(
        &'a self,
        node: &'a NodeConfig,
        snapshot: &'a Snapshot,
        grants: &'a [IdentityIx],
    ) -> Result<Asked<'a>, String> {
        let listener = self.listener(node)?;
        let identity = match &self.login {
            None => None,
            Some(login) => Some(snapshot.identity(login).ok_or_else(|| no_login(login, snapshot))?),
        };
        let policy = &listener.policy;
        let tls = self.tls || policy.tls == TlsPolicy::Implicit;
        if identity.is_some() && !tls && policy.tls != TlsPolicy::Required && !policy.auth_without_tls {
            return Err(format!("listener {} takes logins over TLS only; add --tls", policy.name));
        }
        if tls && policy.tls == TlsPolicy::Off {
            return Err(format!("listener {} offers no TLS; leave --tls out", policy.name));
        }
        let from = path("--from", &self.from, ReversePath::parse)?;
        let to = path("--to", &self.to, ForwardPath::parse)?;
        let facts = Facts { listener: policy, client: self.client, tls, identity, grants };
        Ok(Asked { facts, from, to, node, snapshot })
    }

    fn listener<'a>(&self, node: &'a NodeConfig) -> Result<&'a ListenerConfig, String> {
        let listeners = &node.listeners;
        if let Some(name) = &self.listener {
            let named = listeners.iter().find(|listener| *listener.policy.name == **name);
            return named.ok_or_else(|| {
                let names: Vec<_> = listeners.iter().map(|listener| &*listener.policy.name).collect();
                format!("there is no listener {name:?}; there is {}", names.join(", "))
            });
        }
        let role = if self.login.is_some() { Role::Submission } else { Role::Relay };
        let fitting = listeners.iter().find(|listener| listener.policy.role == role);
        fitting.or(listeners.first()).ok_or_else(|| "the configuration has no listener".to_owned())
    }
}

fn no_login(login: &str, snapshot: &Snapshot) -> String {
    let tenants = snapshot.tenants().iter().filter_map(|tenant| snapshot.tenant_named(&tenant.name));
    let logins: Vec<&str> = tenants
        .flat_map(|tenant| &snapshot.tenant_source(tenant).identities)
        .map(|identity| identity.login.value.as_str())
        .collect();
    match nearest_name(login, logins.into_iter()) {
        Some(meant) => format!("no tenant has a login {login:?}; did you mean {meant:?}?"),
        None => format!("no tenant has a login {login:?}; look for [[identity]] in the tenant files"),
    }
}

/// Reads an address, with or without angle brackets.
fn path<'a, T>(
    option: &str,
    text: &'a str,
    parse: impl Fn(&'a str) -> Result<T, mail::AddressError>,
) -> Result<T, String> {
    let bare = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
    parse(bare).map_err(|error| format!("{option} {text:?}: {error}; write name@domain"))
}

/// The question, as the configuration understands it.
struct Asked<'a> {
    facts: Facts<'a>,
    from: ReversePath<'a>,
    to: ForwardPath<'a>,
    node: &'a NodeConfig,
    snapshot: &'a Snapshot,
}

impl Asked<'_> {
    fn as_json(&self, explanation: &Explanation) -> Value {
        let decision = &explanation.decision;
        let tenant = decision.tenant.map(|tenant| &*self.snapshot.tenant(tenant).name);
        let asked = self.asked_live(decision);
        let asked =
            asked.iter().map(|(rule, question)| json!({ "rule": rule.as_str(), "question": question }));
        json!({
            "verdict": verdict(decision.verdict),
            "reason": decision.verdict.reason().map(Reason::as_str),
            "rule": decision.rule.as_str(),
            "tenant": tenant,
            "listener": &*self.facts.listener.name,
            "steps": steps_as_json(explanation),
            "reply": self.reply(decision, explanation.list.as_deref()),
            "remedy": explanation.remedy,
            "next_hops": self.next_hops(decision),
            "asked_live": asked.collect::<Vec<_>>(),
        })
    }

    /// What policy does not know: who is suspended, and what is left of limits. Both are asked before the
    /// recipient is looked at.
    fn add_what_is_now(&self, answer: &mut Value, decision: &Decision, limits: &Limits, now: UnixMillis) {
        let (snapshot, client) = (self.snapshot, self.facts.client);
        let begun = snapshot.explain_mail(&self.facts, self.from).decision;
        let is_of_sender = decision.rule == Rule::Sender && decision.verdict.is_accept();
        let who = if is_of_sender { *decision } else { begun };
        let account = Account::new(snapshot, client, (who.tenant, who.identity));
        let uses = account.uses(limits, snapshot, now).map(|of| {
            json!({
                "whom": account.name(snapshot, client, of.whom).to_string(),
                "limit": of.limit.to_string(),
                "used": of.used,
                "of": of.limit.amount,
            })
        });
        answer["limits"] = uses.collect();
        answer["suspension"] = Value::Null;
        if let Some((reason, suspension)) = account.suspension(limits, snapshot, client, decision.tenant, now)
        {
            let verdict = match snapshot.limits.suspension_is_temporary {
                true => Verdict::Defer(reason),
                false => Verdict::Deny(reason),
            };
            let end = match suspension.until {
                Some(until) => format!("until {}", until.rfc3339()),
                None => "until the suspension is lifted".to_owned(),
            };
            answer["suspension"] = json!({
                "cause": suspension.cause.as_str(),
                "since": suspension.since.rfc3339().to_string(),
                "until": suspension.until.map(|until| until.rfc3339().to_string()),
            });
            let tenant = account.tenant.or(decision.tenant);
            let refusal = Decision::refusal(Rule::Suspension, tenant, verdict, Remedy::LiftSuspension);
            let remedy = format!("lift it: {}", self.resume(&account, reason, tenant));
            let detail = format!("{}, {end}", sentence(reason));
            return self.refuse(answer, &refusal, &detail, &end, &remedy);
        }
        let uses = [(Counted::Messages, 1), (Counted::Bytes, 1), (Counted::Recipients, 1)];
        let over = uses.into_iter().find_map(|use_of| account.over(limits, snapshot, use_of, now));
        if let Some(Over { whom, limit, frees }) = over.filter(|_| decision.verdict.is_accept()) {
            let is_quota = limit.per == Period::Day;
            let reason = if is_quota { Reason::QuotaExceeded } else { Reason::RateLimited };
            let refusal = Decision::refusal(Rule::Rate, account.tenant, Verdict::Defer(reason), Remedy::Wait);
            let name = account.name(snapshot, client, whom);
            let detail = format!("{name} may use {limit}; free again at {}", frees.rfc3339());
            self.refuse(answer, &refusal, &detail, &detail, "wait, or raise the limit");
        }
    }

    /// The command that ends a suspension.
    fn resume(&self, account: &Account, reason: Reason, tenant: Option<policy::TenantIx>) -> String {
        let tenant = tenant.map_or("NAME", |tenant| &*self.snapshot.tenant(tenant).name);
        match (reason, account.identity) {
            (Reason::TenantSuspended, _) => format!("gatepost tenants resume {tenant}"),
            (_, Some(identity)) => {
                let login = self.snapshot.identity_login(identity);
                format!("gatepost tenants resume {tenant} --login {login}")
            }
            _ => format!("gatepost tenants resume {tenant} --client {}", self.facts.client),
        }
    }

    /// Puts a refusal in the place of what policy decided.
    fn refuse(&self, answer: &mut Value, refusal: &Decision, detail: &str, told: &str, remedy: &str) {
        answer["verdict"] = verdict(refusal.verdict).into();
        answer["reason"] = refusal.verdict.reason().map(Reason::as_str).into();
        answer["rule"] = refusal.rule.as_str().into();
        answer["remedy"] = remedy.into();
        answer["next_hops"] = Value::Null;
        answer["asked_live"] = json!([]);
        answer["reply"] = json!(self.reply(refusal, Some(told)));
        if let Some(steps) = answer["steps"].as_array_mut() {
            let (rule, outcome) = (refusal.rule.as_str(), verdict(refusal.verdict));
            let step =
                json!({ "rule": rule, "outcome": outcome, "detail": detail, "file": null, "line": null });
            steps.push(step);
        }
    }

    /// What the running gateway asks of others before it takes what policy accepts, each with the rule
    /// that the answer may deny it by: an acceptance is no promise there.
    fn asked_live(&self, decision: &Decision) -> Vec<(Rule, String)> {
        let snapshot = self.snapshot;
        let mut asked = Vec::new();
        let ForwardPath::Address(to) = self.to else { return asked };
        if !decision.verdict.is_accept() {
            return asked;
        }
        let lists: Vec<_> = self.node.dns.lists.iter().map(|list| &*list.name).collect();
        if !lists.is_empty() && snapshot.looks_up_client(&self.facts, to, decision.tenant) {
            let client = self.facts.client.to_canonical();
            asked.push((Rule::Dnsbl, format!("whether a DNS list holds {client}: {}", lists.join(", "))));
        }
        match snapshot.witness(decision.tenant, to.domain()) {
            Some(Witness::NextHop(route)) => {
                let hops: Vec<_> =
                    snapshot.next_hops(route).next_hops.iter().map(ToString::to_string).collect();
                let question =
                    format!("whether the next hop knows <{}>: {}", to.text(), hops.join(", else "));
                asked.push((Rule::CallAhead, question));
            }
            Some(Witness::Dns) => {
                let question = format!("whether DNS knows {} and it takes mail", to.domain());
                asked.push((Rule::DomainExists, question));
            }
            None => {}
        }
        asked
    }

    /// The lines that the client would read; none for an acceptance.
    fn reply(&self, decision: &Decision, told: Option<&str>) -> Vec<String> {
        if decision.verdict.is_accept() {
            return Vec::new();
        }
        let (mut reply, mut wire) = (Reply::default(), Vec::new());
        let told = told.filter(|told| !told.is_empty());
        let detail = told.unwrap_or_default();
        let detail = format_args!("{detail}");
        let at_connection = decision.rule == Rule::ClientList && decision.tenant.is_none();
        let facts = ReplyFacts {
            client: self.facts.client,
            from: self.from.text(),
            to: if at_connection { "" } else { self.to.text() },
            detail: told.map(|_| detail),
            ticket: None,
            contact: self.node.tickets.contact.as_deref(),
            public_url: self.node.tickets.public_url.as_deref(),
            submission_port: self.node.submission_port(),
        };
        decision.write_reply(&facts, &mut reply);
        reply.write_to(&mut wire);
        String::from_utf8_lossy(&wire).lines().map(str::to_owned).collect()
    }

    fn next_hops(&self, decision: &Decision) -> Option<Vec<String>> {
        let ForwardPath::Address(to) = self.to else { return None };
        let tenant = decision.tenant.filter(|_| decision.verdict.is_accept())?;
        let Some(route) = self.snapshot.route(tenant, to.domain()) else {
            return Some(vec![format!("the MX hosts of {}", to.domain())]);
        };
        Some(self.snapshot.next_hops(route).next_hops.iter().map(ToString::to_string).collect())
    }
}

fn sentence(reason: Reason) -> &'static str {
    match reason {
        Reason::TenantSuspended => "the tenant is suspended",
        Reason::IdentitySuspended => "the login is suspended",
        _ => "the client is suspended",
    }
}

/// A stable lower-case word for a verdict.
#[must_use]
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "accept",
        Verdict::Deny(_) => "deny",
        Verdict::Defer(_) => "defer",
    }
}

/// The rules of an explanation, for a machine.
#[must_use]
pub fn steps_as_json(explanation: &Explanation) -> Value {
    let steps = explanation.steps.iter().map(|step| {
        let origin = step.origin.as_ref();
        json!({
            "rule": step.rule.as_str(),
            "outcome": step.outcome.as_str(),
            "detail": step.detail,
            "file": origin.map(|origin| &*origin.file),
            "line": origin.and_then(line),
        })
    });
    steps.collect()
}

fn line(origin: &Origin) -> Option<u32> {
    (origin.line > 0).then_some(origin.line)
}
