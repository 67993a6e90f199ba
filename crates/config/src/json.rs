//! JSON as what a TOML file would hold, so that both are read by the same code.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Objects and lists in one another, at most: as many as the TOML reader takes.
const DEPTH_MAX: u32 = 80;

/// Reads one object. Its spans say nothing, for all of it stands on one line.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn object(text: &str) -> Result<DeTable<'_>, String> {
    match value(serde_json::from_str(text).map_err(|error| told(&error))?, DEPTH_MAX)? {
        DeValue::Table(table) => Ok(table),
        _ => Err("a line holds one object, as in {\"name\": \"proseware\"}".to_owned()),
    }
}

/// TOML's value of a JSON value, in which `depth` more objects and lists may stand in one another.
fn value(raw: &RawValue, depth: u32) -> Result<DeValue<'_>, String> {
    let text = raw.get();
    let below = || {
        let too_deep = || format!("more than {DEPTH_MAX} objects and lists stand in one another");
        depth.checked_sub(1).ok_or_else(too_deep)
    };
    let told = |error| told(&error);
    Ok(match text.as_bytes().first() {
        Some(b'"') => DeValue::String(serde_json::from_str::<Text<'_>>(text).map_err(told)?.0),
        Some(b't' | b'f') => DeValue::Boolean(text == "true"),
        Some(b'[') => {
            let (mut array, below) = (DeArray::new(), below()?);
            for element in serde_json::from_str::<Vec<&RawValue>>(text).map_err(told)? {
                array.push(Spanned::new(0..0, value(element, below)?));
            }
            DeValue::Array(array)
        }
        Some(b'{') => {
            let (mut table, below) = (DeTable::new(), below()?);
            for (key, raw) in serde_json::from_str::<Entries<'_>>(text).map_err(told)?.0 {
                let twice = format!("the key {key:?} is written twice");
                if table.insert(Spanned::new(0..0, key), Spanned::new(0..0, value(raw, below)?)).is_some() {
                    return Err(twice);
                }
            }
            DeValue::Table(table)
        }
        Some(b'n') => return Err("null is no value here: leave the key out".to_owned()),
        // Every number of JSON is one of TOML.
        _ => DeValue::parse(text).map_err(|error| error.message().to_owned())?.into_inner(),
    })
}

/// Without the line, which is always the first of the text that is read.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("{what}, at column {}", error.column())
}

/// A text, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The entries of an object, also of one that has a key twice.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some((Text(key), raw)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    entries.push((key, raw));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_reads_as_the_table_that_toml_would_make() {
        let json = r#"{"a": "b\u00e9\n", "n": [1, -2], "t": {"x": true, "f": 1.5}}"#;
        let toml = "a = \"bé\\n\"\nn = [1, -2]\nt = { x = true, f = 1.5 }\n";
        let text = |table: &DeTable<'_>| {
            let mut lines: Vec<_> = table
                .iter()
                .map(|(key, value)| format!("{}={:?}", key.get_ref(), bare(value.get_ref())))
                .collect();
            lines.sort();
            lines
        };
        let (json, toml) = (object(json).unwrap(), DeTable::parse(toml).unwrap());
        assert_eq!(text(&json), text(toml.get_ref()));
    }

    /// Without the spans.
    fn bare(value: &DeValue<'_>) -> String {
        match value {
            DeValue::Array(array) => array.iter().map(|value| bare(value.get_ref()) + ",").collect(),
            DeValue::Table(table) => {
                let mut lines: Vec<_> = table
                    .iter()
                    .map(|(key, value)| format!("{}:{};", key.get_ref(), bare(value.get_ref())))
                    .collect();
                lines.sort();
                lines.concat()
            }
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(time) => time.to_string(),
        }
    }

    #[test]
    fn what_toml_has_not_is_refused_with_a_reason() {
        for (json, told) in [
            ("[1]", "one object"),
            ("{\"a\": null}", "null"),
            ("{\"a\": 1, \"a\": 2}", "\"a\" is written twice"),
            ("{\"a\": 1", "column 7"),
            ("{\"a\": 1} {}", "column 10"),
        ] {
            let error = object(json).unwrap_err();
            assert!(error.contains(told), "{json}: {error}");
        }
    }

    #[test]
    fn lists_in_lists_without_end_are_refused_not_followed() {
        let deep = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(object(&deep(79)).is_ok());
        assert!(object(&deep(80)).unwrap_err().contains("more than 80"));
        assert!(object(&deep(100_000)).unwrap_err().contains("more than 80"));
        assert!(object(&"[".repeat(100_000)).is_err());
        assert!(!DeTable::parse_recoverable(&format!("a = {}", "[".repeat(100_000))).1.is_empty());
    }
}
