//! A board's system that is Debian's systemd in the place of ours, for what we are compared with: the same kernel with the same
//! modules, started by the same first stage, from the same kind of signed and verified image.

use super::boot_modules;
use super::failure::BuildError;
use super::host_yado::{HostYado, ImageOptions};
use super::running::Prepared;
use super::system_image;
use super::tree::Tree;
use crate::cache::{Cache, Key};
use crate::progress::Step;
use std::fs;
use std::path::{Path, PathBuf};

/// What such a system is made of.
pub struct SystemdSystem<'a> {
    /// What its image is called.
    pub name: &'static str,
    /// What is in it, for who waits.
    pub what: &'static str,
    /// Debian's root, as a tar.
    pub root: &'a Path,
    /// What it needs of the kernel's modules besides those of our own system.
    pub modules: &'static [&'static str],
    /// After which units the tests' agent is started, so that it takes no part in what is measured.
    pub agent_after: &'static str,
    /// What else is in it.
    pub fill: &'a dyn Fn(&Tree) -> Result<(), BuildError>,
    /// The text of what fills it, by which a kept image is known to be this one.
    pub recipe: &'static str,
    /// Programs that are filled in, which may change.
    pub programs: &'a [&'a Path],
}

/// The initramfs had itself called for modules.
const SYSCTL: &str = "kernel.modprobe = /sbin/modprobe\n";

impl SystemdSystem<'_> {
    /// Builds its image beside ours, or finds it in the cache.
    pub fn image(&self, cache: &Cache, ours: &Prepared, yado: &HostYado) -> Result<PathBuf, BuildError> {
        let SystemdSystem { name, what, root, recipe, programs, .. } = self;
        let ingredients = &ours.ingredients;
        let arch = ingredients.arch;
        let mut key = Key::new("systemd system").with(include_str!("systemd_system.rs")).with(recipe);
        key = key.with(include_str!("boot_modules.rs")).with(root.as_os_str().as_encoded_bytes());
        key = key.with(ingredients.kernel.modules.as_os_str().as_encoded_bytes()).with(ours.keys.identity()?);
        for program in programs.iter().copied().chain([ingredients.programs.guest_agent.as_path()]) {
            key = key.with(fs::read(program).map_err(BuildError::io(program))?);
        }
        key = key.with(HostYado::packer()?);
        cache.entry(&format!("system-{name}-{arch}"), &key, |aside| {
            let step = Step::begin(format!("system image for {arch}, {what}"));
            let scratch = aside.with_extension("parts");
            fs::create_dir_all(&scratch).map_err(BuildError::io(&scratch))?;
            let over = self.lay_out_over_root(&scratch, ours)?;
            let merged = scratch.join("root.tar");
            system_image::merge(root, &over, &merged)?;
            let options = ImageOptions {
                source: &merged,
                kind: "system",
                architecture: arch.debian(),
                name,
                release: 1,
                boot_files: &[],
                key: &ours.keys.release_secret(),
                init: None,
                halt_signal: None,
                minimum_runtime: None,
            };
            yado.build_image(&options, aside)?;
            fs::remove_dir_all(&scratch).map_err(BuildError::io(&scratch))?;
            step.done();
            Ok::<(), BuildError>(())
        })
    }

    /// What takes init's place, the modules, the agent, and what else is in it.
    fn lay_out_over_root(&self, scratch: &Path, ours: &Prepared) -> Result<Tree, BuildError> {
        let modules = Tree::create(&scratch.join("modules"))?;
        let names = boot_modules::INITRAMFS.iter().chain(boot_modules::SYSTEM).chain(self.modules).copied();
        boot_modules::choose(&ours.ingredients.kernel, names)?.lay_out(&modules, &[])?;
        let tree = Tree::create(&scratch.join("over"))?;
        // Debian's `/lib` and `/sbin` are links.
        tree.copy_tree("usr/lib/modules", &modules.root().join("lib/modules"))?;
        tree.symlink("usr/sbin/yado-init", "../lib/systemd/systemd")?;
        tree.copy("usr/bin/guest-agent", 0o755, &ours.ingredients.programs.guest_agent)?;
        tree.file("etc/sysctl.d/modprobe.conf", 0o644, SYSCTL)?;
        tree.file("etc/systemd/system/guest-agent.service", 0o644, self.agent_unit())?;
        tree.symlink(
            "etc/systemd/system/multi-user.target.wants/guest-agent.service",
            "/etc/systemd/system/guest-agent.service",
        )?;
        (self.fill)(&tree)?;
        Ok(tree)
    }

    fn agent_unit(&self) -> String {
        format!(
            "[Unit]\nDescription=The tests' agent\nAfter={}\n\
             [Service]\nExecStart=/usr/bin/guest-agent\nType=exec\nStandardOutput=null\nRestart=on-failure\n",
            self.agent_after
        )
    }
}
