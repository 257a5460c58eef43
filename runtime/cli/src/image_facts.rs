//! What the compiler of specs needs to know of an image, read from its manifest. No signature is checked here: the
//! fingerprint covers the manifest, and the launcher trusts no image whose header it has not verified.

use std::path::Path;
use yado_image::manifest::Manifest;
use yado_image::{Kind, inspect, signal_name};
use yado_spec::compile::{ImageFacts, ImageKind};
use yado_wire::hex;

/// What a container is started with when its image says nothing: LXD's own choice.
const DEFAULT_INIT: &str = "/sbin/init";
/// LXC's default for `lxc.signal.halt`.
const DEFAULT_HALT_SIGNAL: &str = "SIGPWR";

/// Reads them; an error is a reason in words.
pub(crate) fn read(fingerprint: &[u8; 32], image: &Path) -> Result<ImageFacts, String> {
    let named = |reason: String| format!("{}: {reason}", image.display());
    let description = inspect::describe(image).map_err(|error| named(error.to_string()))?;
    if description.fingerprint != *fingerprint {
        return Err(named(format!("is the image {}", hex::encode(&description.fingerprint))));
    }
    facts(description.header.kind, description.manifest).map_err(named)
}

fn facts(kind: Kind, manifest: Manifest) -> Result<ImageFacts, String> {
    let signal = manifest.halt_signal.as_deref().unwrap_or(DEFAULT_HALT_SIGNAL);
    Ok(ImageFacts {
        kind: match kind {
            Kind::Container => ImageKind::Instance,
            Kind::System => ImageKind::System,
        },
        init: if manifest.init.is_empty() { vec![DEFAULT_INIT.to_owned()] } else { manifest.init },
        halt_signal: signal_name::parse(signal).ok_or_else(|| format!("halt_signal {signal}: no such signal"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use yado_image::Architecture;

    #[test]
    fn what_a_manifest_leaves_out_is_as_in_lxd() {
        let manifest = Manifest::new("busybox", Architecture::Armhf);
        let facts = facts(Kind::Container, manifest).map(|facts| (facts.init, facts.halt_signal));
        assert_eq!(facts, Ok((vec!["/sbin/init".to_owned()], 30)));
    }

    #[test]
    fn a_signal_that_does_not_exist_is_named() {
        let mut manifest = Manifest::new("busybox", Architecture::Armhf);
        manifest.halt_signal = Some("SIGNONE".to_owned());
        let error = facts(Kind::Container, manifest).err();
        assert_eq!(error.as_deref(), Some("halt_signal SIGNONE: no such signal"));
    }
}
