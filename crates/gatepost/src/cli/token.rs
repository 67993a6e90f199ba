//! `gatepost token`: a bearer token, and the digest by which the gateway knows it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::TokenDigest;
use rustls::crypto::aws_lc_rs;
use serde_json::json;

use super::text::{FAINT, STRONG, print, print_json, styled};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost token
  gatepost token --json | jq -r .token > grants.token";

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
        print(&format!(
            "token   {}   {}\nsha256  {digest}   {}\n",
            styled(STRONG, &token),
            styled(FAINT, "for whoever asks: it is shown this once"),
            styled(FAINT, "for admin-tokens.toml, or [grants] of a tenant")
        ));
    }
    Answer::Yes
}
