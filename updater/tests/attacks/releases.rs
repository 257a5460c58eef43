//! Releases that are wrong as a whole: of another time, place or hand, or no releases at all. Nothing of an image is read.

use crate::Attempt;
use crate::board::Board;
use crate::workshop::{key, sha256};
use std::fs;
use yado_image::release::{self, BuildOptions, Manifest};
use yado_image::{Architecture, Version};
use yado_updater::record::{Blocked, Cause};
use yado_wire::InstanceName;

/// Signatures and header, behind the manifest.
const TAIL: usize = 12_288;
const HEADER: usize = 4096;

/// A release that its maker built like this.
fn built(board: &Board, change: impl FnOnce(&mut BuildOptions)) -> Attempt {
    let built = board.workshop.build(|options| {
        options.instances.clear();
        change(options);
    });
    Attempt::install_folder(&board.workshop.lay_out("bad", &built))
}

/// The good release's folder, with other bytes for its release.
fn replaced(board: &Board, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Attempt {
    let good = board.workshop.build(|options| options.instances.clear());
    let folder = board.workshop.lay_out("bad", &good);
    fs::write(folder.join("release"), change(good.release)).unwrap();
    Attempt::install_folder(&folder)
}

/// A release that its maker has signed, of a manifest that no builder would write.
fn signed(board: &Board, change: impl FnOnce(&mut Manifest)) -> Attempt {
    let mut manifest = board.workshop.build(|options| options.instances.clear()).manifest;
    change(&mut manifest);
    let bytes = release::encode(&manifest, 5, 3, &[key(1)]).unwrap();
    replaced(board, |_| bytes)
}

/// Another release by the same hand.
fn ninth(board: &Board) -> Vec<u8> {
    board.workshop.build(|options| (options.release, options.instances) = (Some(9), Vec::new())).release
}

/// A header that says the right length and digest of this text, below the signatures of the good one.
fn with_manifest(good: &[u8], text: &[u8]) -> Vec<u8> {
    let (front, header) = good.split_at(good.len() - HEADER);
    let bytes = u32::from_le_bytes(header[16..20].try_into().unwrap()) as usize;
    let digest = sha256(&good[..bytes]);
    let at = header.windows(32).position(|found| found == digest).unwrap();
    let mut header = header.to_vec();
    header[16..20].copy_from_slice(&(text.len() as u32).to_le_bytes());
    header[at..at + 32].copy_from_slice(&sha256(text));
    [text, &front[front.len() - (TAIL - HEADER)..], &header].concat()
}

attacks! {
    an_older_release: "older", Nothing, |board| built(board, |options| options.release = Some(6));
    another_release_of_the_same_number: "older", Nothing, |board| built(board, |options| options.release = Some(7));
    an_older_release_where_the_data_partition_was_wiped: "older", Nothing, |board| {
        board.wipe_state();
        built(board, |options| (options.release, options.oldest_before) = (Some(6), 0))
    };
    an_older_security_epoch: "security-epoch", Nothing, |board| {
        built(board, |options| options.security_epoch = Some(2))
    };
    an_older_security_epoch_where_the_data_partition_was_wiped: "security-epoch", Nothing, |board| {
        board.wipe_state();
        built(board, |options| (options.security_epoch, options.oldest_before) = (Some(2), 0))
    };
    the_release_that_runs_already: "already", Nothing, |board| {
        let built = board.workshop.build(|options| options.instances.clear());
        let mut record = board.record();
        record.current.as_mut().unwrap().fingerprint = built.fingerprint;
        board.write_record(&record);
        Attempt::install_folder(&board.workshop.lay_out("bad", &built))
    };
    a_release_that_failed_here_before: "blocked", Nothing, |board| {
        let built = board.workshop.build(|options| options.instances.clear());
        let mut record = board.record();
        let mut release = record.current.clone().unwrap();
        release.fingerprint = built.fingerprint;
        record.blocked.push(Blocked { release, system: None, cause: Cause::User });
        board.write_record(&record);
        Attempt::install_folder(&board.workshop.lay_out("bad", &built))
    };
    a_release_that_skips_a_stepping_stone: "stepping-stone", Nothing, |board| {
        built(board, |options| (options.release, options.oldest_before) = (Some(20), 15))
    };
    another_product: "product", Nothing, |board| built(board, |options| options.name = Some("gate".to_owned()));
    another_product_where_the_data_partition_was_wiped: "product", Nothing, |board| {
        board.wipe_state();
        built(board, |options| options.name = Some("gate".to_owned()))
    };
    another_board: "board", Nothing, |board| built(board, |options| options.compatible = vec!["board-2".to_owned()]);
    another_processor: "architecture", Nothing, |board| {
        let other = if cfg!(target_arch = "aarch64") { Architecture::Armhf } else { Architecture::Arm64 };
        let system = board.workshop.other_system("foreign", 1, |manifest| manifest.architecture = other);
        built(board, |options| options.system = Some(system))
    };
    a_runtime_of_years_later: "runtime", Nothing, |board| {
        signed(board, |manifest| manifest.requires.runtime = Version { major: 999, minor: 0, patch: 0 })
    };
    an_image_for_an_instance_that_is_not_here: "instance", Nothing, |board| {
        let container = board.workshop.container.clone();
        built(board, |options| options.instances = vec![(InstanceName::parse("web").unwrap(), container)])
    };
    more_memory_than_any_board_has: "memory", Nothing, |board| {
        built(board, |options| options.requires_memory_mib = u32::MAX)
    };
    signed_by_a_stranger: "release-signature", Nothing, |board| built(board, |options| options.keys = vec![key(2)]);
    signed_by_nobody: "release-signature", Nothing, |board| built(board, |options| options.keys = Vec::new());
    the_signature_of_another_release: "release-signature", Nothing, |board| {
        let other = ninth(board);
        replaced(board, |good| {
            let signatures = &other[other.len() - TAIL..other.len() - HEADER];
            [&good[..good.len() - TAIL], signatures, &good[good.len() - HEADER..]].concat()
        })
    };
    the_manifest_of_another_release: "release-manifest", Nothing, |board| {
        let other = ninth(board);
        replaced(board, |good| [&other[..other.len() - TAIL], &good[good.len() - TAIL..]].concat())
    };
    an_empty_release: "release-size", Nothing, |board| replaced(board, |_| Vec::new());
    a_release_that_is_cut: "release-header", Nothing, |board| replaced(board, |good| good[..good.len() - 512].to_vec());
    a_release_without_its_beginning: "release-size", Nothing, |board| replaced(board, |good| good[HEADER..].to_vec());
    a_release_of_8_mib: "release-size", Nothing, |board| replaced(board, |_| vec![0; 8 << 20]);
    an_image_in_the_place_of_a_release: "release-header", Nothing, |board| {
        let image = fs::read(&board.workshop.system).unwrap();
        replaced(board, |_| image)
    };
    a_manifest_of_4_gib_by_the_header: "release-header", Nothing, |board| replaced(board, |mut good| {
        let header = good.len() - HEADER;
        good[header + 16..header + 20].fill(0xff);
        good
    });
    // Its digest fits; it is not parsed all the same before a trusted key has signed it.
    a_manifest_of_a_hundred_thousand_brackets: "release-signature", Nothing, |board| {
        replaced(board, |good| with_manifest(&good, &[b'['; 24 * HEADER]))
    };
    a_system_of_60_gib_by_a_signed_manifest: "slot-space", Nothing, |board| {
        signed(board, |manifest| manifest.system.as_mut().unwrap().bytes = 60 << 30)
    };
    boot_files_of_1_gib_by_a_signed_manifest: "boot-space", Nothing, |board| {
        signed(board, |manifest| {
            manifest.system.as_mut().unwrap().boot.values_mut().for_each(|file| file.bytes = 512 << 20);
        })
    };
    any_release_while_updates_are_held: "held", Nothing, |board| {
        let mut record = board.record();
        record.is_held = true;
        board.write_record(&record);
        built(board, |_| ())
    };
    any_release_where_no_key_is_trusted: "trust", Nothing, |board| {
        fs::rename(board.path("system/trust/release.pub"), board.path("system/trust/release.old")).unwrap();
        built(board, |_| ())
    };
    any_release_where_a_trusted_key_is_spoilt: "trust", Nothing, |board| {
        fs::write(board.path("system/trust/other.pub"), "no key").unwrap();
        built(board, |_| ())
    };
}
