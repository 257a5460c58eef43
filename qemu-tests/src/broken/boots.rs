//! The boots: what is wrong with each board from the start.

use super::appliance::data_with_bad_files;
use super::bench::Bench;
use super::condition::{Condition, Kernel};
use super::controllers;
use super::data_partition::foreign_content;
use super::failure::BrokenError;
use super::last_words;
use super::pressure;
use crate::board::disk::DataPartition;
use crate::report::{Observer, Witness};

/// Bad files on the data partition, spoilt specs in the system. It has two processors.
pub(super) fn spoilt(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let name = "spoilt";
    let data = DataPartition::Filled(data_with_bad_files(&bench.directory_of(name)?)?);
    // Two processors, as with one nobody can tell which an instance may use.
    let said = bench.switch_on(Condition { data, processors: 2, ..Condition::sound(name) })?;
    observer.note("the agent on the board speaks", said);
    let processors = bench.shell("grep -c '^processor' /proc/cpuinfo")?;
    observer.check(Witness::Kernel, "it has two processors", &processors, processors == "2")?;
    let data = bench.status()?["system"]["data"].clone();
    observer.check(Witness::OwnWord, "nothing is wrong with the data partition itself", &data, data.is_null())?;
    Ok(())
}

/// A data partition that holds something, but no file system; and a kernel that was told to do without a controller and a
/// module.
pub(super) fn foreign_data(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let name = "foreign-data";
    let data = DataPartition::Filled(foreign_content(&bench.directory_of(name)?)?);
    let kernel_arguments = controllers::KERNEL_ARGUMENTS;
    let said = bench.switch_on(Condition { data, kernel_arguments, ..Condition::sound(name) })?;
    observer.note("the agent on the board speaks", said);
    is_told(bench, observer, kernel_arguments)
}

/// No data partition; a clock chip that a 32-bit kernel does not believe; and no figures of pressure.
pub(super) fn in_2040(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let data = DataPartition::Missing;
    let clock = Some("2040-01-01T00:00:00");
    let kernel_arguments = pressure::KERNEL_ARGUMENTS;
    let said = bench.switch_on(Condition { data, clock, kernel_arguments, ..Condition::sound("in-2040") })?;
    observer.note("the agent on the board speaks", said);
    is_told(bench, observer, kernel_arguments)?;
    let named = bench.shell("grep -hs '^PARTNAME=' /sys/class/block/*/uevent")?.replace('\n', " ");
    observer.check(Witness::Kernel, "no partition is called data", &named, !named.contains("=data"))?;
    Ok(())
}

/// Nothing is wrong; but modules are stored in another way, and memory is reserved for the kernel's last words.
pub(super) fn newer_kernel(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let said = bench.switch_on(Condition {
        kernel: Kernel::Newer,
        devicetree: last_words::DEVICETREE,
        ..Condition::sound("newer-kernel")
    })?;
    observer.note("the agent on the board speaks", said);
    let release = bench.shell("cat /proc/sys/kernel/osrelease")?;
    let is_newer = release == bench.prepared()?.ingredients.kernel.release;
    observer.check(Witness::Kernel, "it runs that kernel", &release, is_newer)?;
    Ok(())
}

/// The kernel was told to do without something.
fn is_told(bench: &Bench<'_>, observer: &mut Observer, kernel_arguments: &str) -> Result<(), BrokenError> {
    let told = bench.shell("cat /proc/cmdline")?;
    let has_all = kernel_arguments.split(' ').all(|word| told.split_whitespace().any(|of| of == word));
    observer.check(Witness::Kernel, &format!("its kernel was told {kernel_arguments}"), told, has_all)?;
    Ok(())
}
