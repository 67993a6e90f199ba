use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::Origin;

use crate::error::Report;
use crate::read;

/// A file that was read, and the way from a byte of it to a line.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: Arc<str>,
    pub(crate) text: String,
    directory: PathBuf,
    /// Where each line but the first begins: every key and every text asks for its line, so that
    /// counting from the top each time would cost the square of the file.
    line_starts: Box<[usize]>,
    /// Where this is a part of a file.
    lines_before: u32,
}

impl File {
    /// Reads a file; what stops that is reported.
    pub(crate) fn read(path: &Path, report: &mut Report) -> Option<Self> {
        let name: Arc<str> = path.display().to_string().into();
        match read::text(path, read::TEXT_BYTES_MAX) {
            Ok(text) => {
                let directory = path.parent().unwrap_or(Path::new("")).to_owned();
                let line_starts = line_starts(&text);
                Some(Self { name, text, directory, line_starts, lines_before: 0 })
            }
            Err(fault) => {
                let remedy = fault.remedy("make it a text file that this user may read, or name another");
                let origin = Origin::new(name, fault.line().unwrap_or(0));
                report.error(&origin, "", fault.message("the file"), remedy);
                None
            }
        }
    }

    /// A part of the file, after so many of its lines.
    pub(crate) fn part(&self, lines_before: u32, text: &str) -> Self {
        Self {
            name: self.name.clone(),
            text: text.to_owned(),
            directory: self.directory.clone(),
            line_starts: line_starts(text),
            lines_before,
        }
    }

    /// The line of a span.
    pub(crate) fn origin(&self, span: Range<usize>) -> Origin {
        let begun = self.line_starts.partition_point(|&start| start <= span.start);
        self.line(u32::try_from(begun + 1).unwrap_or(u32::MAX))
    }

    /// A line of what is read here, counted from 1.
    pub(crate) fn line(&self, number: u32) -> Origin {
        Origin::new(Arc::clone(&self.name), self.lines_before.saturating_add(number))
    }

    /// A path that the file names, relative to the file's directory.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }
}

fn line_starts(text: &str) -> Box<[usize]> {
    text.match_indices('\n').map(|(newline, _)| newline + 1).collect()
}

/// What changes when a file does: device, inode, bytes, and the times of its bytes and of its inode
/// in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp([i128; 5]);

impl Stamp {
    /// The stamp of the file at `path`; `None` where there is none. A symbolic link counts as what it
    /// leads to: that is how Kubernetes replaces files.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let file = path.metadata().ok()?;
        let time = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let times = (time(file.mtime(), file.mtime_nsec()), time(file.ctime(), file.ctime_nsec()));
        Some(Self([file.dev().into(), file.ino().into(), file.size().into(), times.0, times.1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_on_the_line_that_newlines_before_it_count() {
        let path = Path::new(env!("CARGO_MANIFEST_PATH"));
        let whole = File::read(path, &mut Report::default()).unwrap();
        for text in ["", "\n", "a", "a\n", "\n\na = 1\n\nb = \"x\ny\"", &whole.text] {
            let part = whole.part(7, text);
            for start in 0..=text.len() + 1 {
                let before = &text.as_bytes()[..start.min(text.len())];
                let newlines = before.iter().filter(|&&byte| byte == b'\n').count();
                assert_eq!(part.origin(start..start).line as usize, 7 + 1 + newlines, "{start} of {text:?}");
            }
        }
    }
}
