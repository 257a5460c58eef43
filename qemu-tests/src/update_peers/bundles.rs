//! The same image as the others want it: a bundle of RAUC's and an archive of SWUpdate's, both signed by a key that is made for this
//! run, neither compressed.

use super::payload::Image;
use super::peer_board::{PRODUCT, SLOT_B};
use crate::board::BuildError;
use crate::board::cpio::Archive;
use crate::cache::Cache;
use crate::command::Tool;
use crate::provision::{Purpose, RaucBundler, ensure_packages, rauc_bundler};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use yado_image::hex;

/// The file of an image in a bundle and in an archive.
const FILE: &str = "system.img";

/// Who signs.
#[derive(Debug)]
pub(super) struct Signer {
    directory: PathBuf,
    bundler: RaucBundler,
}

impl Signer {
    /// Makes a key and a certificate of its own in `directory`.
    pub(super) fn new(cache: &Cache, directory: &Path) -> Result<Signer, BuildError> {
        ensure_packages(cache, &[Purpose::Judges])?;
        let signer = Signer { directory: directory.to_owned(), bundler: rauc_bundler(cache)? };
        Tool::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/O=test/CN=updates"])
            .arg("-keyout")
            .arg(signer.key())
            .arg("-out")
            .arg(signer.certificate())
            .run()?;
        Ok(signer)
    }

    /// What the board trusts.
    pub(super) fn certificate(&self) -> PathBuf {
        self.directory.join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.join("key.pem")
    }

    /// RAUC's. Its format is the one that its manual recommends: dm-verity checks what is read of it.
    pub(super) fn rauc_bundle(&self, image: &Image) -> Result<PathBuf, BuildError> {
        let content = self.directory.join(format!("rauc-{}", image.name));
        fs::create_dir_all(&content).map_err(BuildError::io(&content))?;
        fs::copy(&image.path, content.join(FILE)).map_err(BuildError::io(&image.path))?;
        let manifest = format!(
            "[update]\ncompatible={PRODUCT}\nversion={}\n\n[bundle]\nformat=verity\n\n[image.rootfs]\nfilename={FILE}\n",
            image.name
        );
        let path = content.join("manifest.raucm");
        fs::write(&path, manifest).map_err(BuildError::io(&path))?;
        let bundle = self.directory.join(format!("{}.raucb", image.name));
        // It replaces none.
        let _ = fs::remove_file(&bundle);
        self.bundler.bundle(&content, &self.certificate(), &self.key(), &bundle)?;
        fs::remove_dir_all(&content).map_err(BuildError::io(&content))?;
        Ok(bundle)
    }

    /// SWUpdate's: written as it is read, without a copy aside, and compared with its SHA-256 meanwhile.
    pub(super) fn swupdate_archive(&self, image: &Image) -> Result<PathBuf, BuildError> {
        let bytes = fs::read(&image.path).map_err(BuildError::io(&image.path))?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let description = self.directory.join("sw-description");
        fs::write(&description, description_of(&digest)).map_err(BuildError::io(&description))?;
        let signature = self.directory.join("sw-description.sig");
        Tool::new("openssl")
            .args(["cms", "-sign", "-nosmimecap", "-binary", "-outform", "DER", "-in"])
            .arg(&description)
            .arg("-out")
            .arg(&signature)
            .arg("-signer")
            .arg(self.certificate())
            .arg("-inkey")
            .arg(self.key())
            .run()?;
        let mut archive = Archive::new();
        // In this order.
        for path in [&description, &signature] {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            archive.file(&name, 0o644, &fs::read(path).map_err(BuildError::io(path))?);
        }
        archive.file(FILE, 0o644, &bytes);
        let to = self.directory.join(format!("{}.swu", image.name));
        fs::write(&to, archive.finish()).map_err(BuildError::io(&to))?;
        Ok(to)
    }
}

fn description_of(digest: &[u8; 32]) -> String {
    format!(
        "software = {{\n  version = \"1\";\n  hardware-compatibility = [ \"1\" ];\n  images: ( {{ filename = \"{FILE}\"; \
         device = \"{SLOT_B}\"; type = \"raw\"; installed-directly = true; sha256 = \"{}\"; }} );\n}}\n",
        hex::encode(digest)
    )
}

/// RAUC's `system.conf`: two slots of raw images, and no boot loader to be told, as nobody restarts.
pub(super) fn rauc_configuration(slot_a: &str) -> String {
    let slot = |number: u8, device: &str, name: &str| {
        format!("[slot.rootfs.{number}]\ndevice={device}\ntype=raw\nbootname={name}\n")
    };
    format!(
        "[system]\ncompatible={PRODUCT}\nbootloader=noop\nbundle-formats=verity\nstatusfile=/data/rauc/status\n\n\
         [keyring]\npath=/data/rauc/cert.pem\n\n{}\n{}",
        slot(0, slot_a, "A"),
        slot(1, SLOT_B, "B")
    )
}
