//! `gatepost password`: turns a password into the two credentials that a tenant file holds.

use std::io::{self, BufRead, IsTerminal};

use serde_json::json;

use super::text::{print, print_json};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost password                          asks for it twice, and does not show it
  pass show relay/terri | gatepost password  reads one line";

pub(super) fn run(common: &Common) -> Answer {
    let password = match read() {
        Ok(password) => password,
        Err(sentence) => {
            common.complain(&sentence);
            return Answer::Broken;
        }
    };
    let (hash, scram) = (control::password::hash(&password), control::password::scram(&password));
    if common.json {
        print_json(&json!({ "password": hash, "scram": scram.to_string() }));
    } else {
        print(&format!("password = \"{hash}\"\nscram = \"{scram}\"\n"));
    }
    Answer::Yes
}

/// The password, typed twice on a terminal or piped in as one line.
fn read() -> Result<String, String> {
    let unreadable = |error: io::Error| format!("the password cannot be read: {error}");
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let password = rpassword::prompt_password("Password: ").map_err(unreadable)?;
        if rpassword::prompt_password("Again: ").map_err(unreadable)? != password {
            return Err("the two passwords differ; try again".to_owned());
        }
        password
    } else {
        let mut line = String::new();
        stdin.lock().read_line(&mut line).map_err(unreadable)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.is_empty() {
        return Err("the password is empty; type one, or pipe it in as one line".to_owned());
    }
    Ok(password)
}
