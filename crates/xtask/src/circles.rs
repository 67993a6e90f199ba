//! Circles among the files of a crate: files that must all be understood to understand one.
//!
//! A file needs another where it names something in it. A parent and what it is made of belong together
//! and do not count, however they name each other; siblings do, also by `super::`. Tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};

use crate::command::Failure;
use crate::metadata::Metadata;

/// Files that may stand in one circle.
const FILES_MAX: usize = 3;

/// A module by its path within its crate; the crate itself is the empty path.
type Module = Vec<String>;

/// No crate has a circle of more files than it may.
pub(crate) fn check(metadata: &Metadata) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for package in metadata.members() {
        let folder = package.manifest_path.with_file_name("src");
        let edges = needs(&folder)?;
        let circle = largest(&edges);
        if circle.len() > FILES_MAX {
            let names: Vec<_> = circle.iter().map(|module| told(module, &circle, &edges)).collect();
            let (room, files) = (package.room(), circle.len());
            wrong.push(format!(
                "{room}: {files} files in a circle, {FILES_MAX} at most: {}",
                names.join(", ")
            ));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure(wrong.join("; "))) }
}

/// A module and what it needs of its circle.
fn told(module: &Module, circle: &[Module], edges: &BTreeMap<Module, BTreeSet<Module>>) -> String {
    let needed = edges[module].iter().filter(|other| circle.contains(other)).map(|other| other.join("::"));
    format!("{} (needs {})", module.join("::"), needed.collect::<Vec<_>>().join(", "))
}

/// Which modules of a crate need which, tests left out.
fn needs(folder: &Path) -> Result<BTreeMap<Module, BTreeSet<Module>>, Failure> {
    let mut files = BTreeMap::new();
    collect(folder, &Vec::new(), &mut files)?;
    let modules: BTreeSet<Module> = files.keys().cloned().collect();
    let mut edges = BTreeMap::new();
    for (module, file) in &files {
        let mut finder = Finder { module, modules: &modules, found: BTreeSet::new() };
        finder.visit_file(file);
        finder.found.retain(|other| !module.starts_with(other) && !other.starts_with(module));
        edges.insert(module.clone(), finder.found);
    }
    Ok(edges)
}

fn collect(folder: &Path, parent: &Module, files: &mut BTreeMap<Module, syn::File>) -> Result<(), Failure> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| Failure(format!("{}: {error}", path.display()));
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let child = || [parent.as_slice(), std::slice::from_ref(&name)].concat();
        if path.is_dir() {
            collect(&path, &child(), files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            let text = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
            let file = syn::parse_file(&text).map_err(|error| failed(&path, &error))?;
            let module = if matches!(&*name, "mod" | "lib" | "main") { parent.clone() } else { child() };
            files.insert(module, file);
        }
    }
    Ok(())
}

/// Collects the modules that a file's paths lead into.
struct Finder<'a> {
    module: &'a Module,
    modules: &'a BTreeSet<Module>,
    found: BTreeSet<Module>,
}

impl Finder<'_> {
    fn take(&mut self, words: &[String]) {
        let mut base = match words.first().map(String::as_str) {
            Some("crate") => Module::new(),
            Some("super" | "self") => self.module.clone(),
            _ => return,
        };
        let mut rest = words.iter().skip_while(|word| matches!(&***word, "crate" | "self")).peekable();
        while rest.next_if(|word| *word == "super").is_some() {
            base.pop();
        }
        for word in rest {
            base.push(word.clone());
            if !self.modules.contains(&base) {
                base.pop();
                break;
            }
        }
        self.found.insert(base);
    }

    fn take_tree(&mut self, before: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.take_tree(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.take_tree(before, tree)),
            syn::UseTree::Name(syn::UseName { ident })
            | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                before.push(ident.to_string());
                self.take(before);
                before.pop();
            }
            syn::UseTree::Glob(_) => self.take(before),
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.take_tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.take(&words);
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string().contains("test"))
        });
        // Paths within a module written in place would be read as if they stood in its file.
        if !is_test && item.content.is_none() {
            visit::visit_item_mod(self, item);
        }
    }
}

/// The largest set of modules of which each needs, by whatever way, each other.
fn largest(edges: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Module> {
    let reach: BTreeMap<&Module, BTreeSet<&Module>> =
        edges.keys().map(|module| (module, reachable(module, edges))).collect();
    let circle = |module: &&Module| {
        let back = |other: &&&Module| reach.get(*other).is_some_and(|reached| reached.contains(module));
        reach[module].iter().filter(back).map(|other| (*other).clone()).collect::<Vec<_>>()
    };
    edges.keys().map(|module| circle(&module)).max_by_key(Vec::len).unwrap_or_default()
}

fn reachable<'a>(from: &'a Module, edges: &'a BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        for next in edges.get(module).into_iter().flatten() {
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle_of(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        largest(&needs(folder.path()).unwrap()).iter().map(|module| module.join("::")).collect()
    }

    #[test]
    fn siblings_that_need_each_other_are_a_circle_by_whatever_path() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::{B, other};"),
            ("b.rs", "type B = super::c::C;"),
            ("c.rs", "use super::a::A;"),
            ("d.rs", "use crate::{a, b::B};"),
        ];
        assert_eq!(circle_of(&files), ["a", "b", "c"]);
    }

    #[test]
    fn parents_and_tests_do_not_count() {
        let files = [
            ("lib.rs", "mod a; use a::A;"),
            ("a/mod.rs", "mod b; use b::B; use crate::X; #[cfg(test)] mod tests { use crate::c::C; }"),
            ("a/b.rs", "use super::A; use crate::c::C;"),
            ("c.rs", "#[cfg(test)] mod tests { use crate::a::b::B; }"),
            ("a/tests.rs", "use crate::c::C;"),
        ];
        assert_eq!(circle_of(&files), [""; 0]);
    }
}
