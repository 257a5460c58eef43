//! Specs, files and images that are not as they should be.

use super::appliance::{NEWER_RUNTIME, OTHER_MACHINE};
use super::bench::{Bench, has_failed_at, text};
use super::failure::BrokenError;
use super::instance_runs::{is_ready, runs_not};
use crate::report::{Observer, Witness};
use qemu_guest::Ended;

/// What the image's own cache of specs says is checked, not trusted.
pub(super) fn spoilt_specs(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    for name in ["spec-flipped", "spec-cut"] {
        is_ready(bench, observer, &format!("{name} runs"), name)?;
        let sums = bench
            .shell(&format!("sha256sum /usr/lib/yado/specs/{name}.bin /run/yado/specs/{name}.bin | cut -c-64"))?;
        let sums: Vec<&str> = sums.lines().collect();
        let is_other = sums.len() == 2 && sums[0] != sums[1];
        observer.check(
            Witness::Peer,
            "its spec was compiled again, and is another one",
            sums.join(" / "),
            is_other,
        )?;
    }
    Ok(())
}

/// A file that is wrong, and what people must be told.
struct BadFile {
    instance: &'static str,
    told: &'static [&'static str],
}

const BAD_FILES: &[BadFile] = &[
    BadFile {
        instance: "typo-key",
        told: &["typo-key/instance.toml:4:", "limits.memroy = \"16MiB\"", "did you mean limits.memory?"],
    },
    BadFile {
        instance: "bad-value",
        told: &["bad-value/instance.toml:4:", "limits.memory = \"plenty\"", "must be "],
    },
    BadFile {
        instance: "unknown-device",
        told: &["unknown-device/instance.toml:", "\"gpoi\"", "did you mean gpio?"],
    },
    BadFile { instance: "hen", told: &["hen/instance.toml:2:", "after", "a cycle: hen after egg after hen"] },
    BadFile { instance: "egg", told: &["egg/instance.toml:2:", "after", "a cycle: egg after hen after egg"] },
    BadFile { instance: "not-toml", told: &["not-toml/instance.toml:1:", "not TOML"] },
];

pub(super) fn bad_files(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    for BadFile { instance, told } in BAD_FILES {
        let status = bench.instance(instance)?;
        let reason = text(&status["last_failure"]["reason"]);
        let is_told = told.iter().all(|part| reason.contains(part));
        let is_refused = status["state"] == "failed" && status["last_failure"]["step"] == "spec";
        let what = format!("{instance} has failed, and its file, key and value are named");
        runs_not(bench, observer, &what, instance, &status, is_refused && is_told)?;
    }
    let unlabelled = bench.wait_settled("no-profile")?;
    let is_refused = has_failed_at(&unlabelled, "label", "no-such-profile");
    runs_not(bench, observer, "a profile that is not loaded is named", "no-profile", &unlabelled, is_refused)?;
    is_ready(bench, observer, "the good one beside them runs", "good")?;
    let said = bench.shell_ran("yado check /data/instances/typo-key/instance.toml")?;
    let is_same = said.ended == Ended::Code(1) && said.stdout.contains("did you mean limits.memory?");
    observer.check(Witness::OwnWord, "`yado check` says the same of the file", &said.stdout, is_same)?;
    Ok(())
}

pub(super) fn foreign_images(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    for (name, told) in [("newer-runtime", NEWER_RUNTIME), ("other-machine", OTHER_MACHINE)] {
        let status = bench.wait_settled(name)?;
        let failure = &status["last_failure"];
        let is_refused = status["state"] == "failed" && failure["step"] == "image-requires";
        let is_told = text(&failure["reason"]).contains(told);
        let what = format!("{name} is refused, and {told} is named");
        runs_not(bench, observer, &what, name, &status, is_refused && is_told)?;
        let devices = bench.shell(&devices_of(text(&status["fingerprint"])))?;
        observer.check(Witness::Kernel, "no device was made for its image", &devices, devices == "0")?;
    }
    Ok(())
}

/// Counts the devices that read this image, of device-mapper by their name and loop devices by their file. Without a fingerprint
/// it counts nothing, which is not 0.
fn devices_of(fingerprint: &str) -> String {
    let Some(start) = fingerprint.get(..16) else { return "echo no fingerprint".to_owned() };
    format!("cat /sys/block/dm-*/dm/name /sys/block/loop*/loop/backing_file 2> /dev/null | grep -c {start} || true")
}

#[cfg(test)]
mod tests {
    use super::super::appliance::ON_DATA;
    use super::*;

    #[test]
    fn every_file_on_the_data_partition_but_the_good_one_is_told_of() {
        let mut on_data: Vec<&str> =
            ON_DATA.iter().map(|(path, _)| path.trim_start_matches("on-data/").trim_end_matches(".toml")).collect();
        let mut told: Vec<&str> = BAD_FILES.iter().map(|bad| bad.instance).chain(["good"]).collect();
        on_data.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, on_data);
    }
}
