//! `gatepost tenants`: what a running gateway has loaded, and who may send nothing for now.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::admin::{Failure, Gateway, encoded};
use super::text::{self, FAINT, NO, STRONG, WARNING, YES, count, size, styled};
use super::{Answer, Common, spool};

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
    #[command(after_help = "Examples:\n  gatepost tenants suspend proseware --hold\n  \
        gatepost tenants suspend proseware --client 198.51.100.7 --for 30m")]
    Suspend {
        #[command(flatten)]
        whom: Whom,
        /// How long; until it is resumed where it is not said
        #[arg(long = "for", value_name = "TIME")]
        duration: Option<String>,
        /// Hold what is queued already, too
        #[arg(long)]
        hold: bool,
    },
    /// End a suspension
    #[command(after_help = "Example:\n  gatepost tenants resume proseware --client 198.51.100.7")]
    Resume {
        #[command(flatten)]
        whom: Whom,
        /// Release what is held of its messages, too
        #[arg(long)]
        release: bool,
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

    /// The filter of what is queued of it; `None` for a client.
    fn queued(&self) -> Option<Value> {
        self.client.is_none().then(|| self.body())
    }

    /// As it stands in a command.
    fn command(&self) -> String {
        match &self.login {
            Some(login) => format!("{} --login {login}", self.name),
            None => self.name.clone(),
        }
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
        if let Some(sentence) = self.contradiction() {
            common.complain(&sentence);
            return Answer::Broken;
        }
        let Some(gateway) = Gateway::reach(common) else { return Answer::Broken };
        self.ask(common, &gateway).unwrap_or_else(|failure| failure.tell(common))
    }

    /// What cannot be done, and what to do in its place: which client a message came from, the queue does not know.
    fn contradiction(&self) -> Option<String> {
        let (whom, option, act) = match self {
            Self::Suspend { whom, hold: true, .. } => (whom, "--hold", "hold"),
            Self::Resume { whom, release: true } => (whom, "--release", "release"),
            _ => return None,
        };
        let client = whom.client?;
        Some(format!(
            "{option} does not go with --client {client}, for the queue does not know which client a message came \
             from; leave {option} out, and {act} by login, sender or id with `gatepost spool {act} --tenant {}`",
            whom.name
        ))
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
            Self::Suspend { whom, duration, hold } => suspend(gateway, whom, duration.as_deref(), *hold)?,
            Self::Resume { whom, release } => resume(gateway, whom, *release)?,
        };
        match common.json {
            true => text::print_json(&answer),
            false => text::print(&text),
        }
        Ok(if answer["lifted"] == false { Answer::No } else { Answer::Yes })
    }
}

/// Queued messages that are counted to say that there are some.
const COUNTED_MAX: u64 = 10_000;

fn suspend(
    gateway: &Gateway,
    whom: &Whom,
    duration: Option<&str>,
    hold: bool,
) -> Result<(Value, String), Failure> {
    let mut body = whom.body();
    if let Some(duration) = duration {
        body["for"] = json!(duration);
    }
    let mut answer = gateway.post("/v1/suspensions", &body)?;
    let end = match answer["until"].as_str() {
        Some(until) => format!("until {}", text::clock(until)),
        None => "until it is resumed".to_owned(),
    };
    let mut out = format!("{} is {} {end}\n", whom.sentence(), styled(NO, "suspended"));
    let (held, command) = (whom.queued(), whom.command());
    match held {
        // Which client a message came from, the queue does not know.
        None => out.push_str("what is queued of it already is still delivered\n"),
        Some(queued) if hold => {
            let (_, done) = spool::order_of(gateway, "hold", &queued, None)?;
            answer["held"] = done.into();
            let messages = count(done as usize, "queued message", "queued messages");
            let _ = writeln!(
                out,
                "{messages} of it held; `gatepost tenants resume {command} --release` lets them go"
            );
        }
        Some(queued) => {
            let (waiting, _) = spool::order_of(gateway, "hold", &queued, Some(COUNTED_MAX))?;
            answer["still_delivered"] = waiting.into();
            if waiting > 0 {
                let messages = messages(waiting, "queued message is", "queued messages are");
                let _ = writeln!(
                    out,
                    "{} still delivered; to hold what is queued:\n  gatepost tenants suspend {command} --hold",
                    styled(WARNING, messages)
                );
            }
        }
    }
    Ok((answer, out))
}

fn resume(gateway: &Gateway, whom: &Whom, release: bool) -> Result<(Value, String), Failure> {
    let mut answer = gateway.delete(&format!("/v1/suspensions{}", whom.query()))?;
    let mut out = match answer["lifted"] == true {
        true => format!("{} is {}\n", whom.sentence(), styled(YES, "free to send")),
        false => format!("{} was not suspended\n", whom.sentence()),
    };
    let Some(mut queued) = whom.queued() else { return Ok((answer, out)) };
    queued["state"] = "held".into();
    if release {
        let (_, done) = spool::order_of(gateway, "release", &queued, None)?;
        answer["released"] = done.into();
        let _ = writeln!(out, "{} released", count(done as usize, "held message", "held messages"));
    } else {
        let (held, _) = spool::order_of(gateway, "release", &queued, Some(COUNTED_MAX))?;
        answer["still_held"] = held.into();
        if held > 0 {
            let messages = messages(held, "message of it is", "messages of it are");
            let command = whom.command();
            let _ = writeln!(
                out,
                "{} still held; to let them go:\n  gatepost tenants resume {command} --release",
                styled(WARNING, messages)
            );
        }
    }
    Ok((answer, out))
}

/// How many there are, where counting has not ended before.
fn messages(number: u64, one: &str, many: &str) -> String {
    match number < COUNTED_MAX {
        true => count(number as usize, one, many),
        false => format!("more than {COUNTED_MAX} {many}"),
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
        // A styled text has no width to pad.
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
            (_, Some(client), None) => format!("client {client} of no tenant"),
            (_, _, tenant) => format!("tenant {}", tenant.unwrap_or_default()),
        };
        let end = suspension["until"]
            .as_str()
            .map_or("until resumed".to_owned(), |until| format!("until {}", text::clock(until)));
        let _ = writeln!(
            out,
            "{} {whom}  {}, {end}  {}",
            styled(WARNING, "suspended:"),
            text::when(word(suspension, "since"), text::now()),
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

/// What is limited, and how far.
fn limits(limits: &Value) -> Vec<(String, String)> {
    let is_default = |key: &str| array(&limits["defaults"]).iter().any(|default| default == key);
    let marked = |key: &str, text: String| match is_default(key) {
        true => format!("{text} {}", styled(FAINT, "(the node's)")),
        false => text,
    };
    let number = |key: &str| limits[key].as_u64().unwrap_or_default();
    let message = match limits["message_size"].as_u64() {
        Some(bytes) => marked("message_size", format!("up to {}", size(bytes))),
        None => "of any size".to_owned(),
    };
    let recipients = format!("up to {} a message", number("recipients_per_message"));
    let mut lines = vec![
        ("a message".to_owned(), message),
        ("recipients".to_owned(), marked("recipients_per_message", recipients)),
    ];
    lines.push(("all together".to_owned(), amounts(limits)));
    for (whom, key) in [("each login", "identity"), ("each network", "network"), ("each client", "client")] {
        if limits[key].is_object() {
            lines.push((whom.to_owned(), amounts(&limits[key])));
        }
    }
    let session = format!(
        "{} errors, {} commands without mail",
        number("session_errors"),
        number("session_idle_commands")
    );
    lines.push(("a session".to_owned(), marked("session_errors", session)));
    lines.extend(containment(&limits["containment"]).map(|text| ("suspended by".to_owned(), text)));
    lines
}

/// The amounts in a time, and how many connections at once.
fn amounts(limits: &Value) -> String {
    let mut parts = Vec::new();
    parts.extend(limits["connections"].as_u64().map(|most| format!("{most} connections at once")));
    for (key, amount) in limits.as_object().into_iter().flatten() {
        if let (Some((what, period)), Some(amount)) = (key.split_once("_per_"), amount.as_u64())
            && period != "message"
        {
            let amount = if what == "bytes" { size(amount) } else { format!("{amount} {what}") };
            let article = if period == "hour" { "an" } else { "a" };
            parts.push(format!("{amount} {article} {period}"));
        }
    }
    if parts.is_empty() { "any number".to_owned() } else { parts.join(", ") }
}

fn containment(containment: &Value) -> Option<String> {
    let causes = [("denials", "denials"), ("bounces", "bounces"), ("failed_logins", "failed logins")];
    let causes = causes.into_iter().filter_map(|(key, words)| {
        let threshold = &containment[key];
        let within = text::duration(threshold["within_seconds"].as_u64()?);
        Some(format!("{} {words} in {within}", threshold["count"]))
    });
    let span = text::duration(containment["suspend_for_seconds"].as_u64()?);
    Some(format!("more than {}; for {span}", causes.collect::<Vec<_>>().join(" or ")))
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
    for (index, (what, limit)) in limits(&tenant["limits"]).into_iter().enumerate() {
        line(if index == 0 { "limits" } else { "" }, format!("{what:<14}{limit}"));
    }
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
