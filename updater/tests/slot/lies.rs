//! A source that lies in each part of an image: what it gave is refused by the rule that it breaks, and nothing is taken for an image.

use super::images::{Image, keys, system_image};
use super::sources::FileSource;
use super::storages::slot;
use std::fs;
use yado_image::open::OpenError;
use yado_image::secret::SecretKey;
use yado_image::trust::SignatureError;
use yado_image::{HeaderError, Keys};
use yado_updater::slot::{WriteImageError, write_image};
use yado_updater::source::{Ranges, SourceError};

fn refusal(image: &Image, keys: &Keys, ranges: Ranges, lie: impl FnOnce(&mut FileSource)) -> WriteImageError {
    let path = image.path.with_extension("slot");
    let _ = fs::remove_file(&path);
    let mut source = FileSource::new(image, ranges);
    lie(&mut source);
    let mut target = slot(&path, 4 << 20);
    let error = write_image(&image.to_write, keys, &mut source, &mut target, None, &mut ()).unwrap_err();
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[bytes.len() - 4096..].iter().all(|byte| *byte == 0), "{error}");
    error
}

#[test]
fn a_lie_is_told_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let image = system_image(&directory.path().join("image"), &(1..600).collect::<Vec<_>>());
    let layout = image.header.layout;
    let lie_at =
        |ranges, offset: u64| refusal(&image, &keys(), ranges, |source| source.lies = [(offset, 0xa5)].into());
    let block_of = |offset: u64| offset - offset % 4096;
    for offset in [0, 5000, 128 * 4096, 598 * 4096 + 4095, layout.tree_offset(), layout.tree_offset() + 3 * 4096] {
        match lie_at(Ranges::Any, offset) {
            WriteImageError::WrongBytes { offset: told } => assert_eq!(told, block_of(offset)),
            other => panic!("{offset}: {other}"),
        }
        match lie_at(Ranges::Whole, offset) {
            WriteImageError::Different { offset: told, .. } => assert_eq!(told, block_of(offset)),
            other => panic!("{offset}: {other}"),
        }
    }
    for ranges in [Ranges::Any, Ranges::Whole] {
        let manifest = lie_at(ranges, layout.manifest_offset() + 2);
        assert!(matches!(manifest, WriteImageError::Image(OpenError::Manifest)), "{manifest}");
        let padding = lie_at(ranges, layout.signatures_offset() - 1);
        assert!(matches!(padding, WriteImageError::Image(OpenError::Manifest)), "{padding}");
        let signature = lie_at(ranges, layout.signatures_offset() + 70);
        assert!(matches!(signature, WriteImageError::Image(OpenError::Signature { .. })), "{signature}");
        let stray = lie_at(ranges, layout.signatures_offset() + 200);
        assert!(matches!(stray, WriteImageError::Image(OpenError::Signatures { .. })), "{stray}");
        let header = lie_at(ranges, layout.header_offset() + 110);
        assert!(matches!(header, WriteImageError::Image(OpenError::OtherImage { .. })), "{header}");
    }
}

#[test]
fn an_image_of_another_length_kind_or_signer_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let image = system_image(&directory.path().join("image"), &(1..600).collect::<Vec<_>>());
    for ranges in [Ranges::Any, Ranges::Whole] {
        for bytes in [0, 4096, 300_000, image.to_write.bytes - 1] {
            let short = refusal(&image, &keys(), ranges, |source| source.shorten(bytes));
            assert!(matches!(short, WriteImageError::Source(SourceError::Short { .. })), "{bytes}: {short}");
        }
        let other = Keys::new([SecretKey::from_seed(&[9; 32], "other").public()]);
        match refusal(&image, &other, ranges, |_| ()) {
            WriteImageError::Image(OpenError::Signature { source: SignatureError::UnknownKeys { .. } }) => {}
            error => panic!("{error}"),
        }
        // The release says another length: then the header is looked for where something else is.
        let mut longer = image.clone();
        longer.to_write.bytes -= 4096;
        let error = refusal(&longer, &keys(), ranges, |_| ());
        assert!(matches!(error, WriteImageError::Image(OpenError::OtherImage { .. })), "{error}");
        // Two are wanted, and one signed.
        let mut two = image.clone();
        two.to_write.threshold = 2;
        let error = refusal(&two, &keys(), ranges, |_| ());
        assert!(matches!(error, WriteImageError::Image(OpenError::Signature { .. })), "{error}");
    }
    // The fingerprint of what is no header at all: nothing in it is believed.
    let mut none = image.clone();
    none.to_write.fingerprint = {
        use sha2::{Digest, Sha256};
        Sha256::digest([0; 4096]).into()
    };
    let error = refusal(&none, &keys(), Ranges::Any, |source| {
        source.lies.extend((none.header.layout.header_offset()..none.to_write.bytes).map(|offset| (offset, 0)));
    });
    match error {
        WriteImageError::Image(OpenError::Header { source: HeaderError::BadMagic }) => {}
        error => panic!("{error}"),
    }
}
