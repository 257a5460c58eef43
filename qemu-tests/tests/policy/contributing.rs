//! The pages that lead a newcomer through the tree are true: each file that they name is there, and each list of places for a new
//! thing has all places that its example has.

use super::root;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where examples are looked for.
const SEARCHED: [&str; 2] = ["runtime", "netd"];

#[test]
fn every_file_that_a_page_names_is_there() {
    for page in [
        "CONTRIBUTING.md",
        "README.md",
        "SECURITY.md",
        "runtime/README.md",
        "runtime/FORMATS.md",
        "runtime/BRING-YOUR-OWN-ROOT.md",
    ] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        for path in words_in_backquotes(&text).filter(|word| is_path(word)) {
            let found =
                [root().join(path), root().join("runtime").join(path), root().join("runtime/init/src").join(path)];
            assert!(found.iter().any(|path| path.exists()), "{page} names {path}, which is not there");
        }
    }
}

#[test]
fn each_list_has_every_place_of_its_example() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let mut examples = 0;
    for section in text.split("\n### ").skip(1) {
        let Some((_, rest)) = section.split_once("Example: `") else { continue };
        let (example, list) = rest.split_once('`').unwrap();
        let listed: BTreeSet<&str> = words_in_backquotes(list).filter(|word| is_path(word)).collect();
        let mut found = BTreeSet::new();
        for directory in SEARCHED {
            files_with(&root().join(directory), example, &mut found);
        }
        for file in &found {
            let file = file.strip_prefix(root()).unwrap().to_str().unwrap();
            assert!(listed.contains(file), "CONTRIBUTING.md: {example} is in {file} too, which its list lacks");
        }
        assert!(3 < found.len(), "{example} is no example any more");
        examples += 1;
    }
    assert_eq!(examples, 3);
}

fn words_in_backquotes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// A file or directory of the tree by its whole path, and not a command, a value or a place on a board.
fn is_path(word: &str) -> bool {
    let begins = [
        "runtime/",
        "netd/",
        "updater/",
        "qemu-tests/",
        "init/src/",
        "container/src/",
        "cli/src/",
        "wire/src/",
        "spec/src/",
    ];
    begins.iter().any(|begin| word.starts_with(begin)) && !word.contains([' ', '*', ':'])
}

fn files_with(directory: &Path, text: &str, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_with(&path, text, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && fs::read_to_string(&path).unwrap().contains(text)
        {
            found.insert(path);
        }
    }
}
