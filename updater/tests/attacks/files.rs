//! Releases that are good, and whose files are not: what was signed of each says so, and the slot has no header before all are right.

use crate::Attempt;
use crate::board::Board;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use yado_image::release::{Built, Part};

/// The good release, and its folder.
fn good(board: &Board) -> (Built, PathBuf) {
    let built = board.workshop.build(|options| options.instances.clear());
    let folder = board.workshop.lay_out("bad", &built);
    (built, folder)
}

fn image_of(built: &Built, folder: &Path) -> PathBuf {
    folder.join(built.manifest.parts()[0].0.to_string())
}

/// The good release, with this done to the file of its system's image.
fn with_image(board: &Board, change: impl FnOnce(&mut Vec<u8>)) -> Attempt {
    let (built, folder) = good(board);
    let image = image_of(&built, &folder);
    let mut bytes = fs::read(&image).unwrap();
    change(&mut bytes);
    put(&image, &bytes);
    Attempt::install_folder(&folder)
}

/// Its name may be another link of the workshop's own file: that stays whole.
fn put(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn boot_files(built: &Built, folder: &Path) -> [PathBuf; 2] {
    let parts = built.manifest.parts().into_iter().filter(|(part, _)| matches!(part, Part::Boot(_)));
    let paths: Vec<_> = parts.map(|(part, _)| folder.join(part.to_string())).collect();
    paths.try_into().unwrap()
}

attacks! {
    swapped_boot_files: "release-file", DeniedSlot, |board| {
        let (built, folder) = good(board);
        let [first, second] = boot_files(&built, &folder);
        fs::rename(&first, folder.join("aside")).unwrap();
        fs::rename(&second, &first).unwrap();
        fs::rename(folder.join("aside"), &second).unwrap();
        Attempt::install_folder(&folder)
    };
    a_boot_file_that_is_missing: "source-missing", DeniedSlot, |board| {
        let (built, folder) = good(board);
        fs::remove_file(&boot_files(&built, &folder)[1]).unwrap();
        Attempt::install_folder(&folder)
    };
    a_boot_file_that_is_cut: "source-short", DeniedCandidate, |board| {
        let (built, folder) = good(board);
        put(&boot_files(&built, &folder)[0], &[1; 100]);
        Attempt::install_folder(&folder)
    };
    an_image_that_is_missing: "source-missing", DeniedSlot, |board| {
        let (built, folder) = good(board);
        fs::remove_file(image_of(&built, &folder)).unwrap();
        Attempt::install_folder(&folder)
    };
    an_image_that_is_cut: "source-short", DeniedCandidate, |board| with_image(board, |image| image.truncate(8192));
    an_image_with_a_changed_block: "release-file", DeniedSlot, |board| with_image(board, |image| image[9000] ^= 1);
    an_image_with_a_changed_header: "release-file", DeniedSlot, |board| with_image(board, |image| {
        let header = image.len() - 4096;
        image[header + 100] ^= 1;
    });
    an_image_with_a_changed_signature: "release-file", DeniedSlot, |board| with_image(board, |image| {
        let signatures = image.len() - 4096 - 8192;
        image[signatures..signatures + 8192].fill(0);
    });
    the_image_of_another_release: "release-file", DeniedSlot, |board| {
        let other = board.workshop.other_system("other", 1, |manifest| manifest.release = 6);
        with_image(board, |image| *image = fs::read(other).unwrap())
    };
    // Who signs releases was given it by somebody else.
    an_image_that_only_a_stranger_has_signed: "release-file", DeniedSlot, |board| {
        let system = board.workshop.other_system("foreign", 2, |_| ());
        let built = board.workshop.build(|options| (options.system, options.instances) = (Some(system), Vec::new()));
        Attempt::install_folder(&board.workshop.lay_out("bad", &built))
    };
    a_folder_without_a_release: "source-missing", Nothing, |board| {
        let folder = board.workshop.path().join("bad");
        fs::create_dir(&folder).unwrap();
        Attempt::install_folder(&folder)
    };
    a_release_that_is_an_endless_device: "source-broken", Candidate, |board| {
        let (_, folder) = good(board);
        fs::remove_file(folder.join("release")).unwrap();
        symlink("/dev/zero", folder.join("release")).unwrap();
        Attempt::install_folder(&folder)
    };
    an_image_that_is_a_pipe: "source-broken", DeniedCandidate, |board| {
        let (built, folder) = good(board);
        let image = image_of(&built, &folder);
        fs::remove_file(&image).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &image, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        Attempt::install_folder(&folder)
    };
}
