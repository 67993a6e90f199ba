//! Every dependency's licence is one that an Apache-2.0 OR MIT program may be shipped with.

use spdx::{Expression, ParseMode};

use crate::command::Failure;
use crate::metadata::Metadata;

/// Permissive licences; each asks for no more than its notice.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks every package that cargo resolved, for whatever target.
pub(crate) fn check(metadata: &Metadata) -> Result<(), Failure> {
    let wrong: Vec<String> = metadata
        .packages
        .iter()
        .filter_map(|package| {
            let complaint = complaint(package.license.as_deref())?;
            Some(format!("{} {} {complaint}", package.name, package.version))
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure(format!(
        "{}; choose another dependency, or argue for the licence in licences.rs",
        wrong.join("; ")
    )))
}

fn complaint(licence: Option<&str>) -> Option<String> {
    let Some(licence) = licence else { return Some("names no licence".to_owned()) };
    // Older crates separate alternatives by a slash, which cargo still takes.
    let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => {
            return Some(format!("has a licence that cannot be read ({licence}): {}", error.reason));
        }
    };
    let is_allowed = expression
        .evaluate(|requirement| requirement.license.id().is_some_and(|id| ALLOWED.contains(&id.name)));
    (!is_allowed).then(|| format!("is licensed as {licence}, which is not on the list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_alternative_is_enough_and_every_conjunct_is_needed() {
        assert_eq!(complaint(Some("MIT OR GPL-3.0-only")), None);
        assert_eq!(complaint(Some("MIT/Apache-2.0")), None);
        assert_eq!(complaint(Some("Apache-2.0 WITH LLVM-exception")), None);
        assert!(complaint(Some("MIT AND GPL-3.0-only")).is_some());
        assert!(complaint(Some("AGPL-3.0-only")).is_some());
        assert!(complaint(None).is_some());
    }
}
