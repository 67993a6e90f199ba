//! What cargo knows of the workspace and its dependencies.

use serde::Deserialize;

use crate::command::{Failure, cargo};

/// The part of `cargo metadata` that the checks read.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    workspace_members: Vec<String>,
    /// Where cargo puts what it builds.
    pub(crate) target_directory: std::path::PathBuf,
}

/// One package, ours or not.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) manifest_path: std::path::PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
    id: String,
}

/// One thing that cargo builds of a package.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    kind: Vec<String>,
    #[serde(default, rename = "required-features")]
    pub(crate) required_features: Vec<String>,
}

/// An edge as a manifest declares it.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    kind: Option<String>,
    path: Option<std::path::PathBuf>,
}

impl Metadata {
    pub(crate) fn read() -> Result<Self, Failure> {
        let json = cargo(["metadata", "--format-version", "1", "--locked"]).output()?;
        serde_json::from_slice(&json)
            .map_err(|error| Failure(format!("cannot read cargo's metadata: {error}")))
    }

    /// Our own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }
}

impl Package {
    /// The name that the map uses: without the family name.
    pub(crate) fn room(&self) -> &str {
        room(&self.name)
    }
}

impl Target {
    /// Whether it is a separate test that a plain `cargo test` passes over.
    pub(crate) fn is_featured_test(&self) -> bool {
        self.kind.iter().any(|kind| kind == "test") && !self.required_features.is_empty()
    }
}

impl Dependency {
    /// Whether it is one of our own rooms and part of what is built, not only of its tests.
    pub(crate) fn is_import(&self) -> bool {
        self.path.is_some() && self.kind.as_deref() != Some("dev")
    }

    pub(crate) fn room(&self) -> &str {
        room(&self.name)
    }
}

fn room(package: &str) -> &str {
    package.strip_prefix("gatepost-").unwrap_or(package)
}
