//! The map in `crates/README.md` against what is built: layers, edges, and where `unsafe` may live.
//!
//! The table that people read is the one that is checked, so the two cannot drift apart.

use std::collections::BTreeMap;
use std::fs;

use crate::command::{Failure, root};
use crate::metadata::{Metadata, Package};

/// The only room with `unsafe`.
const UNSAFE_ROOM: &str = "ring";

/// Where a room stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// Imports only from layers of a smaller number.
    Numbered(u32),
    /// Beside the house: imports only from its like, and is imported by tests only.
    Beside,
}

/// Every edge runs strictly downward, and every room is on the map.
pub(crate) fn edges(metadata: &Metadata) -> Result<(), Failure> {
    let path = root().join("crates/README.md");
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure(format!("cannot read crates/README.md: {error}")))?;
    let layers = parse(&text);
    let mut wrong = Vec::new();
    for package in metadata.members() {
        let Some(&layer) = layers.get(package.room()) else {
            wrong.push(format!("{} is not in the table of crates/README.md", package.room()));
            continue;
        };
        for import in package.dependencies.iter().filter(|dependency| dependency.is_import()) {
            let is_allowed = layers.get(import.room()).is_some_and(|&below| may_import(layer, below));
            if !is_allowed {
                wrong.push(format!("{} must not import {}", package.room(), import.room()));
            }
        }
    }
    for room in layers.keys() {
        if !metadata.members().any(|package| package.room() == room) {
            wrong.push(format!("crates/README.md names {room}, which does not exist"));
        }
    }
    verdict(&wrong)
}

/// `unsafe` is forbidden by the workspace, and every room but one takes the workspace's lints.
pub(crate) fn unsafe_code(metadata: &Metadata) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    let workspace = manifest(&root().join("Cargo.toml"))?;
    let forbids = workspace
        .get("workspace")
        .and_then(|table| table.get("lints")?.get("rust")?.get("unsafe_code")?.as_str())
        .is_some_and(|level| level == "forbid");
    if !forbids {
        wrong.push("Cargo.toml must set workspace.lints.rust.unsafe_code = \"forbid\"".to_owned());
    }
    for package in metadata.members().filter(|package| package.room() != UNSAFE_ROOM) {
        if !takes_workspace_lints(package)? {
            wrong.push(format!("{} lacks [lints] workspace = true", package.manifest_path.display()));
        }
    }
    verdict(&wrong)
}

fn takes_workspace_lints(package: &Package) -> Result<bool, Failure> {
    let manifest = manifest(&package.manifest_path)?;
    Ok(manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool()) == Some(true))
}

fn manifest(path: &std::path::Path) -> Result<toml::Table, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure(format!("cannot read {}: {error}", path.display())))?;
    text.parse().map_err(|error| Failure(format!("{}: {error}", path.display())))
}

fn verdict(wrong: &[String]) -> Result<(), Failure> {
    if wrong.is_empty() { Ok(()) } else { Err(Failure(wrong.join("; "))) }
}

fn may_import(from: Layer, to: Layer) -> bool {
    match (from, to) {
        (Layer::Numbered(above), Layer::Numbered(below)) => below < above,
        (Layer::Beside, Layer::Beside) => true,
        _ => false,
    }
}

/// The rows of the table: `` | layer | `crate` | … ``; everything else is prose.
fn parse(text: &str) -> BTreeMap<String, Layer> {
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let layer = match cells.next()? {
                "beside" => Layer::Beside,
                number => Layer::Numbered(number.parse().ok()?),
            };
            let room = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((room.to_owned(), layer))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_prose_is_not() {
        let layers = parse(
            "# Map\n| layer | crate | job |\n|---|---|---|\n| 0 | `mail` | values |\n| beside | `xtask` | chores |\n",
        );
        assert_eq!(layers.len(), 2);
        assert_eq!(layers["mail"], Layer::Numbered(0));
        assert_eq!(layers["xtask"], Layer::Beside);
    }

    #[test]
    fn imports_run_downward_never_sideways_and_never_from_the_house_to_the_workshop() {
        assert!(may_import(Layer::Numbered(4), Layer::Numbered(0)));
        assert!(!may_import(Layer::Numbered(4), Layer::Numbered(4)));
        assert!(!may_import(Layer::Numbered(0), Layer::Numbered(1)));
        assert!(!may_import(Layer::Numbered(5), Layer::Beside));
        assert!(!may_import(Layer::Beside, Layer::Numbered(0)));
        assert!(may_import(Layer::Beside, Layer::Beside));
    }
}
