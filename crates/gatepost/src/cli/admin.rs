//! The way from a command to the running gateway: JSON over the unix socket of `[admin]`.
//!
//! [`Gateway::reach`] finds the socket in the node file, reading nothing else of it, so that a
//! gateway can be asked about a configuration that has since been broken. Each request is a
//! connection of its own, bounded in time. What goes wrong is one sentence with its remedy.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::{Answer, Common, owner, text};

/// The gateway answers at once, or something is wrong with it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of an answer, at most: the list of 100,000 tenants, or of all grants that there may be.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// A running gateway.
pub(super) struct Gateway {
    socket: PathBuf,
}

/// Why there is no answer to a request, or not the one hoped for.
#[derive(Debug)]
pub(super) enum Failure {
    /// The gateway cannot be asked.
    Unreachable(String),
    /// This user may not ask it.
    Closed(String),
    /// It says no: a sentence, and a word that keeps its meaning.
    Refused { reason: String, error: String },
}

impl Gateway {
    /// The gateway that the node file describes; `None`, with a sentence on standard error, where it
    /// says nothing of a socket.
    pub(super) fn reach(common: &Common) -> Option<Self> {
        let path = common.config_path()?;
        config::admin_socket(&path)
            .map_err(|errors| common.report_errors(&errors))
            .ok()
            .map(|socket| Self { socket })
    }

    /// The same for a command that can do without; nothing is said where there is no socket.
    pub(super) fn beside(node_file: &Path) -> Option<Self> {
        config::admin_socket(node_file).ok().map(|socket| Self { socket })
    }

    /// Looks at what is at `path`.
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, None)
    }

    /// Sends `body` to `path`.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::POST, path, Some(body))
    }

    /// Removes what `path`, with its query, names.
    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::DELETE, path, None)
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.broken(&error))?;
        runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.broken(&format!("no answer within {} s", PATIENCE.as_secs()))),
            }
        })
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        tokio::spawn(connection);
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "gatepost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| self.broken(&error))?
            .to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).map_err(|error| self.broken(&error))?;
        if status.is_success() { Ok(answer) } else { Err(refusal(status, &answer)) }
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Failure::Closed(owner::closed("the admin socket", &self.socket));
        }
        let socket = self.socket.display();
        Failure::Unreachable(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("no gateway answers at {socket}; start it with `gatepost run`")
            }
            _ => format!("cannot reach the gateway at {socket}: {error}"),
        })
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::Unreachable(format!(
            "the gateway at {} does not answer as it should: {error}",
            self.socket.display()
        ))
    }
}

impl Failure {
    /// Says it; what the command comes to.
    pub(super) fn tell(&self, common: &Common) -> Answer {
        match self {
            Self::Unreachable(sentence) | Self::Closed(sentence) => {
                common.complain(sentence);
                Answer::Broken
            }
            Self::Refused { reason, error } => {
                if common.json {
                    text::print_json(&serde_json::json!({ "ok": false, "error": error, "reason": reason }));
                } else {
                    text::print_error(&format!("gatepost: {error}"));
                }
                // What the gateway cannot read was not asked as it should be.
                if reason == "malformed" { Answer::Broken } else { Answer::No }
            }
        }
    }
}

fn refusal(status: StatusCode, answer: &Value) -> Failure {
    let word = |key: &str| answer[key].as_str().map(ToOwned::to_owned);
    Failure::Refused {
        reason: word("reason").unwrap_or_else(|| status.as_str().to_owned()),
        error: word("error").unwrap_or_else(|| format!("the gateway answered {status}")),
    }
}

/// `text` as part of a query, percent-encoded (RFC 3986 section 2).
pub(super) fn encoded(text: &str) -> impl std::fmt::Display {
    std::fmt::from_fn(move |f| {
        for &byte in text.as_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    write!(f, "{}", byte as char)?
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_stands_in_a_query_as_itself() {
        assert_eq!(encoded("terri+x@proseware.example").to_string(), "terri%2Bx%40proseware.example");
        assert_eq!(encoded("2001:db8::1&a=b").to_string(), "2001%3Adb8%3A%3A1%26a%3Db");
    }

    #[test]
    fn a_gateway_that_does_not_run_is_said_to_be_that() {
        let folder = tempfile::tempdir().unwrap();
        let gateway = Gateway { socket: folder.path().join("admin.sock") };
        let Err(Failure::Unreachable(sentence)) = gateway.get("/v1/status") else {
            panic!("no socket listens")
        };
        assert!(sentence.contains("admin.sock") && sentence.contains("`gatepost run`"), "{sentence}");
    }
}
