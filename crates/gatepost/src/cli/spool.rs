//! `gatepost spool`: the queue. A running gateway is asked; of a stopped one the files are read.

mod filter;
mod offline;
mod render;
mod verify;

use std::io;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail::MessageId;
use serde_json::{Value, json};
use spool::SpoolError;

use super::admin::{Failure, Gateway, encoded};
use super::text::{self, STRONG, count, print, print_json, styled};
use super::{Answer, Common, owner};
use filter::Filter;

pub(super) const EXAMPLES: &str = "Examples:
  gatepost spool list --domain adatum.example --older-than 2h
  gatepost spool show 0CK3PX9QJ8V0M4T2
  gatepost spool hold --tenant proseware --dry-run
  gatepost spool bounce --sender news@proseware.example --reason \"sent by mistake\"";

/// Messages asked for at once.
const PAGE_MESSAGES: usize = 200;

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the messages that are not delivered yet; of a few hundred the oldest comes first
    #[command(after_help = "Examples:\n  gatepost spool list --state held\n  \
        gatepost spool list --json --sender @proseware.example | jq -r .id")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// Stop after so many messages
        #[arg(long, value_name = "NUMBER")]
        limit: Option<usize>,
    },
    /// Show one message: its envelope, where it stands, and its bytes where they are damaged
    #[command(after_help = "Examples:\n  gatepost spool show 0CK3PX9QJ8V0M4T2\n  \
        gatepost spool show 0CK3PX9QJ8V0M4T2 --raw > record.bin")]
    Show {
        /// Its id, as the 250 and the Received field name it
        id: MessageId,
        /// Write its record, every byte as it lies on disk
        #[arg(long)]
        raw: bool,
    },
    /// Do not try messages, and let them not expire, until they are released; outlives a restart
    #[command(after_help = "Examples:\n  gatepost spool hold 0CK3PX9QJ8V0M4T2\n  \
        gatepost spool hold --domain adatum.example --dry-run")]
    Hold(Order),
    /// Let held messages go: they are due at once
    #[command(after_help = "Example:\n  gatepost spool release --state held --tenant proseware")]
    Release(Order),
    /// Try messages at once, whatever back-off they or their next hop have; held ones stay held
    #[command(after_help = "Example:\n  gatepost spool retry --domain adatum.example")]
    Retry(Order),
    /// Give messages up: their sender is told, unless it is the null sender
    #[command(after_help = "Example:\n  gatepost spool bounce 0CK3PX9QJ8V0M4T2 --reason \"sent by mistake\"")]
    Bounce {
        #[command(flatten)]
        order: Order,
        /// What the sender is told, in one line
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Give quarantined messages up, each named by its id; nobody is told
    #[command(after_help = "Example:\n  gatepost spool remove 0CK3PX9QJ8V0M4T2")]
    Remove {
        /// Its id, as `spool list --state quarantined` names it
        #[arg(value_name = "ID", required = true)]
        ids: Vec<MessageId>,
        /// Say how many messages are meant, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Read every byte and compare it with its checksum; exits 1 when something is damaged
    #[command(after_help = "Example:\n  gatepost spool verify --config /etc/gatepost/gatepost.toml")]
    Verify,
}

/// Which messages an act concerns.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "order")]
pub(super) struct Order {
    #[command(flatten)]
    filter: Filter,
    /// Every message, where nothing else is said
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Say how many messages are meant, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Command {
    pub(super) fn run(self, common: &Common) -> Answer {
        let done = match &self {
            Self::List { filter, limit } => list(common, filter, limit.unwrap_or(usize::MAX)),
            Self::Show { id, raw } => show(common, *id, *raw),
            Self::Hold(order) => act(common, "hold", order, None),
            Self::Release(order) => act(common, "release", order, None),
            Self::Retry(order) => act(common, "retry", order, None),
            Self::Bounce { order, reason } => act(common, "bounce", order, reason.as_deref()),
            Self::Remove { ids, dry_run } => {
                let filter = Filter { ids: ids.clone(), ..Filter::default() };
                act(common, "remove", &Order { filter, all: false, dry_run: *dry_run }, None)
            }
            Self::Verify => {
                return offline_answer(common, |directory| verify::verify(common, directory));
            }
        };
        done.unwrap_or_else(|failure| failure.tell(common))
    }
}

/// Where the spool is; `None`, which has then been said, when there is none.
fn directory(common: &Common) -> Option<PathBuf> {
    let path = common.config_path()?;
    let directory = config::spool_directory(&path).map_err(|errors| common.report_errors(&errors)).ok()?;
    match directory.try_exists() {
        Ok(true) => return Some(directory),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            common.complain(&owner::closed("the spool", &directory));
        }
        _ => common.complain(&format!(
            "there is no spool at {}; start the gateway once, or correct spool.path",
            directory.display()
        )),
    }
    None
}

/// What reading the files comes to.
fn offline_answer(
    common: &Common,
    read: impl FnOnce(&std::path::Path) -> Result<Answer, SpoolError>,
) -> Answer {
    let Some(directory) = directory(common) else { return Answer::Broken };
    read(&directory).unwrap_or_else(|error| {
        let sentence = match &error {
            SpoolError::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                owner::closed("the spool", &directory)
            }
            _ => error.to_string(),
        };
        common.complain(&sentence);
        Answer::Broken
    })
}

fn list(common: &Common, filter: &Filter, limit: usize) -> Result<Answer, Failure> {
    let mut listing = render::Listing::new(common.json);
    let Some(gateway) = common.config_path().map(|path| Gateway::beside(&path)) else {
        return Ok(Answer::Broken);
    };
    match gateway.map(|gateway| list_running(&gateway, filter, limit, &mut listing)) {
        // Whoever does not run has not moved anything meanwhile.
        Some(Err(Failure::Unreachable(_))) | None if listing.messages() == 0 => {}
        done => {
            let is_more = done.transpose()?.unwrap_or_default();
            listing.end(is_more, None);
            return Ok(Answer::Yes);
        }
    }
    Ok(offline_answer(common, |directory| {
        let all = offline::messages(directory, filter)?;
        all.iter().take(limit).for_each(|message| listing.add(message));
        listing.end(all.len() > limit, Some(directory));
        Ok(Answer::Yes)
    }))
}

/// Lists what a gateway that runs has; true when there is more than `limit` lets through.
fn list_running(
    gateway: &Gateway,
    filter: &Filter,
    limit: usize,
    listing: &mut render::Listing,
) -> Result<bool, Failure> {
    for query in filter.queries() {
        let mut cursor = String::new();
        loop {
            let wanted = PAGE_MESSAGES.min(limit - listing.messages());
            let page = gateway.get(&format!("/v1/spool?limit={wanted}{query}{cursor}"))?;
            let messages = page["messages"].as_array().map_or(&[][..], |messages| messages);
            messages.iter().take(wanted).for_each(|message| listing.add(message));
            match page["next"].as_str() {
                _ if messages.len() > wanted => return Ok(true),
                Some(_) if listing.messages() >= limit => return Ok(true),
                Some(next) => cursor = format!("&cursor={}", encoded(next)),
                None => break,
            }
        }
    }
    Ok(false)
}

fn show(common: &Common, id: MessageId, raw: bool) -> Result<Answer, Failure> {
    let Some(gateway) = common.config_path().map(|path| Gateway::beside(&path)) else {
        return Ok(Answer::Broken);
    };
    let path = format!("/v1/spool/{id}?raw={raw}");
    let message = match gateway.map(|gateway| gateway.get(&path)) {
        Some(Err(failure @ (Failure::Refused { .. } | Failure::Closed(_)))) => return Err(failure),
        Some(Ok(message)) => message,
        Some(Err(Failure::Unreachable(_))) | None => {
            let mut found = None;
            let answer = offline_answer(common, |directory| {
                found = offline::message(directory, id, raw)?;
                Ok(Answer::Yes)
            });
            match found {
                _ if answer != Answer::Yes => return Ok(answer),
                Some(message) => message,
                None => {
                    common.complain(&format!("no message {id} is in the spool"));
                    return Ok(Answer::No);
                }
            }
        }
    };
    match message["raw"].as_str() {
        _ if common.json => print_json(&message),
        Some(raw) => text::print_bytes(&BASE64.decode(raw.as_bytes()).unwrap_or_default()),
        None => print(&render::message(&message)),
    }
    Ok(Answer::Yes)
}

fn act(common: &Common, act: &str, order: &Order, reason: Option<&str>) -> Result<Answer, Failure> {
    if order.filter.is_empty() && !order.all {
        let words = "--tenant, --sender, --domain, --older-than or --state";
        common.complain(&format!("say which messages: by id, by {words}, or --all for every one"));
        return Ok(Answer::Broken);
    }
    let Some(gateway) = Gateway::reach(common) else { return Ok(Answer::Broken) };
    let mut sum = Sum::default();
    let path = format!("/v1/spool/{act}");
    for (id, mut body) in order.filter.bodies() {
        body["dry_run"] = order.dry_run.into();
        body["all"] = order.all.into();
        if let Some(reason) = reason {
            body["reason"] = reason.into();
        }
        loop {
            let answer = match (gateway.post(&path, &body), id) {
                (Err(Failure::Refused { reason, .. }), Some(id)) if reason == "not_found" => {
                    sum.missing.push(id.to_string());
                    break;
                }
                (answer, _) => answer?,
            };
            match sum.add(&answer) {
                Some(next) => body["cursor"] = next.into(),
                None => break,
            }
        }
    }
    match common.json {
        true => print_json(&sum.as_json(act, order.dry_run)),
        false => print(&sum.for_people(act, order.dry_run)),
    }
    Ok(if sum.selected > 0 && sum.missing.is_empty() { Answer::Yes } else { Answer::No })
}

/// What came of an act, all its requests together.
#[derive(Default)]
struct Sum {
    selected: u64,
    damaged: u64,
    done: u64,
    unchanged: u64,
    under_way: u64,
    missing: Vec<String>,
}

impl Sum {
    /// Adds an answer; gives from where to go on.
    fn add(&mut self, answer: &Value) -> Option<String> {
        let number = |key: &str| answer[key].as_u64().unwrap_or_default();
        self.selected += number("selected");
        self.damaged += number("damaged");
        self.done += number("done");
        self.unchanged += number("unchanged");
        self.under_way += number("under_way");
        answer["next"].as_str().map(ToOwned::to_owned)
    }

    fn as_json(&self, act: &str, dry_run: bool) -> Value {
        json!({
            "act": act,
            "dry_run": dry_run,
            "selected": self.selected,
            "done": self.done,
            "unchanged": self.unchanged,
            "under_way": self.under_way,
            "damaged": self.damaged,
            "missing": self.missing,
        })
    }

    fn for_people(&self, act: &str, dry_run: bool) -> String {
        let messages =
            |number: u64| count(usize::try_from(number).unwrap_or(usize::MAX), "message", "messages");
        let (past, left) = match act {
            "hold" => ("held", "held already, or damaged"),
            "release" => ("released", "not held"),
            "retry" => ("tried at once", "under way, held or damaged"),
            "remove" => ("removed", "not quarantined"),
            _ => ("bounced", "damaged"),
        };
        let mut out = match dry_run {
            true => {
                format!("{} would be {past}; nothing was done\n", styled(STRONG, messages(self.selected)))
            }
            false => format!("{} {past}\n", styled(STRONG, messages(self.done))),
        };
        if self.unchanged > 0 {
            out.push_str(&format!("{} left as they are: {left}\n", messages(self.unchanged)));
        }
        if self.under_way > 0 {
            let what = messages(self.under_way);
            out.push_str(&format!(
                "{what} with an attempt under way: what is left of them can be {past} later\n"
            ));
        }
        if self.damaged > 0 {
            out.push_str(&format!(
                "{} in damaged places: nothing can be done about them\n",
                messages(self.damaged)
            ));
        }
        for id in &self.missing {
            out.push_str(&format!("{id} is not queued, or is not such a message\n"));
        }
        out
    }
}
