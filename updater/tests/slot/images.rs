//! Images to install: of any blocks, with tree, manifest and signature as the packer makes them.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use yado_image::header::BLOCK_BYTES;
use yado_image::manifest::Manifest;
use yado_image::secret::SecretKey;
use yado_image::{Architecture, Header, ImageKind, Keys, Layout, hex, signatures, verity};
use yado_updater::slot::ImageToWrite;

pub(crate) const BLOCK: usize = BLOCK_BYTES as usize;

/// An image in a file.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) to_write: ImageToWrite,
}

/// The key that signs.
pub(crate) fn key() -> SecretKey {
    SecretKey::from_seed(&[1; 32], "first")
}

pub(crate) fn keys() -> Keys {
    Keys::new([key().public()])
}

/// Blocks that are all different, made of a number.
pub(crate) fn block(number: u64) -> Vec<u8> {
    let mut chance = fastrand::Rng::with_seed(number);
    (0..BLOCK / 8).flat_map(|_| chance.u64(..).to_le_bytes()).collect()
}

/// An image of so many blocks, of which `fill` writes the payload into the file.
pub(crate) fn image(path: &Path, kind: ImageKind, blocks: u64, fill: impl FnOnce(&File)) -> Image {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let architecture = Architecture::parse(std::env::consts::ARCH).unwrap();
    let manifest = Manifest::new("sample", architecture);
    let text = manifest.encode().unwrap();
    let layout = Layout::new(blocks * BLOCK_BYTES, text.len() as u32).unwrap();
    file.set_len(layout.image_bytes()).unwrap();
    fill(&file);
    let header = Header {
        kind,
        architecture,
        layout,
        root_hash: verity::write_tree(&file, &layout).unwrap(),
        manifest_sha256: Sha256::digest(&text).into(),
        release: manifest.release,
        security_epoch: 0,
        minimum_runtime: manifest.requires.runtime,
    };
    let block = header.encode();
    let area = signatures::encode(&[key().sign(&block)]).unwrap();
    file.write_all_at(&text, layout.manifest_offset()).unwrap();
    file.write_all_at(&area[..], layout.signatures_offset()).unwrap();
    file.write_all_at(&block, layout.header_offset()).unwrap();
    let to_write =
        ImageToWrite { fingerprint: header.fingerprint(), bytes: layout.image_bytes(), kind, threshold: 1 };
    Image { path: path.to_owned(), header, to_write }
}

/// A system image of blocks by these numbers; 0 is a block of zeros.
pub(crate) fn system_image(path: &Path, numbers: &[u64]) -> Image {
    image(path, ImageKind::System, numbers.len() as u64, |file| {
        for (place, number) in numbers.iter().enumerate().filter(|(_, number)| **number != 0) {
            file.write_all_at(&block(*number), (place * BLOCK) as u64).unwrap();
        }
    })
}

/// The payload in this file or device is what the image's root hash says, by a program that we did not write.
pub(crate) fn judge(target: &Path, image: &Image) {
    let layout = &image.header.layout;
    let (count, offset) = (layout.payload_blocks(), layout.tree_offset());
    let target = target.to_str().unwrap();
    let output = Command::new("veritysetup")
        .args(["verify", "--no-superblock", "--salt=-", &format!("--data-blocks={count}")])
        .arg(format!("--hash-offset={offset}"))
        .args([target, target, &hex::encode(&image.header.root_hash)])
        .output();
    match output {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => println!("SKIPPED: veritysetup: {error}"),
    }
}
