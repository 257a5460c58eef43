//! Where releases are made, good ones and others, by what makes good ones.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use yado_image::erofs::{Compression, Owners};
use yado_image::manifest::Manifest;
use yado_image::release::{self, BuildOptions, Built};
use yado_image::secret::SecretKey;
use yado_image::{Architecture, ImageKind, pack};
use yado_wire::{InstanceName, hex};

/// What a release is made of: release 8 of the product `meter`, for `board-1`, of security epoch 3, signed by the first key.
pub(crate) struct Workshop {
    pub(crate) folder: TempDir,
    pub(crate) system: PathBuf,
    pub(crate) boot_files: Vec<PathBuf>,
    pub(crate) container: PathBuf,
    manifest: Manifest,
}

/// The content of its system's file.
pub(crate) static OF_RELEASE_8: [u8; 20_000] = [7; 20_000];

/// The first is the one that boards trust.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32], "")
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

impl Workshop {
    pub(crate) fn new(architecture: Architecture) -> Workshop {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), OF_RELEASE_8).unwrap();
        let mut manifest = Manifest::new("meter", architecture);
        (manifest.release, manifest.compatible) = (8, vec!["board-1".to_owned()]);
        let boot_files = ["initrd", "vmlinuz"].map(|name| folder.path().join(name));
        for (path, byte) in boot_files.iter().zip([1_u8, 2]) {
            fs::write(path, [byte; 3000]).unwrap();
            let digest = hex::encode(&sha256(&[byte; 3000]));
            manifest.boot.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), digest);
        }
        let [system, container] = ["system", "container"].map(|name| folder.path().join(name));
        let workshop = Workshop { system, container, boot_files: boot_files.to_vec(), manifest, folder };
        workshop.pack("system", ImageKind::System, &workshop.manifest, 1);
        workshop.pack("container", ImageKind::Container, &Manifest::new("web", architecture), 1);
        workshop
    }

    fn pack(&self, name: &str, kind: ImageKind, manifest: &Manifest, signer: u8) -> PathBuf {
        let output = self.folder.path().join(name);
        let options = pack::BuildOptions {
            source: pack::Source::Directory(self.folder.path().join("root")),
            output: output.clone(),
            kind,
            manifest: manifest.clone(),
            security_epoch: 3,
            compression: Compression::None,
            threads: NonZeroUsize::MIN,
            owners: Owners::All { uid: 0, gid: 0 },
            timestamp: Some(0),
            keys: vec![key(signer)],
            on_progress: |_| (),
        };
        pack::build(&options).unwrap();
        output
    }

    /// Another system's image, into a file of this name.
    #[allow(dead_code, reason = "not all tests need one")]
    pub(crate) fn other_system(&self, name: &str, signer: u8, change: impl FnOnce(&mut Manifest)) -> PathBuf {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        self.pack(name, ImageKind::System, &manifest, signer)
    }

    /// What the systems have that are packed from now on.
    #[allow(dead_code, reason = "not all tests need it")]
    pub(crate) fn put_file(&self, content: &[u8]) {
        fs::write(self.folder.path().join("root/file"), content).unwrap();
    }

    pub(crate) fn build(&self, change: impl FnOnce(&mut BuildOptions)) -> Built {
        let mut options = BuildOptions {
            system: Some(self.system.clone()),
            boot_files: self.boot_files.clone(),
            instances: vec![(InstanceName::parse("web").unwrap(), self.container.clone())],
            oldest_before: 5,
            keys: vec![key(1)],
            ..BuildOptions::default()
        };
        change(&mut options);
        release::build(&options).unwrap()
    }

    /// A folder of its own with this release.
    pub(crate) fn lay_out(&self, name: &str, built: &Built) -> PathBuf {
        let folder = self.folder.path().join(name);
        built.write_folder(&folder).unwrap();
        folder
    }

    #[allow(dead_code, reason = "not all tests need it")]
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}
