//! The command line: reads the arguments, runs one command, prints for people or as JSON.
//!
//! Every command ends with 0 for yes, 1 for no, 2 for usage or a broken configuration. What it
//! found goes to standard output, what stopped it to standard error. Deciding is done elsewhere:
//! here it is only asked for and shown.

mod admin;
mod check;
mod demo;
mod explain;
mod grants;
mod owner;
mod password;
mod probe;
mod spool;
mod status;
mod tenants;
mod text;
mod token;
mod why;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use config::{Config, ConfigErrors, Loaded};
use serde_json::json;

use crate::run;

/// Where the configuration is looked for when it is not named, in this order.
const CONFIG_PATHS: [&str; 2] = ["/etc/gatepost/gatepost.toml", "./config/gatepost.toml"];

/// An SMTP relay gateway that never relays for strangers, and says why.
#[derive(Debug, Parser)]
#[command(name = "gatepost", version, disable_help_subcommand = true, max_term_width = 100)]
#[command(after_help = "Example:\n  gatepost demo --once      see it at work, without any configuration")]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// The node file [default: /etc/gatepost/gatepost.toml, then ./config/gatepost.toml]
    #[arg(long, global = true, value_name = "PATH", help_heading = "For every command")]
    config: Option<PathBuf>,
    /// Print JSON instead of text for people
    #[arg(long, global = true, help_heading = "For every command")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway: SIGTERM and SIGINT drain it, SIGHUP reloads its configuration
    #[command(after_help = "Example:\n  gatepost run --config /etc/gatepost/gatepost.toml")]
    Run,
    /// Show a gateway at work on loopback: sample mail, what was decided about it, and why
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::Demo),
    /// Read the configuration and report everything that is wrong or unwise in it
    #[command(after_help = check::EXAMPLES)]
    Check(check::Check),
    /// Say whether a message would be accepted, rule by rule, and what would turn a denial
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Explain),
    /// Run the classic open-relay tests against any server, as a stranger
    #[command(after_help = probe::EXAMPLES)]
    Probe(probe::Probe),
    /// Say why a denial happened, by the ticket that its reply named
    #[command(after_help = why::EXAMPLES)]
    Why(why::Why),
    /// The queue: list, show, hold, release, retry, bounce, verify
    #[command(subcommand, after_help = spool::EXAMPLES)]
    Spool(spool::Command),
    /// Look at a running gateway: what it takes, holds and is about
    #[command(after_help = status::EXAMPLES)]
    Status,
    /// Who may relay for a while because of a mailbox login: list, open, revoke
    #[command(subcommand, after_help = grants::EXAMPLES)]
    Grants(grants::Command),
    /// What is loaded, and who is suspended: list, show, suspend, resume
    #[command(subcommand, after_help = tenants::EXAMPLES)]
    Tenants(tenants::Command),
    /// Make a bearer token for the admin API or for a mailbox server's reports
    #[command(after_help = token::EXAMPLES)]
    Token,
    /// Make a credential for a tenant file from a password that is typed or piped in
    #[command(after_help = password::EXAMPLES)]
    Password,
}

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Yes, or done.
    Yes,
    /// No.
    No,
    /// The question could not be asked: usage, a broken configuration or environment.
    Broken,
}

impl From<Answer> for ExitCode {
    fn from(answer: Answer) -> Self {
        Self::from(match answer {
            Answer::Yes => 0,
            Answer::No => 1,
            Answer::Broken => 2,
        })
    }
}

/// The program: what `main` calls.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { common, command } = Arguments::parse();
    let answer = match command {
        Command::Run => match common.config_path() {
            Some(path) => return run::run(&path),
            None => Answer::Broken,
        },
        Command::Demo(demo) => demo.run(&common),
        Command::Check(check) => check.run(&common),
        Command::Explain(explain) => explain.run(&common),
        Command::Probe(probe) => probe.run(&common),
        Command::Why(why) => why.run(&common),
        Command::Spool(command) => command.run(&common),
        Command::Status => status::run(&common),
        Command::Grants(command) => command.run(&common),
        Command::Tenants(command) => command.run(&common),
        Command::Token => token::run(&common),
        Command::Password => password::run(&common),
    };
    answer.into()
}

impl Common {
    /// The node file; `None`, with a sentence on standard error, when there is none.
    fn config_path(&self) -> Option<PathBuf> {
        if let Some(path) = &self.config {
            return Some(path.clone());
        }
        let found = CONFIG_PATHS.iter().map(Path::new).find(|path| path.exists());
        if found.is_none() {
            self.complain(&format!(
                "there is no configuration at {} or {}; name one with --config PATH, or see `gatepost demo`",
                CONFIG_PATHS[0], CONFIG_PATHS[1]
            ));
        }
        found.map(Path::to_owned)
    }

    /// The configuration, to be looked at by any user; `None` when it is broken, which has then been said.
    fn load(&self) -> Option<Loaded> {
        let path = self.config_path()?;
        Config::review(&path).map_err(|errors| self.report_errors(&errors)).ok()
    }

    fn report_errors(&self, errors: &ConfigErrors) {
        if self.json {
            return text::print_json(&json!({ "ok": false, "errors": check::errors_as_json(errors) }));
        }
        text::print_error(&format!("{errors}"));
    }

    /// Says what stopped a command.
    fn complain(&self, sentence: &str) {
        if self.json {
            return text::print_json(&json!({ "ok": false, "error": sentence }));
        }
        text::print_error(&format!("gatepost: {sentence}"));
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_has_an_example_in_its_help() {
        let mut program = Arguments::command();
        program.clone().debug_assert();
        for command in program.get_subcommands_mut() {
            let help = command.render_help().to_string();
            assert!(help.contains("Example") && help.contains("gatepost "), "{help}");
        }
    }
}
