//! What every source file keeps to: its length, its first line, and where `unsafe` may stand.

use crate::root;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// More lines of code than this is an error.
const MAX_LINES: usize = 500;
/// More than this is worth a look for the second question that the file answers.
const ENOUGH_LINES: usize = 300;

/// A source file of ours.
struct SourceFile {
    /// From the root of the workspace.
    path: PathBuf,
    text: String,
}

impl SourceFile {
    /// Tests stand in `tests/`, in `tests.rs` or in `…_tests.rs`, where they are not beside the code.
    fn is_test(&self) -> bool {
        let name = self.path.file_name().unwrap().to_str().unwrap();
        name == "tests.rs"
            || name.ends_with("_tests.rs")
            || self.path.components().any(|part| part.as_os_str() == "tests")
    }

    /// The lines before the tests that stand beside the code.
    fn code_lines(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| pair[0].starts_with("#[cfg(test)]") && is_test_module(pair[1]));
        tests.unwrap_or(lines.len())
    }
}

/// The first line after `#[cfg(test)]`: the module, or one more attribute of it.
fn is_test_module(line: &str) -> bool {
    line.starts_with("mod ") || line.starts_with("#[")
}

fn rust_files() -> Vec<SourceFile> {
    let mut files = Vec::new();
    collect(root(), &mut files);
    assert!(50 < files.len(), "only {} files were found: the search looks in the wrong place", files.len());
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

fn collect(directory: &Path, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Hidden directories and what builds leave behind are not ours.
        if name.starts_with('.') || name.starts_with("target") || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push(SourceFile { path: path.strip_prefix(root()).unwrap().to_owned(), text });
        }
    }
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn a_file_is_at_most_500_lines_long_tests_aside() {
    let mut too_long = Vec::new();
    for file in rust_files().iter().filter(|file| !file.is_test()) {
        let lines = file.code_lines();
        if ENOUGH_LINES < lines {
            println!("long: {lines} lines in {}", file.path.display());
        }
        if MAX_LINES < lines {
            too_long.push(format!("{}: {lines} lines", file.path.display()));
        }
    }
    assert_none("longer than 500 lines", &too_long);
}

#[test]
fn a_file_opens_by_saying_what_it_is_for() {
    let files = rust_files();
    let silent = files.iter().filter(|file| !file.is_test() && !file.text.starts_with("//!"));
    assert_none("no //! in the first line", &silent.map(|file| file.path.display().to_string()).collect::<Vec<_>>());
}

#[test]
fn unsafe_stands_in_sys_only() {
    let mut found = Vec::new();
    for file in rust_files() {
        if file.path.starts_with("runtime/sys") {
            continue;
        }
        for (number, line) in code_of(&file.text).lines().enumerate() {
            if words(line).any(|word| word == "unsafe" || word == "unsafe_code") {
                found.push(format!("{}:{}", file.path.display(), number + 1));
            }
        }
    }
    assert_none("unsafe outside runtime/sys", &found);
}

/// `cargo accept fuzz` runs all of `tests/fuzz.rs`, and of what stands beside the code what has such a name.
#[test]
fn a_fuzz_target_beside_the_code_has_any_in_its_name() {
    let mut found = Vec::new();
    for file in rust_files().iter().filter(|file| file.path.iter().any(|part| part == "src")) {
        let mut test = "";
        for line in file.text.lines().map(str::trim_start) {
            test = line.strip_prefix("fn ").unwrap_or(test);
            let name = test.split('(').next().unwrap_or_default();
            if line.starts_with("fuzz(") && !name.contains("any_") {
                found.push(format!("{}: {name}", file.path.display()));
            }
        }
    }
    assert_none("not found by cargo accept fuzz", &found);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut found = Vec::new();
    for file in rust_files() {
        for (number, line) in file.text.lines().enumerate() {
            if words(line).any(|word| marks.contains(&word)) {
                found.push(format!("{}:{}: {}", file.path.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none("left for later", &found);
}

/// `qemu-tests/data/run_test.sh` has the names of those that it runs as root.
#[test]
fn the_tests_that_need_root_are_run_as_root() {
    let script = fs::read_to_string(root().join("qemu-tests/data/run_test.sh")).unwrap();
    let mut lists = script.lines().filter_map(|line| line.strip_suffix(')'));
    let list = lists.find(|list| list.starts_with("yado-")).unwrap();
    let listed: BTreeSet<String> = list.split(" | ").map(str::to_owned).collect();
    let mut needing = BTreeSet::new();
    for file in rust_files().iter().filter(|file| !file.path.starts_with("qemu-tests")) {
        let says_so = |line: &str| line.contains("needs root") && !line.trim_start().starts_with("//");
        if file.text.lines().any(says_so) {
            needing.insert(package_of(&file.path));
        }
    }
    assert_eq!(needing, listed);
}

/// The package that a source file belongs to.
fn package_of(path: &Path) -> String {
    let manifest = path.ancestors().map(|folder| root().join(folder).join("Cargo.toml")).find(|path| path.exists());
    let manifest = fs::read_to_string(manifest.unwrap()).unwrap();
    manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap().trim_matches('"').to_owned()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|char: char| !char.is_alphanumeric() && char != '_')
}

/// The text without comments and string literals; every line stays where it was.
fn code_of(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (skipped, kept) = match literal_or_comment(rest) {
            Some(length) => (length, ""),
            None => (first.len_utf8(), &rest[..first.len_utf8()]),
        };
        out.push_str(kept);
        if kept.is_empty() {
            out.extend(rest[..skipped].matches('\n'));
            // Words on both sides of what was taken out stay two words.
            out.push(' ');
        }
        rest = &rest[skipped..];
    }
    out
}

/// The length of the comment or literal that `rest` begins with.
fn literal_or_comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if let Some(after) = rest.strip_prefix('r') {
        let hashes = after.len() - after.trim_start_matches('#').len();
        if after[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = 1 + hashes + 1;
            return Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()));
        }
    }
    // `'"'` is a character and begins no string.
    if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
        return Some(if rest.starts_with("'\\") { 4 } else { 3 });
    }
    rest.starts_with('"').then(|| quoted_length(rest))
}

fn quoted_length(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn words_in_comments_and_texts_are_not_code() {
    let text = "a // unsafe\nlet b = \"unsafe \\\" unsafe\"; /* unsafe\n */ r#\"unsafe\"# '\"' unsafe";
    let found: Vec<usize> = code_of(text)
        .lines()
        .enumerate()
        .filter(|(_, line)| words(line).any(|word| word == "unsafe"))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(found, [2]);
    assert_eq!(code_of(text).lines().count(), text.lines().count());
}

#[test]
fn a_test_that_skips_says_it_in_the_words_that_are_counted() {
    // `cargo accept` itself shows what it counted.
    let files = rust_files().into_iter().filter(|file| !file.path.starts_with("qemu-tests/src/accept"));
    let mut uncounted = Vec::new();
    for file in files.filter(|file| !file.path.ends_with("policy/sources.rs")) {
        let says = |line: &&str| line.contains("println!") && line.contains("SKIPPED") && !line.contains("SKIPPED: ");
        uncounted
            .extend(file.text.lines().filter(says).map(|line| format!("{}: {}", file.path.display(), line.trim())));
    }
    assert_none("skips that nobody counts; say SKIPPED: and why", &uncounted);
}
