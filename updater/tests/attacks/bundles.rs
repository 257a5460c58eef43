//! Bundles on standard input that are no bundles, or in another order.

use crate::Attempt;
use crate::board::Board;
use std::fs;

/// The good release as a bundle, with this done to it.
fn bundle(board: &Board, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Attempt {
    let mut bytes = Vec::new();
    board.workshop.build(|options| options.instances.clear()).write_bundle(&mut bytes).unwrap();
    let path = board.workshop.path().join("bundle");
    fs::write(&path, change(bytes)).unwrap();
    Attempt { input: Some(path), ..Attempt::install("-") }
}

/// Bytes of the first member: its header and its content, with what fills the last block.
fn first_member(bundle: &[u8]) -> usize {
    let octal = std::str::from_utf8(&bundle[124..135]).unwrap();
    512 + usize::from_str_radix(octal, 8).unwrap().next_multiple_of(512)
}

/// With another name and length in the first member's header, and the checksum of these.
fn with_first(mut bundle: Vec<u8>, name: &str, octal: &str) -> Vec<u8> {
    bundle[..100].fill(0);
    bundle[..name.len()].copy_from_slice(name.as_bytes());
    bundle[124..135].copy_from_slice(octal.as_bytes());
    // ustar: the sum of the header's bytes, those of the sum itself taken as blanks.
    bundle[148..156].fill(b' ');
    let sum: u32 = bundle[..512].iter().map(|byte| u32::from(*byte)).sum();
    bundle[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bundle
}

attacks! {
    a_bundle_that_is_none: "source-broken", Nothing, |board| bundle(board, |_| vec![0x5a; 100_000]);
    an_empty_bundle: "source-broken", Nothing, |board| bundle(board, |_| Vec::new());
    a_bundle_of_nothing_but_an_end: "source-missing", Nothing, |board| bundle(board, |_| vec![0; 100_000]);
    a_bundle_with_a_release_of_8_gib: "release-size", Nothing, |board| {
        bundle(board, |good| [with_first(good, "release", "77777777777"), vec![0; 1 << 20]].concat())
    };
    a_bundle_of_more_files_than_any_release_has: "source-broken", Nothing, |board| {
        bundle(board, |good| [with_first(good[..512].to_vec(), "another", "00000000000").repeat(2000), good].concat())
    };
    a_bundle_whose_release_has_a_path_out_of_it: "source-missing", Nothing, |board| bundle(board, |good| {
        let octal = String::from_utf8(good[124..135].to_vec()).unwrap();
        with_first(good, "../../../../data/state/update", &octal)
    });
    a_bundle_whose_image_comes_before_its_release: "source-order", DeniedSlot, |board| bundle(board, |good| {
        let (release, rest) = good.split_at(first_member(&good));
        let (image, rest) = rest.split_at(first_member(rest));
        [image, release, rest].concat()
    });
    a_bundle_that_ends_early: "source-broken", DeniedSlot, |board| bundle(board, |good| {
        good[..first_member(&good) + 5000].to_vec()
    });
    // What says whether a block is right comes behind it: it is noticed when all is read back, and may be the disk's fault too.
    a_bundle_with_a_changed_block: "device", DeniedSlot, |board| bundle(board, |mut good| {
        let image = first_member(&good) + 512;
        good[image + 9000] ^= 1;
        good
    });
}
