//! The way from the admin API to the workers' queues: each request with a number, its answer brought
//! back to the asker.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use commons::{ControlLink, QueueAnswer, QueueBusy, QueueRequest, QueueTask};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Puts requests to workers; clones share it.
#[derive(Clone)]
pub(crate) struct QueueClient(Arc<Desk>);

struct Desk {
    link: ControlLink,
    number: AtomicU64,
    /// As many as requests may be open, and those whose asker has gone away meanwhile.
    waiting: Mutex<HashMap<u64, oneshot::Sender<QueueAnswer>>>,
}

impl QueueClient {
    pub(crate) fn new(link: ControlLink) -> Self {
        Self(Arc::new(Desk { link, number: AtomicU64::new(0), waiting: Mutex::default() }))
    }

    /// Asks `worker` and waits for its answer; `None` when there will be none.
    pub(crate) async fn ask(&self, worker: u8, task: QueueTask) -> Result<Option<QueueAnswer>, QueueBusy> {
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        // Before it is asked: the worker may be quick.
        self.0.waiting.lock().insert(number, answer);
        if let Err(busy) = self.0.link.ask_queue(worker, QueueRequest { number, task }) {
            self.0.waiting.lock().remove(&number);
            return Err(busy);
        }
        Ok(answered.await.ok())
    }

    /// Brings the answers that have come to those who asked.
    pub(crate) fn deliver(&self) {
        while let Some((number, answer)) = self.0.link.queue_answer() {
            if let Some(asker) = self.0.waiting.lock().remove(&number) {
                // The asker may have lost patience.
                let _ = asker.send(answer);
            }
        }
    }
}

impl fmt::Debug for QueueClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueClient")
    }
}
