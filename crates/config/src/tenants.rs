//! The tenants: a directory with a file of each, or one file of many; read by all cores at once.
//!
//! A reload reads again only what changed: a file and what it names beside itself (lists,
//! credentials) are known by device, inode, size and times. Of one file of many tenants every tenant
//! is read again.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use policy::{Listener, Sourced, TenantSource};

use crate::error::{ConfigError, Report, Warning};
use crate::file::{File, Stamp};
use crate::json;
use crate::section::{Keys, Section, parse};
use crate::tenant;

/// The keys of a file of many tenants.
const MANY: Keys = Keys { known: &["tenant"], later: &[] };

/// Where a tenant begins in a TOML file of many.
const TENANT_HEADER: &str = "[[tenant]]";

/// Fewer than this are not worth another thread.
const EACH_MIN: usize = 16;

/// What a reload takes over from the configurations before it: the tenants of files that were read,
/// and the listeners, which stay what the first of them made them.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    files: HashMap<PathBuf, KeptFile>,
    /// Where tenant files are looked for; `None` where one file holds all.
    directory: Option<PathBuf>,
    /// The node file and what it names, as they were before they were read.
    pub(crate) beside: Vec<(PathBuf, Option<Stamp>)>,
    /// None before the first configuration.
    pub(crate) listeners: Vec<Listener>,
}

impl Kept {
    /// The listeners that run, whatever a file says of them since.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The files that a reload would find to be others than they were when they were read, in order: changed,
    /// come since, or gone.
    #[must_use]
    pub fn changed(&self) -> Vec<PathBuf> {
        let stamps = self.files.values().flat_map(|file| &file.stamps).chain(&self.beside);
        let mut changed: Vec<PathBuf> = stamps
            .filter(|(path, stamp)| Stamp::of(path) != *stamp)
            .map(|(path, _)| path.clone())
            .chain(self.directory.iter().flat_map(|directory| self.new_files(directory)))
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }

    fn new_files(&self, directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let is_new = |path: &PathBuf| is_tenant_file(path) && !self.files.contains_key(path);
        entries.map(|entry| entry.path()).filter(is_new).collect()
    }
}

#[derive(Clone, Debug)]
struct KeptFile {
    /// The file, and each that it names.
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    tenants: Vec<Arc<TenantSource>>,
    warnings: Vec<Warning>,
}

/// What was found under `policy.tenants`.
#[derive(Default)]
pub(crate) struct Tenants {
    pub(crate) sources: Vec<Arc<TenantSource>>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) kept: Kept,
}

/// A file, and what is wrong with it.
struct Found {
    file: KeptFile,
    errors: Vec<ConfigError>,
}

/// A piece of a file, a whole one included, and what was noted while it was read.
type Piece = (Vec<Arc<TenantSource>>, Report);

/// Reads the directory or the file that `written` names, except what `kept` has of it already.
pub(crate) fn read(path: &Path, written: &Sourced<String>, kept: &Kept, report: &mut Report) -> Tenants {
    let is_one_file = !path.is_dir() && has_extension(path, &["toml", "jsonl"]);
    let (files, others) = match is_one_file {
        true => (vec![path.to_owned()], Vec::new()),
        false => directory(path, written, report),
    };
    // One file is parted among the threads; of many files each thread takes some.
    let found = match is_one_file {
        true => vec![unless_kept(path, kept, of_many)],
        false => in_parallel(&files, |file| unless_kept(file, kept, of_one)),
    };
    let mut tenants = Tenants { files, ..Tenants::default() };
    let beside: HashSet<&Path> =
        found.iter().flat_map(|found| &found.file.stamps).map(|(path, _)| path.as_path()).collect();
    for other in others.iter().filter(|other| !beside.contains(other.as_path())) {
        let message = format!("{} is not read: the name of a tenant's file ends in .toml", other.display());
        report.warn(&written.origin, "policy.tenants", message);
    }
    tenants.kept.directory = (!is_one_file).then(|| path.to_owned());
    for (path, Found { file, errors }) in tenants.files.iter().zip(found) {
        tenants.sources.extend(file.tenants.iter().cloned());
        report.warnings.extend(file.warnings.iter().cloned());
        if errors.is_empty() {
            tenants.kept.files.insert(path.clone(), file);
        }
        report.errors.extend(errors);
    }
    tenants
}

/// The tenant files of a directory, in order, and the others that look as if they were meant to be some.
fn directory(path: &Path, written: &Sourced<String>, report: &mut Report) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> = match std::fs::read_dir(path) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        Err(error) => {
            let (message, remedy) = match path.is_file() {
                true => (
                    format!("{} is one file, whose name ends in neither .toml nor .jsonl", path.display()),
                    "call it tenants.toml with a [[tenant]] each, or tenants.jsonl with a line of JSON each",
                ),
                false => (
                    format!("cannot read the directory {}: {error}", path.display()),
                    "create it, with one file per tenant, or name one file of all: tenants.toml or tenants.jsonl",
                ),
            };
            report.error(&written.origin, "policy.tenants", message, remedy);
            return (Vec::new(), Vec::new());
        }
    };
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    let (files, mut others): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| has_extension(path, &["toml"]));
    others.retain(|path| !is_left_over(path) && path.is_file());
    if files.is_empty() {
        let message = format!("no tenant file in {}: every relaying is denied", path.display());
        report.warn(&written.origin, "policy.tenants", message);
    }
    (files, others)
}

/// A copy that an editor or a package manager left behind, a file that was put out of force, or a note.
fn is_left_over(path: &Path) -> bool {
    const ENDS: [&str; 9] = ["~", ".bak", ".old", ".orig", ".disabled", ".md", ".rpmnew", ".rpmsave", ".swp"];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ENDS.iter().any(|end| name.ends_with(end)) || name.contains(".dpkg-")
}

fn is_tenant_file(path: &Path) -> bool {
    !is_hidden(path) && has_extension(path, &["toml"])
}

/// Editors and Kubernetes leave hidden files beside the real ones.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known))
}

/// What was kept of a file where nothing of it changed, else what `read` reads.
fn unless_kept(path: &Path, kept: &Kept, read: impl Fn(&Path) -> Vec<Piece>) -> Found {
    let unchanged = kept
        .files
        .get(path)
        .filter(|file| file.stamps.iter().all(|(path, stamp)| stamp.is_some() && Stamp::of(path) == *stamp));
    if let Some(file) = unchanged {
        return Found { file: file.clone(), errors: Vec::new() };
    }
    // Before it is read: what changes meanwhile is seen at the next reload.
    let stamps = vec![(path.to_owned(), Stamp::of(path))];
    let mut file = KeptFile { stamps, tenants: Vec::new(), warnings: Vec::new() };
    let mut errors = Vec::new();
    for (tenants, report) in read(path) {
        file.tenants.extend(tenants);
        file.warnings.extend(report.warnings);
        file.stamps.extend(report.beside);
        errors.extend(report.errors);
    }
    Found { file, errors }
}

/// A file of one tenant.
fn of_one(path: &Path) -> Vec<Piece> {
    let mut report = Report::default();
    let tenant = File::read(path, &mut report).and_then(|file| {
        let table = parse(&file, &mut report)?;
        let top = Section::top(&file, table.get_ref(), &tenant::TOP, &mut report);
        Some(Arc::new(tenant::read(&top, &mut report)))
    });
    vec![(tenant.into_iter().collect(), report)]
}

/// A file of many tenants: a `[[tenant]]` block or a line of JSON each, with the keys of a tenant file.
fn of_many(path: &Path) -> Vec<Piece> {
    let mut report = Report::default();
    let Some(file) = File::read(path, &mut report) else { return vec![(Vec::new(), report)] };
    if has_extension(path, &["jsonl"]) {
        let lines: Vec<_> =
            (0_u32..).zip(file.text.lines()).filter(|(_, line)| !line.trim().is_empty()).collect();
        return in_parallel(&lines, |&(before, line)| of_line(&file.part(before, line)));
    }
    in_parallel(&blocks(&file.text), |&(before, text)| of_block(&file.part(before, text)))
}

fn of_line(file: &File) -> Piece {
    let mut report = Report::default();
    let tenants = match json::object(&file.text) {
        Ok(table) => {
            let top = Section::top(file, &table, &tenant::TOP, &mut report);
            vec![Arc::new(tenant::read(&top, &mut report))]
        }
        Err(error) => {
            report.error(&file.origin(0..0), "", format!("not JSON: {error}"), "correct the line");
            Vec::new()
        }
    };
    (tenants, report)
}

fn of_block(file: &File) -> Piece {
    let mut report = Report::default();
    let Some(table) = parse(file, &mut report) else { return (Vec::new(), report) };
    let top = Section::top(file, table.get_ref(), &MANY, &mut report);
    let sections = top.sections("tenant", &tenant::TOP, &mut report);
    let tenants = sections.iter().map(|section| Arc::new(tenant::read(section, &mut report))).collect();
    (tenants, report)
}

/// What stands before the first tenant, then each tenant, with the lines before it. A text of several
/// lines that holds a line like a header would be cut in two, which is a syntax error, never a
/// misreading.
fn blocks(text: &str) -> Vec<(u32, &str)> {
    let mut blocks = Vec::new();
    let (mut begin, mut begin_line, mut at) = (0, 0, 0);
    for (line, content) in (0_u32..).zip(text.split_inclusive('\n')) {
        if content.starts_with(TENANT_HEADER) {
            blocks.push((begin_line, &text[begin..at]));
            (begin, begin_line) = (at, line);
        }
        at += content.len();
    }
    blocks.push((begin_line, &text[begin..]));
    blocks
}

/// The answers of `work` for `items`, in their order, from as many threads as there are cores.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let each = items.len().div_ceil(threads).max(EACH_MIN);
    let work = &work;
    thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(each)
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("a reader reports and does not panic")).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_many_is_parted_before_each_tenant() {
        let text = "# head\n[[tenant]]\nname = \"a\"\n\n[[tenant.route]]\n[[tenant]] # b\nname = \"b\"";
        let parts: Vec<_> =
            blocks(text).into_iter().map(|(line, text)| (line, text.lines().count())).collect();
        assert_eq!(parts, [(0, 1), (1, 4), (5, 2)]);
        assert_eq!(blocks(text).iter().map(|(_, text)| text.len()).sum::<usize>(), text.len());
    }

    #[test]
    fn a_reload_reads_again_only_what_changed_itself_or_in_a_file_beside() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let tenant =
            |name: &str, more: &str| format!("name = {name:?}\nsenders = [\"@{name}.example\"]\n{more}");
        let listed = "[lists]\nblocked_senders = \"spammers\"\n";
        write("a.toml", &tenant("a", ""));
        write("b.toml", &tenant("b", ""));
        write("c.toml", &tenant("c", listed));
        write("spammers", "adatum.example\n");
        let written = Sourced::new("tenants".to_owned(), policy::Origin::new("gatepost.toml", 1));
        let read = |kept: &Kept| {
            let mut report = Report::default();
            let tenants = read(folder.path(), &written, kept, &mut report);
            assert_eq!(report.errors, []);
            tenants
        };
        let same = |before: &Tenants, after: &Tenants| {
            let pairs = before.sources.iter().zip(&after.sources);
            pairs.map(|(before, after)| Arc::ptr_eq(before, after)).collect::<Vec<_>>()
        };
        let first = read(&Kept::default());
        let second = read(&first.kept);
        assert_eq!(same(&first, &second), [true, true, true]);
        assert!(second.kept.changed().is_empty());
        write("b.toml", &tenant("b", "null_sender = true\n"));
        write("spammers", "adatum.example\ncontoso.example\n");
        write("d.toml", &tenant("d", ""));
        let named = |names: &[&str]| names.iter().map(|name| folder.path().join(name)).collect::<Vec<_>>();
        assert_eq!(second.kept.changed(), named(&["b.toml", "d.toml", "spammers"]));
        std::fs::remove_file(folder.path().join("d.toml")).unwrap();
        let third = read(&second.kept);
        assert_eq!(same(&second, &third), [true, false, false]);
        std::fs::remove_file(folder.path().join("a.toml")).unwrap();
        assert_eq!(third.kept.changed(), named(&["a.toml"]));
        let fourth = read(&third.kept);
        assert_eq!(same(&third, &fourth), [false, false], "b and c moved up");
        assert!(Arc::ptr_eq(&third.sources[1], &fourth.sources[0]));
        assert_eq!(fourth.kept.files.len(), 2);
    }

    #[test]
    fn answers_keep_the_order_of_what_was_asked() {
        let numbers: Vec<u32> = (0..1000).collect();
        assert_eq!(
            in_parallel(&numbers, |number| number * 2),
            numbers.iter().map(|n| n * 2).collect::<Vec<_>>()
        );
        assert!(in_parallel(&[0_u32; 0], |number| *number).is_empty());
    }
}
