use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use policy::{Origin, Sourced};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Report;
use crate::file::File;

/// Unlike more than this, two names are not a slip of the finger.
const NAME_DISTANCE_MAX: usize = 3;

/// One table of a file, read key by key: every wrong key is reported, and reading goes on.
pub(crate) struct Section<'a> {
    pub(crate) file: &'a File,
    table: &'a DeTable<'a>,
    /// `node`, `limits.client`; empty at the top of a file.
    path: Cow<'static, str>,
    pub(crate) origin: Origin,
}

/// The keys of a section: those that have a meaning, and those that will have one.
pub(crate) struct Keys {
    pub(crate) known: &'static [&'static str],
    pub(crate) later: &'static [&'static str],
}

impl<'a> Section<'a> {
    /// The top of a file.
    pub(crate) fn top(file: &'a File, table: &'a DeTable<'a>, keys: &Keys, report: &mut Report) -> Self {
        let section = Self::part(file, table);
        section.check_keys(keys, report);
        section
    }

    /// The top of a file of which only a part is of interest.
    pub(crate) fn part(file: &'a File, table: &'a DeTable<'a>) -> Self {
        Self { file, table, path: "".into(), origin: file.origin(0..0) }
    }

    fn check_keys(&self, keys: &Keys, report: &mut Report) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if keys.known.contains(&name) {
                continue;
            }
            let origin = self.file.origin(key.span());
            if keys.later.contains(&name) {
                let message = "is not in this version";
                report.error(&origin, self.key(name), message, "remove it: it would have no effect");
                continue;
            }
            let nearest = keys.known.iter().min_by_key(|known| strsim::damerau_levenshtein(name, known));
            let remedy = match nearest {
                Some(known) if strsim::damerau_levenshtein(name, known) <= NAME_DISTANCE_MAX => {
                    format!("did you mean {known:?}?")
                }
                _ => format!("the keys here are {}", keys.known.join(", ")),
            };
            report.error(&origin, self.key(name), "unknown key", remedy);
        }
    }

    /// The name of a key, with the section that it stands in.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn get(&self, name: &str) -> Option<(&'a Spanned<DeValue<'a>>, Origin)> {
        let (key, value) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some((value, self.file.origin(key.span())))
    }

    /// Whether the key is written.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Reports that a key or a section must be there.
    pub(crate) fn missing(&self, name: &str, example: &str, report: &mut Report) {
        let remedy = match name.starts_with('[') {
            true => format!("add {name}, {example}"),
            false => format!("add {name} = {example}"),
        };
        report.error(&self.origin, self.key(name), "is missing", remedy);
    }

    fn wrong(&self, name: &str, origin: &Origin, value: &DeValue<'_>, wanted: &str, report: &mut Report) {
        let message = format!("expected {wanted}, found {}", described(value));
        report.error(origin, self.key(name), message, format!("write {wanted}"));
    }

    /// A text.
    pub(crate) fn string(&self, name: &str, report: &mut Report) -> Option<Sourced<String>> {
        let (value, origin) = self.get(name)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Sourced::new(text.clone().into_owned(), origin)),
            other => {
                self.wrong(name, &origin, other, "a text in quotes", report);
                None
            }
        }
    }

    /// A text that no message shows, whatever it holds: without quotes a password may be a number.
    pub(crate) fn secret(&self, name: &str, report: &mut Report) -> Option<Sourced<String>> {
        let (value, origin) = self.get(name)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Sourced::new(text.clone().into_owned(), origin)),
            other => {
                let message = format!("expected a text in quotes, found a TOML {}", other.type_str());
                report.error(&origin, self.key(name), message, "write it in quotes");
                None
            }
        }
    }

    /// A text that must be there.
    pub(crate) fn required(&self, name: &str, example: &str, report: &mut Report) -> Option<Sourced<String>> {
        self.demand(name, example, report);
        self.string(name, report)
    }

    /// Reports a key that is not there.
    pub(crate) fn demand(&self, name: &str, example: &str, report: &mut Report) {
        if !self.has(name) {
            self.missing(name, example, report);
        }
    }

    /// A list of texts, each with its own line; empty where it is not written.
    pub(crate) fn strings(&self, name: &str, report: &mut Report) -> Vec<Sourced<String>> {
        let Some((value, origin)) = self.get(name) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong(name, &origin, value.get_ref(), "a list of texts, as in [\"a\", \"b\"]", report);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for element in array.iter() {
            let origin = self.file.origin(element.span());
            match element.get_ref() {
                DeValue::String(text) => texts.push(Sourced::new(text.clone().into_owned(), origin)),
                other => self.wrong(name, &origin, other, "a text in quotes", report),
            }
        }
        texts
    }

    /// A list of texts that each parse as a `T`.
    pub(crate) fn parsed_list<T>(
        &self,
        name: &str,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        report: &mut Report,
    ) -> Vec<Sourced<T>> {
        let mut values = Vec::new();
        for text in self.strings(name, report) {
            match parse(&text.value) {
                Ok(value) => values.push(Sourced::new(value, text.origin)),
                Err(error) => {
                    report.error(&text.origin, self.key(name), format!("{:?}: {error}", text.value), remedy);
                }
            }
        }
        values
    }

    /// A text that parses as a `T`.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(
        &self,
        name: &str,
        remedy: &str,
        report: &mut Report,
    ) -> Option<Sourced<T>> {
        let text = self.string(name, report)?;
        match text.value.parse() {
            Ok(value) => Some(Sourced::new(value, text.origin)),
            Err(error) => {
                report.error(&text.origin, self.key(name), format!("{:?}: {error}", text.value), remedy);
                None
            }
        }
    }

    /// A text that `parse` reads; its error is the remedy.
    pub(crate) fn unit<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
        report: &mut Report,
    ) -> Option<Sourced<T>> {
        let (value, origin) = self.get(name)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.clone().into_owned(),
            DeValue::Integer(number) => number.to_string(),
            other => described(other),
        };
        match parse(&text) {
            Ok(value) => Some(Sourced::new(value, origin)),
            Err(remedy) => {
                report.error(&origin, self.key(name), format!("cannot read {text:?}"), remedy);
                None
            }
        }
    }

    /// true or false.
    pub(crate) fn boolean(&self, name: &str, report: &mut Report) -> Option<Sourced<bool>> {
        let (value, origin) = self.get(name)?;
        match value.get_ref() {
            DeValue::Boolean(value) => Some(Sourced::new(*value, origin)),
            other => {
                self.wrong(name, &origin, other, "true or false, without quotes", report);
                None
            }
        }
    }

    /// A whole number of at most `max`.
    pub(crate) fn number(&self, name: &str, max: u32, report: &mut Report) -> Option<Sourced<u32>> {
        self.number_in(name, 0..=max, report)
    }

    /// A whole number in `range`.
    pub(crate) fn number_in(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
        report: &mut Report,
    ) -> Option<Sourced<u32>> {
        let (value, origin) = self.get(name)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        match number {
            Some(number) if range.contains(&number) => Some(Sourced::new(number, origin)),
            _ => {
                let wanted =
                    format!("a whole number from {} to {}, without quotes", range.start(), range.end());
                self.wrong(name, &origin, value.get_ref(), &wanted, report);
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
        report: &mut Report,
    ) -> Option<Sourced<T>> {
        let text = self.string(name, report)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(Sourced::new(*value, text.origin));
        }
        let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let remedy = format!("write {}", words.join(", "));
        report.error(&text.origin, self.key(name), format!("{:?} is none of its words", text.value), remedy);
        None
    }

    /// A `[name]` section.
    pub(crate) fn section(
        &self,
        name: &'static str,
        keys: &Keys,
        report: &mut Report,
    ) -> Option<Section<'a>> {
        let (value, origin) = self.get(name)?;
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(name, &origin, value.get_ref(), &format!("a section, as in [{name}]"), report);
            return None;
        };
        let path = if self.path.is_empty() { name.into() } else { self.key(name).into() };
        let section = Section { file: self.file, table, path, origin };
        section.check_keys(keys, report);
        Some(section)
    }

    /// Every `[[name]]` section.
    pub(crate) fn sections(&self, name: &'static str, keys: &Keys, report: &mut Report) -> Vec<Section<'a>> {
        let Some((value, origin)) = self.get(name) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            let wanted = format!("sections in double brackets, as in [[{name}]]");
            self.wrong(name, &origin, value.get_ref(), &wanted, report);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array.iter() {
            let origin = self.file.origin(element.span());
            let DeValue::Table(table) = element.get_ref() else {
                self.wrong(name, &origin, element.get_ref(), &format!("a section, as in [[{name}]]"), report);
                continue;
            };
            let section = Section { file: self.file, table, path: name.into(), origin };
            section.check_keys(keys, report);
            sections.push(section);
        }
        sections
    }
}

/// Reports what a file's syntax makes impossible to read; gives what is left of it.
pub(crate) fn parse<'a>(file: &'a File, report: &mut Report) -> Option<Spanned<DeTable<'a>>> {
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    for error in &errors {
        let origin = file.origin(error.span().unwrap_or(0..0));
        report.error(&origin, "", format!("not TOML: {}", error.message()), "correct the line");
    }
    // What follows a syntax error is read as something that nobody wrote.
    errors.is_empty().then_some(table)
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        other => format!("a TOML {}", other.type_str()),
    }
}
