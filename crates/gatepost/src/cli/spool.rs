//! `gatepost spool`: the queue. A running gateway is asked; of a stopped one the files are read.

mod filter;
mod offline;
mod render;
mod verify;

use std::io;
use std::path::{Path, PathBuf};

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
    /// Give quarantined messages up, each named by its id; no sender is told
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
fn offline_answer(common: &Common, read: impl FnOnce(&Path) -> Result<Answer, SpoolError>) -> Answer {
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
        // A gateway that does not run has not moved anything meanwhile.
        Some(Err(Failure::Unreachable(_))) | None if listing.messages() == 0 => {}
        done => {
            let listed = done.transpose()?.unwrap_or_default();
            return Ok(listed.end(common, &listing, None));
        }
    }
    Ok(offline_answer(common, |directory| {
        let all = offline::messages(directory, filter)?;
        all.iter().take(limit).for_each(|message| listing.add(message));
        let mut listed = Listed { has_more: all.len() > limit, problems: Vec::new() };
        for id in &filter.ids {
            if all.is_empty() && offline::message(directory, *id, false)?.is_none() {
                listed.problems.push(format!("no message {id} is in the spool"));
            }
        }
        let path = common.config_path().filter(|_| all.is_empty());
        // Who may read the spool may not be allowed to read all of the configuration.
        if let Some(loaded) = path.and_then(|path| config::Config::load(&path).ok()) {
            listed.problems.extend(filter.unknown(&loaded.snapshot));
        }
        Ok(listed.end(common, &listing, Some(directory)))
    }))
}

/// What a listing came to, beside the messages.
#[derive(Default)]
struct Listed {
    /// There are more than were wanted.
    has_more: bool,
    /// What was named and does not exist.
    problems: Vec<String>,
}

impl Listed {
    fn end(&self, common: &Common, listing: &render::Listing, read_from: Option<&Path>) -> Answer {
        if listing.messages() > 0 || self.problems.is_empty() {
            listing.end(self.has_more, read_from);
        }
        self.problems.iter().for_each(|problem| common.complain(problem));
        if self.problems.is_empty() { Answer::Yes } else { Answer::No }
    }
}

/// Lists what a gateway that runs has, `limit` of it.
fn list_running(
    gateway: &Gateway,
    filter: &Filter,
    limit: usize,
    listing: &mut render::Listing,
) -> Result<Listed, Failure> {
    let mut listed = Listed::default();
    for query in filter.queries() {
        let (mut cursor, before) = (String::new(), listing.messages());
        let unknown = loop {
            let wanted = PAGE_MESSAGES.min(limit - listing.messages());
            let page = match gateway.get(&format!("/v1/spool?limit={wanted}{query}{cursor}")) {
                Err(Failure::Refused { reason, error }) if reason == "not_found" => break Some(error),
                page => page?,
            };
            let messages = page["messages"].as_array().map_or(&[][..], |messages| messages);
            messages.iter().take(wanted).for_each(|message| listing.add(message));
            let next = page["next"].as_str();
            if messages.len() > wanted || next.is_some() && listing.messages() >= limit {
                return Ok(Listed { has_more: true, ..listed });
            }
            match next {
                Some(next) => cursor = format!("&cursor={}", encoded(next)),
                None => break page["unknown"].as_str().map(ToOwned::to_owned),
            }
        };
        // Mail of a tenant or a login that has left the configuration is queued all the same.
        listed.problems.extend(unknown.filter(|_| listing.messages() == before));
    }
    Ok(listed)
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
        let words = "--tenant, --login, --sender, --domain, --older-than or --state";
        common.complain(&format!("say which messages: by id, by {words}, or --all for every one"));
        return Ok(Answer::Broken);
    }
    let Some(gateway) = Gateway::reach(common) else { return Ok(Answer::Broken) };
    let sum = order_all(&gateway, act, order, reason)?;
    match common.json {
        true => print_json(&sum.as_json(act, order.dry_run)),
        false => print(&sum.for_people(act, order.dry_run)),
    }
    Ok(if sum.selected > 0 && sum.problems.is_empty() { Answer::Yes } else { Answer::No })
}

/// Has an act done, request by request, until there is nothing left of what is meant.
fn order_all(gateway: &Gateway, act: &str, order: &Order, reason: Option<&str>) -> Result<Sum, Failure> {
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
                (Err(Failure::Refused { reason, error }), Some(id)) if reason == "not_found" => {
                    sum.missing.push(id.to_string());
                    sum.problems.push(error);
                    break;
                }
                (answer, _) => answer?,
            };
            match sum.add(&answer) {
                Some(next) => body["cursor"] = next.into(),
                None => {
                    let unknown = answer["unknown"].as_str().filter(|_| sum.selected == 0);
                    sum.problems.extend(unknown.map(ToOwned::to_owned));
                    break;
                }
            }
        }
    }
    Ok(sum)
}

/// Has something done about all of a tenant's queued messages, or of a login's; how many there were, and with
/// how many it was done. Counting ends at about `most` messages.
pub(super) fn order_of(
    gateway: &Gateway,
    act: &str,
    whose: &Value,
    most: Option<u64>,
) -> Result<(u64, u64), Failure> {
    let (mut sum, mut body) = (Sum::default(), whose.clone());
    body["dry_run"] = most.is_some().into();
    loop {
        let answer = match gateway.post(&format!("/v1/spool/{act}"), &body) {
            Err(Failure::Refused { reason, .. }) if reason == "not_found" => return Ok((0, 0)),
            answer => answer?,
        };
        match sum.add(&answer) {
            Some(next) if most.is_none_or(|most| sum.selected < most) => body["cursor"] = next.into(),
            _ => return Ok((sum.selected, sum.done)),
        }
    }
}

/// What came of an act, all its requests together.
#[derive(Default)]
struct Sum {
    selected: u64,
    damaged: u64,
    done: u64,
    unchanged: u64,
    under_way: u64,
    /// Ids that are not queued, or of other messages than are meant.
    missing: Vec<String>,
    /// What was named and is not there, a sentence for each.
    problems: Vec<String>,
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
            "errors": self.problems,
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
        if self.selected + self.damaged == 0 && !self.problems.is_empty() {
            out.clear();
        }
        for problem in &self.problems {
            out.push_str(&format!("{problem}\n"));
        }
        out
    }
}
