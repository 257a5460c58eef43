//! The test system's image: our programs, the modules they need, the rescue shell's busybox, the appliance with its
//! container images, and the specs compiled from it. Built once for equal ingredients and kept in the cache.

use crate::board::boot_modules;
use crate::board::container_images::{self, BUSYBOX_APPLETS};
use crate::board::failure::BuildError;
use crate::board::host_yado::{HostYado, ImageOptions};
use crate::board::ingredients::{Ingredients, Programs};
use crate::board::keys::Keys;
use crate::board::tamper::Tampering;
use crate::board::tree::Tree;
use crate::board::{disk, initramfs};
use crate::cache::{Cache, Key};
use crate::command::Tool;
use crate::progress::Step;
use crate::provision;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use yado_image::header::Header;

/// The instances of a system, and how their images come into it.
#[derive(Debug)]
pub struct Appliance {
    /// Tells its systems from those of others.
    pub name: &'static str,
    /// Its files, by the path they have below the system's `appliance/`.
    pub files: &'static [(&'static str, &'static str)],
    /// What its images and specs are made by: a kept system is only right for the same text.
    pub recipe: &'static str,
    /// The number of the system's image.
    pub release: u64,
    /// What the boot loader starts before it.
    pub first_stage: FirstStage,
    /// Adds images and compiled specs to a tree that has everything else.
    pub fill: fn(&Workshop<'_>, &Tree) -> Result<(), BuildError>,
}

/// What the boot loader starts before a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStage {
    /// Our initramfs.
    Ours,
    /// An initramfs in which the kernel finds nothing to execute, and panics.
    Panics,
}

/// The demo's: `qemu-tests/appliance/`, and images to be refused.
pub const DEMO: Appliance = Appliance {
    name: "demo",
    files: &[
        ("debian.toml", include_str!("../../appliance/debian.toml")),
        ("busybox.toml", include_str!("../../appliance/busybox.toml")),
        ("profiles/default.toml", include_str!("../../appliance/profiles/default.toml")),
    ],
    recipe: concat!(include_str!("tamper.rs"), include_str!("../../appliance/guarded.apparmor")),
    release: 1,
    first_stage: FirstStage::Ours,
    fill: fill_demo,
};

/// What a kept system is only right for: the text of this file and of those that it follows.
const RECIPE: &[&str] = &[
    include_str!("system_image.rs"),
    include_str!("initramfs.rs"),
    include_str!("boot_modules.rs"),
    container_images::RECIPE,
];

/// Builds the system for a board, or finds it: its signed image, its kernel, its initramfs.
pub fn system(
    cache: &Cache,
    ingredients: &Ingredients,
    yado: &HostYado,
    keys: &Keys,
    appliance: &Appliance,
) -> Result<disk::System, BuildError> {
    let Appliance { name, files, recipe, release: _, first_stage: _, fill: _ } = appliance;
    let arch = ingredients.arch;
    let key = RECIPE.iter().fold(Key::new("system").with(name).with(recipe), |key, text| key.with(text));
    let key = ingredients.key(key)?.with(keys.identity()?).with(yado.identity()?);
    let key = files.iter().fold(key, |key, (path, text)| key.with(path).with(text));
    let folder = cache.entry(&format!("system-{name}-{arch}"), &key, |aside| {
        let step = Step::begin(format!("system image for {arch}, {name}"));
        fs::create_dir_all(aside).map_err(BuildError::io(aside))?;
        Workshop { cache, ingredients, yado, keys, scratch: aside.join("scratch") }.make(aside, appliance)?;
        step.done();
        Ok::<(), BuildError>(())
    })?;
    Ok(disk::System {
        image: folder.join("system.image"),
        kernel: folder.join(disk::KERNEL_FILE),
        initramfs: folder.join(disk::INITRAMFS_FILE),
    })
}

/// Where a system is being made, and with what.
#[derive(Debug)]
pub struct Workshop<'a> {
    cache: &'a Cache,
    /// What it is made of.
    pub ingredients: &'a Ingredients,
    /// The command that makes images and specs.
    pub yado: &'a HostYado,
    /// Who signs.
    pub keys: &'a Keys,
    /// A directory for parts, gone when the system is made.
    pub scratch: PathBuf,
}

impl Workshop<'_> {
    fn make(&self, to: &Path, appliance: &Appliance) -> Result<(), BuildError> {
        fs::create_dir_all(&self.scratch).map_err(BuildError::io(&self.scratch))?;
        let (kernel, initramfs) = (to.join(disk::KERNEL_FILE), to.join(disk::INITRAMFS_FILE));
        fs::copy(&self.ingredients.kernel.image, &kernel).map_err(BuildError::io(&kernel))?;
        match appliance.first_stage {
            FirstStage::Ours => initramfs::make(
                &initramfs,
                &self.ingredients.programs.yado_init,
                &[self.keys.release_public()],
                &self.ingredients.kernel,
                &self.scratch.join("initramfs"),
            )?,
            FirstStage::Panics => initramfs::make_empty(&initramfs)?,
        }
        let tree = Tree::create(&self.scratch.join("system"))?;
        self.lay_out_programs(&tree)?;
        self.lay_out_modules(&tree)?;
        for (path, text) in appliance.files {
            tree.file(&format!("usr/lib/yado/appliance/{path}"), 0o644, text)?;
        }
        (appliance.fill)(self, &tree)?;
        let options = ImageOptions {
            source: tree.root(),
            kind: "system",
            architecture: self.ingredients.arch.debian(),
            name: "yadokari-test-system",
            release: appliance.release,
            boot_files: &[&kernel, &initramfs],
            key: &self.keys.release_secret(),
            init: None,
            halt_signal: None,
            minimum_runtime: None,
        };
        self.yado.build_image(&options, &to.join("system.image"))?;
        fs::remove_dir_all(&self.scratch).map_err(BuildError::io(&self.scratch))
    }

    fn lay_out_programs(&self, tree: &Tree) -> Result<(), BuildError> {
        let Ingredients { programs, busybox, debian_tools, .. } = self.ingredients;
        for directory in ["dev", "proc", "sys", "run", "tmp", "data", "var", "root"] {
            tree.directory(directory)?;
        }
        // First, so that ours replace theirs. It brings a C library: mke2fs is not static.
        tree.copy_tree("", debian_tools)?;
        tree.copy("sbin/yado-init", 0o755, &programs.yado_init)?;
        tree.copy("usr/bin/yado", 0o755, &programs.yado)?;
        for part in ["yado-container", "yado-netd", "yado-updater"] {
            tree.symlink(&format!("usr/bin/{part}"), "yado")?;
        }
        tree.copy("usr/lib/yado/system.d/guest-agent", 0o755, &programs.guest_agent)?;
        tree.copy("usr/bin/guest-tool", 0o755, &programs.guest_tool)?;
        tree.copy("usr/bin/guest-log", 0o755, &programs.guest_log)?;
        tree.copy("bin/busybox", 0o755, busybox)?;
        for applet in BUSYBOX_APPLETS {
            tree.symlink(&format!("bin/{applet}"), "busybox")?;
        }
        tree.file("usr/lib/yado/rescue-shell", 0o755, "#!/bin/sh\nexport HOME=/root PS1='rescue# '\nexec sh\n")?;
        tree.symlink("etc/resolv.conf", "/run/yado/resolv.conf")?;
        Ok(tree.copy("usr/lib/yado/trust/release.pub", 0o644, &self.keys.release_public())?)
    }

    /// The modules of both stages, and the simulated GPIO chip that no kernel of Debian brings.
    fn lay_out_modules(&self, tree: &Tree) -> Result<(), BuildError> {
        let Ingredients { kernel, gpio_sim, .. } = self.ingredients;
        let names = boot_modules::INITRAMFS.iter().chain(boot_modules::SYSTEM).copied();
        let more = gpio_sim.as_deref().map(|gpio_sim| ("extra/gpio-sim.ko", gpio_sim));
        boot_modules::choose(kernel, names)?.lay_out(tree, more.as_slice())
    }

    /// Adds modules to a tree that has the others, and lists them to be loaded at boot, as modules-load.d(5) says.
    pub fn add_modules(&self, tree: &Tree, list: &str, names: &[&str]) -> Result<(), BuildError> {
        boot_modules::choose(&self.ingredients.kernel, names.iter().copied())?.lay_out(tree, &[])?;
        Ok(tree.file(&format!("usr/lib/modules-load.d/{list}.conf"), 0o644, names.join("\n"))?)
    }

    /// Compiles the instances that the tree has, into its cache of specs.
    pub fn compile(&self, tree: &Tree) -> Result<(), BuildError> {
        let system = tree.root().join("usr/lib/yado");
        let no_data = self.scratch.join("no-data");
        fs::create_dir_all(&no_data).map_err(BuildError::io(&no_data))?;
        Ok(self.yado.compile(&system, &no_data, &system.join("specs"))?)
    }

    /// Puts an image where the runtime looks for it, and gives back its place.
    pub fn add_image(&self, tree: &Tree, alias: &str, image: &Path) -> Result<PathBuf, BuildError> {
        let fingerprint = fingerprint(image)?;
        let place = format!("usr/lib/yado/images/{fingerprint}/image");
        tree.copy(&place, 0o644, image)?;
        tree.symlink(&format!("usr/lib/yado/images/aliases/{alias}"), format!("../{fingerprint}"))?;
        Ok(tree.root().join(place))
    }

    /// Compiles an AppArmor profile to where the runtime loads it from.
    fn add_profile(&self, tree: &Tree, name: &str, text: &str) -> Result<(), BuildError> {
        let source = self.scratch.join(format!("{name}.apparmor"));
        let compiled = self.scratch.join(name);
        fs::write(&source, text).map_err(BuildError::io(&source))?;
        provision::apparmor_parser(self.cache)?.compile(&source, &compiled)?;
        Ok(tree.copy(&format!("usr/lib/yado/apparmor/{name}"), 0o644, &compiled)?)
    }

    /// Debian's root takes longest, and changes when only we change: it is an entry of its own.
    pub fn debian_image(&self) -> Result<PathBuf, BuildError> {
        let Ingredients { arch, debian, programs, .. } = self.ingredients;
        let over = container_images::lay_out_over_debian(&self.scratch.join("over-debian"), self.ingredients)?;
        let key =
            Key::new("debian image 1").with(container_images::RECIPE).with(debian.as_os_str().as_encoded_bytes());
        let key = key.with(read(&programs.guest_tool)?).with(self.keys.identity()?).with(HostYado::packer()?);
        self.cache.entry(&format!("debian-image-{arch}"), &key, |aside| {
            let merged = self.scratch.join("debian.tar");
            merge(debian, &over, &merged)?;
            self.container_image("debian", &merged, "/lib/systemd/systemd", HALT_SYSTEMD, aside)?;
            fs::remove_file(&merged).map_err(BuildError::io(&merged))
        })
    }

    /// The container of [`container_images::lay_out_busybox`].
    pub fn busybox_image(&self) -> Result<PathBuf, BuildError> {
        let tree = container_images::lay_out_busybox(&self.scratch.join("busybox"), self.ingredients)?;
        let image = self.scratch.join("busybox.image");
        self.container_image("busybox", tree.root(), "/sbin/init", HALT_BUSYBOX, &image)?;
        Ok(image)
    }

    /// An image to be spoilt: small, and of a name of its own, so that each has its own fingerprint.
    fn small_image(&self, tampering: Tampering) -> Result<PathBuf, BuildError> {
        let name = tampering.instance();
        let tree = Tree::create(&self.scratch.join(name))?;
        tree.copy("sbin/init", 0o755, &self.ingredients.programs.guest_tool)?;
        for directory in ["dev", "proc", "sys", "run", "tmp"] {
            tree.directory(directory)?;
        }
        let image = self.scratch.join(format!("{name}.image"));
        let key = match tampering {
            Tampering::UnknownKey => self.keys.stranger_secret(),
            _ => self.keys.release_secret(),
        };
        self.signed_image(name, tree.root(), "/sbin/init", HALT_BUSYBOX, &key, &image)?;
        Ok(image)
    }

    fn container_image(
        &self,
        name: &str,
        source: &Path,
        init: &str,
        halt: &str,
        to: &Path,
    ) -> Result<(), BuildError> {
        self.signed_image(name, source, init, halt, &self.keys.release_secret(), to)
    }

    fn signed_image(
        &self,
        name: &str,
        source: &Path,
        init: &str,
        halt_signal: &str,
        key: &Path,
        to: &Path,
    ) -> Result<(), BuildError> {
        let Ingredients { arch, .. } = self.ingredients;
        let options = ImageOptions {
            source,
            kind: "container",
            architecture: arch.debian(),
            name,
            release: 1,
            boot_files: &[],
            key,
            init: Some(init),
            halt_signal: Some(halt_signal),
            minimum_runtime: None,
        };
        Ok(self.yado.build_image(&options, to)?)
    }
}

fn fill_demo(workshop: &Workshop<'_>, tree: &Tree) -> Result<(), BuildError> {
    workshop.add_image(tree, "debian", &workshop.debian_image()?)?;
    workshop.add_image(tree, "busybox", &workshop.busybox_image()?)?;
    workshop.add_profile(tree, "guarded", include_str!("../../appliance/guarded.apparmor"))?;
    let mut spoilt = Vec::new();
    for tampering in Tampering::ALL {
        let name = tampering.instance();
        let text = format!("image = \"{name}\"\n[config]\nboot.autostart = false\n");
        tree.file(&format!("usr/lib/yado/appliance/{name}.toml"), 0o644, text)?;
        let image = workshop.small_image(tampering)?;
        if tampering.is_before_naming() {
            tampering.apply(&image).map_err(BuildError::io(&image))?;
            workshop.add_image(tree, name, &image)?;
        } else {
            spoilt.push((tampering, workshop.add_image(tree, name, &image)?));
        }
    }
    workshop.compile(tree)?;
    // Only now: the compiler reads the images, and would rightly refuse these.
    for (tampering, image) in spoilt {
        tampering.apply(&image).map_err(BuildError::io(&image))?;
    }
    Ok(())
}

/// systemd(1), signals: SIGRTMIN+3 halts, which in a container is to exit.
const HALT_SYSTEMD: &str = "SIGRTMIN+3";
/// busybox's init powers off at it.
pub const HALT_BUSYBOX: &str = "SIGUSR2";

/// Makes the tar `merged` of the tar `root`, with what is in `over` in place of what is there.
pub fn merge(root: &Path, over: &Tree, merged: &Path) -> Result<(), BuildError> {
    fs::copy(root, merged).map_err(BuildError::io(root))?;
    Tool::new("tar")
        .args(["--append", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--file"])
        .arg(merged)
        .arg("--directory")
        .arg(over.root())
        .arg(".")
        .run()?;
    Ok(())
}

/// An image's identity, in hex.
pub fn fingerprint(image: &Path) -> Result<String, BuildError> {
    Ok(yado_image::hex::encode(&header(image)?.fingerprint()))
}

/// The top of an image's hash tree, in hex.
pub fn root_hash(image: &Path) -> Result<String, BuildError> {
    Ok(yado_image::hex::encode(&header(image)?.root_hash))
}

/// What an image says of itself.
pub(crate) fn header(image: &Path) -> Result<Header, BuildError> {
    let file = File::open(image).map_err(BuildError::io(image))?;
    let (header, _) = yado_image::open::read_header(&file)
        .map_err(|error| BuildError::io(image)(io::Error::other(error.to_string())))?;
    Ok(header)
}

impl Ingredients {
    /// Adds all that the system is made of. What comes from the cache is named by its content already.
    fn key(&self, key: Key) -> Result<Key, BuildError> {
        let Ingredients { arch, kernel, gpio_sim, uboot: _, busybox, debian_tools, debian, programs } = self;
        let mut key = key.with(arch.debian());
        for path in [&kernel.modules, busybox, debian_tools, debian].into_iter().chain(gpio_sim) {
            key = key.with(path.as_os_str().as_encoded_bytes());
        }
        let Programs {
            yado_init,
            yado,
            guest_agent,
            guest_tool,
            guest_log,
            guest_attack,
            guest_race: _,
            guest_turn: _,
        } = programs;
        for program in [yado_init, yado, guest_agent, guest_tool, guest_log, guest_attack] {
            key = key.with(read(program)?);
        }
        Ok(key)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(BuildError::io(path))
}
