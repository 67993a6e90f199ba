use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::Origin;

use crate::error::Report;

/// A file that was read, and the way from a byte of it to a line.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: Arc<str>,
    pub(crate) text: String,
    directory: PathBuf,
}

impl File {
    /// Reads a file; what stops that is reported.
    pub(crate) fn read(path: &Path, report: &mut Report) -> Option<Self> {
        let name: Arc<str> = path.display().to_string().into();
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let directory = path.parent().unwrap_or(Path::new("")).to_owned();
                Some(Self { name, text, directory })
            }
            Err(error) => {
                let remedy = "make it a text file that this user may read, or name another";
                report.error(&Origin::new(name, 0), "", format!("cannot read the file: {error}"), remedy);
                None
            }
        }
    }

    /// The line of a span.
    pub(crate) fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        let newlines = before.iter().filter(|&&byte| byte == b'\n').count();
        Origin::new(Arc::clone(&self.name), u32::try_from(newlines + 1).unwrap_or(u32::MAX))
    }

    /// A path that the file names, relative to the file's directory.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }
}
