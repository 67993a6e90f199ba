//! `gatepost token`: a bearer token, and the lines by which the gateway knows it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::TokenDigest;
use rustls::crypto::aws_lc_rs;
use serde_json::json;

use super::text::{FAINT, STRONG, print, print_json, styled};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost token                                      says where its lines go
  gatepost token --json | jq -r .token > grants.token

The gateway keeps only the digest: in place of a lost token make a new one.";

/// As many as the digest has: more would be lost in it.
const TOKEN_BYTES: usize = 32;

pub(super) fn run(common: &Common) -> Answer {
    let mut bytes = [0; TOKEN_BYTES];
    if aws_lc_rs::default_provider().secure_random.fill(&mut bytes).is_err() {
        common.complain("the system gives no random bytes; see whether /dev/urandom is there");
        return Answer::Broken;
    }
    let token = URL_SAFE_NO_PAD.encode(bytes);
    let digest = TokenDigest::of(&token);
    if common.json {
        print_json(&json!({ "token": token, "sha256": digest.to_string() }));
    } else {
        print(&told(&token, digest));
    }
    Answer::Yes
}

/// The token, and what to do with it; no line is longer than a terminal is wide.
fn told(token: &str, digest: TokenDigest) -> String {
    let said = |text: &str| styled(FAINT, text).to_string();
    let lines = [
        said("# The token, for the client that is to use it. It is shown this once:"),
        styled(STRONG, token).to_string(),
        String::new(),
        said("# For the admin API, add these lines to the file that [admin] tokens names,"),
        said("# admin-tokens.toml perhaps; SIGHUP takes them up:"),
        "[[token]]".to_owned(),
        format!("name = \"monitoring\"     {}", said("# what the log calls its holder")),
        format!("role = \"read\"           {}", said("# or \"admin\", which may also change things")),
        said("# tenant = \"proseware\"  # for this tenant alone; without it, for all"),
        format!("sha256 = \"{digest}\""),
        String::new(),
        said("# Or for a mailbox server that reports logins, to the file of its tenant:"),
        said("# [grants]"),
        said(&format!("# sha256 = \"{digest}\"")),
        String::new(),
        said("# Its holder sends it with every request to [admin] address:"),
        said("# curl -H 'Authorization: Bearer TOKEN' http://127.0.0.1:9188/v1/status"),
    ];
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_lines_fit_a_terminal_and_hold_the_digest_where_they_are_pasted() {
        let digest = TokenDigest::of("token");
        let told = anstream::adapter::strip_str(&told("token", digest)).to_string();
        assert!(told.lines().all(|line| line.len() <= 80), "{told}");
        let pasted: Vec<_> = told.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(pasted[..2], ["token", "[[token]]"]);
        assert_eq!(pasted[4], format!("sha256 = \"{digest}\""));
    }
}
