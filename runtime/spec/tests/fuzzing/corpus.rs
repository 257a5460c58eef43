//! The inputs of one target: what once failed, which is in the tree, and what guided runs have kept outside of it.

use super::paths::Paths;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// From the root of the tree.
const KEPT: &str = "runtime/spec/tests/fuzzing/kept";

/// More of one target are not kept: each is tried again in every guided run.
const MAX_INPUTS: usize = 8192;

/// See the module.
pub(super) struct Corpus {
    pub(super) inputs: Vec<Vec<u8>>,
    pub(super) paths: Paths,
    /// Where it is kept; `None`: nowhere.
    folder: Option<PathBuf>,
}

impl Corpus {
    /// What there is for the target of this name.
    pub(super) fn read(name: &str) -> Corpus {
        let name = name.replace(|char: char| !char.is_ascii_alphanumeric(), "-");
        let folder = std::env::var_os("YADO_FUZZ_CORPUS").map(|folder| Path::new(&folder).join(&name));
        let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|above| above.join(KEPT));
        let in_tree = above.find(|kept| kept.exists()).map(|kept| kept.join(&name));
        let inputs = [in_tree.as_deref(), folder.as_deref()].into_iter().flatten().flat_map(files).collect();
        Corpus { inputs, paths: Paths::default(), folder }
    }

    pub(super) fn take_inputs(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.inputs)
    }

    /// One that took a new path.
    pub(super) fn keep(&mut self, input: Vec<u8>) {
        if self.inputs.len() < MAX_INPUTS {
            self.write("", &input);
            self.inputs.push(input);
        }
    }

    /// One that made the target panic; where it is now.
    pub(super) fn keep_failing(&self, input: &[u8]) -> String {
        self.write("failing-", input).map_or(String::new(), |path| format!(", see {}", path.display()))
    }

    fn write(&self, prefix: &str, input: &[u8]) -> Option<PathBuf> {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let path = self.folder.as_ref()?.join(format!("{prefix}{:016x}", hasher.finish()));
        fs::create_dir_all(path.parent()?).and_then(|()| fs::write(&path, input)).expect("the corpus can be written");
        Some(path)
    }
}

/// In the order of their names, so that a seed does the same again.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("what was kept can be read")).collect()
}
