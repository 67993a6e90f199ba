//! What the others have of the gateway meanwhile: mail, health, and people who log in.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::proseware::AUTH_PLAIN;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout, timeout_at};

use crate::siege::client::Client;
use crate::siege::stand::{KNOWN, Ports, Stand, TENANT, correspondent, inside, roaming};
use crate::storm::{NICENESS_OF_TIMED, be_nice, stay_beside};

/// How long mail and health are timed.
const TIMED: Duration = Duration::from_secs(3);
/// So many sessions at most.
const SESSIONS_MAX: usize = 500;
/// Between two of them, so that they are no load.
const PAUSE: Duration = Duration::from_millis(3);
/// Who has waited for so long goes away; it counts as never.
const PATIENCE: Duration = Duration::from_secs(3);
/// Sessions of the tenant that log in: half of them in its network, half anywhere.
pub(crate) const LOGINS: u32 = 1000;
/// By when each is greeted and logged in.
const LOGIN_MAX: Duration = Duration::from_secs(1);
/// A client that has not had a turn by then is not let in.
const LOGINS_MAX: Duration = Duration::from_secs(4);
/// Tasks of half a round.
pub(crate) const TASKS: u32 = 20;
/// Within which one is to be done: a wait for the next hop ends in a 451 after five seconds.
const TASK_MAX: Duration = Duration::from_millis(5500);
/// Over a megabyte, so that it is charged to the budget of unfinished messages.
const LARGE_BYTES: usize = 1_200_000;

/// Whose mail is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mail {
    /// The tenant's, to elsewhere.
    Small,
    /// The same of more than a megabyte.
    Large,
    /// Strangers' to the tenant's mailbox.
    Inbound,
}

/// What one half of a round found: without the siege, or beside it.
#[derive(Debug)]
pub(crate) struct Half {
    /// Whole sessions from the connection to the 250, sorted; those that failed are never.
    pub(crate) mail: Vec<Duration>,
    /// `/healthz`, likewise.
    pub(crate) health: Vec<Duration>,
    /// Who was greeted and logged in in time.
    pub(crate) logins: u32,
    pub(crate) log_bytes_a_second: f64,
    /// Those that were done; all of them where there are none.
    pub(crate) tasks: u32,
    /// What went wrong first, in the words of who met with it.
    pub(crate) complaint: Option<String>,
}

/// What else an honest client wants in one siege.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Nothing,
    /// A page of a true ticket, from an address that besieges.
    Page(IpAddr, String),
    /// An answer about a mailbox that is there and was not asked for before: yes, or not now.
    Mailbox,
}

/// The tenant's people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Who log in at the same time.
    pub(crate) at_once: usize,
    /// Those who are in stay until all are: there are places for them.
    pub(crate) stays: bool,
}

impl Half {
    /// Takes the measures.
    pub(crate) fn measure(stand: &Stand, mail: Mail, crowd: Crowd, task: &Task) -> Self {
        let ports = stand.ports;
        let (begin, log_before) = (Instant::now(), stand.log_bytes());
        let (sent, health) = thread::scope(|scope| {
            let health = scope.spawn(move || alone(time_health(ports)));
            let sent = scope.spawn(move || alone(time_mail(ports, mail))).join();
            (sent.expect("a client gives up"), health.join().expect("a client gives up"))
        });
        let log_bytes_a_second = (stand.log_bytes() - log_before) as f64 / begin.elapsed().as_secs_f64();
        let rest = thread::scope(|scope| {
            let rest =
                scope.spawn(|| alone(async { (log_in(ports, crowd).await, run_tasks(ports, task).await) }));
            rest.join().expect("a client gives up")
        });
        let ((logins, failure), tasks) = rest;
        let complaint = [sent.complaint, health.complaint, failure].into_iter().flatten().next();
        Self { mail: sent.times, health: health.times, logins, log_bytes_a_second, tasks, complaint }
    }
}

/// Runs `work` on this thread, above whatever else is on its core.
fn alone<T>(work: impl Future<Output = T>) -> T {
    stay_beside();
    be_nice(NICENESS_OF_TIMED);
    runtime().block_on(work)
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// Times, and what the first failure was.
#[derive(Debug, Default)]
struct Timed {
    times: Vec<Duration>,
    complaint: Option<String>,
}

impl Timed {
    /// Does it again and again.
    async fn repeat<F: Future<Output = io::Result<()>>>(work: impl Fn(u32) -> F) -> Self {
        let mut timed = Self::default();
        let begin = Instant::now();
        while begin.elapsed() < TIMED && timed.times.len() < SESSIONS_MAX {
            let number = timed.times.len() as u32;
            let start = Instant::now();
            match patiently(work(number)).await {
                Ok(()) => timed.times.push(start.elapsed()),
                Err(error) => {
                    timed.times.push(Duration::MAX);
                    timed.complaint.get_or_insert(error.to_string());
                }
            }
            sleep(PAUSE).await;
        }
        timed.times.sort_unstable();
        timed
    }
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(PATIENCE, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::other(format!("nothing came within {} s", PATIENCE.as_secs()))),
    }
}

async fn time_mail(ports: Ports, mail: Mail) -> Timed {
    let length = if mail == Mail::Large { LARGE_BYTES } else { 70 };
    let line = format!("{}\r\n", "x".repeat(70));
    let body = format!("Subject: timed\r\n\r\n{}.\r\n", line.repeat(length / 70));
    Timed::repeat(|number| deliver(ports, mail, &body, number)).await
}

/// A whole session with one message.
async fn deliver(ports: Ports, mail: Mail, body: &str, number: u32) -> io::Result<()> {
    let (source, from, to) = match mail {
        Mail::Small | Mail::Large => (TENANT, "app@proseware.example", "someone@far.example"),
        Mail::Inbound => (correspondent(number), "bob@adatum.example", KNOWN),
    };
    let mut client = Client::hello(source, ports.relay).await?;
    client.ask(&format!("MAIL FROM:<{from}> SIZE={}", body.len()), 250).await?;
    client.ask(&format!("RCPT TO:<{to}>"), 250).await?;
    client.ask("DATA", 354).await?;
    client.send(body).await?;
    client.expect("the message", 250).await?;
    Ok(())
}

async fn time_health(ports: Ports) -> Timed {
    Timed::repeat(|_| async move {
        match Client::get(TENANT, ports.metrics, "/healthz").await? {
            200 => Ok(()),
            status => Err(io::Error::other(format!("/healthz: {status}"))),
        }
    })
    .await
}

/// Everyone logs in; gives how many were in time, and why the first was not.
pub(crate) async fn log_in(ports: Ports, crowd: Crowd) -> (u32, Option<String>) {
    let places = Arc::new(Semaphore::new(crowd.at_once));
    let over = tokio::time::Instant::now() + LOGINS_MAX;
    let sessions: Vec<_> = (0..LOGINS)
        .map(|number| {
            let places = Arc::clone(&places);
            tokio::spawn(async move {
                let Ok(place) = timeout_at(over, places.acquire()).await else {
                    return Err("a login had no turn: those before it waited in vain".to_owned());
                };
                let begin = Instant::now();
                let client =
                    log_in_from(if number % 2 == 0 { inside(number) } else { roaming(number) }, ports);
                let client = client.await.map_err(|error| error.to_string())?;
                let passed = begin.elapsed();
                let stays = crowd.stays.then_some(client);
                drop(place);
                match passed <= LOGIN_MAX {
                    true => Ok(stays),
                    false => Err(format!("a login took {:.1} s", passed.as_secs_f64())),
                }
            })
        })
        .collect();
    let (mut in_time, mut complaint) = (Vec::new(), None);
    for session in sessions {
        match session.await.expect("a client gives up") {
            Ok(client) => in_time.push(client),
            Err(sentence) => _ = complaint.get_or_insert(sentence),
        }
    }
    (in_time.len() as u32, complaint)
}

async fn log_in_from(source: IpAddr, ports: Ports) -> io::Result<Client> {
    patiently(async {
        let mut client = Client::hello(source, ports.clear).await?;
        client.ask(AUTH_PLAIN, 235).await?;
        Ok(client)
    })
    .await
    .map_err(|error| io::Error::other(format!("a login from {source}: {error}")))
}

/// All at once; gives how many were done in time.
async fn run_tasks(ports: Ports, task: &Task) -> u32 {
    if matches!(task, Task::Nothing) {
        return TASKS;
    }
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| tokio::spawn(timeout(TASK_MAX, run_task(ports, task.clone(), number))))
        .collect();
    let mut done = 0;
    for task in tasks {
        done += u32::from(matches!(task.await, Ok(Ok(Ok(())))));
    }
    done
}

async fn run_task(ports: Ports, task: Task, number: u32) -> io::Result<()> {
    static NEW: AtomicU32 = AtomicU32::new(0);
    let heard = match task {
        Task::Nothing => return Ok(()),
        Task::Page(source, path) => Client::get(source, ports.tickets, &path).await?,
        Task::Mailbox => {
            let mut client = Client::hello(correspondent(number), ports.relay).await?;
            client.ask("MAIL FROM:<bob@adatum.example>", 250).await?;
            let new = NEW.fetch_add(1, Ordering::Relaxed);
            client.send(format!("RCPT TO:<kim.{new}@proseware.example>\r\n")).await?;
            client.reply().await?.0
        }
    };
    match heard {
        200 | 250 | 451 => Ok(()),
        _ => Err(io::Error::other(format!("a task: {heard}"))),
    }
}
