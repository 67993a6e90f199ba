//! `gatepost explain`: the decision about one message that nobody has sent, rule by rule.

use std::fmt::Write as _;
use std::net::IpAddr;

use config::{ListenerConfig, Loaded, NodeConfig};
use mail::{ForwardPath, Reply, ReversePath, Verdict};
use policy::{Explanation, Facts, IdentityIx, ReplyFacts, Role, Rule, Snapshot, TlsPolicy, Witness};
use serde_json::{Value, json};

use super::text::{NO, STRONG, WARNING, YES, print, print_json, styled, write_steps};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost explain --client 198.51.100.7 --from terri@proseware.example --to bob@adatum.example
  gatepost explain --client 203.0.113.9 --login terri@proseware.example --tls \\
      --from terri@proseware.example --to bob@adatum.example
  gatepost explain --client 203.0.113.9 --grant terri@proseware.example \\
      --from terri@proseware.example --to bob@adatum.example
  gatepost explain --client 203.0.113.9 --from '<>' --to terri@proseware.example";

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The client's address
    #[arg(long, value_name = "IP")]
    client: IpAddr,
    /// The listener [default: the first one for submission with --login, else the first one for relaying]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Who has logged in
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
    /// A login whose mailbox was opened from the client's address a moment ago; once for each
    #[arg(long, value_name = "NAME")]
    grant: Vec<String>,
    /// The session runs over TLS
    #[arg(long)]
    tls: bool,
    /// The envelope sender; '<>' for the null sender
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    from: String,
    /// The recipient
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    to: String,
}

/// The question, as the configuration understands it.
struct Question<'a> {
    facts: Facts<'a>,
    from: ReversePath<'a>,
    to: ForwardPath<'a>,
}

impl Explain {
    pub(super) fn run(&self, common: &Common) -> Answer {
        let Some(loaded) = common.load() else { return Answer::Broken };
        let grants = match self.grants(&loaded.snapshot) {
            Ok(grants) => grants,
            Err(sentence) => {
                common.complain(&sentence);
                return Answer::Broken;
            }
        };
        let question = match self.question(&loaded, &grants) {
            Ok(question) => question,
            Err(sentence) => {
                common.complain(&sentence);
                return Answer::Broken;
            }
        };
        let explanation = loaded.snapshot.explain(&question.facts, question.from, question.to);
        if common.json {
            print_json(&question.as_json(&explanation, &loaded));
        } else {
            print(&question.for_people(&explanation, &loaded));
        }
        if explanation.decision.verdict.is_accept() { Answer::Yes } else { Answer::No }
    }

    fn grants(&self, snapshot: &Snapshot) -> Result<Vec<IdentityIx>, String> {
        let find = |login: &String| snapshot.identity(login).ok_or_else(|| no_login(login));
        self.grant.iter().map(find).collect()
    }

    fn question<'a>(&'a self, loaded: &'a Loaded, grants: &'a [IdentityIx]) -> Result<Question<'a>, String> {
        let listener = self.listener(&loaded.node)?;
        let identity = match &self.login {
            None => None,
            Some(login) => Some(loaded.snapshot.identity(login).ok_or_else(|| no_login(login))?),
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
        Ok(Question {
            facts: Facts { listener: policy, client: self.client, tls, identity, grants },
            from,
            to,
        })
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

fn no_login(login: &str) -> String {
    format!("no tenant has a login {login:?}; look for [[identity]] in the tenant files")
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

impl Question<'_> {
    fn for_people(&self, explanation: &Explanation, loaded: &Loaded) -> String {
        let decision = &explanation.decision;
        let mut out = String::new();
        let answer = match decision.verdict {
            Verdict::Accept => styled(YES, "accepted".to_owned()),
            Verdict::Deny(reason) => styled(NO, format!("denied: {reason}")),
            Verdict::Defer(reason) => styled(NO, format!("deferred: {reason}")),
        };
        let _ = writeln!(out, "{answer}");
        write_steps(&mut out, "  ", explanation, ToString::to_string);
        let reply = self.reply(explanation, &loaded.node);
        if !reply.is_empty() {
            let _ = writeln!(out, "\nThe client reads, with a ticket:");
            for line in &reply {
                let _ = writeln!(out, "  {line}");
            }
        }
        if let Some(remedy) = &explanation.remedy {
            let _ = writeln!(out, "\n{} {remedy}", styled(STRONG, "To have it accepted:"));
        }
        if let Some(hops) = self.next_hops(explanation, &loaded.snapshot) {
            let _ = writeln!(out, "\nIt would go to {}.", hops.join(", else "));
        }
        let asked = self.asked_live(explanation, loaded);
        if !asked.is_empty() {
            let heading = styled(WARNING, "Only a running gateway can ask, before it takes this:".to_owned());
            let _ = writeln!(out, "\n{heading}");
            for (rule, question) in &asked {
                let _ = writeln!(out, "  {:<14} {question}", rule.as_str());
            }
        }
        out
    }

    fn as_json(&self, explanation: &Explanation, loaded: &Loaded) -> Value {
        let decision = &explanation.decision;
        let tenant = decision.tenant.map(|tenant| &*loaded.snapshot.tenant(tenant).name);
        json!({
            "verdict": verdict(decision.verdict),
            "reason": decision.verdict.reason().map(|reason| reason.as_str()),
            "rule": decision.rule.as_str(),
            "tenant": tenant,
            "listener": &*self.facts.listener.name,
            "steps": steps_as_json(explanation),
            "reply": self.reply(explanation, &loaded.node),
            "remedy": explanation.remedy,
            "next_hops": self.next_hops(explanation, &loaded.snapshot),
            "asked_live": self.asked_live(explanation, loaded).iter().map(|(rule, question)| {
                json!({ "rule": rule.as_str(), "question": question })
            }).collect::<Vec<_>>(),
        })
    }

    /// What the running gateway asks of others before it takes what policy accepts, each with the rule
    /// that the answer may deny it by: an acceptance is no promise there.
    fn asked_live(&self, explanation: &Explanation, loaded: &Loaded) -> Vec<(Rule, String)> {
        let (decision, snapshot) = (&explanation.decision, &loaded.snapshot);
        let mut asked = Vec::new();
        let ForwardPath::Address(to) = self.to else { return asked };
        if !decision.verdict.is_accept() {
            return asked;
        }
        let lists: Vec<_> = loaded.node.dns.lists.iter().map(|list| &*list.name).collect();
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
    fn reply(&self, explanation: &Explanation, node: &NodeConfig) -> Vec<String> {
        if explanation.decision.verdict.is_accept() {
            return Vec::new();
        }
        let (mut reply, mut wire) = (Reply::default(), Vec::new());
        let list = explanation.list.as_deref().unwrap_or_default();
        let detail = format_args!("{list}");
        let decision = &explanation.decision;
        let at_connection = decision.rule == Rule::ClientList && decision.tenant.is_none();
        let facts = ReplyFacts {
            client: self.facts.client,
            from: self.from.text(),
            to: if at_connection { "" } else { self.to.text() },
            detail: explanation.list.as_ref().map(|_| detail),
            ticket: None,
            contact: node.tickets.contact.as_deref(),
            public_url: node.tickets.public_url.as_deref(),
            submission_port: node.submission_port(),
        };
        decision.write_reply(&facts, &mut reply);
        reply.write_to(&mut wire);
        String::from_utf8_lossy(&wire).lines().map(str::to_owned).collect()
    }

    fn next_hops(&self, explanation: &Explanation, snapshot: &Snapshot) -> Option<Vec<String>> {
        let decision = &explanation.decision;
        let ForwardPath::Address(to) = self.to else { return None };
        let tenant = decision.tenant.filter(|_| decision.verdict.is_accept())?;
        let Some(route) = snapshot.route(tenant, to.domain()) else {
            return Some(vec![format!("the MX hosts of {}", to.domain())]);
        };
        Some(snapshot.next_hops(route).next_hops.iter().map(ToString::to_string).collect())
    }
}

/// A stable lower-case word for a verdict.
pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "accept",
        Verdict::Deny(_) => "deny",
        Verdict::Defer(_) => "defer",
    }
}

/// The rules of an explanation, for a machine.
pub(super) fn steps_as_json(explanation: &Explanation) -> Value {
    let steps = explanation.steps.iter().map(|step| {
        let origin = step.origin.as_ref();
        json!({
            "rule": step.rule.as_str(),
            "outcome": step.outcome.as_str(),
            "detail": step.detail,
            "file": origin.map(|origin| &*origin.file),
            "line": origin.and_then(super::check::line),
        })
    });
    steps.collect()
}
