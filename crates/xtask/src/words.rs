//! The documents: the README fits a newcomer's five minutes, pages use plain words, links and citations lead somewhere.
//!
//! A sentence is what ends with `.`, `!` or `?`; a cell of a table, an item of a list and a paragraph end one too.
//! What stands between code fences is no sentence.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{Failure, root};

/// Lines of the README: two screens and a half.
const README_LINES_MAX: usize = 150;
/// Words of the README, code included: five minutes of reading.
const README_WORDS_MAX: usize = 1200;
/// Words of a sentence that is read once.
const SENTENCE_WORDS_MAX: usize = 30;
/// Characters of a line that fits an editor.
const LINE_CHARS_MAX: usize = 120;
/// Words that leave open who is meant.
const VAGUE_WORDS: [&str; 3] = ["nobody", "somebody", "whoever"];
/// Where the decisions stand that comments cite by their numbers. In two parts, since this file is read too.
const DESIGN: &str = concat!("DESIGN", ".md");

/// Looks at every page of the repository, and at what its sources cite.
pub(crate) fn check() -> Result<(), Failure> {
    let mut files = Vec::new();
    collect(&root(), &mut files)?;
    let mut wrong = readme(&read(&root().join("README.md"))?);
    for path in with_extension(&files, "md") {
        let (name, text) = (name_of(path), read(path)?);
        wrong.extend(vague_words(&text).map(|fault| format!("{name}:{fault}")));
        let folder = path.parent().expect("a file lies in a folder");
        wrong.extend(
            dead_links(&text, &|link| folder.join(link).exists()).map(|fault| format!("{name}:{fault}")),
        );
    }
    let sections = sections(&read(&root().join("crates").join(DESIGN))?);
    for path in with_extension(&files, "rs") {
        let (name, text) = (name_of(path), read(path)?);
        wrong.extend(dead_citations(&text, &sections).map(|fault| format!("{name}:{fault}")));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure(wrong.join("; "))) }
}

fn readme(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let (lines, words) = (text.lines().count(), text.split_whitespace().count());
    if lines > README_LINES_MAX {
        wrong.push(format!("README.md has {lines} lines, and {README_LINES_MAX} at most"));
    }
    if words > README_WORDS_MAX {
        wrong.push(format!("README.md has {words} words, and {README_WORDS_MAX} at most"));
    }
    for (line, text) in numbered(text) {
        let chars = text.chars().count();
        if chars > LINE_CHARS_MAX {
            wrong.push(format!("README.md:{line}: {chars} characters, and {LINE_CHARS_MAX} at most"));
        }
    }
    for (line, sentence) in sentences(text) {
        let words = sentence.split_whitespace().count();
        if words > SENTENCE_WORDS_MAX {
            wrong.push(format!(
                "README.md:{line}: a sentence of {words} words, and {SENTENCE_WORDS_MAX} at most"
            ));
        }
    }
    wrong
}

/// Every sentence outside code, and the line on which its paragraph, item or cell begins.
fn sentences(text: &str) -> Vec<(usize, String)> {
    // What ends a sentence without a mark: the end of the block.
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (line, text) in outside_code(text) {
        let text = text.trim();
        if text.starts_with('|') {
            blocks.extend(text.trim_matches('|').split('|').map(|cell| (line, cell.to_owned())));
        } else if let Some((_, block)) = blocks.last_mut().filter(|_| goes_on && !begins_a_block(text)) {
            block.push(' ');
            block.push_str(text);
        } else {
            blocks.push((line, text.to_owned()));
        }
        goes_on = !text.is_empty() && !text.starts_with(['|', '#']);
    }
    let split = |(line, block): &(usize, String)| {
        let mut sentences = vec![(*line, String::new())];
        for word in block.split_whitespace() {
            let (_, sentence) = sentences.last_mut().expect("it has one from the start");
            sentence.push_str(word);
            sentence.push(' ');
            if word.ends_with(['.', '!', '?']) {
                sentences.push((*line, String::new()));
            }
        }
        sentences
    };
    blocks.iter().flat_map(split).collect()
}

fn begins_a_block(text: &str) -> bool {
    let number = text.trim_start_matches(|char: char| char.is_ascii_digit());
    text.is_empty()
        || text.starts_with(['#', '|'])
        || text.starts_with("- ")
        || number.len() < text.len() && number.starts_with(". ")
}

fn vague_words(text: &str) -> impl Iterator<Item = String> {
    numbered(text).filter_map(|(line, text)| {
        let mut words = text.split(|char: char| !char.is_alphanumeric());
        let vague = words.find(|word| VAGUE_WORDS.iter().any(|vague| word.eq_ignore_ascii_case(vague)))?;
        Some(format!("{line}: {vague:?}: say who is meant"))
    })
}

/// Links to files, as `[words](path)` or `[words](path#section)`, of which `is_there` says no.
fn dead_links(text: &str, is_there: &dyn Fn(&str) -> bool) -> impl Iterator<Item = String> {
    outside_code(text).flat_map(move |(line, text)| {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        let files = links.map(|(link, _)| link.split('#').next().unwrap_or_default());
        let dead = files.filter(|file| !file.is_empty() && !file.contains(':') && !is_there(file));
        dead.map(move |file| format!("{line}: there is no file {file}")).collect::<Vec<_>>()
    })
}

/// The numbers of the sections, as in `### A5 A network has a widest prefix`.
fn sections(text: &str) -> BTreeSet<String> {
    let headings = outside_code(text).filter_map(|(_, line)| line.strip_prefix('#'));
    let first_words = headings.filter_map(|line| line.trim_start_matches('#').split_whitespace().next());
    first_words.filter(|word| is_section(word)).map(str::to_owned).collect()
}

/// A letter and a number.
fn is_section(word: &str) -> bool {
    let number = word.strip_prefix(|char: char| char.is_ascii_uppercase()).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Citations as `DESIGN.md A5` or `DESIGN.md A2, F1`, of sections that the page does not have.
fn dead_citations(text: &str, sections: &BTreeSet<String>) -> impl Iterator<Item = String> {
    numbered(text).flat_map(move |(line, text)| {
        let cited = text.split(DESIGN).skip(1).flat_map(|rest| {
            let words = rest.split([' ', ',', ')', '.', ':', ';', '`']).filter(|word| !word.is_empty());
            let cited: Vec<_> = words.take_while(|word| is_section(word)).collect();
            if cited.is_empty() { vec!["a page without a section"] } else { cited }
        });
        let dead = cited.filter(|word| !sections.contains(*word));
        dead.map(move |word| format!("{line}: cites {word} of {DESIGN}, which does not exist"))
            .collect::<Vec<_>>()
    })
}

/// Every line, counted from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Every line that is not part of a block of code; a fence counts as an empty line.
fn outside_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    numbered(text).filter_map(move |(line, text)| {
        if text.trim_start().starts_with("```") {
            is_code = !is_code;
            return Some((line, ""));
        }
        (!is_code).then_some((line, text))
    })
}

/// Every file below `folder` but what is built or hidden.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let cannot = |error| Failure(format!("cannot read {}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let name = entry.file_name();
        if name == "target" || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().map_err(cannot)?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn with_extension<'a>(files: &'a [PathBuf], extension: &'a str) -> impl Iterator<Item = &'a PathBuf> {
    files.iter().filter(move |path| path.extension().is_some_and(|found| found == extension))
}

fn name_of(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure(format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> String {
        vec!["a"; count].join(" ")
    }

    #[test]
    fn a_readme_within_its_bounds_passes_and_one_past_each_does_not() {
        let within =
            format!("{}.\n", words(SENTENCE_WORDS_MAX)).repeat(README_WORDS_MAX / SENTENCE_WORDS_MAX - 1);
        assert_eq!(readme(&within), [""; 0]);
        let faults = |text: &str| readme(text).len();
        assert_eq!(faults(&"\n".repeat(README_LINES_MAX)), 0);
        assert_eq!(faults(&"\n".repeat(README_LINES_MAX + 1)), 1);
        assert_eq!(
            faults(&"a.\n".repeat(9).replace('a', &"b. ".repeat(150))),
            10,
            "nine lines and the words"
        );
        assert_eq!(faults(&"x".repeat(LINE_CHARS_MAX)), 0);
        assert_eq!(faults(&"ä".repeat(LINE_CHARS_MAX)), 0, "characters, not bytes");
        assert_eq!(faults(&"x".repeat(LINE_CHARS_MAX + 1)), 1);
    }

    #[test]
    fn a_sentence_goes_on_over_lines_and_ends_with_its_item_cell_or_paragraph() {
        let half = words(SENTENCE_WORDS_MAX / 2);
        assert_eq!(readme(&format!("{half}\n{half}.\n")).len(), 0);
        assert_eq!(readme(&format!("{half}\n{half} more.\n")).len(), 1);
        for apart in ["\n\n", ".\n", "?\n", "\n- ", "\n12. ", "\n# ", "\n```\ncode\n```\n"] {
            assert_eq!(readme(&format!("{half}{apart}{half} more\n")).len(), 0, "{apart:?}");
        }
        assert_eq!(readme(&format!("| {half} | {half} more |\n")).len(), 0);
        assert_eq!(readme(&format!("| {half}  {half} more |\n")).len(), 1);
        assert_eq!(readme(&format!("```\n{half} {half} {half}\n```\n")).len(), 0);
    }

    #[test]
    fn words_that_leave_open_who_is_meant_are_found_whole_and_in_any_case() {
        let found: Vec<_> = vague_words("Nobody\nfine\n`whoever`,\nnobodys\n").collect();
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("1: ") && found[1].starts_with("3: "), "{found:?}");
    }

    #[test]
    fn a_link_leads_to_a_file_to_a_section_or_out_of_the_repository() {
        let is_there = |link: &str| link == "here.md";
        let dead = |text: &str| dead_links(text, &is_there).count();
        assert_eq!(dead("[a](here.md) [b](here.md#part) [c](#part) [d](https://example.com/x)"), 0);
        assert_eq!(dead("[a](here.md) and [b](gone.md), [c](gone.md#part)"), 2);
        assert_eq!(dead("```\n[a](gone.md)\n```"), 0);
    }

    #[test]
    fn a_citation_names_sections_that_the_page_has() {
        let sections =
            sections("# Title\n## A Relay\n### A5 Width\ntext A6\n```\n### B1\n```\n### S12 Compaction\n");
        assert_eq!(sections.iter().collect::<Vec<_>>(), ["A5", "S12"]);
        let dead = |text: &str| dead_citations(&text.replace('@', DESIGN), &sections).count();
        assert_eq!(dead("// as it must be (@ A5)\n/// @ A5, S12: both.\n//! (@ A5). More"), 0);
        assert_eq!(dead("// (@ A6) and @ A5, B1"), 2);
        assert_eq!(dead("// @ says so"), 1);
    }
}
