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
        let mut of_workers = Vec::new();
        for worker in 0..self.0.commons.workers() as u8 {
            let asked = tokio::time::timeout(ANSWER_WAIT, self.ask(worker, QueueTask::FailingSites));
            let Ok(Ok(QueueAnswer::FailingSites(sites))) = asked.await else { return None };
            of_workers.extend(sites);
        }
        Some(together(of_workers))
    }
}

/// Each site once, with what all workers have for it.
fn together(of_workers: Vec<FailingSite>) -> Vec<FailingSite> {
    let mut merged: HashMap<Arc<str>, FailingSite> = HashMap::new();
    for site in of_workers {
        match merged.get_mut(&site.key) {
            Some(known) => {
                known.messages += site.messages;
                known.recipients += site.recipients;
            }
            None => drop(merged.insert(site.key.clone(), site)),
        }
    }
    let mut sites: Vec<_> = merged.into_values().collect();
    sites.sort_by(|a, b| (Reverse(a.recipients), &a.key).cmp(&(Reverse(b.recipients), &b.key)));
    sites
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

#[cfg(test)]
mod tests {
    use commons::Commons;
    use mail::{Reply, UnixMillis};
    use policy::{Origin, Snapshot, Source};

    use super::*;

    #[test]
    fn a_site_that_fails_for_several_workers_is_shown_once_with_what_all_of_them_have_for_it() {
        let source = Source {
            generation: 1,
            origin: Origin::new("gatepost.toml", 1),
            routes: Vec::new(),
            limits: Default::default(),
            lists: Default::default(),
            tenants: Vec::new(),
        };
        let (commons, _, _) = Commons::new(1, Snapshot::compile(&source).expect("it is sound"));
        let reply = Reply::new(421, None, "not now");
        let hour = Duration::from_secs(3600);
        let (failure, _) =
            commons.sites().site("a.example:25").failed(&reply, None, UnixMillis(1), hour, |_| hour);
        let of_worker = |key: &str, messages, recipients| FailingSite {
            key: key.into(),
            failure: failure.clone(),
            messages,
            recipients,
        };
        let found = together(vec![
            of_worker("a.example:25", 3, 4),
            of_worker("b.example:25", 5, 10),
            of_worker("a.example:25", 2, 7),
        ]);
        assert_eq!(found, [of_worker("a.example:25", 5, 11), of_worker("b.example:25", 5, 10)]);
    }
}
