//! Running a program and saying what failed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One sentence that says what went wrong and what to do.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

/// A program about to be run from the repository's root.
pub(crate) struct Chore(Command);

/// Cargo itself, the one that runs us.
pub(crate) fn cargo<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(arguments: I) -> Chore {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    Chore(command)
}

/// A program that was built here.
pub(crate) fn built(program: &Path) -> Chore {
    let mut command = Command::new(program);
    command.current_dir(root());
    Chore(command)
}

/// What git says, of the repository as it lies here.
pub(crate) fn git(arguments: &[&str]) -> Result<Vec<u8>, Failure> {
    let mut command = Command::new("git");
    command.current_dir(root()).args(arguments);
    Chore(command).output()
}

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("xtask lives two folders below the root").to_path_buf()
}

impl Chore {
    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it with our own terminal.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let status =
            self.0.status().map_err(|error| Failure(format!("cannot run {}: {error}", self.name())))?;
        if status.success() { Ok(()) } else { Err(Failure(format!("{} failed ({status})", self.name()))) }
    }

    /// Runs it and returns its standard output; standard error stays on our terminal.
    pub(crate) fn output(mut self) -> Result<Vec<u8>, Failure> {
        let output = self
            .0
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Failure(format!("cannot run {}: {error}", self.name())))?;
        if !output.status.success() {
            return Err(Failure(format!("{} failed ({})", self.name(), output.status)));
        }
        Ok(output.stdout)
    }

    /// The command itself, for callers that read its output as it comes.
    pub(crate) fn into_inner(self) -> Command {
        self.0
    }

    fn name(&self) -> String {
        let words = self.0.get_args().map(OsStr::to_string_lossy);
        let program = Path::new(self.0.get_program()).file_name().unwrap_or_default().to_string_lossy();
        std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
    }
}
