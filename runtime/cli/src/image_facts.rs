//! An image's facts as the compiler of specs takes them: `yado_image` reads them, and does not know of specs.

use std::path::Path;
use yado_image::container_facts::{self, ContainerFacts, Stop};
use yado_spec::compile::{ImageFacts, ImageKind};
use yado_spec::instance::StopMethod;

/// Reads them; an error is a reason in words, with the file.
pub(crate) fn read(fingerprint: &[u8; 32], image: &Path) -> Result<ImageFacts, String> {
    let facts = container_facts::read(fingerprint, image).map_err(|error| format!("{}: {error}", image.display()))?;
    let ContainerFacts { kind, init, stop } = facts;
    let kind = match kind {
        yado_image::ImageKind::Container => ImageKind::Instance,
        yado_image::ImageKind::System => ImageKind::System,
    };
    let stop_method = match stop {
        Stop::Unsaid => StopMethod::Detect,
        Stop::Signal(number) => StopMethod::Signal(number),
        Stop::Command(argv) => StopMethod::Command(argv),
    };
    Ok(ImageFacts { kind, init, stop_method })
}
