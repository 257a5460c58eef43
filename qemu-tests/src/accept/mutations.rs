//! Tests that can fail: each patch in `qemu-tests/mutations/` takes away something that safety hangs on, and names the test that
//! must notice. In a copy of the tree that test is run as it is, and must pass; then with the patch, and must fail. A patch that
//! applies no longer, or after which the tree does not compile, has lost its meaning and fails too.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cargo_tests::{SKIP_MARK, runner};
use super::tally::Tally;
use crate::cache::Cache;
use crate::command::Tool;

/// Where the patches are, in the tree.
const FOLDER: &str = "qemu-tests/mutations";

/// So many patches there are at least.
pub(super) const LEAST: usize = 127;

/// The line of a patch's head that names its test.
const CAUGHT_BY: &str = "Caught by: cargo test ";

/// Programs that hosted tests start beside the one that cargo builds for them.
const PROGRAMS: [&str; 5] = ["build", "-p", "yado", "-p", "yado-init"];

/// One patch.
#[derive(Debug, PartialEq, Eq)]
struct Mutation {
    name: String,
    path: PathBuf,
    /// What stands behind `cargo test`.
    test: Vec<String>,
}

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// This machine lacks what it needs.
    Skipped(String),
    /// It was not run: there is no such test, or it does not compile.
    NotRun(String),
}

/// Checks that each patch still applies to the tree: cheap, so that whoever changes the code renews the patch with it.
pub(super) fn check_that_they_apply(tally: &mut Tally) {
    tally.check("every mutation applies", || {
        for mutation in all(&tree())? {
            apply(&mutation, &tree(), &["--check"])?;
        }
        Ok::<(), Error>(())
    });
}

/// Runs all of them.
pub(super) fn run(cache: &Cache, tally: &mut Tally) {
    let copy = cache.root().join("mutations");
    let Some(mutations) = tally.check("a copy of the tree is made", || {
        copy_tree(&tree(), &copy)?;
        all(&tree())
    }) else {
        return;
    };
    let mut unchanged: BTreeMap<&[String], Outcome> = BTreeMap::new();
    for mutation in &mutations {
        let name = format!("{}: its test notices", mutation.name);
        let before = unchanged.entry(&mutation.test).or_insert_with(|| run_test(&copy, &mutation.test));
        match before {
            Outcome::Passed => {}
            Outcome::Failed => {
                tally.fail(&name, &format!("it fails without the mutation: cargo test {}", mutation.test.join(" ")));
                continue;
            }
            Outcome::Skipped(reason) => {
                tally.skip(&name, reason);
                continue;
            }
            Outcome::NotRun(reason) => {
                tally.fail(&name, reason);
                continue;
            }
        }
        let outcome = apply(mutation, &copy, &[]).map(|()| run_test(&copy, &mutation.test));
        // Whatever came of it, the next one begins with the tree as it is.
        let restored = copy_tree(&tree(), &copy);
        match outcome {
            Ok(Outcome::Failed) => tally.pass(&name),
            Ok(Outcome::Passed) => tally.fail(&name, "it survives"),
            Ok(Outcome::Skipped(reason) | Outcome::NotRun(reason)) => tally.fail(&name, &reason),
            Err(error) => tally.fail(&name, &error.to_string()),
        }
        if let Err(error) = restored {
            return tally.fail("the copy of the tree is restored", &error.to_string());
        }
    }
}

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// By name.
fn all(tree: &Path) -> Result<Vec<Mutation>, Error> {
    let folder = tree.join(FOLDER);
    let entries = fs::read_dir(&folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let entries = entries.map_err(|source| Error::Io { path: folder, source })?;
    let mut mutations = Vec::new();
    for path in entries.into_iter().map(|entry| entry.path()) {
        let text = fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let test = parse_test(&text).ok_or_else(|| Error::Head { name: name.clone() })?;
        mutations.push(Mutation { name, path, test });
    }
    mutations.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(mutations)
}

/// The words behind `cargo test` in the head of a patch.
fn parse_test(patch: &str) -> Option<Vec<String>> {
    let head = patch.lines().take_while(|line| !line.starts_with("--- "));
    let words = head.filter_map(|line| line.strip_prefix(CAUGHT_BY)).next()?;
    Some(words.split_whitespace().map(str::to_owned).collect())
}

fn apply(mutation: &Mutation, tree: &Path, options: &[&str]) -> Result<(), Error> {
    // As if in no repository: in a folder of one, git leaves out what lies outside of that folder.
    let git = Tool::new("git").env("GIT_DIR", "/nonexistent").arg("apply").args(options).arg(&mutation.path);
    let applied = git.in_folder(tree).run();
    applied.map_err(|error| Error::DoesNotApply { name: mutation.name.clone(), said: error.to_string() })
}

/// Copies what git knows or would add. A file that is the same keeps its time, so that what was built of it stays.
fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let list =
        Tool::new("git").args(list).in_folder(from).output().map_err(|error| Error::List(error.to_string()))?;
    for file in list.split('\0').filter(|file| !file.is_empty()) {
        let (source, target) = (from.join(file), to.join(file));
        let failed = |source| Error::Io { path: target.clone(), source };
        // One that is deleted and not yet committed.
        let Ok(content) = fs::read(&source) else { continue };
        if fs::read(&target).is_ok_and(|old| old == content) {
            continue;
        }
        target.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
        fs::write(&target, content).map_err(failed)?;
        let permissions = fs::metadata(&source).map_err(failed)?.permissions();
        fs::set_permissions(&target, permissions).map_err(failed)?;
    }
    Ok(())
}

fn run_test(tree: &Path, test: &[String]) -> Outcome {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.current_dir(tree).args(["--config", &runner()]).args(arguments).stdin(Stdio::null());
        command.output().map_err(|error| Outcome::NotRun(format!("cargo: {error}")))
    };
    let of_test: Vec<&str> = test.iter().map(String::as_str).collect();
    let programs = if of_test.contains(&"hosted") { PROGRAMS.as_slice() } else { &["--version"] };
    let with_output: &[&str] = if of_test.contains(&"--") { &["--show-output"] } else { &["--", "--show-output"] };
    match cargo(programs) {
        Ok(output) if output.status.success() => {}
        Ok(output) => return Outcome::NotRun(last_line("it does not compile", &output.stderr)),
        Err(outcome) => return outcome,
    }
    match cargo(&[&["test", "--quiet"], &of_test[..], with_output].concat()) {
        Ok(output) => judge(output.status.success(), &String::from_utf8_lossy(&output.stdout), &output.stderr),
        Err(outcome) => outcome,
    }
}

/// From what the tests printed. At least one must have been run.
fn judge(is_success: bool, said: &str, errors: &[u8]) -> Outcome {
    let results = || said.lines().filter_map(|line| line.strip_prefix("test result: "));
    let ran = |result: &str| !result.contains(" 0 passed; 0 failed");
    if !results().any(ran) {
        let reason = if is_success { "there is no such test" } else { "it was not run" };
        return Outcome::NotRun(last_line(reason, errors));
    }
    if !is_success {
        return Outcome::Failed;
    }
    match said.lines().find_map(|line| line.strip_prefix(SKIP_MARK)) {
        Some(reason) => Outcome::Skipped(reason.to_owned()),
        None => Outcome::Passed,
    }
}

fn last_line(what: &str, errors: &[u8]) -> String {
    let errors = String::from_utf8_lossy(errors);
    let said = errors.lines().find(|line| line.starts_with("error")).unwrap_or_default();
    format!("{what} {said}").trim_end().to_owned()
}

/// Why mutations cannot be tried.
#[derive(Debug)]
enum Error {
    /// A patch's head names no test.
    Head { name: String },
    /// The code that it changes is another now.
    DoesNotApply { name: String, said: String },
    /// git does not list the tree.
    List(String),
    /// A file.
    Io { path: PathBuf, source: io::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Head { name } => write!(out, "{FOLDER}/{name}.patch: its head has no line \"{CAUGHT_BY}…\""),
            Error::DoesNotApply { name, said } => write!(out, "{FOLDER}/{name}.patch: applies no longer: {said}"),
            Error::List(said) => write!(out, "list the tree: {said}"),
            Error::Io { path, source } => write!(out, "{}: {source}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_names_its_test_and_applies() {
        let mutations = all(&tree()).unwrap_or_else(|error| panic!("{error}"));
        assert!(LEAST <= mutations.len(), "{}", mutations.len());
        for mutation in &mutations {
            apply(mutation, &tree(), &["--check"]).unwrap_or_else(|error| panic!("{error}"));
            assert!(mutation.test.len() > 2, "{mutation:?}");
        }
    }

    #[test]
    fn a_test_that_was_not_run_has_noticed_nothing() {
        let result = |counts: &str| format!("running\ntest result: {counts} 0 ignored; 0 measured\n");
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored\n";
        let skip = format!("SKIPPED: needs root\n{}", result("ok. 1 passed; 0 failed;"));
        for (is_success, said, errors, expected) in [
            (true, result("ok. 2 passed; 0 failed;"), "", Outcome::Passed),
            (false, result("FAILED. 0 passed; 1 failed;"), "", Outcome::Failed),
            (true, none.to_owned(), "", Outcome::NotRun("there is no such test".to_owned())),
            (false, String::new(), "x\nerror[E1]: no\n", Outcome::NotRun("it was not run error[E1]: no".to_owned())),
            (true, skip, "", Outcome::Skipped("needs root".to_owned())),
        ] {
            assert_eq!(judge(is_success, &said, errors.as_bytes()), expected, "{said}");
        }
    }
}
