//! Where a release stands: in a folder the file `release`, in a bundle the first member, or a file of its own.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use yado_image::release::MAX_RELEASE_BYTES;
use yado_sys::regular_file;

/// A release's bytes, and where they are.
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) range: Range<u64>,
    pub(super) bytes: Vec<u8>,
}

/// Finds and reads it. Nothing of it has been looked at.
pub(super) fn read(source: &Path) -> Result<Place, Box<dyn Error>> {
    let path = if source.is_dir() { source.join("release") } else { source.to_owned() };
    let read_error = |error| format!("read {}: {error}", path.display());
    let file = regular_file::open_linked(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let length = file.metadata().map_err(read_error)?.len();
    let range = first_member(&file, length).unwrap_or(0..length);
    let mut bytes = vec![0; range.end.saturating_sub(range.start).min(MAX_RELEASE_BYTES + 1) as usize];
    file.read_exact_at(&mut bytes, range.start).map_err(read_error)?;
    Ok(Place { path, range, bytes })
}

/// Of a tar archive whose first member is a release.
fn first_member(mut file: &File, length: u64) -> Option<Range<u64>> {
    const BLOCK: u64 = 512;
    let mut header = [0; BLOCK as usize];
    file.read_exact(&mut header).ok()?;
    if &header[..8] != b"release\0" || &header[257..262] != b"ustar" {
        return None;
    }
    let digits = std::str::from_utf8(&header[124..135]).ok()?;
    let end = BLOCK.checked_add(u64::from_str_radix(digits, 8).ok()?)?;
    (end <= length).then_some(BLOCK..end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::process::Command;

    #[test]
    fn a_release_is_found_in_its_folder_alone_and_in_a_bundle_that_tar_made() {
        let folder = tempfile::tempdir().unwrap();
        let (file, bundle) = (folder.path().join("release"), folder.path().join("bundle.tar"));
        fs::write(&file, [7; 5000]).unwrap();
        fs::write(folder.path().join("other"), "x").unwrap();
        let tar = |members: &[&str]| {
            let mut tar = Command::new("tar");
            let made = tar.args(["--format=ustar", "-cf"]).arg(&bundle).arg("-C");
            assert!(made.arg(folder.path()).args(members).status().unwrap().success());
            read(&bundle).unwrap()
        };
        for (place, range) in [
            (read(folder.path()).unwrap(), 0..5000),
            (read(&file).unwrap(), 0..5000),
            (tar(&["release", "other"]), 512..5512),
        ] {
            assert_eq!((place.range, place.bytes), (range, vec![7; 5000]));
        }
        // An archive that begins with something else is no bundle, and no release either.
        let place = tar(&["other", "release"]);
        assert_eq!(place.range, 0..fs::metadata(&bundle).unwrap().len());
        let error = yado_image::release::describe(&place.bytes).unwrap_err();
        assert_eq!(error.rule(), "release-header");
        // One that was cut off is refused for what it is.
        fs::write(&bundle, &fs::read(&bundle).unwrap()[..700]).unwrap();
        assert!(read(&bundle).is_ok_and(|place| yado_image::release::describe(&place.bytes).is_err()));
        assert!(read(&folder.path().join("missing")).is_err_and(|error| error.to_string().contains("missing")));
    }
}
