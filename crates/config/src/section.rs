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

/// A name of fewer letters is the beginning of too many.
const NAME_PART_MIN: usize = 3;

/// One table of a file, read key by key: every wrong key is reported, and reading goes on.
pub(crate) struct Section<'a> {
    pub(crate) file: &'a File,
    table: &'a DeTable<'a>,
    /// `node`, `limits.client`; empty at the top of a file.
    path: Cow<'static, str>,
    pub(crate) origin: Origin,
    /// The keys that have a meaning here.
    known: &'static [&'static str],
}

/// The keys of a section: those that have a meaning, and those that will have one.
pub(crate) struct Keys {
    pub(crate) known: &'static [&'static str],
    pub(crate) later: &'static [&'static str],
}

impl<'a> Section<'a> {
    /// The top of a file.
    pub(crate) fn top(file: &'a File, table: &'a DeTable<'a>, keys: &Keys, report: &mut Report) -> Self {
        let section = Self { known: keys.known, ..Self::part(file, table) };
        section.check_keys(keys, report);
        section
    }

    /// The top of a file of which only a part is of interest.
    pub(crate) fn part(file: &'a File, table: &'a DeTable<'a>) -> Self {
        Self { file, table, path: "".into(), origin: file.origin(0..0), known: &[] }
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
            let remedy = match nearest(name, keys.known) {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("the keys here are {}", keys.known.join(", ")),
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

    /// Reports that a key or a section must be there. One that is there and wrong, or that is
    /// written otherwise, is reported already.
    pub(crate) fn missing(&self, name: &str, example: &str, report: &mut Report) {
        let bare = name.trim_matches(['[', ']']);
        let is_meant = |key: &str| !self.known.contains(&key) && nearest(key, self.known) == Some(bare);
        if self.table.keys().any(|key| key.get_ref() == bare || is_meant(key.get_ref())) {
            return;
        }
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
            match value.get_ref() {
                DeValue::Array(array) if array.iter().any(|element| element.get_ref().is_table()) => {
                    let message = "is a section in double brackets, and there can be only one";
                    report.error(&origin, self.key(name), message, format!("write [{}]", self.key(name)));
                }
                other => self.wrong(name, &origin, other, &format!("a section, as in [{name}]"), report),
            }
            return None;
        };
        let path = if self.path.is_empty() { name.into() } else { self.key(name).into() };
        let section = Section { file: self.file, table, path, origin, known: keys.known };
        section.check_keys(keys, report);
        Some(section)
    }

    /// Every `[[name]]` section.
    pub(crate) fn sections(&self, name: &'static str, keys: &Keys, report: &mut Report) -> Vec<Section<'a>> {
        let Some((value, origin)) = self.get(name) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            match value.get_ref() {
                DeValue::Table(_) => {
                    let message = "is a section in single brackets, and there can be several";
                    report.error(&origin, self.key(name), message, format!("write [[{}]]", self.key(name)));
                }
                other => {
                    let wanted = format!("sections in double brackets, as in [[{name}]]");
                    self.wrong(name, &origin, other, &wanted, report);
                }
            }
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array.iter() {
            let origin = self.file.origin(element.span());
            let DeValue::Table(table) = element.get_ref() else {
                self.wrong(name, &origin, element.get_ref(), &format!("a section, as in [[{name}]]"), report);
                continue;
            };
            let section = Section { file: self.file, table, path: name.into(), origin, known: keys.known };
            section.check_keys(keys, report);
            sections.push(section);
        }
        sections
    }
}

/// Reports what a file's syntax makes impossible to read; gives what is left of it.
pub(crate) fn parse<'a>(file: &'a File, report: &mut Report) -> Option<Spanned<DeTable<'a>>> {
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    if let Some((language, line)) = other_language(&file.text).filter(|_| !errors.is_empty()) {
        let remedy = "write key = \"value\", and [section] on a line of its own before the keys of a section";
        report.error(&file.line(line), "", format!("this is {language}, and not TOML"), remedy);
        return None;
    }
    for error in &errors {
        let origin = file.origin(error.span().unwrap_or(0..0));
        report.error(&origin, "", format!("not TOML: {}", error.message()), "correct the line");
    }
    // What follows a syntax error is read as something that is not written there.
    errors.is_empty().then_some(table)
}

/// The language of a text that is no TOML, and the line by which it is known: the first that says anything.
fn other_language(text: &str) -> Option<(&'static str, u32)> {
    let lines = (1_u32..).zip(text.lines().map(str::trim));
    let (number, line) = lines.into_iter().find(|(_, line)| !line.is_empty() && !line.starts_with('#'))?;
    let is_key = |key: &str| {
        let key = key.trim_start_matches("- ").trim_matches('"');
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let is_yaml = line == "---"
        || line
            .split_once(':')
            .is_some_and(|(key, value)| is_key(key) && (value.is_empty() || value.starts_with([' ', '\t'])));
    match line.starts_with('{') {
        true => Some(("JSON", number)),
        false => is_yaml.then_some(("YAML", number)),
    }
}

/// The key that may be meant by `name`: the one that it begins or that begins it, or one that is
/// a slip of the finger away.
fn nearest(name: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let is_part = |known: &&&str| {
        let (short, long) = if name.len() < known.len() { (name, **known) } else { (**known, name) };
        short.len() >= NAME_PART_MIN
            && (long.starts_with(short)
                || long.strip_suffix(short).is_some_and(|before| before.ends_with('_')))
    };
    let distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
    let near = known.iter().min_by_key(distance).filter(|known| {
        let letters = name.chars().count().max(known.chars().count());
        distance(known) <= NAME_DISTANCE_MAX.min(letters / 2)
    });
    near.filter(|known| distance(known) == 1).or_else(|| known.iter().find(is_part)).or(near).copied()
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        other => format!("a TOML {}", other.type_str()),
    }
}
