//! `gatepost explain`: the decision about one message that is not sent, rule by rule. A gateway that runs is
//! asked, for it knows what is suspended, granted and used; else the files are read.

use std::fmt::Write as _;
use std::net::IpAddr;

use control::explain::{Question, of_files};
use serde_json::{Value, json};

use super::admin::{Failure, Gateway};
use super::text::{
    FAINT, NO, STRONG, StepLine, WARNING, YES, print, print_json, styled, width, wrapped, write_paragraph,
    write_step_lines,
};
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
    /// Look at the files alone, whatever a running gateway knows
    #[arg(long)]
    offline: bool,
}

impl Explain {
    pub(super) fn run(&self, common: &Common) -> Answer {
        let answer = match self.of_gateway(common) {
            Ok(answer) => answer,
            Err(Alone::Refused(failure)) => return failure.tell(common),
            Err(Alone::Broken) => return Answer::Broken,
            Err(Alone::Because(why)) => match self.of_files(common, &why) {
                Some(answer) => answer,
                None => return Answer::Broken,
            },
        };
        match common.json {
            true => print_json(&answer),
            false => print(&for_people(&answer)),
        }
        if answer["verdict"] == "accept" { Answer::Yes } else { Answer::No }
    }

    /// The answer of the gateway that runs by this configuration.
    fn of_gateway(&self, common: &Common) -> Result<Value, Alone> {
        if self.offline {
            return Err(Alone::Because("as --offline says".to_owned()));
        }
        let path = common.config_path().ok_or(Alone::Broken)?;
        let none = || Alone::Because("[admin] names no socket at which a gateway could be asked".to_owned());
        let gateway = Gateway::beside(&path).ok_or_else(none)?;
        match gateway.post("/v1/explain", &json!(self.question())) {
            Ok(mut answer) => {
                answer["source"] = "gateway".into();
                Ok(answer)
            }
            Err(Failure::Unreachable(why) | Failure::Closed(why)) => Err(Alone::Because(why)),
            Err(failure @ Failure::Refused { .. }) => Err(Alone::Refused(failure)),
        }
    }

    fn of_files(&self, common: &Common, why: &str) -> Option<Value> {
        let loaded = common.load()?;
        match of_files(&self.question(), &loaded.node, &loaded.snapshot) {
            Ok(mut answer) => {
                answer["source"] = "files".into();
                answer["note"] = why.into();
                Some(answer)
            }
            Err(sentence) => {
                common.complain(&sentence);
                None
            }
        }
    }

    fn question(&self) -> Question {
        Question {
            client: self.client,
            listener: self.listener.clone(),
            login: self.login.clone(),
            grant: self.grant.clone(),
            tls: self.tls,
            from: self.from.clone(),
            to: self.to.clone(),
        }
    }
}

/// Why no gateway has answered.
enum Alone {
    /// None is asked or can be: the files are looked at, and this is said.
    Because(String),
    /// It has refused the question.
    Refused(Failure),
    /// There is no configuration, which has been said.
    Broken,
}

fn for_people(answer: &Value) -> String {
    let mut out = String::new();
    let reason = word(&answer["reason"]);
    let verdict = match word(&answer["verdict"]) {
        "accept" => styled(YES, "accepted".to_owned()),
        "deny" => styled(NO, format!("denied: {reason}")),
        _ => styled(NO, format!("deferred: {reason}")),
    };
    let _ = writeln!(out, "{verdict}");
    write_steps(&mut out, &answer["steps"]);
    let reply = texts(&answer["reply"]);
    if !reply.is_empty() {
        let _ = writeln!(out, "\nThe client reads, with a ticket:");
        for line in &reply {
            write_wrapped(&mut out, "  ", line);
        }
    }
    if let Some(remedy) = answer["remedy"].as_str() {
        out.push('\n');
        write_paragraph(&mut out, STRONG, "To have it accepted:", remedy, 0);
    }
    let hops = texts(&answer["next_hops"]);
    if !hops.is_empty() {
        out.push('\n');
        write_wrapped(&mut out, "", &format!("It would go to {}.", hops.join(", else ")));
    }
    write_asked_live(&mut out, answer);
    write_now(&mut out, answer);
    out
}

fn write_steps(out: &mut String, steps: &Value) {
    let steps: Vec<_> = array(steps)
        .iter()
        .map(|step| StepLine {
            rule: word(&step["rule"]),
            outcome: word(&step["outcome"]),
            word: word(&step["outcome"]),
            detail: word(&step["detail"]),
            place: step["file"].as_str().map(|file| match step["line"].as_u64() {
                Some(line) => format!("{file}:{line}"),
                None => file.to_owned(),
            }),
        })
        .collect();
    write_step_lines(out, "  ", &steps);
}

fn write_asked_live(out: &mut String, answer: &Value) {
    let asked = array(&answer["asked_live"]);
    if asked.is_empty() {
        return;
    }
    let heading = match word(&answer["source"]) {
        "gateway" => "Before it takes this, the gateway asks:",
        _ => "Only a running gateway can ask, before it takes this:",
    };
    let _ = writeln!(out, "\n{}", styled(WARNING, heading));
    for asked in asked {
        let rule = format!("  {:<14} ", word(&asked["rule"]));
        let lines = wrapped(word(&asked["question"]), width() - rule.len());
        let indent = format!("\n{}", " ".repeat(rule.len()));
        let _ = writeln!(out, "{rule}{}", lines.join(&indent));
    }
}

/// What was asked, and what of it holds for now alone.
fn write_now(out: &mut String, answer: &Value) {
    out.push('\n');
    if word(&answer["source"]) != "gateway" {
        let note = format!(
            "Looked at the files alone: {}. Suspensions, grants and used limits are not known here.",
            word(&answer["note"])
        );
        return write_faint(out, &note);
    }
    let granted = texts(&answer["grants"]);
    let mut facts = vec![format!("Asked the running gateway, configuration {}.", answer["generation"])];
    facts.extend((!granted.is_empty()).then(|| format!("Grants of this address: {}.", granted.join(", "))));
    facts.extend(array(&answer["limits"]).iter().map(|limit| {
        let (whom, amount) = (word(&limit["whom"]), word(&limit["limit"]));
        format!("Used by {whom}: {} of {amount}.", limit["used"])
    }));
    facts.iter().for_each(|fact| write_faint(out, fact));
    let changed = texts(&answer["not_taken_up"]);
    if !changed.is_empty() {
        let more = answer["not_taken_up_count"].as_u64().unwrap_or_default() as usize - changed.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let heading = styled(WARNING, "Not taken up yet, and not looked at; a reload (SIGHUP) takes it up:");
        let _ = writeln!(out, "{heading}");
        for file in changed {
            let _ = writeln!(out, "  {file}");
        }
        if !more.is_empty() {
            let _ = writeln!(out, " {more}");
        }
    }
}

fn write_faint(out: &mut String, text: &str) {
    for line in wrapped(text, width()) {
        let _ = writeln!(out, "{}", styled(FAINT, line));
    }
}

fn write_wrapped(out: &mut String, indent: &str, text: &str) {
    for line in wrapped(text, width() - indent.len()) {
        let _ = writeln!(out, "{indent}{line}");
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<&str> {
    array(value).iter().filter_map(Value::as_str).collect()
}
