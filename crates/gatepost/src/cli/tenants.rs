//! `gatepost tenants`: what a running gateway has loaded, and who may send nothing for now.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::admin::{Failure, Gateway, encoded};
use super::text::{self, FAINT, NO, STRONG, WARNING, YES, count, size, styled};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost tenants list
  gatepost tenants suspend proseware --login terri@proseware.example --for 2h
  gatepost tenants resume proseware --login terri@proseware.example";

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the tenants that are loaded, and every suspension
    #[command(after_help = "Example:\n  gatepost tenants list --json")]
    List,
    /// Show one tenant: its limits, its grants, its suspensions
    #[command(after_help = "Example:\n  gatepost tenants show proseware")]
    Show {
        /// The tenant
        name: String,
    },
    /// Take nothing from a tenant, or from one login or client of it, until it is resumed
    #[command(after_help = "Example:\n  gatepost tenants suspend proseware --client 198.51.100.7 --for 30m")]
    Suspend {
        #[command(flatten)]
        whom: Whom,
        /// How long; until it is resumed where it is not said
        #[arg(long = "for", value_name = "TIME")]
        duration: Option<String>,
    },
    /// End a suspension
    #[command(after_help = "Example:\n  gatepost tenants resume proseware --client 198.51.100.7")]
    Resume {
        #[command(flatten)]
        whom: Whom,
    },
}

/// Whom a suspension concerns.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Whom {
    /// The tenant
    name: String,
    /// Only this login of it
    #[arg(long, value_name = "LOGIN", conflicts_with = "client")]
    login: Option<String>,
    /// Only this client address
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
}

impl Whom {
    fn body(&self) -> Value {
        let mut body = json!({ "tenant": self.name });
        if let Some(login) = &self.login {
            body["login"] = json!(login);
        }
        if let Some(client) = &self.client {
            body["client"] = json!(client);
        }
        body
    }

    fn query(&self) -> String {
        let mut query = format!("?tenant={}", encoded(&self.name));
        if let Some(login) = &self.login {
            let _ = write!(query, "&login={}", encoded(login));
        }
        if let Some(client) = &self.client {
            let _ = write!(query, "&client={}", encoded(&client.to_string()));
        }
        query
    }

    fn sentence(&self) -> String {
        match (&self.login, &self.client) {
            (Some(login), _) => format!("login {login} of tenant {}", self.name),
            (_, Some(client)) => format!("client {client} of tenant {}", self.name),
            _ => format!("tenant {}", self.name),
        }
    }
}

impl Command {
    pub(super) fn run(&self, common: &Common) -> Answer {
        let Some(gateway) = Gateway::reach(common) else { return Answer::Broken };
        self.ask(common, &gateway).unwrap_or_else(|failure| failure.tell(common))
    }

    fn ask(&self, common: &Common, gateway: &Gateway) -> Result<Answer, Failure> {
        let (answer, text) = match self {
            Self::List => {
                let mut answer = gateway.get("/v1/tenants")?;
                answer["suspensions"] = gateway.get("/v1/suspensions")?["suspensions"].take();
                let text = list(&answer);
                (answer, text)
            }
            Self::Show { name } => {
                let mut answer = gateway.get(&format!("/v1/tenants/{}", encoded(name)))?;
                answer["suspensions"] = gateway.get("/v1/suspensions")?["suspensions"].take();
                if let Some(suspensions) = answer["suspensions"].as_array_mut() {
                    suspensions.retain(|suspension| suspension["tenant"] == **name);
                }
                let text = show(&answer);
                (answer, text)
            }
            Self::Suspend { whom, duration } => {
                let mut body = whom.body();
                if let Some(duration) = duration {
                    body["for"] = json!(duration);
                }
                let answer = gateway.post("/v1/suspensions", &body)?;
                let end = match answer["until"].as_str() {
                    Some(until) => format!("until {until}"),
                    None => "until it is resumed".to_owned(),
                };
                let text = format!("{} is {} {end}\n", whom.sentence(), styled(NO, "suspended"));
                (answer, text)
            }
            Self::Resume { whom } => {
                let answer = gateway.delete(&format!("/v1/suspensions{}", whom.query()))?;
                let text = match answer["lifted"] == true {
                    true => format!("{} is {}\n", whom.sentence(), styled(YES, "free to send")),
                    false => format!("{} was not suspended\n", whom.sentence()),
                };
                (answer, text)
            }
        };
        match common.json {
            true => text::print_json(&answer),
            false => text::print(&text),
        }
        Ok(if answer["lifted"] == false { Answer::No } else { Answer::Yes })
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list(answer: &Value) -> String {
    let tenants = array(&answer["tenants"]);
    let width = tenants.iter().map(|tenant| word(tenant, "name").len()).max().unwrap_or(0);
    let mut out = String::new();
    for tenant in tenants {
        let state = if tenant["suspended"] == true { styled(NO, "suspended") } else { styled(YES, "sends") };
        let grants = if tenant["grants"] == true { "mailbox logins open relaying" } else { "" };
        let name = styled(STRONG, format!("{:<width$}", word(tenant, "name")));
        // A styled text has no width of its own to pad.
        let gap = if tenant["suspended"] == true { "" } else { "    " };
        let line = format!("{name}  {state}{gap}  {}", styled(FAINT, grants));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let _ = writeln!(out, "{}", styled(FAINT, count(tenants.len(), "tenant", "tenants")));
    write_suspensions(&mut out, array(&answer["suspensions"]));
    out
}

fn write_suspensions(out: &mut String, suspensions: &[Value]) {
    for suspension in suspensions {
        let whom = match (
            suspension["login"].as_str(),
            suspension["client"].as_str(),
            suspension["tenant"].as_str(),
        ) {
            (Some(login), _, _) => format!("login {login}"),
            (_, Some(client), Some(tenant)) => format!("client {client} of {tenant}"),
            (_, Some(client), None) => format!("client {client} of nobody"),
            (_, _, tenant) => format!("tenant {}", tenant.unwrap_or_default()),
        };
        let end =
            suspension["until"].as_str().map_or("until resumed".to_owned(), |until| format!("until {until}"));
        let _ = writeln!(
            out,
            "{} {whom}  since {}, {end}  {}",
            styled(WARNING, "suspended:"),
            word(suspension, "since"),
            styled(FAINT, format!("({})", word(suspension, "cause").replace('_', " "))),
        );
    }
}

/// As many as fit a line or two, and how many more there are.
fn some_of(values: &[Value]) -> String {
    const SHOWN_MAX: usize = 6;
    let shown: Vec<_> = values.iter().take(SHOWN_MAX).filter_map(Value::as_str).collect();
    match values.len() {
        0 => "none".to_owned(),
        all if all > SHOWN_MAX => format!("{} and {} more", shown.join(", "), all - SHOWN_MAX),
        _ => shown.join(", "),
    }
}

fn show(tenant: &Value) -> String {
    let mut out = String::new();
    let state = if tenant["suspended"] == true { styled(NO, "suspended") } else { styled(YES, "sends") };
    let _ = writeln!(out, "{}  {state}", styled(STRONG, word(tenant, "name")));
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "  {name:<14}{text}");
    };
    line("file", word(tenant, "file").to_owned());
    for (title, key) in [
        ("networks", "networks"),
        ("excluded", "excluded_networks"),
        ("senders", "senders"),
        ("receives for", "relay_domains"),
        ("logins", "logins"),
    ] {
        line(title, some_of(array(&tenant[key])));
    }
    let limits = &tenant["limits"];
    line(
        "message",
        limits["message_size"].as_u64().map_or("any size".into(), |bytes| format!("up to {}", size(bytes))),
    );
    line(
        "recipients",
        limits["recipients_per_message"]
            .as_u64()
            .map_or("any number".into(), |most| format!("up to {most} a message")),
    );
    let grants = &tenant["grants"];
    line(
        "grants",
        match grants["ttl_seconds"].as_u64() {
            None => "mailbox logins open nothing".into(),
            Some(ttl) => {
                let token = if grants["token"] == true {
                    "reported with its token"
                } else {
                    "reported by administrators"
                };
                let held = grants["in_force"].as_u64().unwrap_or_default();
                format!("{} after a mailbox login, {token}; {held} in force", text::duration(ttl))
            }
        },
    );
    write_suspensions(&mut out, array(&tenant["suspensions"]));
    out
}
