//! Releases made of real images: what is in them, that they are the same bytes each time, and what is refused.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{build_sample, run, this_architecture};
use yado_image::release::{self, BuildError, BuildOptions, Built, Part, SignError};
use yado_image::secret::SecretKey;
use yado_image::sign::Added;
use yado_image::trust::SignatureError;
use yado_image::{ImageKind, Keys, Version};
use yado_wire::InstanceName;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32], "")
}

fn trusted(seeds: &[u8]) -> Keys {
    Keys::new(seeds.iter().map(|&seed| key(seed).public()))
}

/// A system with a kernel, and a container, each an image of the sample tree.
struct Sample {
    folder: tempfile::TempDir,
    system: PathBuf,
    kernel: PathBuf,
    container: PathBuf,
}

impl Sample {
    fn new() -> Sample {
        let folder = tempfile::tempdir().unwrap();
        let kernel = folder.path().join("vmlinuz");
        fs::write(&kernel, [7; 5000]).unwrap();
        let digest = run("sha256sum", &[kernel.to_str().unwrap()]).unwrap()[..64].to_owned();
        let named = |name: &str| folder.path().join(name);
        let (system, _) = build_sample(folder.path(), |options| {
            options.kind = ImageKind::System;
            options.output = named("system");
            options.manifest.name = "meter".to_owned();
            options.manifest.compatible = vec!["board-1".to_owned()];
            options.manifest.boot.insert("vmlinuz".to_owned(), digest);
            options.manifest.requires.kernel = vec!["OVERLAY_FS".to_owned(), "DM_VERITY".to_owned()];
        });
        let (container, _) = build_sample(folder.path(), |options| {
            options.output = named("container");
            options.security_epoch = 4;
            options.manifest.requires.runtime = Version { major: 0, minor: 1, patch: 1 };
        });
        Sample { system, kernel, container, folder }
    }

    fn options(&self) -> BuildOptions {
        BuildOptions {
            system: Some(self.system.clone()),
            boot_files: vec![self.kernel.clone()],
            instances: vec![(InstanceName::parse("web").unwrap(), self.container.clone())],
            keys: vec![key(1)],
            ..BuildOptions::default()
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn bundle(built: &Built) -> Vec<u8> {
    let mut bytes = Vec::new();
    built.write_bundle(&mut bytes).unwrap();
    bytes
}

/// All files of a folder by their names in it.
fn files(folder: &Path) -> Vec<String> {
    let below = |name: &str| -> Vec<String> {
        let entries = fs::read_dir(folder.join(name)).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|entry| format!("{name}{}", entry.to_str().unwrap())).collect()
    };
    let mut all: Vec<String> = ["", "images/", "boot/"].into_iter().flat_map(below).collect();
    all.sort();
    all
}

#[test]
fn built_twice_it_is_the_same_bytes_and_what_is_not_given_follows_from_the_images() {
    let sample = Sample::new();
    let (first, second) = (release::build(&sample.options()).unwrap(), release::build(&sample.options()).unwrap());
    assert!(first.release == second.release && bundle(&first) == bundle(&second));
    let release = release::verify(&first.release, &trusted(&[1]), 1).unwrap();
    assert_eq!(release.fingerprint, first.fingerprint);
    assert_eq!((release.header.release, release.header.security_epoch), (7, 4));
    assert_eq!(release.header.minimum_runtime, Version { major: 0, minor: 1, patch: 1 });
    let manifest = release.manifest;
    assert_eq!((manifest.name.as_str(), manifest.compatible), ("meter", vec!["board-1".to_owned()]));
    assert_eq!((manifest.architecture, manifest.created), (this_architecture(), 1_700_000_000));
    assert_eq!(manifest.requires.kernel, ["DM_VERITY", "OVERLAY_FS"]);
    let system = manifest.system.unwrap();
    assert_eq!(system.bytes, fs::metadata(&sample.system).unwrap().len());
    assert_eq!(system.boot["vmlinuz"].bytes, 5000);
}

#[test]
fn a_folder_has_each_file_by_its_name_and_the_images_are_not_copied() {
    let sample = Sample::new();
    let built = release::build(&sample.options()).unwrap();
    let folder = sample.path("out");
    for _ in 0..2 {
        built.write_folder(&folder).unwrap();
        let mut expected: Vec<String> = built.manifest.parts().iter().map(|(part, _)| part.to_string()).collect();
        expected.extend(["boot", "images", "release"].map(str::to_owned));
        expected.sort();
        assert_eq!(files(&folder), expected);
    }
    assert!(fs::read(folder.join("release")).unwrap() == built.release);
    let part = Part::Image(built.manifest.system.as_ref().unwrap().fingerprint).to_string();
    assert_eq!(fs::metadata(folder.join(part)).unwrap().ino(), fs::metadata(&sample.system).unwrap().ino());
}

/// tar(1) reads a bundle, and finds what is in the folder, in the order of the release.
#[test]
fn a_bundle_is_what_tar_takes_it_for() {
    let sample = Sample::new();
    let built = release::build(&sample.options()).unwrap();
    let (folder, archive, unpacked) = (sample.path("out"), sample.path("bundle.tar"), sample.path("unpacked"));
    built.write_folder(&folder).unwrap();
    fs::write(&archive, bundle(&built)).unwrap();
    let Some(list) = run("tar", &["-tf", archive.to_str().unwrap()]) else { return };
    let parts = built.manifest.parts().into_iter().map(|(part, _)| part.to_string());
    assert_eq!(
        list.lines().collect::<Vec<_>>(),
        std::iter::once("release".to_owned()).chain(parts).collect::<Vec<_>>()
    );
    fs::create_dir(&unpacked).unwrap();
    run("tar", &["-xf", archive.to_str().unwrap(), "-C", unpacked.to_str().unwrap()]);
    let same = Command::new("diff").args(["-r", folder.to_str().unwrap(), unpacked.to_str().unwrap()]).status();
    assert!(same.unwrap().success());
}

#[test]
fn signatures_are_added_in_a_folder_and_in_a_bundle_and_the_fingerprint_stays() {
    let sample = Sample::new();
    let built = release::build(&BuildOptions { keys: Vec::new(), ..sample.options() }).unwrap();
    let (file, archive) = (sample.path("release"), sample.path("bundle"));
    fs::write(&file, &built.release).unwrap();
    fs::write(&archive, bundle(&built)).unwrap();
    let length = built.release.len() as u64;
    for (path, start) in [(&file, 0), (&archive, 512)] {
        let sign = |keys: &[SecretKey]| release::add_signatures(path, start..start + length, keys);
        let read = || {
            let mut bytes = vec![0; built.release.len()];
            File::open(path).unwrap().read_exact_at(&mut bytes, start).unwrap();
            bytes
        };
        let unsigned = release::verify(&read(), &trusted(&[1]), 1).unwrap_err();
        assert_eq!(unsigned, release::ReleaseError::Signature { source: SignatureError::Unsigned });
        assert_eq!(sign(&[key(1), key(1), key(2)]).unwrap(), [Added::New, Added::AlreadySigned, Added::New]);
        let release = release::verify(&read(), &trusted(&[1, 2]), 2).unwrap();
        assert_eq!(release.fingerprint, built.fingerprint);
        let many: Vec<SecretKey> = (3..=65).map(key).collect();
        assert!(matches!(sign(&many), Err(SignError::Full)));
        assert_eq!(release::describe(&read()).unwrap().signers.len(), 2, "all or none");
    }
    assert!(fs::metadata(&archive).unwrap().len() == bundle(&built).len() as u64);
    // What is none is not signed.
    assert!(matches!(release::add_signatures(&sample.system, 0..16384, &[key(1)]), Err(SignError::Release { .. })));
}

#[test]
fn what_would_not_start_is_not_made_a_release() {
    let sample = Sample::new();
    let refused = |change: &dyn Fn(&mut BuildOptions)| {
        let mut options = sample.options();
        change(&mut options);
        release::build(&options).unwrap_err()
    };
    let web = || InstanceName::parse("web").unwrap();
    assert!(matches!(refused(&|options| options.boot_files.clear()), BuildError::BootFileMissing { .. }));
    assert!(matches!(
        refused(&|options| options.boot_files.push(sample.container.clone())),
        BuildError::OtherBootFile { .. }
    ));
    assert!(matches!(
        refused(&|options| options.system = Some(sample.container.clone())),
        BuildError::WrongKind { expected: ImageKind::System, .. }
    ));
    assert!(matches!(
        refused(&|options| options.instances[0].1 = sample.system.clone()),
        BuildError::WrongKind { expected: ImageKind::Container, .. }
    ));
    assert!(matches!(
        refused(&|options| options.instances.push((web(), sample.container.clone()))),
        BuildError::Twice { .. }
    ));
    assert!(matches!(refused(&|options| options.system = None), BuildError::NoSystem));
    assert!(matches!(
        refused(&|options| (options.system, options.boot_files) = (None, Vec::new())),
        BuildError::Unnamed { option: "name" }
    ));
    assert!(matches!(refused(&|options| options.oldest_before = 7), BuildError::Encode { .. }));
    assert!(matches!(refused(&|options| options.release = Some(0)), BuildError::Encode { .. }));
    // A kernel of the same name and other bytes.
    fs::write(&sample.kernel, [8; 5000]).unwrap();
    assert!(matches!(refused(&|_| ()), BuildError::OtherBootFile { .. }));
}

#[test]
fn a_damaged_image_is_not_made_a_release() {
    let sample = Sample::new();
    let file = File::options().write(true).open(&sample.container).unwrap();
    file.write_all_at(&[0xff; 64], 8192).unwrap();
    let error = release::build(&sample.options()).unwrap_err();
    assert!(matches!(&error, BuildError::Image { path, .. } if *path == sample.container), "{error}");
}
