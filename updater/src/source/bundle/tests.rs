#![allow(clippy::unwrap_used)]
use super::*;
use std::fs;
use std::process::Command;

const IMAGE: FileName = FileName::Image([0x11; 32]);
const OTHER: FileName = FileName::Image([0x22; 32]);
const BOOT: FileName = FileName::Boot([0x33; 32]);

/// Made by tar(1), in this order.
fn archive(format: &str, members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in members {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let names = members.iter().map(|(name, _)| name);
    let output =
        Command::new("tar").args([format, "-cf", "-", "-C"]).arg(folder.path()).args(names).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn members() -> Vec<(String, Vec<u8>)> {
    let content = |bytes: usize| (0..bytes).map(|index| (index % 251) as u8).collect::<Vec<u8>>();
    vec![
        ("release".to_owned(), content(16_384)),
        (IMAGE.to_string(), content(300_000)),
        (OTHER.to_string(), content(1)),
        (BOOT.to_string(), content(512)),
    ]
}

fn read(source: &mut dyn Source, file: FileName, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    source.read(file, range, &mut |piece| io::Write::write_all(&mut bytes, piece)).map(|()| bytes)
}

#[test]
fn files_come_in_order_and_parts_of_them_too() {
    for format in ["--format=ustar", "--format=gnu"] {
        let bytes = archive(format, &members());
        let mut source = Bundle::new(&bytes[..]);
        let expected = &members()[1].1;
        let error = read(&mut source, FileName::Release, 0..100_000).unwrap_err();
        assert!(matches!(error, SourceError::Short { bytes: 16_384, .. }), "{error}");
        for range in [0..10, 10..4096, 100_000..299_999, 299_999..300_000] {
            assert!(
                read(&mut source, IMAGE, range.clone()).unwrap()
                    == expected[range.start as usize..range.end as usize],
                "{range:?}"
            );
        }
        // One that nobody wants is passed over.
        assert_eq!(read(&mut source, BOOT, 0..512).unwrap().len(), 512);
        for passed in [FileName::Release, IMAGE, OTHER] {
            assert!(matches!(read(&mut source, passed, 0..1), Err(SourceError::OutOfOrder { .. })), "{passed}");
        }
        assert!(matches!(read(&mut source, BOOT, 0..1), Err(SourceError::OutOfOrder { .. })));
        assert!(matches!(read(&mut source, FileName::Image([9; 32]), 0..1), Err(SourceError::Missing { .. })));
    }
}

#[test]
fn a_bundle_that_is_cut_anywhere_ends_early_and_gives_nothing_that_was_not_there() {
    let bytes = archive("--format=ustar", &members());
    for length in [0, 100, 512, 5000, 17_000, 200_000] {
        let mut source = Bundle::new(&bytes[..length]);
        let mut given = 0;
        let result = source.read(IMAGE, 0..300_000, &mut |piece| {
            given += piece.len();
            Ok(())
        });
        assert!(
            matches!(&result, Err(SourceError::Broken { reason, .. }) if reason.contains("ends early")),
            "{result:?}"
        );
        assert!(given <= length);
    }
}

#[test]
fn what_is_no_archive_of_a_release_is_refused() {
    let good = archive("--format=ustar", &members());
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        match read(&mut Bundle::new(&bytes[..]), FileName::Release, 0..1).unwrap_err() {
            SourceError::Broken { reason, .. } => reason,
            other => panic!("{other}"),
        }
    };
    assert!(refused(&|bytes| bytes[0] ^= 1).contains("no tar archive"), "its sum is wrong");
    assert!(refused(&|bytes| bytes[257] = b'x').contains("no tar archive"));
    assert!(refused(&|bytes| *bytes = vec![1; 512]).contains("no tar archive"));
    // An archive of empty files without an end.
    let one = archive("--format=ustar", &[("other".to_owned(), Vec::new())])[..512].to_vec();
    assert!(refused(&|bytes| *bytes = one.repeat(5000)).contains("more files"));
    // A length that no image has.
    let mut huge = one.clone();
    huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let sum: u64 =
        huge.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
    huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(refused(&|bytes| *bytes = huge.clone()).contains("no tar archive"));
}

#[test]
fn lengths_are_octal_or_binary() {
    assert_eq!(length(b"00000000777\0"), Some(0o777));
    assert_eq!(length(b"77777777777\0"), Some(0o77_777_777_777));
    let mut binary = [0; 12];
    (binary[0], binary[7]) = (0x80, 2);
    assert_eq!(length(&binary), Some(2 << 32));
    for bad in [&b"-1         \0"[..], b"           \0", b"8          \0"] {
        assert_eq!(length(bad), None, "{bad:?}");
    }
}

#[test]
fn archives_of_any_bytes_are_refused_or_give_what_is_in_them() {
    crate::fuzzing::fuzz(
        "bundle",
        &[archive("--format=ustar", &members()[2..])],
        &["ustar", "release", "images/"],
        |bytes| {
            let mut source = Bundle::new(bytes);
            for file in [FileName::Release, OTHER, BOOT] {
                if let Ok(given) = read(&mut source, file, 0..1) {
                    assert!(bytes.windows(1).any(|window| window == given));
                }
            }
        },
    );
}
