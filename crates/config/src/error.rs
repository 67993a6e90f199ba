use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::panic::Location;
use std::path::{Path, PathBuf};

use policy::{CompileError, Opening, Origin};

use crate::file::Stamp;
use crate::read;

/// Something wrong in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file and the line; line 0 stands for the file as a whole.
    pub origin: Origin,
    /// The second line, where two contradict each other.
    pub other: Option<Origin>,
    /// The key, with the section that it stands in; empty for a syntax error.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// With it, strangers could relay.
    pub opens: bool,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(other) = &self.other {
            write!(f, " (the other is at {other})")?;
        }
        write!(f, "; {}", self.remedy)
    }
}

impl std::error::Error for ConfigError {}

impl From<CompileError> for ConfigError {
    fn from(error: CompileError) -> Self {
        let CompileError { origin, other, key, message, remedy, opens } = error;
        Self { origin, other, key: key.to_owned(), message, remedy, opens }
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, in the order of files and lines.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl ConfigErrors {
    /// Nothing is wrong but that strangers could relay.
    #[must_use]
    pub fn are_openings(&self) -> bool {
        self.0.iter().all(|error| error.opens)
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    /// One error a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Something legal but unwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is wrong, whatever line it is about: the place in this room that found it.
    kind: &'static Location<'static>,
    /// The line.
    pub origin: Origin,
    /// The key.
    pub key: String,
    /// What may come of it, and what to do about it.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.origin)?;
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// Warnings of one kind that are each shown: more say nothing new, and hide the others.
const SHOWN_OF_A_KIND: usize = 20;

/// The warnings as lines for people: of very many of one kind the first, and at the last of these, how many more
/// there are.
#[must_use]
pub fn warnings_summed_up(warnings: &[Warning]) -> Vec<String> {
    let mut count = HashMap::<_, usize>::new();
    for warning in warnings {
        *count.entry(warning.kind).or_default() += 1;
    }
    let mut shown = HashMap::<_, usize>::new();
    let mut lines = Vec::new();
    for warning in warnings {
        let shown = shown.entry(warning.kind).or_default();
        *shown += 1;
        if *shown <= SHOWN_OF_A_KIND {
            lines.push(warning.to_string());
        }
        let more = count[warning.kind].saturating_sub(SHOWN_OF_A_KIND);
        if *shown == SHOWN_OF_A_KIND && more > 0 {
            let key = &warning.key;
            lines.push(format!(
                "{key}: {more} more warnings like the last; `gatepost check --json` lists them all"
            ));
        }
    }
    lines
}

fn write_place(f: &mut fmt::Formatter<'_>, origin: &Origin) -> fmt::Result {
    match origin.line {
        0 => write!(f, "{}: ", origin.file),
        _ => write!(f, "{origin}: "),
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) errors: Vec<ConfigError>,
    pub(crate) warnings: Vec<Warning>,
    /// The files that were read beside the one reported on, as they were before.
    pub(crate) beside: Vec<(PathBuf, Option<Stamp>)>,
}

impl Report {
    /// Reads a text that the line at `origin` names under `key`, and notes that what is read depends on it.
    /// What stops it is reported, with `remedy` where it is the system.
    pub(crate) fn read_beside(
        &mut self,
        path: &Path,
        bytes_max: u64,
        (origin, key): (&Origin, &str),
        remedy: &'static str,
    ) -> Option<String> {
        self.beside.push((path.to_owned(), Stamp::of(path)));
        let fault = match read::text(path, bytes_max) {
            Ok(text) => return Some(text),
            Err(fault) => fault,
        };
        // What is wrong in the file is looked for there, what is wrong with it where it is named.
        let name = path.display().to_string();
        let message = fault.message(&name);
        let place = fault.line().map_or_else(|| origin.clone(), |line| Origin::new(name, line));
        self.error(&place, key, message, fault.remedy(remedy));
        None
    }

    pub(crate) fn error(
        &mut self,
        origin: &Origin,
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.errors.push(ConfigError {
            origin: origin.clone(),
            other: None,
            key: key.into(),
            message: message.into(),
            remedy: remedy.into(),
            opens: false,
        });
    }

    /// Says how a stranger could relay, and by which lines.
    pub(crate) fn opening(&mut self, opening: &Opening) {
        let Opening { client, listener, tls, from, to, origins } = opening;
        let how = if *tls { "over TLS" } else { "in the clear" };
        let (first, others) = origins.split_first().expect("an opening names its lines");
        let mut message = format!(
            "a stranger could relay: {client} on listener {listener} {how} may send from <{from}> to <{to}>"
        );
        for (index, other) in others.iter().enumerate() {
            let _ = write!(message, "{}{other}", if index == 0 { ", by this line and " } else { ", " });
        }
        self.errors.push(ConfigError {
            origin: first.clone(),
            other: None,
            key: String::new(),
            message,
            remedy: "narrow the line to addresses that are the tenant's own".into(),
            opens: true,
        });
    }

    #[track_caller]
    pub(crate) fn warn(&mut self, origin: &Origin, key: impl Into<String>, message: impl Into<String>) {
        let (kind, origin) = (Location::caller(), origin.clone());
        self.warnings.push(Warning { kind, origin, key: key.into(), message: message.into() });
    }

    pub(crate) fn into_errors(mut self) -> ConfigErrors {
        // Stable, so that what was found first on a line stays first.
        self.errors.sort_by(|a, b| a.origin.file.cmp(&b.origin.file).then(a.origin.line.cmp(&b.origin.line)));
        ConfigErrors(self.errors)
    }
}
