//! `yado` on this machine: the command that makes keys and images, as a builder of products would call it.

use crate::board::disk::System;
use crate::board::failure::BuildError;
use crate::board::keys::Keys;
use crate::cache::Cache;
use crate::command::{CommandError, Tool};
use crate::cross;
use crate::provision::SOURCE_DATE_EPOCH;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The built command.
#[derive(Debug, Clone)]
pub struct HostYado {
    program: PathBuf,
}

/// Which image is wanted.
#[derive(Debug, Clone)]
pub struct ImageOptions<'a> {
    /// A directory or a tar.
    pub source: &'a Path,
    /// `container` or `system`.
    pub kind: &'a str,
    /// Debian's name of the architecture.
    pub architecture: &'a str,
    /// The image's name.
    pub name: &'a str,
    /// Its number among those of the name.
    pub release: u64,
    /// Files for the boot partition of a system's slot.
    pub boot_files: &'a [&'a Path],
    /// Secret key that signs it.
    pub key: &'a Path,
    /// The init inside, for a container.
    pub init: Option<&'a str>,
    /// The signal that asks that init to power off.
    pub halt_signal: Option<&'a str>,
    /// The oldest runtime that can start it, if not any.
    pub minimum_runtime: Option<&'a str>,
}

impl HostYado {
    /// Builds it, or finds that it is built.
    pub fn build(cache: &Cache) -> Result<HostYado, CommandError> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let said = Tool::new(cargo)
            .args(["build", "--quiet", "--package", "yado", "--message-format", "json-render-diagnostics"])
            .in_folder(&workspace)
            .output()?;
        let Some(built) = cross::parse_messages(&said).pop() else {
            return Ok(HostYado { program: "yado".into() });
        };
        if !built.is_fresh {
            cache.note_made("yado for this machine");
        }
        Ok(HostYado { program: built.path })
    }

    /// What tells this build from others.
    pub fn identity(&self) -> Result<Vec<u8>, BuildError> {
        fs::read(&self.program).map_err(BuildError::io(&self.program))
    }

    /// What tells one way of packing images from another: the sources of the part that does it, and of that which completes a
    /// manifest. Other changes of the command leave an image as it is, and a large one need not be made again.
    pub fn packer() -> Result<Vec<u8>, BuildError> {
        let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime");
        let completed_by = runtime.join("cli/src/image/init.rs");
        let mut text = fs::read(&completed_by).map_err(BuildError::io(&completed_by))?;
        read_below(&runtime.join("image/src"), &mut text)?;
        Ok(text)
    }

    /// Makes a key pair: `PATH.key` and `PATH.pub`.
    pub fn new_key(&self, path: &Path) -> Result<(), CommandError> {
        self.tool(&["key", "new"]).arg(path).run()
    }

    /// Builds and signs an image.
    pub fn build_image(&self, options: &ImageOptions<'_>, to: &Path) -> Result<(), CommandError> {
        let ImageOptions {
            source,
            kind,
            architecture,
            name,
            release,
            boot_files,
            key,
            init,
            halt_signal,
            minimum_runtime,
        } = options;
        let mut tool = self.tool(&["image", "build", "--kind", kind, "--arch", architecture, "--name", name]);
        tool = tool.args(["--release", &release.to_string()]);
        for file in *boot_files {
            tool = tool.arg("--boot-file").arg(file);
        }
        // What is laid out anew each time has the same bytes each time.
        tool = tool.args(["--timestamp", SOURCE_DATE_EPOCH]);
        if source.is_dir() {
            // Who lays out a tree without being root cannot give its files to root.
            tool = tool.args(["--owner", "0:0"]);
        }
        if let Some(init) = init {
            tool = tool.args(["--init", init]);
        }
        if let Some(signal) = halt_signal {
            tool = tool.args(["--halt-signal", signal]);
        }
        if let Some(version) = minimum_runtime {
            tool = tool.args(["--minimum-runtime", version]);
        }
        tool.arg("--key").arg(key).arg(source).arg(to).run()
    }

    /// Builds and signs a release of a system, into a folder as a web server has it.
    pub fn build_release(
        &self,
        system: &System,
        compatible: &str,
        keys: &Keys,
        to: &Path,
    ) -> Result<(), CommandError> {
        self.build_release_by(system, compatible, &keys.release_secret(), to)
    }

    /// The same, signed by another key.
    pub fn build_release_by(
        &self,
        system: &System,
        compatible: &str,
        key: &Path,
        to: &Path,
    ) -> Result<(), CommandError> {
        self.release_tool(system, compatible, key, to).run()
    }

    /// The same, with another number than the system's image has.
    pub fn build_release_numbered(
        &self,
        number: u64,
        system: &System,
        compatible: &str,
        keys: &Keys,
        to: &Path,
    ) -> Result<(), CommandError> {
        let number = number.to_string();
        let tool = self.release_tool(system, compatible, &keys.release_secret(), to);
        tool.args(["--release", &number, "--version", &number]).run()
    }

    fn release_tool(&self, system: &System, compatible: &str, key: &Path, to: &Path) -> Tool {
        let System { image, kernel, initramfs } = system;
        self.release_of_system(image, compatible, key, to)
            .arg("--boot-file")
            .arg(kernel)
            .arg("--boot-file")
            .arg(initramfs)
    }

    /// The same for a system's image that names no boot files.
    pub fn build_release_without_boot_files(
        &self,
        image: &Path,
        compatible: &str,
        key: &Path,
        to: &Path,
    ) -> Result<(), CommandError> {
        self.release_of_system(image, compatible, key, to).run()
    }

    fn release_of_system(&self, image: &Path, compatible: &str, key: &Path, to: &Path) -> Tool {
        self.tool(&["release", "build", "--compatible", compatible, "--timestamp", SOURCE_DATE_EPOCH])
            .arg("--system")
            .arg(image)
            .arg("--key")
            .arg(key)
            .arg("--output")
            .arg(to)
    }

    /// Builds and signs a release of an image for one instance.
    pub fn build_release_of_instance(
        &self,
        instance: &str,
        image: &Path,
        number: u64,
        keys: &Keys,
        to: &Path,
    ) -> Result<(), CommandError> {
        let number = number.to_string();
        let mut word = OsString::from(format!("{instance}="));
        word.push(image);
        self.tool(&["release", "build", "--name", "yadokari-test-system", "--timestamp", SOURCE_DATE_EPOCH])
            .args(["--release", &number, "--version", &number])
            .arg("--key")
            .arg(keys.release_secret())
            .arg("--output")
            .arg(to)
            .arg(word)
            .run()
    }

    /// Compiles the instances of a system tree into its cache of specs.
    pub fn compile(&self, system: &Path, data: &Path, out: &Path) -> Result<(), CommandError> {
        self.tool(&["compile"]).arg("--system").arg(system).arg("--data").arg(data).arg("--out").arg(out).run()
    }

    fn tool(&self, words: &[&str]) -> Tool {
        Tool::new(&self.program).args(words)
    }
}

/// Appends every file below a directory, in the order of their names.
fn read_below(directory: &Path, text: &mut Vec<u8>) -> Result<(), BuildError> {
    let entries = fs::read_dir(directory).map_err(BuildError::io(directory))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_below(&path, text)?;
        } else {
            text.extend(fs::read(&path).map_err(BuildError::io(&path))?);
        }
    }
    Ok(())
}
