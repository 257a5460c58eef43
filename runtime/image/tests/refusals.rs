//! Each way in which an image can be wrong is refused, by its own name.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use support::{build_sample, is_root, run};
use yado_image::inspect::{self, InspectError};
use yado_image::manifest::Manifest;
use yado_image::pack::{self, BuildError, Source};
use yado_image::secret::SecretKey;
use yado_image::sign::{self, Added, SignError};
use yado_image::signatures;
use yado_image::trust::SignatureError;
use yado_image::verity::{self, Mismatch};
use yado_image::{
    Architecture, HeaderError, ImageKind, Keys, Layout, OpenError, RuntimeVersion, Version, Wanted, open_trusted,
};
use yado_wire::Step;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32], "")
}

fn trusted(seeds: &[u8]) -> Keys {
    Keys::new(seeds.iter().map(|&seed| key(seed).public()))
}

fn wanted(fingerprint: [u8; 32]) -> Wanted {
    let mut wanted = Wanted::container(fingerprint);
    wanted.runtime.architectures = &[Architecture::Armhf, Architecture::Arm64, Architecture::X86_64];
    wanted
}

/// All that is checked before a start, and then every block.
fn check(path: &Path, keys: &Keys, wanted: &Wanted) -> Result<(), (Step, String)> {
    let image = open_trusted(path, keys, wanted).map_err(|error| (error.step(), error.to_string()))?;
    verity::diagnose(&image.file, &image.header).map_err(|error| (error.step(), error.to_string()))
}

#[test]
fn a_flipped_byte_anywhere_is_refused_and_the_part_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |_| {});
    let layout = built.header.layout;
    let any = Wanted { fingerprint: None, ..wanted([0; 32]) };
    assert_eq!(check(&path, &trusted(&[1]), &any), Ok(()));

    let file = File::options().read(true).write(true).open(&path).unwrap();
    let parts = [
        (0..layout.tree_offset(), 40_009, vec![Step::ImagePayload]),
        (layout.tree_offset()..layout.manifest_offset(), 997, vec![Step::ImageTree]),
        (layout.manifest_offset()..layout.signatures_offset(), 7, vec![Step::ImageManifest]),
        (layout.signatures_offset()..layout.header_offset(), 11, vec![Step::ImageSignature]),
        (layout.header_offset()..layout.image_bytes(), 3, vec![Step::ImageHeader, Step::ImageSignature]),
    ];
    for (range, stride, steps) in parts {
        for offset in range.clone().step_by(stride).chain([range.end - 1]) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
            let (step, reason) = check(&path, &trusted(&[1]), &any).unwrap_err();
            assert!(steps.contains(&step), "byte {offset}: {step:?}: {reason}");
            file.write_all_at(&byte, offset).unwrap();
        }
    }
    assert_eq!(check(&path, &trusted(&[1]), &any), Ok(()));
}

#[test]
fn the_first_wrong_block_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |_| {});
    let layout = built.header.layout;
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let diagnose_with = |block: u64| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, block * 4096 + 17).unwrap();
        file.write_all_at(&[!byte[0]], block * 4096 + 17).unwrap();
        let answer = verity::diagnose(&file, &built.header);
        file.write_all_at(&byte, block * 4096 + 17).unwrap();
        answer
    };
    assert!(128 < layout.payload_blocks(), "the tree should have two levels");
    for block in [0, 1, 127, 128, layout.payload_blocks() - 1] {
        let found = diagnose_with(block).unwrap_err();
        assert!(matches!(found, Mismatch::Payload { block: named } if named == block), "{block}: {found}");
    }
    let tree = layout.payload_blocks();
    assert!(matches!(diagnose_with(tree).unwrap_err(), Mismatch::Tree { level: 2, block: 0 }));
    assert!(matches!(diagnose_with(tree + 2).unwrap_err(), Mismatch::Tree { level: 1, block: 1 }));
}

#[test]
fn an_image_cut_at_any_block_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |_| {});
    let bytes = fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(4096).chain([1, bytes.len() - 1]) {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = open_trusted(&path, &trusted(&[1]), &wanted(built.fingerprint)).unwrap_err();
        let truncated =
            matches!(error, OpenError::TooShort { .. } | OpenError::Header { source: HeaderError::BadMagic });
        assert!(truncated && error.step() == Step::ImageHeader, "{length}: {error}");
    }
    // The header is there, but what it names is not.
    fs::write(&path, &bytes[4096..]).unwrap();
    let error = open_trusted(&path, &trusted(&[1]), &wanted(built.fingerprint)).unwrap_err();
    assert!(matches!(error, OpenError::Size { .. }) && error.to_string().starts_with("truncated"), "{error}");
    fs::write(&path, [&[0; 4096], &bytes[..]].concat()).unwrap();
    let error = open_trusted(&path, &trusted(&[1]), &wanted(built.fingerprint)).unwrap_err();
    assert!(matches!(error, OpenError::Size { .. }), "{error}");
}

#[test]
fn each_unmet_demand_has_its_own_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |options| {
        options.keys = vec![key(1), key(2)];
        options.manifest.requires.runtime = Version { major: 0, minor: 1, patch: 0 };
    });
    let good = wanted(built.fingerprint);
    let open = |keys: &[u8], wanted: &Wanted| open_trusted(&path, &trusted(keys), wanted);
    let image = open(&[3, 2, 1], &Wanted { threshold: 2, ..good.clone() }).unwrap();
    assert_eq!(image.signers, [key(1).public().id(), key(2).public().id()]);
    assert_eq!((image.header, image.fingerprint), (built.header, built.fingerprint));
    assert!(open(&[2], &good).is_ok());

    let refused = |keys: &[u8], wanted: &Wanted, step: Step| {
        let error = open(keys, wanted).unwrap_err();
        assert_eq!(error.step(), step, "{error}");
        error
    };
    let mut old = good.clone();
    old.runtime.version = RuntimeVersion::parse("0.1.0-rc1").unwrap();
    assert!(matches!(refused(&[1], &old, Step::ImageRequires), OpenError::NeedsRuntime { .. }));
    let mut other = good.clone();
    other.runtime.architectures = &[];
    assert!(matches!(refused(&[1], &other, Step::ImageRequires), OpenError::WrongArchitecture { .. }));
    let system = Wanted { kind: ImageKind::System, ..good.clone() };
    assert!(matches!(refused(&[1], &system, Step::ImageRequires), OpenError::WrongKind { .. }));
    let another = Wanted { fingerprint: Some([0; 32]), ..good.clone() };
    assert!(matches!(refused(&[1], &another, Step::ImageHeader), OpenError::OtherImage { .. }));

    let three = Wanted { threshold: 3, ..good.clone() };
    let signature = |error| match error {
        OpenError::Signature { source } => source,
        other => panic!("{other}"),
    };
    let strangers = vec![key(1).public().id(), key(2).public().id()];
    assert_eq!(signature(refused(&[], &good, Step::ImageSignature)), SignatureError::NoTrustedKeys);
    assert_eq!(
        signature(refused(&[9], &good, Step::ImageSignature)),
        SignatureError::UnknownKeys { keys: strangers }
    );
    let too_few = SignatureError::TooFew { valid: 2, needed: 3 };
    assert_eq!(signature(refused(&[1, 2], &three, Step::ImageSignature)), too_few);
    let missing = open_trusted(&directory.path().join("nowhere"), &trusted(&[1]), &good).unwrap_err();
    assert_eq!((missing.step(), missing.errno()), (Step::ImageOpen, 2));
}

#[test]
fn a_signature_of_another_image_does_not_help() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |options| options.manifest.release = 8);
    let offset = built.header.layout.signatures_offset();
    let mut area = [0; 8192];
    File::open(&path).unwrap().read_exact_at(&mut area, offset).unwrap();
    let (path, built) = build_sample(directory.path(), |options| options.keys = Vec::new());
    let open = || open_trusted(&path, &trusted(&[1]), &wanted(built.fingerprint)).unwrap_err();
    assert!(matches!(open(), OpenError::Signature { source: SignatureError::Unsigned }));
    File::options().write(true).open(&path).unwrap().write_all_at(&area, offset).unwrap();
    assert!(matches!(open(), OpenError::Signature { source: SignatureError::Bad { .. } }));
    assert!(open().to_string().contains(&key(1).public().id().to_string()));
}

#[test]
fn signatures_are_added_without_another_fingerprint_and_one_key_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |options| options.keys = Vec::new());
    let sign = |seeds: &[u8]| {
        let keys: Vec<SecretKey> = seeds.iter().map(|&seed| key(seed)).collect();
        sign::add_signatures(&path, &keys)
    };
    assert_eq!(sign(&[1, 1]).unwrap(), [Added::New, Added::AlreadySigned]);
    assert_eq!(sign(&[1]).unwrap(), [Added::AlreadySigned]);
    let two = Wanted { threshold: 2, ..wanted(built.fingerprint) };
    let error = open_trusted(&path, &trusted(&[1, 2]), &two).unwrap_err();
    assert!(matches!(error, OpenError::Signature { source: SignatureError::TooFew { valid: 1, needed: 2 } }));
    let seeds: Vec<u8> = (2..=63).collect();
    assert_eq!(sign(&seeds).unwrap(), [Added::New; 62]);
    // One place is left, and two are asked for: then neither is taken.
    assert!(matches!(sign(&[64, 65]), Err(SignError::Full)));
    assert_eq!(sign(&[64]).unwrap(), [Added::New]);
    assert!(matches!(sign(&[65]), Err(SignError::Full)));
    assert!(open_trusted(&path, &trusted(&[1, 64]), &two).is_ok());
    let (description, signers) = inspect::verify(&path, &trusted(&[64]), 1).unwrap();
    assert_eq!((description.fingerprint, signers), (built.fingerprint, vec![key(64).public().id()]));
    assert_eq!(description.claimed_signers.len(), 64);
}

#[test]
fn an_image_that_was_changed_is_not_signed() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |options| options.keys = Vec::new());
    let layout = built.header.layout;
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let area = || {
        let mut area = vec![0; 8192];
        file.read_exact_at(&mut area, layout.signatures_offset()).unwrap();
        area
    };
    let parts = [
        (4096, Step::ImagePayload),
        (layout.tree_offset() + 100, Step::ImageTree),
        (layout.manifest_offset() + 5, Step::ImageManifest),
        (layout.manifest_offset() - 1, Step::ImageTree),
        (layout.signatures_offset() - 1, Step::ImageManifest),
    ];
    for (offset, step) in parts {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
        match sign::add_signatures(&path, &[key(1)]) {
            Err(SignError::Image(error)) => assert_eq!(error.step(), step, "byte {offset}: {error}"),
            other => panic!("byte {offset}: {other:?}"),
        }
        assert_eq!(area(), [0; 8192], "byte {offset}");
        file.write_all_at(&byte, offset).unwrap();
    }
    assert_eq!(sign::add_signatures(&path, &[key(1)]).unwrap(), [Added::New]);
}

#[test]
fn a_signature_of_an_unknown_algorithm_does_not_hurt_and_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |options| options.keys = vec![key(1), key(2)]);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let place = |index| built.header.layout.signatures_offset() + signatures::place_of(index).start as u64;
    // The second becomes one of algorithm 2, and its key's signature is lost.
    file.write_all_at(&[2], place(1)).unwrap();
    let open = |threshold| {
        let wanted = Wanted { threshold, ..wanted(built.fingerprint) };
        open_trusted(&path, &trusted(&[1, 2, 3]), &wanted).map(|image| image.signers.len())
    };
    assert_eq!(open(1).unwrap(), 1);
    let error = open(2).unwrap_err();
    assert!(matches!(error, OpenError::Signature { source: SignatureError::TooFew { valid: 1, needed: 2 } }));
    // The next one goes behind it.
    assert_eq!(sign::add_signatures(&path, &[key(3)]).unwrap(), [Added::New]);
    assert_eq!(open(2).unwrap(), 2);
    // Where it is the only kind, nobody known has signed.
    for index in [0, 2] {
        file.write_all_at(&[2], place(index)).unwrap();
    }
    assert!(matches!(open(1).unwrap_err(), OpenError::Signature { source: SignatureError::Unsigned }));
}

#[test]
fn a_slot_is_read_like_a_file() {
    if !is_root("attach a loop device") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |_| {});
    let slot = directory.path().join("slot");
    let slot_bytes = built.header.layout.image_bytes() + 5 * 4096;
    fs::copy(&path, &slot).unwrap();
    let file = File::options().write(true).open(&slot).unwrap();
    file.set_len(slot_bytes).unwrap();
    file.write_all_at(&built.header.encode(), slot_bytes - 4096).unwrap();
    let Some(device) = run("losetup", &["--find", "--show", "--read-only", slot.to_str().unwrap()]) else { return };
    let checked = check(Path::new(device.trim()), &trusted(&[1]), &wanted(built.fingerprint));
    run("losetup", &["--detach", device.trim()]);
    assert_eq!(checked, Ok(()));
}

#[test]
fn manifest_and_header_have_to_agree() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |_| {});
    assert_eq!(inspect::describe(&path).unwrap().manifest.release, 7);
    let mut header = built.header.clone();
    header.release = 8;
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&header.encode(), header.layout.header_offset()).unwrap();
    let error = inspect::describe(&path).unwrap_err();
    assert!(matches!(error, InspectError::Disagreement { field: "release" }), "{error}");
    assert!(Manifest::parse(&[0xff; 5000]).is_err());
}

#[test]
fn a_failed_build_leaves_the_old_image_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = build_sample(directory.path(), |_| {});
    let before = fs::read(&path).unwrap();
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let archive = directory.path().join("sample.tar");
    let whole = fs::read(&archive).unwrap();
    let cut = directory.path().join("cut.tar");
    for length in [whole.len() / 2, 700] {
        fs::write(&cut, &whole[..length]).unwrap();
        let error = pack::build(&pack::BuildOptions {
            source: Source::Tar(cut.clone()),
            output: path.clone(),
            kind: ImageKind::Container,
            manifest: Manifest::new("cut", Architecture::Arm64),
            security_epoch: 0,
            compression: yado_image::erofs::Compression::None,
            threads: std::num::NonZeroUsize::MIN,
            owners: yado_image::erofs::Owners::Kept,
            timestamp: Some(0),
            on_progress: |_| (),
            keys: Vec::new(),
        })
        .unwrap_err();
        assert!(matches!(error, BuildError::Tar { .. } | BuildError::Payload { .. }), "{error}");
        assert_eq!(names(), ["cut.tar", "image", "sample.tar"]);
        assert!(fs::read(&path).unwrap() == before);
    }
}

#[test]
fn extraction_refuses_a_damaged_payload_and_never_replaces_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_sample(directory.path(), |_| {});
    let output = directory.path().join("payload");
    let bytes = inspect::extract(&path, &output).unwrap();
    assert_eq!(fs::metadata(&output).unwrap().len(), bytes);
    assert!(fs::read(&output).unwrap() == fs::read(&path).unwrap()[..bytes as usize]);
    assert!(matches!(inspect::extract(&path, &output), Err(InspectError::Write { .. })));
    fs::remove_file(&output).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 64], built.header.layout.payload_bytes() / 2).unwrap();
    assert!(matches!(inspect::extract(&path, &output), Err(InspectError::Block(_))));
    assert!(!output.exists());
    assert!(Layout::new(4096, 1).is_err());
}
