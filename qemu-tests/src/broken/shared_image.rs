//! Instances of one image share the image's loop device and its verity device.

use super::bench::{Bench, text};
use super::failure::BrokenError;
use crate::report::{Observer, Witness};

/// They run on this board, and their image is the same.
const SHARING: [&str; 2] = ["crab", "shell"];

pub(super) fn one_device(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let mut fingerprints = Vec::new();
    for name in SHARING {
        let status = bench.wait_settled(name)?;
        fingerprints.push(text(&status["fingerprint"]).to_owned());
        let root = bench.shell(&format!("grep ' / / ' /proc/{}/mountinfo", status["pid"]))?;
        observer.check(Witness::Kernel, &format!("{name} has a root of its own"), &root, root.contains("overlay"))?;
    }
    let fingerprint = &fingerprints[0];
    observer.check(
        Witness::OwnWord,
        "their image is the same",
        fingerprints.join(", "),
        fingerprints.iter().all(|one| one == fingerprint),
    )?;
    let count = bench.shell(&format!(
        "cat /sys/block/dm-*/dm/name | grep -c yado-{}; cat /sys/block/loop*/loop/backing_file | grep -c {fingerprint}",
        &fingerprint[..16]
    ))?;
    observer.check(
        Witness::Kernel,
        "there is one verity device of it, and one loop device",
        count.replace('\n', ", "),
        count == "1\n1",
    )?;
    Ok(())
}
