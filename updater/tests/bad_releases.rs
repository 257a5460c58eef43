//! Releases that a board must not take, each made by what makes good ones and put into a folder as a source has it: what refuses them,
//! by the name and the exit code that scripts see, before anything of an image is read.
#![allow(clippy::unwrap_used, missing_docs)]

mod workshop;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use workshop::{Workshop, key, sha256};
use yado_image::release::{self, BuildOptions, Part};
use yado_image::{Architecture, Keys, RuntimeVersion};
use yado_updater::admission::{self, Board, KernelOptions, SlotRoom};
use yado_updater::exit_codes;
use yado_updater::source::bundle::Bundle;
use yado_updater::source::directory::Directory;
use yado_updater::source::{FileName, Ranges, Source, SourceError, read_release};
use yado_wire::InstanceName;

fn board() -> Board {
    Board {
        product: Some("meter".to_owned()),
        compatible: vec!["board-1".to_owned()],
        architecture: Architecture::Arm64,
        runtime: RuntimeVersion::this(),
        accepted_release: 7,
        factory_release: 0,
        accepted_epoch: 3,
        current: None,
        is_held: false,
        blocked: Vec::new(),
        slot: Some(SlotRoom { bytes: 1 << 20, boot_bytes: Some(1 << 20) }),
        data_free_bytes: 1 << 20,
        data_reserve_bytes: 0,
        images: BTreeSet::new(),
        instances: BTreeSet::from([InstanceName::parse("web").unwrap()]),
        memory_mib: 64,
        kernel: KernelOptions::Unknown,
    }
}

/// A source that counts what is asked of it beside the release.
struct Watched<S> {
    source: S,
    others: usize,
}

impl<S: Source> Source for Watched<S> {
    fn ranges(&self) -> Ranges {
        self.source.ranges()
    }

    fn read(
        &mut self,
        file: FileName,
        range: std::ops::Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), SourceError> {
        self.others += usize::from(file != FileName::Release);
        self.source.read(file, range, take)
    }
}

/// As an install begins: exit code and words of what refuses; nothing but the release was asked for.
fn refusal(folder: &Path, board: &Board) -> Result<(), (u8, String)> {
    let mut source = Watched { source: Directory::new(folder), others: 0 };
    let keys = Keys::new([key(1).public()]);
    let outcome = read_release(&mut source)
        .map_err(|error| (error.exit_code(), error.to_string()))
        .and_then(|bytes| {
            release::verify(&bytes, &keys, 1)
                .map_err(|error| (exit_codes::of_release_error(&error), error.to_string()))
        })
        .and_then(|release| {
            admission::admit(&release, board).map_err(|refusal| (refusal.exit_code(), refusal.to_string()))
        });
    assert_eq!(source.others, 0, "something of an image was asked for");
    outcome.map(drop)
}

fn code_of(rule: &str) -> u8 {
    exit_codes::of_rule(rule).unwrap().code
}

/// What a change of how a release is built, and of the board, is refused by.
type Case = (&'static str, fn(&mut BuildOptions), fn(&mut Board));

#[test]
fn a_release_of_another_time_place_or_hand_is_refused_by_its_rule() {
    let workshop = Workshop::new(Architecture::Arm64);
    let good = workshop.lay_out("good", &workshop.build(|_| ()));
    assert_eq!(refusal(&good, &board()), Ok(()));
    let cases: &[Case] = &[
        ("older", |options| options.release = Some(6), |_| ()),
        ("older", |options| options.release = Some(7), |_| ()),
        ("security-epoch", |options| options.security_epoch = Some(2), |_| ()),
        ("stepping-stone", |_| (), |board| board.accepted_release = 4),
        ("product", |options| options.name = Some("gate".to_owned()), |_| ()),
        ("board", |options| options.compatible = vec!["board-2".to_owned()], |_| ()),
        ("architecture", |_| (), |board| board.architecture = Architecture::Armhf),
        ("release-signature", |options| options.keys = vec![key(2)], |_| ()),
        ("release-signature", |options| options.keys = Vec::new(), |_| ()),
        ("slot-space", |_| (), |board| board.slot = Some(SlotRoom { bytes: 8192, boot_bytes: Some(1 << 20) })),
        ("no-slot", |_| (), |board| board.slot = None),
        ("boot-space", |_| (), |board| board.slot = Some(SlotRoom { bytes: 1 << 20, boot_bytes: Some(4096) })),
        ("data-space", |_| (), |board| board.data_free_bytes = 4096),
        ("memory", |options| options.requires_memory_mib = 65, |_| ()),
        ("instance", |_| (), |board| board.instances.clear()),
        ("held", |_| (), |board| board.is_held = true),
    ];
    for (index, (rule, options, change)) in cases.iter().enumerate() {
        let folder = workshop.lay_out(&index.to_string(), &workshop.build(options));
        let mut board = board();
        change(&mut board);
        let (code, words) = refusal(&folder, &board).unwrap_err();
        assert_eq!(code, code_of(rule), "{rule}: {words}");
    }
}

#[test]
fn bytes_that_are_not_what_was_signed_are_refused_by_their_rule() {
    let workshop = Workshop::new(Architecture::Arm64);
    let built = workshop.build(|_| ());
    let folder = workshop.lay_out("changed", &built);
    let other = workshop.build(|options| options.release = Some(9)).release;
    let image = fs::read(&workshop.system).unwrap();
    let good = built.release;
    let (manifest, rest) = good.split_at(good.len() - 12_288);
    let cases: [(&str, Vec<u8>); 9] = [
        ("release-size", Vec::new()),
        ("release-size", good[4096..].to_vec()),
        ("release-size", [&[0; 4096], &good[..]].concat()),
        ("release-size", vec![0; 1 << 20]),
        ("release-header", good[..good.len() - 1].to_vec()),
        ("release-header", image[image.len() - 16_384..].to_vec()),
        // Another release's fingerprints below this one's signature, and the other way round.
        ("release-manifest", [&other[..other.len() - 12_288], rest].concat()),
        ("release-manifest", [manifest, &other[other.len() - 12_288..]].concat()),
        ("release-signature", [&good[..good.len() - 4096], &other[other.len() - 4096..]].concat()),
    ];
    for (rule, bytes) in cases {
        fs::write(folder.join("release"), bytes).unwrap();
        let (code, words) = refusal(&folder, &board()).unwrap_err();
        assert_eq!(code, code_of(rule), "{rule}: {words}");
    }
    fs::remove_file(folder.join("release")).unwrap();
    assert_eq!(refusal(&folder, &board()).unwrap_err().0, code_of("source-missing"));
}

/// The fingerprint says of each file whether it belongs there; here two lie under each other's names.
#[test]
fn swapped_and_cut_files_are_told_by_what_was_signed_of_them() {
    let workshop = Workshop::new(Architecture::Arm64);
    let built = workshop.build(|_| ());
    let folder = workshop.lay_out("swapped", &built);
    let parts = built.manifest.parts();
    let [first, second] = parts.iter().filter(|(part, _)| matches!(part, Part::Boot(_))).collect::<Vec<_>>()[..]
    else {
        panic!("two boot files")
    };
    let path = |part: &Part| folder.join(part.to_string());
    fs::rename(path(&first.0), folder.join("aside")).unwrap();
    fs::rename(path(&second.0), path(&first.0)).unwrap();
    fs::rename(folder.join("aside"), path(&second.0)).unwrap();
    let mut source = Directory::new(&folder);
    let mut read = |part: Part, bytes: u64| {
        let mut content = Vec::new();
        let read = source.read(part.into(), 0..bytes, &mut |piece| {
            content.extend_from_slice(piece);
            Ok(())
        });
        read.map(|()| content)
    };
    for (part, bytes) in [first, second] {
        let Part::Boot(sha256_signed) = part else { panic!("a boot file") };
        assert_ne!(sha256(&read(*part, *bytes).unwrap()), *sha256_signed);
    }
    let (image, bytes) = parts[0];
    // Its name may be another link of the image's own file: that stays whole.
    fs::remove_file(path(&image)).unwrap();
    fs::write(path(&image), &fs::read(&workshop.system).unwrap()[..8192]).unwrap();
    let error = read(image, bytes).unwrap_err();
    assert!(matches!(error, SourceError::Short { bytes: 8192, .. }), "{error}");
    assert_eq!(error.exit_code(), code_of("source-short"));
}

#[test]
fn a_bundle_has_its_files_in_the_order_of_the_release_and_gives_them_once() {
    let workshop = Workshop::new(Architecture::Arm64);
    let built = workshop.build(|_| ());
    let mut bytes = Vec::new();
    built.write_bundle(&mut bytes).unwrap();
    let mut source = Bundle::new(&bytes[..]);
    let release = release::verify(&read_release(&mut source).unwrap(), &Keys::new([key(1).public()]), 1).unwrap();
    let admitted = admission::admit(&release, &board()).unwrap();
    assert_eq!(admitted.parts.len(), 4);
    for (part, bytes) in &admitted.parts {
        let mut content = Vec::new();
        let mut take = |piece: &[u8]| {
            content.extend_from_slice(piece);
            Ok(())
        };
        source.read((*part).into(), 0..*bytes, &mut take).unwrap();
        match part {
            // The header, which is the last block, is what was named.
            Part::Image(fingerprint) => assert_eq!(sha256(&content[content.len() - 4096..]), *fingerprint),
            Part::Boot(digest) => assert_eq!(sha256(&content), *digest),
        }
    }
    let again = source.read(admitted.parts[0].0.into(), 0..1, &mut |_| Ok(())).unwrap_err();
    assert_eq!(again.exit_code(), code_of("source-order"), "{again}");
}
