//! Who may send as what.

use super::Compiler;
use crate::names::is_domain_pattern;
use crate::senders::Senders;
use crate::source::Sourced;

impl Compiler {
    pub(super) fn senders(&mut self, patterns: &[Sourced<String>]) -> Senders {
        match Senders::compile(patterns) {
            Ok(senders) => senders,
            Err(malformed) => {
                for pattern in malformed {
                    self.error(
                        &pattern.origin,
                        "senders",
                        format!("{:?} is no sender pattern", pattern.value),
                        sender_remedy(&pattern.value),
                    );
                }
                Senders::default()
            }
        }
    }
}

fn sender_remedy(text: &str) -> String {
    if is_domain_pattern(text) {
        return format!("write \"@{text}\" for every address of the domain");
    }
    "write \"@example.com\", \"@*.example.com\" or \"name@example.com\"".to_owned()
}
