//! What others built is hostile until it is verified: headers, signatures, keys, manifests, whole images, and the archives
//! that images are packed from.

#![allow(clippy::unwrap_used)]

#[path = "../../spec/tests/fuzzing/mod.rs"]
mod fuzzing;

use fuzzing::fuzz;
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use yado_image::erofs::{self, Body, Compression, Content, Level, Options, Owners, Times, Tree, parse_pax};
use yado_image::header::{BLOCK_BYTES, HeaderBlock};
use yado_image::manifest::Manifest;
use yado_image::pack::{self, BuildOptions, Built, Source};
use yado_image::release;
use yado_image::secret::SecretKey;
use yado_image::trust::PublicKey;
use yado_image::{Architecture, Header, ImageKind, Keys, Layout, Version, Wanted, open_trusted, signatures, verity};
use yado_wire::{InstanceName, signal_name};

/// What of a header block is not zero.
const HEADER_FIELDS_BYTES: usize = 122;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32], "the release key")
}

/// Two headers that differ in every field.
fn headers() -> [HeaderBlock; 2] {
    let system = Header {
        kind: ImageKind::System,
        architecture: Architecture::Arm64,
        layout: Layout::new(129 * BLOCK_BYTES, 5000).unwrap(),
        root_hash: [0x11; 32],
        manifest_sha256: [0x22; 32],
        release: 7,
        security_epoch: 3,
        minimum_runtime: Version { major: 0, minor: 1, patch: 2 },
    };
    let container = Header {
        kind: ImageKind::Container,
        architecture: Architecture::Armhf,
        layout: Layout::new(Layout::MAX_PAYLOAD_BYTES, Layout::MAX_MANIFEST_BYTES).unwrap(),
        root_hash: [0x33; 32],
        manifest_sha256: [0x44; 32],
        release: u64::MAX,
        security_epoch: 0,
        minimum_runtime: Version { major: 1, minor: 0, patch: 0 },
    };
    [system.encode(), container.encode()]
}

/// These bytes and then zeros.
fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(0))
}

#[test]
fn header_blocks_of_any_bytes_are_refused_or_name_parts_that_lie_one_behind_the_other() {
    let seeds = headers().map(|block| block[..HEADER_FIELDS_BYTES].to_vec());
    fuzz("image header", &seeds, &[], |bytes| {
        let block = padded(bytes);
        let Ok(header) = Header::parse(&block) else { return };
        assert_eq!(header.encode(), block);
        let layout = header.layout;
        let starts = [
            0,
            layout.tree_offset(),
            layout.manifest_offset(),
            layout.signatures_offset(),
            layout.header_offset(),
            layout.image_bytes(),
        ];
        assert!(starts.is_sorted_by(|left, right| left < right), "{starts:?}");
        assert!(starts.iter().all(|start| start % BLOCK_BYTES == 0), "{starts:?}");
        assert!(layout.manifest_offset() + u64::from(layout.manifest_bytes()) <= layout.signatures_offset());
        let tree = verity::levels(layout.payload_blocks());
        assert_eq!(tree.iter().map(|level| level.blocks * BLOCK_BYTES).sum::<u64>(), layout.tree_bytes());
    });
}

#[test]
fn a_header_is_believed_only_as_it_was_signed() {
    let signed = headers();
    let keys = Keys::new([key(1).public(), key(2).public()]);
    let seeds = signed.map(|block| {
        let signers = [key(1).sign(&block), key(3).sign(&block), key(2).sign(&block)];
        let area = signatures::encode(&signers).unwrap();
        [&block[..HEADER_FIELDS_BYTES], &area[..signatures::place_of(signers.len()).start]].concat()
    });
    fuzz("signed header", &seeds, &[], |bytes| {
        let (fields, places) = bytes.split_at(bytes.len().min(HEADER_FIELDS_BYTES));
        let (block, area) = (padded(fields), padded(places));
        let Ok(signatures) = signatures::parse(&area) else { return };
        if signatures.taken_places == signatures.known.len() {
            assert_eq!(*signatures::encode(&signatures.known).unwrap(), area);
        }
        assert!(signatures.known.len() <= signatures.taken_places);
        if let Ok(signers) = keys.verify(&block, &signatures.known, 1) {
            assert!(signed.contains(&block), "a changed header is believed");
            assert!(signers.iter().all(|signer| keys.find(*signer).is_some()));
            assert!(signers.len() <= 2, "a key counts twice");
        }
    });
}

#[test]
fn key_files_of_any_text_hold_a_key_that_is_written_the_same_again_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let (secret, public) = key(1).write_new_files(&directory.path().join("release")).unwrap();
    let seeds = [fs::read(public).unwrap(), fs::read(secret).unwrap()];
    let block = padded(b"any");
    fuzz("key file", &seeds, &["ed25519", "-secret", " ", "\r\n", "=", "AAAA"], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(key) = PublicKey::parse(&text) {
            assert_eq!(key.to_text().lines().count(), 1);
            assert_eq!(PublicKey::parse(&key.to_text()), Ok(key));
        }
        if let Some(secret) = SecretKey::parse(&text) {
            let public = PublicKey::parse(&secret.public().to_text()).unwrap();
            assert_eq!(public, secret.public());
            assert!(public.has_signed(&block, &secret.sign(&block).bytes));
        }
    });
}

#[test]
fn manifests_of_any_bytes_are_refused_or_in_the_one_form() {
    let digest = "00112233445566778899aabbccddeeff".repeat(2);
    let full = Manifest {
        boot: BTreeMap::from([("vmlinuz".to_owned(), digest.clone())]),
        compatible: vec!["qemu-virt".to_owned()],
        halt_signal: Some("SIGRTMIN+3".to_owned()),
        init: vec!["/sbin/init".to_owned(), "--x".to_owned()],
        profiles: vec!["default".to_owned()],
        properties: BTreeMap::from([("os".to_owned(), "Debian \"12\" \u{e4}".to_owned())]),
        sbom: Some(digest),
        ..Manifest::new("debian", Architecture::Arm64)
    };
    let seeds = [full.encode().unwrap(), Manifest::new("bb", Architecture::Armhf).encode().unwrap()];
    let words =
        ["\"init\":", "\"boot\":{}", "null", "[]", "\\u0000", "1e9", "-0", "\"kernel\":[", "18446744073709551615"];
    fuzz("manifest", &seeds, &words, |bytes| {
        let Ok(manifest) = Manifest::parse(bytes) else { return };
        assert_eq!(manifest.encode().unwrap(), bytes);
        let generic: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(generic.to_string().as_bytes(), bytes, "another reader sees another form");
    });
}

/// A release of a system with a kernel and of one instance.
fn release_manifest() -> release::Manifest {
    let image = release::ImageFile { bytes: 1 << 20, fingerprint: [1; 32] };
    let kernel = release::BootFile { bytes: 9, sha256: [2; 32] };
    let boot = BTreeMap::from([("vmlinuz".to_owned(), kernel)]);
    release::Manifest {
        architecture: Architecture::Arm64,
        compatible: vec!["qemu-virt".to_owned()],
        created: 0,
        instances: BTreeMap::from([(InstanceName::parse("web").unwrap(), image)]),
        name: "meter".to_owned(),
        needs_uplink: true,
        release: 7,
        requires: release::Requires {
            kernel: vec!["OVERLAY_FS".to_owned()],
            memory_mib: 64,
            runtime: Version { major: 0, minor: 1, patch: 2 },
        },
        system: Some(release::System { boot, bytes: 2 << 20, fingerprint: [3; 32] }),
        version: "1".to_owned(),
    }
}

#[test]
fn release_manifests_of_any_bytes_are_refused_or_in_the_one_form() {
    let words =
        ["\"boot\":{}", "\"instances\":{", "null", "\\u0000", "1e9", "18446744073709551615", "\"bytes\":", "true"];
    fuzz("release manifest", &[release_manifest().encode().unwrap()], &words, |bytes| {
        let Ok(manifest) = release::Manifest::parse(bytes) else { return };
        assert_eq!(manifest.encode().unwrap(), bytes);
        let generic: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(generic.to_string().as_bytes(), bytes, "another reader sees another form");
        let all: u64 = manifest.parts().iter().map(|(_, bytes)| bytes).sum();
        assert!(0 < all, "a release of nothing");
    });
}

/// Changes are three bytes each, as those of an image.
#[test]
fn a_release_is_believed_only_as_it_was_signed() {
    let original = release::encode(&release_manifest(), 3, 2, &[key(1), key(3)]).unwrap();
    let keys = Keys::new([key(1).public(), key(2).public()]);
    let good = release::verify(&original, &keys, 1).unwrap();
    let header = original.len() as u64 - BLOCK_BYTES;
    let seeds = [
        changes(&[(4096 + 256, 1), (4096 + 300, 0xff)]),
        changes(&[(header + 16, 0x10), (header + 56, 1), (3, 1)]),
        changes(&[(header, 1), (header + 24, 1), (4096, 1)]),
    ];
    fuzz("release", &seeds, &[], |bytes| {
        let mut release = original.clone();
        for change in bytes.chunks_exact(3) {
            let offset = usize::from(u16::from_le_bytes([change[0], change[1]])) % release.len();
            release[offset] ^= change[2];
        }
        release.truncate(original.len() - bytes.len() % 3);
        if let Ok(release) = release::verify(&release, &keys, 1) {
            assert_eq!(release, good, "a changed release is believed");
        }
    });
}

/// A small image of one file, signed by key 1.
fn build_small(directory: &Path) -> (PathBuf, Built) {
    let archive = directory.join("small.tar");
    fs::write(&archive, &archives()[0]).unwrap();
    let output = directory.join("image");
    let built = pack::build(&BuildOptions {
        source: Source::Tar(archive),
        output: output.clone(),
        kind: ImageKind::Container,
        manifest: Manifest::new("small", Architecture::Arm64),
        security_epoch: 0,
        compression: Compression::None,
        threads: std::num::NonZeroUsize::MIN,
        owners: Owners::Kept,
        timestamp: Some(0),
        on_progress: |_| (),
        keys: vec![key(1)],
    });
    (output, built.unwrap())
}

/// Changes of an image: three bytes each, where (little-endian) and which bits.
fn changes(list: &[(u64, u8)]) -> Vec<u8> {
    list.iter().flat_map(|&(offset, bits)| [offset as u8, (offset >> 8) as u8, bits]).collect()
}

#[test]
fn a_changed_image_is_refused_unless_only_signatures_were_added() {
    let directory = tempfile::tempdir().unwrap();
    let (path, built) = build_small(directory.path());
    let original = fs::read(&path).unwrap();
    let layout = built.header.layout;
    let area = layout.signatures_offset() as usize..layout.header_offset() as usize;
    let keys = Keys::new([key(1).public()]);
    let mut wanted = Wanted { fingerprint: None, ..Wanted::container([0; 32]) };
    wanted.runtime.architectures = &[Architecture::Armhf, Architecture::Arm64, Architecture::X86_64];
    let place = |index| layout.signatures_offset() + signatures::place_of(index).start as u64;
    let seeds = [
        changes(&[(place(1), 1), (place(1) + 40, 0xff)]),
        changes(&[(layout.tree_offset(), 1), (layout.tree_offset() + 32, 1)]),
        changes(&[(layout.manifest_offset() + 3, 1), (layout.signatures_offset() - 1, 1)]),
        changes(&[(layout.header_offset() + 16, 0x10), (layout.header_offset() + 64, 1)]),
        changes(&[(0, 1), (layout.payload_bytes() - 1, 1)]),
    ];
    fuzz("image", &seeds, &[], |bytes| {
        let mut image = original.clone();
        for change in bytes.chunks_exact(3) {
            let offset = usize::from(u16::from_le_bytes([change[0], change[1]])) % image.len();
            image[offset] ^= change[2];
        }
        fs::write(&path, &image).unwrap();
        let Ok(opened) = open_trusted(&path, &keys, &wanted) else { return };
        assert_eq!((opened.fingerprint, &opened.signers[..]), (built.fingerprint, &[key(1).public().id()][..]));
        if verity::diagnose(&opened.file, &opened.header).is_ok() {
            image[area.clone()].copy_from_slice(&original[area.clone()]);
            assert!(image == original, "a changed image is believed");
        }
    });
}

/// Archives as tar programs write them, with long names, attributes, links and devices.
fn archives() -> [Vec<u8>; 3] {
    let header = |kind: tar::EntryType, bytes: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(70_000);
        header.set_gid(2);
        header.set_size(bytes as u64);
        header
    };
    let archive = |fill: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
        let mut builder = tar::Builder::new(Vec::new());
        fill(&mut builder);
        builder.into_inner().unwrap()
    };
    let add = |builder: &mut tar::Builder<Vec<u8>>, name: &str, kind, content: &[u8]| {
        builder.append_data(&mut header(kind, content.len()), name, content).unwrap();
    };
    [
        archive(&|builder| {
            add(builder, "bin/", tar::EntryType::Directory, b"");
            add(builder, "bin/sh", tar::EntryType::Regular, b"#!");
            builder.append_link(&mut header(tar::EntryType::Link, 0), "bin/ash", "bin/sh").unwrap();
            builder.append_link(&mut header(tar::EntryType::Symlink, 0), "sh", "bin/sh").unwrap();
        }),
        archive(&|builder| {
            let attributes =
                [("SCHILY.xattr.user.note", b"1\n2".as_slice()), ("uid", b"4000000000"), ("path", b"a/b")];
            builder.append_pax_extensions(attributes).unwrap();
            add(builder, "short", tar::EntryType::Regular, &[b'x'; 600]);
        }),
        archive(&|builder| {
            add(builder, &"l".repeat(150), tar::EntryType::Regular, b"x");
            let mut device = header(tar::EntryType::Char, 0);
            device.set_device_major(259).unwrap();
            device.set_device_minor(0x1234).unwrap();
            builder.append_data(&mut device, "dev/node", &b""[..]).unwrap();
        }),
    ]
}

/// The archive with right checksums, so that what stands behind them is tried too.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut archive = bytes.to_vec();
    for block in archive.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        let mut header = tar::Header::from_byte_slice(block).clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
    archive
}

/// All regular files of a tree, each of which lies in the archive.
fn files(tree: &Tree) -> impl Iterator<Item = (u64, u64)> + '_ {
    tree.in_order().into_iter().filter_map(|place| match tree.node(place).body {
        Body::File(Content::Archive { offset, bytes }) => Some((offset, bytes)),
        _ => None,
    })
}

#[test]
fn archives_of_any_bytes_are_refused_or_packed_with_what_is_in_them() {
    let (source, output) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let words = ["ustar", "../", "/", "SCHILY.xattr.", "13 size=99\n", "GNU.sparse.", "0000644\0"];
    fuzz("archive", &archives(), &words, |bytes| {
        let archive = with_checksums(bytes);
        let Ok(tree) = erofs::read_tar(Cursor::new(&archive), Owners::Kept) else { return };
        source.set_len(0).unwrap();
        source.write_all_at(&archive, 0).unwrap();
        for compression in [Compression::Lz4 { cluster_blocks: 1, level: Level::DEFAULT }, Compression::None] {
            output.set_len(0).unwrap();
            let options =
                Options { compression, threads: std::num::NonZeroUsize::MIN, times: Times { made: 0, latest: None } };
            let Ok(blocks) = erofs::write(&tree, Some(&source), &options, &output, &|_| ()) else { return };
            assert_eq!(output.metadata().unwrap().len(), blocks * BLOCK_BYTES);
        }
        let mut payload = vec![0; output.metadata().unwrap().len() as usize];
        output.read_exact_at(&mut payload, 0).unwrap();
        for (offset, bytes) in files(&tree) {
            // Without compression each file begins at a block of its own, and none of these is longer.
            let content = &archive[offset as usize..][..bytes as usize];
            assert!(payload.chunks(BLOCK_BYTES as usize).any(|block| block.starts_with(content)));
        }
    });
}

#[test]
fn pax_records_of_any_bytes_are_refused_or_lie_one_behind_the_other() {
    let seeds = [b"12 path=a/b\n30 SCHILY.xattr.user.a=1\n2\0=34\n21 uid=4000000000000\n".to_vec()];
    fuzz("pax records", &seeds, &["=", "\n", " ", "999999999 "], |bytes| {
        let Some(records) = parse_pax(bytes) else { return };
        // A digit, a space, the equals sign and the line's end of each come on top.
        let least: usize = records.iter().map(|record| record.key.len() + record.value.len() + 4).sum();
        assert!(least <= bytes.len());
    });
}

#[test]
fn names_of_any_text_are_a_signal_or_none() {
    let seeds = [b"SIGRTMIN+3".to_vec(), b"SIGRTMAX-14".to_vec(), b"SIGPWR".to_vec()];
    fuzz("signal name", &seeds, &["SIGRTMIN+", "SIGRTMAX-", "255", "0"], |bytes| {
        let number = signal_name::parse(&String::from_utf8_lossy(bytes));
        assert!(number.is_none_or(|number| (1..=64).contains(&number)));
    });
}
