//! `gatepost check`: every error of the configuration with file, line and remedy, and its warnings.

use std::fmt::Write as _;

use config::{ConfigErrors, Loaded, warnings_summed_up};
use policy::Origin;
use serde_json::{Value, json};

use super::text::{WARNING, YES, count, print, print_json, styled};
use super::{Answer, Common};
use crate::prepare::{self, Unfit};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost check --config config/gatepost.toml
  gatepost check --no-keys --config review/gatepost.toml";

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// For a review without the private key, on any host: what only a start there needs is a warning
    #[arg(long)]
    no_keys: bool,
}

impl Check {
    pub(super) fn run(self, common: &Common) -> Answer {
        let Some(path) = common.config_path() else { return Answer::Broken };
        let prepared = if self.no_keys { prepare::review(&path) } else { prepare::load(&path) };
        let loaded = match prepared {
            Ok(prepared) => prepared.loaded,
            Err(Unfit::Files(errors)) => {
                common.report_errors(&errors);
                return if errors.are_openings() { Answer::No } else { Answer::Broken };
            }
            Err(Unfit::Host(error)) => {
                common.complain(&error.to_string());
                return Answer::Broken;
            }
        };
        if common.json {
            print_json(&as_json(&loaded));
        } else {
            print(&for_people(&loaded));
        }
        Answer::Yes
    }
}

fn for_people(loaded: &Loaded) -> String {
    let mut out = String::new();
    for warning in warnings_summed_up(&loaded.warnings) {
        let _ = writeln!(out, "{} {warning}", styled(WARNING, "warning:"));
    }
    let warnings = match loaded.warnings.len() {
        0 => "no warnings".to_owned(),
        number => count(number, "warning", "warnings"),
    };
    let _ = writeln!(
        out,
        "{} {}, {}, {}, {warnings}",
        styled(YES, "ok:"),
        count(loaded.node.files.len(), "file", "files"),
        count(loaded.node.listeners.len(), "listener", "listeners"),
        count(loaded.snapshot.tenants().len(), "tenant", "tenants"),
    );
    let proof = &loaded.proof;
    let _ = writeln!(
        out,
        "{} no stranger can relay: {} decisions on {} addresses and {} recipients denied all of it, under every sender",
        styled(YES, "proved:"),
        proof.decisions,
        proof.clients,
        proof.recipients,
    );
    out
}

fn as_json(loaded: &Loaded) -> Value {
    let warnings = loaded.warnings.iter().map(|warning| {
        json!({
            "file": &*warning.origin.file,
            "line": line(&warning.origin),
            "key": warning.key,
            "message": warning.message,
        })
    });
    let listeners = loaded.node.listeners.iter().map(|listener| &*listener.policy.name);
    let tenants = loaded.snapshot.tenants().iter().map(|tenant| &*tenant.name);
    json!({
        "ok": true,
        "files": loaded.node.files,
        "listeners": listeners.collect::<Vec<_>>(),
        "tenants": tenants.collect::<Vec<_>>(),
        "warnings": warnings.collect::<Vec<_>>(),
        "proof": {
            "decisions": loaded.proof.decisions,
            "clients": loaded.proof.clients,
            "recipients": loaded.proof.recipients,
        },
    })
}

/// The errors of a configuration, for a machine.
pub(super) fn errors_as_json(errors: &ConfigErrors) -> Value {
    let errors = errors.iter().map(|error| {
        let other = error.other.as_ref();
        json!({
            "file": &*error.origin.file,
            "line": line(&error.origin),
            "key": error.key,
            "message": error.message,
            "remedy": error.remedy,
            "opens_relay": error.opens,
            "other": other.map(|other| json!({ "file": &*other.file, "line": line(other) })),
        })
    });
    errors.collect()
}

/// `None` for a file as a whole.
pub(super) fn line(origin: &Origin) -> Option<u32> {
    (origin.line > 0).then_some(origin.line)
}
