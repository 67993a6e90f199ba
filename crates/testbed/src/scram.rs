//! A client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), message by message, as far as honest and
//! dishonest clients need it.

use std::num::NonZeroU32;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// An exchange; messages go in and out in base64, as AUTH carries them.
#[derive(Clone, Debug)]
pub struct ScramClient {
    password: String,
    gs2_header: String,
    binding: Vec<u8>,
    first_bare: String,
    server_signature: Vec<u8>,
}

impl ScramClient {
    /// `gs2_header` is `n,,`, `y,,` or `p=tls-exporter,,`; `binding` what the channel gives for it.
    #[must_use]
    pub fn new(login: &str, password: &str, gs2_header: &str, binding: &[u8]) -> Self {
        let name = login.replace('=', "=3D").replace(',', "=2C");
        Self {
            password: password.to_owned(),
            gs2_header: gs2_header.to_owned(),
            binding: binding.to_owned(),
            first_bare: format!("n={name},r=a nonce of the testbed").replace(' ', "-"),
            server_signature: Vec::new(),
        }
    }

    /// The first message.
    #[must_use]
    pub fn first(&self) -> String {
        STANDARD.encode(format!("{}{}", self.gs2_header, self.first_bare))
    }

    /// The answer to the server's first message.
    ///
    /// # Panics
    /// When that is none.
    pub fn answer(&mut self, server_first: &str) -> String {
        let server_first = text(server_first);
        let (iterations, salt) = shape(&server_first);
        let nonce = attribute(&server_first, "r=");
        let iterations = NonZeroU32::new(iterations).expect("there are iterations");
        let mut salted = [0; 32];
        let password = self.password.as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest(&SHA256, &client_key);
        let channel = STANDARD.encode([self.gs2_header.as_bytes(), &self.binding].concat());
        let without_proof = format!("c={channel},r={nonce}");
        let message = format!("{},{server_first},{without_proof}", self.first_bare);
        let proof: Vec<u8> = sign(stored_key.as_ref(), message.as_bytes())
            .iter()
            .zip(&client_key)
            .map(|(signature, key)| signature ^ key)
            .collect();
        self.server_signature = sign(&sign(&salted, b"Server Key"), message.as_bytes());
        STANDARD.encode(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server has shown that it knows the password too.
    #[must_use]
    pub fn trusts(&self, server_final: &str) -> bool {
        text(server_final) == format!("v={}", STANDARD.encode(&self.server_signature))
    }
}

/// Iterations and salt of a server's first message, in base64: what it shows to anyone who asks.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn shown(server_first: &str) -> (u32, Vec<u8>) {
    shape(&text(server_first))
}

fn shape(server_first: &str) -> (u32, Vec<u8>) {
    let iterations = attribute(server_first, "i=").parse().expect("a number of iterations");
    let salt = STANDARD.decode(attribute(server_first, "s=")).expect("a salt in base64");
    (iterations, salt)
}

fn text(message: &str) -> String {
    let decoded = STANDARD.decode(message).expect("the server speaks base64");
    String::from_utf8(decoded).expect("the server speaks UTF-8")
}

fn attribute<'a>(message: &'a str, name: &str) -> &'a str {
    message.split(',').find_map(|part| part.strip_prefix(name)).expect("the attribute is there")
}

fn sign(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}
