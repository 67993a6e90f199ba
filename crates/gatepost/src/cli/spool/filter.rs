//! Which messages are meant, on the command line.

use std::fmt::Write as _;
use std::time::Duration;

use config::nearest_name;
use mail::MessageId;
use policy::Snapshot;
use serde_json::{Value, json};

use super::super::admin::encoded;

/// What is not said is not looked at; all that is said must fit.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which messages")]
pub(in super::super) struct Filter {
    /// These messages
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<MessageId>,
    /// Of one tenant
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<String>,
    /// Of those who had logged in as NAME
    #[arg(long, value_name = "NAME")]
    pub(super) login: Option<String>,
    /// From a sender: an address, @domain, or <> for the null sender
    #[arg(long, value_name = "ADDRESS")]
    pub(super) sender: Option<String>,
    /// With a recipient in this domain who still waits
    #[arg(long, value_name = "DOMAIN")]
    pub(super) domain: Option<String>,
    /// That came longer ago, as in 90s, 30m, 2h, 3d
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub(super) older_than: Option<Age>,
    /// With a recipient who stands so
    #[arg(long, value_name = "STATE", value_parser = ["ready", "active", "deferred", "held", "quarantined"])]
    pub(super) state: Option<String>,
}

/// A time span, and the words for it.
#[derive(Clone, Debug)]
pub(in super::super) struct Age {
    pub(super) duration: Duration,
    words: String,
}

fn age(words: &str) -> Result<Age, String> {
    let duration = config::parse_duration(words).map_err(|error| error.to_string())?;
    Ok(Age { duration, words: words.to_owned() })
}

impl Filter {
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.parts().all(|(_, value)| value.is_none())
    }

    /// Something is asked that only an envelope tells.
    pub(super) fn needs_envelope(&self) -> bool {
        [&self.tenant, &self.login, &self.sender, &self.domain].iter().any(|part| part.is_some())
    }

    /// As the ends of queries: one for each id, where there are any.
    pub(super) fn queries(&self) -> Vec<String> {
        let mut query = String::new();
        for (key, value) in self.parts() {
            if let Some(value) = value {
                let _ = write!(query, "&{key}={}", encoded(value));
            }
        }
        match self.ids.is_empty() {
            true => vec![query],
            false => self.ids.iter().map(|id| format!("&id={id}{query}")).collect(),
        }
    }

    /// As bodies, likewise, each with its id.
    pub(super) fn bodies(&self) -> Vec<(Option<MessageId>, Value)> {
        let mut body = json!({});
        for (key, value) in self.parts() {
            if let Some(value) = value {
                body[key] = value.into();
            }
        }
        let with_id = |id: &MessageId| {
            let mut body = body.clone();
            body["id"] = id.to_string().into();
            (Some(*id), body)
        };
        match self.ids.is_empty() {
            true => vec![(None, body)],
            false => self.ids.iter().map(with_id).collect(),
        }
    }

    /// What is named that the configuration does not know, as a sentence.
    pub(super) fn unknown(&self, snapshot: &Snapshot) -> Option<String> {
        if let Some(name) = self.tenant.as_deref()
            && snapshot.tenant_named(name).is_none()
        {
            let meant = nearest_name(name, snapshot.tenants().iter().map(|tenant| &*tenant.name));
            let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant:?}?"));
            return Some(format!("there is no tenant {name:?}{meant}"));
        }
        let login = self.login.as_deref().filter(|login| snapshot.identity(login).is_none())?;
        Some(format!("no tenant has a login {login:?}"))
    }

    fn parts(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        [
            ("tenant", self.tenant.as_deref()),
            ("login", self.login.as_deref()),
            ("sender", self.sender.as_deref()),
            ("domain", self.domain.as_deref()),
            ("older_than", self.older_than.as_ref().map(|age| &*age.words)),
            ("state", self.state.as_deref()),
        ]
        .into_iter()
    }
}
