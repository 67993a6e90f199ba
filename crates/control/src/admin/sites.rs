//! The sites that fail while mail waits for them, as all workers see them together.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use commons::{FailingSite, QueueAnswer, QueueTask};
use serde_json::{Value, json};

use super::Admin;

/// A worker answers in its next turns, or something is wrong with it: the glance does without.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

impl Admin {
    /// The failing sites, those for which most waits first; `None` while not every worker can be asked.
    pub(super) async fn failing_sites(&self) -> Option<Vec<FailingSite>> {
        let mut merged: HashMap<Arc<str>, FailingSite> = HashMap::new();
        for worker in 0..self.0.commons.workers() as u8 {
            let asked = tokio::time::timeout(ANSWER_WAIT, self.ask(worker, QueueTask::FailingSites));
            let Ok(Ok(QueueAnswer::FailingSites(sites))) = asked.await else { return None };
            for site in sites {
                match merged.get_mut(&site.key) {
                    Some(known) => {
                        known.messages += site.messages;
                        known.recipients += site.recipients;
                    }
                    None => drop(merged.insert(site.key.clone(), site)),
                }
            }
        }
        let mut sites: Vec<_> = merged.into_values().collect();
        sites.sort_by(|a, b| (Reverse(a.recipients), &a.key).cmp(&(Reverse(b.recipients), &b.key)));
        Some(sites)
    }
}

pub(super) fn as_json(site: &FailingSite) -> Value {
    let FailingSite { key, failure, messages, recipients } = site;
    json!({
        "site": &**key,
        "next_hop": failure.next_hop,
        "reply": failure.reply.to_string(),
        "since": failure.since.rfc3339().to_string(),
        "failures": failure.failures,
        "next_try": failure.next_try.rfc3339().to_string(),
        "messages": messages,
        "recipients": recipients,
    })
}
