//! The kernel's GPIO simulator, as a module for Debian's kernel, which is built without it. The sources are those
//! of the same kernel; the interrupt simulator that it needs is off as well and goes into the same module.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::{PrivateApt, Suite};
use super::failure::ProvisionError;
use super::host_packages::{self, Purpose};
use super::kernel;
use super::packages_index::Stanza;
use crate::arch::Arch;
use crate::cache::{Cache, Key};
use crate::command::Tool;
use crate::progress::Step;

/// What we take out of the kernel's source package, by its place there.
const SOURCES: [&str; 3] = ["drivers/gpio/gpio-sim.c", "drivers/gpio/gpiolib.h", "kernel/irq/irq_sim.c"];

const MAKEFILE: &str = "obj-m := gpio-sim.o\ngpio-sim-y := gpio-sim-main.o irq_sim.o\n";

/// `gpio-sim.ko` for the kernel of [`kernel::kernel`].
pub fn gpio_sim(cache: &Cache, arch: Arch) -> Result<PathBuf, ProvisionError> {
    let release = kernel::kernel(cache, arch)?.release;
    let names = Names::of(&release, arch);
    let apt = PrivateApt::open(cache, Suite::Main)?;
    let mut headers = apt.look_up(arch, &[&names.headers])?;
    headers.extend(apt.look_up(Arch::Amd64, &[&names.common, &names.kbuild])?);
    let sources = apt.look_up(Arch::Amd64, &[&names.source])?;

    let key = Key::new("gpio-sim 1").with(MAKEFILE);
    let key = headers.iter().chain(&sources).fold(key, |key, stanza| key.with(&stanza.sha256));
    let folder = cache.entry(&format!("gpio-sim-{arch}"), &key, |aside| {
        host_packages::ensure(cache, &[Purpose::KernelModule, Purpose::Compiler(arch)])?;
        let sources = sources_folder(cache, &apt, &names, &sources)?;
        let step = Step::begin(format!("gpio-sim.ko for {release}"));
        let work = aside.with_extension("work");
        remove_folder(&work)?;
        apt.unpack_into(&format!("headers of {release}"), &headers, &work)?;
        let module = build(&work, &release, &names, arch, &sources)?;
        fs::create_dir(aside).map_err(ProvisionError::io("create", aside))?;
        let kept = aside.join("gpio-sim.ko");
        fs::copy(&module, &kept).map_err(ProvisionError::io("copy", &module))?;
        remove_folder(&work)?;
        step.done();
        Ok::<(), ProvisionError>(())
    })?;
    Ok(folder.join("gpio-sim.ko"))
}

/// The names of the packages that belong to one kernel.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    headers: String,
    common: String,
    kbuild: String,
    source: String,
}

impl Names {
    /// `6.1.0-50-arm64` → `linux-headers-6.1.0-50-arm64`, `linux-headers-6.1.0-50-common`, `linux-kbuild-6.1`, …
    fn of(release: &str, arch: Arch) -> Names {
        let abi = release.strip_suffix(arch.kernel_flavour()).unwrap_or(release).trim_end_matches('-');
        let series: Vec<&str> = abi.split('.').take(2).collect();
        let series = series.join(".");
        Names {
            headers: format!("linux-headers-{release}"),
            common: format!("linux-headers-{abi}-common"),
            kbuild: format!("linux-kbuild-{series}"),
            source: format!("linux-source-{series}"),
        }
    }
}

/// Three files out of a package of 140 MB, kept for both architectures.
fn sources_folder(
    cache: &Cache,
    apt: &PrivateApt<'_>,
    names: &Names,
    packages: &[Stanza],
) -> Result<PathBuf, ProvisionError> {
    let key = packages.iter().fold(Key::new("gpio-sim sources 1"), |key, stanza| key.with(&stanza.sha256));
    cache.entry("gpio-sim-sources", &key, |aside| {
        let work = aside.with_extension("work");
        remove_folder(&work)?;
        apt.unpack_into("the kernel's sources", packages, &work)?;
        let step = Step::begin("three files out of the kernel's sources");
        fs::create_dir(aside).map_err(ProvisionError::io("create", aside))?;
        Tool::new("tar")
            .arg("-xJf")
            .arg(work.join(format!("usr/src/{}.tar.xz", names.source)))
            .arg("-C")
            .arg(aside)
            .args(["--strip-components=1", "--occurrence=1"])
            .args(SOURCES.map(|file| format!("{}/{file}", names.source)))
            .run()?;
        step.done();
        remove_folder(&work)
    })
}

/// Builds the module in `tree`, where the headers are, and returns where it is.
fn build(tree: &Path, release: &str, names: &Names, arch: Arch, sources: &Path) -> Result<PathBuf, ProvisionError> {
    let headers = tree.join("usr/src").join(&names.headers);
    let common = tree.join("usr/src").join(&names.common);
    // Debian's headers name each other by their installed place.
    write(&headers.join("Makefile"), &format!("include {}/Makefile\n", common.display()))?;
    if arch == Arch::Armhf {
        // The dispatcher beside it picks by the object that it is shown, and takes the 64-bit one.
        let modpost = tree.join("usr/lib").join(&names.kbuild).join("scripts/mod");
        let from = modpost.join("modpost.real-lsb-32");
        fs::copy(&from, modpost.join("modpost")).map_err(ProvisionError::io("copy", &from))?;
    }

    let module = tree.join("module");
    fs::create_dir(&module).map_err(ProvisionError::io("create", &module))?;
    write(&module.join("Makefile"), MAKEFILE)?;
    copy_changed(&sources.join(SOURCES[0]), &module.join("gpio-sim-main.c"), without_device_table)?;
    copy_changed(&sources.join(SOURCES[1]), &module.join("gpiolib.h"), |text| Some(text.to_owned()))?;
    copy_changed(&sources.join(SOURCES[2]), &module.join("irq_sim.c"), by_exported_call)?;

    let cross = format!("{}-", arch.gnu_triplet());
    Tool::new("make")
        .arg("-C")
        .arg(&headers)
        .arg(format!("M={}", module.display()))
        .arg(format!("ARCH={}", arch.kernel_make()))
        .arg(format!("CROSS_COMPILE={cross}"))
        .arg(format!("CC={}", arch.gcc()))
        .arg(format!("KERNELRELEASE={release}"))
        .args(["CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"])
        .run()?;
    let built = module.join("gpio-sim.ko");
    Tool::new(format!("{cross}strip")).arg("--strip-debug").arg(&built).run()?;
    Ok(built)
}

/// The amd64 kbuild counts the size of a 32-bit `of_device_id` wrongly and stops. The module is made by configfs,
/// never by a device tree, so nobody misses the table.
fn without_device_table(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("MODULE_DEVICE_TABLE(of,"))?;
    Some(text.replace(line, ""))
}

/// `irq_to_desc` is not exported to modules; this call does the same with the number.
fn by_exported_call(text: &str) -> Option<String> {
    const NOT_EXPORTED: &str = "handle_simple_irq(irq_to_desc(irqnum))";
    text.contains(NOT_EXPORTED).then(|| text.replace(NOT_EXPORTED, "generic_handle_irq(irqnum)"))
}

fn copy_changed(from: &Path, to: &Path, change: impl Fn(&str) -> Option<String>) -> Result<(), ProvisionError> {
    let text = fs::read_to_string(from).map_err(ProvisionError::io("read", from))?;
    let Some(text) = change(&text) else {
        let wanted = "place to change for an out-of-tree build".to_owned();
        return Err(ProvisionError::Unexpected { wanted, place: from.to_owned() });
    };
    write(to, &text)
}

fn write(path: &Path, text: &str) -> Result<(), ProvisionError> {
    fs::write(path, text).map_err(ProvisionError::io("write", path))
}

fn remove_folder(path: &Path) -> Result<(), ProvisionError> {
    if path.exists() { fs::remove_dir_all(path).map_err(ProvisionError::io("remove", path)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_of_a_kernel_are_named_after_its_release() {
        let names = Names::of("6.1.0-50-armmp", Arch::Armhf);
        assert_eq!(names.headers, "linux-headers-6.1.0-50-armmp");
        assert_eq!(names.common, "linux-headers-6.1.0-50-common");
        assert_eq!(names.kbuild, "linux-kbuild-6.1");
        assert_eq!(names.source, "linux-source-6.1");
        assert_eq!(Names::of("6.12.95+deb12-arm64", Arch::Arm64).common, "linux-headers-6.12.95+deb12-common");
    }

    #[test]
    fn a_source_that_has_changed_is_noticed_and_not_built_wrong() {
        let text = "a\nMODULE_DEVICE_TABLE(of, gpio_sim_of_match);\nb\n";
        assert_eq!(without_device_table(text).as_deref(), Some("a\n\nb\n"));
        assert_eq!(without_device_table("a\nb\n"), None);
        let text = "\t\thandle_simple_irq(irq_to_desc(irqnum));\n";
        assert_eq!(by_exported_call(text).as_deref(), Some("\t\tgeneric_handle_irq(irqnum);\n"));
        assert_eq!(by_exported_call("other"), None);
    }
}
