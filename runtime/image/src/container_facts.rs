//! What the compiler of specs needs to know of an image, read from its manifest. No signature is checked here: the
//! fingerprint covers the manifest, and the launcher trusts no image whose header it has not verified.

use crate::image_target::ImageKind;
use crate::inspect::{self, InspectError};
use crate::manifest::Manifest;
use core::fmt;
use std::path::Path;
use yado_wire::{hex, signal_name};

/// How a container is started from an image, and asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    /// What it is the root of: of a system no container is made.
    pub kind: ImageKind,
    /// Program and arguments of its init.
    pub init: Vec<String>,
    /// How its init is asked to power off.
    pub stop: Stop,
}

/// How an image says that its init is asked to power off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It does not say how.
    Unsaid,
    /// By this signal.
    Signal(u8),
    /// By a command inside: program and arguments.
    Command(Vec<String>),
}

/// Why an image does not tell.
#[derive(Debug)]
pub enum ContainerFactsError {
    /// It cannot be read, or is no image.
    Inspect(InspectError),
    /// The file holds another image than its directory says.
    OtherImage {
        /// The fingerprint of the image that it holds.
        found: [u8; 32],
    },
    /// Its manifest names a signal that there is not.
    Signal {
        /// As the manifest has it.
        name: String,
    },
}

/// What a container is started with when its image says nothing: LXD's own choice.
const DEFAULT_INIT: &str = "/sbin/init";

/// Reads them of the image with this fingerprint.
pub fn read(fingerprint: &[u8; 32], image: &Path) -> Result<ContainerFacts, ContainerFactsError> {
    let description = inspect::describe(image).map_err(ContainerFactsError::Inspect)?;
    if description.fingerprint != *fingerprint {
        return Err(ContainerFactsError::OtherImage { found: description.fingerprint });
    }
    facts(description.header.kind, description.manifest)
}

fn facts(kind: ImageKind, manifest: Manifest) -> Result<ContainerFacts, ContainerFactsError> {
    let stop = match manifest.halt_signal {
        Some(name) => match signal_name::parse(&name) {
            Some(number) => Stop::Signal(number),
            None => return Err(ContainerFactsError::Signal { name }),
        },
        None if manifest.halt_command.is_empty() => Stop::Unsaid,
        None => Stop::Command(manifest.halt_command),
    };
    Ok(ContainerFacts { kind, init: init_of(manifest.init), stop })
}

/// Program and arguments of a container's init: as its manifest says, or else LXD's choice.
pub fn init_of(said: Vec<String>) -> Vec<String> {
    if said.is_empty() { vec![DEFAULT_INIT.to_owned()] } else { said }
}

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Unsaid => out.write_str("unsaid"),
            Stop::Signal(number) => out.write_str(&signal_name::show(*number)),
            Stop::Command(argv) => out.write_str(&argv.join(" ")),
        }
    }
}

impl fmt::Display for ContainerFactsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContainerFactsError::Inspect(error) => write!(out, "{error}"),
            ContainerFactsError::OtherImage { found } => write!(out, "is the image {}", hex::encode(found)),
            ContainerFactsError::Signal { name } => write!(out, "halt_signal {name}: no such signal"),
        }
    }
}

impl std::error::Error for ContainerFactsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Architecture;

    #[test]
    fn what_a_manifest_leaves_out_is_as_in_lxd() {
        let manifest = Manifest::new("busybox", Architecture::Armhf);
        let facts = facts(ImageKind::Container, manifest).map(|facts| (facts.init, facts.stop));
        assert_eq!(facts.ok(), Some((vec!["/sbin/init".to_owned()], Stop::Unsaid)));
    }

    #[test]
    fn a_signal_that_does_not_exist_is_named() {
        let mut manifest = Manifest::new("busybox", Architecture::Armhf);
        manifest.halt_signal = Some("SIGNONE".to_owned());
        let error = facts(ImageKind::Container, manifest).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("halt_signal SIGNONE: no such signal"));
    }
}
