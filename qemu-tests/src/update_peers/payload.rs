//! What is installed: an image of a system, and the same with a hundredth of its blocks changed, each as one file of our format. All
//! install these very files; only we know what is in them.

use super::peer_board::PRODUCT;
use crate::board::host_yado::{HostYado, ImageOptions};
use crate::board::tree::Tree;
use crate::board::{BuildError, Prepared, system_image};
use fastrand::Rng;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use yado_image::header::{BLOCK_BYTES, Header};

/// Of the files in it. They do not compress, as most of a system's that is compressed already.
const MIB: usize = 64;
const FILES: usize = 16;
const FILE_BYTES: usize = MIB * 1024 * 1024 / FILES;
const BLOCK: usize = BLOCK_BYTES as usize;
/// One of so many blocks is another one in the second image.
const CHANGED_ONE_OF: usize = 100;
/// The files of the first image are always the same.
const CONTENT_SEED: u64 = 1;

/// Two images.
#[derive(Debug)]
pub(super) struct Payload {
    /// The first one.
    pub(super) whole: Image,
    /// The second one.
    pub(super) hundredth: Image,
    /// So many blocks of the second one differ from the first one's: of its files, its hash tree and its end.
    pub(super) changed_blocks: u64,
}

/// One image, and a release of it.
#[derive(Debug)]
pub(super) struct Image {
    /// What it is called on the board: `two`, `three`.
    pub(super) name: &'static str,
    /// The file.
    pub(super) path: PathBuf,
    /// Its length.
    pub(super) bytes: u64,
    /// What it says of itself.
    pub(super) header: Header,
    /// The folder with our release of it.
    pub(super) release: PathBuf,
}

impl Payload {
    /// Builds both below `directory`; the seed says which blocks change.
    pub(super) fn build(
        yado: &HostYado,
        prepared: &Prepared,
        directory: &Path,
        seed: u64,
    ) -> Result<Payload, BuildError> {
        let tree = Tree::create(&directory.join("root"))?;
        let mut content = Rng::with_seed(CONTENT_SEED);
        let mut files: Vec<Vec<u8>> = (0..FILES).map(|_| random_bytes(&mut content, FILE_BYTES)).collect();
        write_files(&tree, &files)?;
        let whole = Image::build(yado, prepared, &tree, ("two", 2), directory)?;
        change(&mut files, &mut Rng::with_seed(seed));
        write_files(&tree, &files)?;
        let hundredth = Image::build(yado, prepared, &tree, ("three", 3), directory)?;
        let changed_blocks = count_changed(&whole.path, &hundredth.path)?;
        Ok(Payload { whole, hundredth, changed_blocks })
    }
}

impl Image {
    fn build(
        yado: &HostYado,
        prepared: &Prepared,
        tree: &Tree,
        (name, number): (&'static str, u64),
        directory: &Path,
    ) -> Result<Image, BuildError> {
        let path = directory.join(format!("{name}.image"));
        let options = ImageOptions {
            source: tree.root(),
            kind: "system",
            architecture: prepared.ingredients.arch.debian(),
            name: PRODUCT,
            release: number,
            boot_files: &[],
            key: &prepared.keys.release_secret(),
            init: None,
            halt_signal: None,
            minimum_runtime: None,
        };
        yado.build_image(&options, &path)?;
        let release = directory.join(format!("release-{name}"));
        yado.build_release_without_boot_files(&path, PRODUCT, &prepared.keys.release_secret(), &release)?;
        let bytes = fs::metadata(&path).map_err(BuildError::io(&path))?.len();
        Ok(Image { name, bytes, header: system_image::header(&path)?, path, release })
    }
}

fn random_bytes(chance: &mut Rng, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    chance.fill(&mut bytes);
    bytes
}

/// Gives a hundredth of the blocks, wherever they are, other bytes.
fn change(files: &mut [Vec<u8>], chance: &mut Rng) {
    let blocks_of_file = FILE_BYTES / BLOCK;
    let blocks = files.len() * blocks_of_file;
    let mut changed = BTreeSet::new();
    while changed.len() < blocks / CHANGED_ONE_OF {
        changed.insert(chance.usize(..blocks));
    }
    for block in changed {
        let place = block % blocks_of_file * BLOCK;
        chance.fill(&mut files[block / blocks_of_file][place..place + BLOCK]);
    }
}

fn write_files(tree: &Tree, files: &[Vec<u8>]) -> Result<(), BuildError> {
    for (number, bytes) in files.iter().enumerate() {
        tree.file(&format!("usr/share/payload-{number:02}"), 0o644, bytes)?;
    }
    Ok(())
}

fn count_changed(one: &Path, other: &Path) -> Result<u64, BuildError> {
    let [one, other] = [one, other].map(|path| fs::read(path).map_err(BuildError::io(path)));
    let (one, other) = (one?, other?);
    let same = one.chunks(BLOCK).zip(other.chunks(BLOCK)).filter(|(one, other)| one == other).count();
    Ok((one.len().max(other.len()).div_ceil(BLOCK) - same) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundredth_of_the_blocks_changes_and_the_same_seed_changes_the_same() {
        let made = |seed| {
            let mut files = vec![vec![0; FILE_BYTES]; 2];
            change(&mut files, &mut Rng::with_seed(seed));
            files
        };
        let files = made(7);
        let changed = files.iter().flat_map(|file| file.chunks(BLOCK)).filter(|block| block.iter().any(|b| *b != 0));
        assert_eq!(changed.count(), 2 * FILE_BYTES / BLOCK / CHANGED_ONE_OF);
        assert!(files == made(7) && files != made(8));
    }
}
