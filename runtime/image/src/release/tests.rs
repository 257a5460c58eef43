#![allow(clippy::unwrap_used)]
use super::*;
use crate::image_target::{Architecture, Version};
use crate::secret::SecretKey;
use std::collections::BTreeMap;
use yado_wire::InstanceName;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32], "")
}

fn trusted(seeds: &[u8]) -> Keys {
    Keys::new(seeds.iter().map(|&seed| key(seed).public()))
}

fn manifest(fingerprint: u8) -> Manifest {
    let image = ImageFile { bytes: 1 << 20, fingerprint: [fingerprint; 32] };
    Manifest {
        architecture: Architecture::Arm64,
        compatible: Vec::new(),
        created: 0,
        instances: BTreeMap::from([(InstanceName::parse("web").unwrap(), image)]),
        name: "meter".to_owned(),
        needs_uplink: false,
        release: 7,
        requires: Requires { kernel: Vec::new(), memory_mib: 0, runtime: Version { major: 0, minor: 1, patch: 0 } },
        system: None,
        version: "1".to_owned(),
    }
}

fn signed(fingerprint: u8, seeds: &[u8]) -> Vec<u8> {
    let keys: Vec<SecretKey> = seeds.iter().map(|&seed| key(seed)).collect();
    encode(&manifest(fingerprint), 3, 2, &keys).unwrap()
}

#[test]
fn what_was_signed_is_what_is_read() {
    let release = verify(&signed(1, &[1, 2]), &trusted(&[1, 2, 3]), 2).unwrap();
    assert_eq!((release.header.oldest_before, release.header.security_epoch), (3, 2));
    assert_eq!((release.manifest, release.signers.len()), (manifest(1), 2));
    assert_eq!(release.fingerprint, <[u8; 32]>::from(Sha256::digest(release.header.encode())));
    assert_eq!(describe(&signed(1, &[])).unwrap().manifest, manifest(1));
}

#[test]
fn signatures_are_judged_as_an_image_s_are() {
    let rule = |bytes: &[u8], seeds: &[u8], threshold| {
        let error = verify(bytes, &trusted(seeds), threshold).unwrap_err();
        assert_eq!(error.rule(), "release-signature", "{error}");
        match error {
            ReleaseError::Signature { source } => source,
            other => panic!("{other}"),
        }
    };
    assert_eq!(rule(&signed(1, &[1]), &[], 1), SignatureError::NoTrustedKeys);
    assert_eq!(rule(&signed(1, &[]), &[1], 1), SignatureError::Unsigned);
    assert!(matches!(rule(&signed(1, &[2]), &[1], 1), SignatureError::UnknownKeys { .. }));
    assert_eq!(rule(&signed(1, &[1, 1]), &[1, 2], 2), SignatureError::TooFew { valid: 1, needed: 2 });
}

/// The header's and the manifest's bytes of one release with the other's signatures, and so on: nothing of two releases fits.
#[test]
fn parts_of_two_signed_releases_make_no_third_one() {
    let (ours, other) = (signed(1, &[1]), signed(2, &[1]));
    let parts = [0..4096, 4096..12288, 12288..16384];
    for mask in 1..7_u8 {
        let mut mixed = ours.clone();
        for (index, part) in parts.iter().enumerate().filter(|(index, _)| mask & (1 << index) != 0) {
            assert!(ours[part.clone()] != other[part.clone()], "part {index} differs");
            mixed[part.clone()].copy_from_slice(&other[part.clone()]);
        }
        let error = verify(&mixed, &trusted(&[1]), 1).unwrap_err();
        let expected = match mask {
            // Another manifest below a header with its own signature: other fingerprints than those that were signed.
            0b001 | 0b110 => ReleaseError::Changed,
            _ => ReleaseError::Signature { source: SignatureError::Bad { key: key(1).public().id() } },
        };
        assert_eq!(error, expected, "{mask:03b}");
    }
}

#[test]
fn an_image_s_signature_is_none_for_a_release() {
    let bytes = signed(1, &[1]);
    let block: HeaderBlock = *bytes.last_chunk().unwrap();
    assert_eq!(crate::Header::parse(&block), Err(crate::HeaderError::BadMagic));
    let mut image = bytes.clone();
    let at = image.len() - 4096;
    image[at..at + 8].copy_from_slice(b"YADO-IMG");
    let error = verify(&image, &trusted(&[1]), 1).unwrap_err();
    assert_eq!(error, ReleaseError::Header { source: HeaderError::BadMagic { is_image: true } });
}

#[test]
fn each_byte_that_is_cut_off_or_added_or_changed_is_noticed() {
    let good = signed(1, &[1]);
    let keys = trusted(&[1]);
    assert_eq!(verify(&[], &keys, 1), Err(ReleaseError::TooShort { bytes: 0 }));
    assert_eq!(verify(&good[8192..], &keys, 1), Err(ReleaseError::TooShort { bytes: 8192 }));
    assert_eq!(verify(&good[4096..], &keys, 1), Err(ReleaseError::Size { named: 16384, found: 12288 }));
    let longer = [&[0; 4096][..], &good[..]].concat();
    assert_eq!(verify(&longer, &keys, 1), Err(ReleaseError::Size { named: 16384, found: 20480 }));
    assert_eq!(verify(&vec![0; MAX_RELEASE_BYTES as usize + 1], &keys, 1), Err(ReleaseError::TooLong));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let error = match verify(&bad, &keys, 1) {
            Err(error) => error,
            // The first free place: it becomes a signature of an algorithm that is not known, which is passed over.
            Ok(release) => {
                assert!((4096 + 128..4096 + 132).contains(&at), "byte {at}");
                assert_eq!(Ok(release), verify(&good, &keys, 1));
                continue;
            }
        };
        let rules: &[&str] = match at {
            0..4096 => &["release-manifest"],
            4096..12288 => &["release-signature"],
            _ => &["release-header", "release-signature", "release-size"],
        };
        assert!(rules.contains(&error.rule()), "byte {at}: {error}");
    }
}

#[test]
fn a_manifest_that_says_something_else_than_the_header_is_refused() {
    let (text, key) = (manifest(1).encode().unwrap(), key(1));
    let sealed = |change: &dyn Fn(&mut Header)| {
        let mut header = describe(&signed(1, &[1])).unwrap().header;
        change(&mut header);
        let mut bytes = text.clone();
        bytes.resize(4096, 0);
        let block = header.encode();
        bytes.extend_from_slice(&signatures::encode(&[key.sign(&block)]).unwrap()[..]);
        bytes.extend_from_slice(&block);
        verify(&bytes, &trusted(&[1]), 1)
    };
    assert!(sealed(&|_| {}).is_ok());
    type Change = fn(&mut Header);
    let cases: [(&str, Change); 3] = [
        ("architecture", |header| header.architecture = Architecture::Armhf),
        ("release", |header| header.release = 8),
        ("requires.runtime", |header| header.minimum_runtime.patch = 9),
    ];
    for (field, change) in cases {
        assert_eq!(sealed(&change), Err(ReleaseError::Disagreement { field }));
    }
    assert_eq!(sealed(&|header| header.manifest_sha256 = [0; 32]), Err(ReleaseError::Changed));
}

#[test]
fn more_is_refused_than_a_release_can_hold() {
    let keys: Vec<SecretKey> = (0..65).map(key).collect();
    assert_eq!(encode(&manifest(1), 0, 0, &keys), Err(EncodeError::TooManyKeys { keys: 65 }));
    let source = HeaderError::OldestBefore { release: 7, oldest_before: 7 };
    assert_eq!(encode(&manifest(1), 7, 0, &[]), Err(EncodeError::Header { source }));
}
