//! `gatepost grants`: who may relay for a while because of a mailbox login.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::admin::{Failure, Gateway, encoded};
use super::text::{self, FAINT, STRONG, count, styled};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost grants list
  gatepost grants open 203.0.113.9 terri@proseware.example --ttl 5m
  gatepost grants revoke --login terri@proseware.example";

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the grants in force, the one that ends first in front
    #[command(after_help = "Example:\n  gatepost grants list --tenant proseware")]
    List {
        /// Of one tenant
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
    },
    /// Let an address relay as a login for a while, as after a mailbox login
    #[command(after_help = "Example:\n  gatepost grants open 203.0.113.9 terri@proseware.example")]
    Open {
        /// The client's address
        address: IpAddr,
        /// The identity, as the tenant file writes it
        login: String,
        /// How long, up to the tenant's own time
        #[arg(long, value_name = "TIME")]
        ttl: Option<String>,
    },
    /// End grants: of an address, of a login, of both together, or of a tenant
    #[command(after_help = "Example:\n  gatepost grants revoke --address 203.0.113.9")]
    #[group(required = true, multiple = true)]
    Revoke {
        /// Of one address
        #[arg(long, value_name = "IP")]
        address: Option<IpAddr>,
        /// Of one login
        #[arg(long, value_name = "LOGIN")]
        login: Option<String>,
        /// Of one tenant
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
    },
}

impl Command {
    pub(super) fn run(&self, common: &Common) -> Answer {
        let Some(gateway) = Gateway::reach(common) else { return Answer::Broken };
        self.ask(common, &gateway).unwrap_or_else(|failure| failure.tell(common))
    }

    fn ask(&self, common: &Common, gateway: &Gateway) -> Result<Answer, Failure> {
        let (answer, sentence) = match self {
            Self::List { tenant } => {
                let answer =
                    gateway.get(&format!("/v1/grants{}", query(&[("tenant", tenant.as_deref())])))?;
                let table = table(&answer["grants"]);
                (answer, table)
            }
            Self::Open { address, login, ttl } => {
                let mut body = json!({ "address": address, "login": login });
                if let Some(ttl) = ttl {
                    body["ttl"] = json!(ttl);
                }
                let grant = gateway.post("/v1/grants", &body)?;
                let left = text::duration(grant["seconds_left"].as_u64().unwrap_or_default());
                let sentence = format!("{address} may relay as {} for {left}\n", word(&grant, "login"));
                (grant, sentence)
            }
            Self::Revoke { address, login, tenant } => {
                let address = address.map(|address| address.to_string());
                let parts = [
                    ("address", address.as_deref()),
                    ("login", login.as_deref()),
                    ("tenant", tenant.as_deref()),
                ];
                let answer = gateway.delete(&format!("/v1/grants{}", query(&parts)))?;
                let ended = answer["revoked"].as_array().map_or(0, Vec::len);
                let sentence = format!("{} ended\n", count(ended, "grant", "grants"));
                (answer, sentence)
            }
        };
        match common.json {
            true => text::print_json(&answer),
            false => text::print(&sentence),
        }
        let found_none = answer["revoked"].as_array().is_some_and(Vec::is_empty);
        Ok(if found_none { Answer::No } else { Answer::Yes })
    }
}

/// `?a=b&c=d` of those that have a value.
fn query(parts: &[(&str, Option<&str>)]) -> String {
    let parts: Vec<_> = parts
        .iter()
        .filter_map(|(key, value)| value.map(|value| format!("{key}={}", encoded(value))))
        .collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

fn word<'a>(grant: &'a Value, key: &str) -> &'a str {
    grant[key].as_str().unwrap_or_default()
}

fn table(grants: &Value) -> String {
    let grants = grants.as_array().map_or(&[][..], Vec::as_slice);
    if grants.is_empty() {
        return "no address may relay by a grant now\n".to_owned();
    }
    let mut out = String::new();
    for line in lines(grants) {
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "{}", styled(FAINT, count(grants.len(), "grant", "grants")));
    out
}

/// The names of the columns, and a line for each of `grants`.
pub(super) fn lines(grants: &[Value]) -> Vec<String> {
    let width =
        |key: &str| grants.iter().map(|grant| word(grant, key).len()).max().unwrap_or(0).max(key.len());
    let (address, login, tenant) = (width("address"), width("login"), width("tenant"));
    let head = format!("{:<address$}  {:<login$}  {:<tenant$}  left", "address", "login", "tenant");
    let mut lines = vec![styled(FAINT, head).to_string()];
    lines.extend(grants.iter().map(|grant| {
        let left = text::duration(grant["seconds_left"].as_u64().unwrap_or_default());
        format!(
            "{}  {:<login$}  {:<tenant$}  {left}",
            styled(STRONG, format!("{:<address$}", word(grant, "address"))),
            word(grant, "login"),
            word(grant, "tenant"),
        )
    }));
    lines
}
