//! A small tree with one of everything, as a tar archive, and images made of it.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::{Builder, EntryType, Header};
use yado_image::erofs::{Compression, Level, Owners};
use yado_image::manifest::Manifest;
use yado_image::pack::{self, BuildOptions, Built, Source};
use yado_image::secret::SecretKey;
use yado_image::{Architecture, ImageKind};

/// An image of the sample tree, signed by these keys.
#[allow(dead_code, reason = "each test crate uses what it needs")]
pub(crate) fn build_sample(directory: &Path, change: impl FnOnce(&mut BuildOptions)) -> (PathBuf, Built) {
    let mut options = sample_options(directory);
    change(&mut options);
    let built = pack::build(&options).expect("the sample packs");
    (options.output, built)
}

/// How it is built.
pub(crate) fn sample_options(directory: &Path) -> BuildOptions {
    let archive = directory.join("sample.tar");
    if !archive.exists() {
        write_sample_tar(&archive);
    }
    let mut manifest = Manifest::new("sample", this_architecture());
    manifest.release = 7;
    BuildOptions {
        source: Source::Tar(archive),
        output: directory.join("image"),
        kind: ImageKind::Container,
        manifest,
        security_epoch: 3,
        compression: Compression::Lz4 { cluster_blocks: 1, level: Level::DEFAULT },
        threads: NonZeroUsize::MIN,
        owners: Owners::Kept,
        timestamp: Some(1_700_000_000),
        on_progress: |_| (),
        keys: vec![SecretKey::from_seed(&[1; 32], "first")],
    }
}

/// What this machine runs.
pub(crate) fn this_architecture() -> Architecture {
    Architecture::parse(std::env::consts::ARCH).unwrap_or(Architecture::Armhf)
}

/// Names of all lengths, every type of file, owners beyond 16 bits, attributes with newlines in them, files that
/// compress well, badly and not at all, and hard links.
pub(crate) fn write_sample_tar(path: &Path) {
    let mut tar = Builder::new(File::create(path).expect("create the archive"));
    let mut add = |name: &str, kind: EntryType, mode: u32, content: &mut dyn Read, bytes: u64| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(if name.contains("owned") { 70_000 } else { 0 });
        header.set_gid(if name.contains("owned") { 1000 } else { 0 });
        header.set_size(bytes);
        header.set_mtime(match name {
            _ if name.contains("owned") => 1_000_000_000,
            // Later than the image.
            _ if name.starts_with("./links") => 1_900_000_000,
            _ => 1_650_000_000,
        });
        if kind == EntryType::Char || kind == EntryType::Block {
            header.set_device_major(259).and_then(|()| header.set_device_minor(0x1234)).expect("a GNU header");
        }
        match kind {
            EntryType::Symlink => tar.append_link(&mut header, name, "../somewhere/else").expect("append"),
            EntryType::Link => tar.append_link(&mut header, name, "./files/text").expect("append"),
            _ => tar.append_data(&mut header, name, content).expect("append"),
        }
    };
    let none = &mut io::empty();
    add("./", EntryType::Directory, 0o755, none, 0);
    add("./files/", EntryType::Directory, 0o750, none, 0);
    for (name, content) in contents() {
        add(&format!("./files/{name}"), EntryType::Regular, 0o644, &mut &content[..], content.len() as u64);
    }
    add("./links/hard", EntryType::Link, 0o644, none, 0);
    add("./links/soft", EntryType::Symlink, 0o777, none, 0);
    add("./dev/character", EntryType::Char, 0o620, none, 0);
    add("./dev/block", EntryType::Block, 0o660, none, 0);
    add("./dev/pipe", EntryType::Fifo, 0o600, none, 0);
    add("./bin/owned-set-id", EntryType::Regular, 0o6755, &mut &b"#!"[..], 2);
    add("./sticky-owned/", EntryType::Directory, 0o1777, none, 0);
    for index in 0..300 {
        add(&format!("./many/{index:03}-{}", "n".repeat(index % 200)), EntryType::Regular, 0o600, &mut &b"x"[..], 1);
    }
    add(&format!("./{}", "d".repeat(255)), EntryType::Directory, 0o700, none, 0);
    let capability: &[u8] = &[1, 0, 0, 2, 0, 0x0a, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    tar.append_pax_extensions([
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.user.note", b"line\n=line".as_slice()),
        ("SCHILY.xattr.user.big", &[b'v'; 3000]),
    ])
    .expect("append");
    let mut header = Header::new_ustar();
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(5000);
    header.set_entry_type(EntryType::Regular);
    tar.append_data(&mut header, "bin/ping", &[7; 5000][..]).expect("append");
    tar.finish().expect("finish the archive");
}

/// Lengths around every boundary, of text, zeros and noise.
fn contents() -> Vec<(String, Vec<u8>)> {
    let mut seed = 1_u32;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    let text = |length: usize| -> Vec<u8> {
        (0..)
            .flat_map(|n: u32| format!("line {} of {}\n", n, n.wrapping_mul(40_503) % 1009).into_bytes())
            .take(length)
            .collect()
    };
    let mut all = vec![("text".to_owned(), text(300_000)), ("empty".to_owned(), Vec::new())];
    for length in [1, 4000, 4033, 4064, 4095, 4096, 4097, 8191, 8192, 8193, 12_288, 100_000, 1_500_000] {
        all.push((format!("text-{length}"), text(length)));
        all.push((format!("zeros-{length}"), vec![0; length]));
        all.push((format!("noise-{length}"), noise(length)));
        all.push((format!("mixed-{length}"), [noise(length / 3), text(length / 3), noise(length / 3)].concat()));
    }
    all
}

/// Runs a program that is there, and answers with what it printed. Without it the test is skipped, and says so.
#[allow(dead_code, reason = "each test crate uses what it needs")]
pub(crate) fn run(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => panic!(
            "{program} {arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Whether this runs as root; else the test is skipped, and says so.
#[allow(dead_code, reason = "each test crate uses what it needs")]
pub(crate) fn is_root(needed_for: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root to {needed_for}");
    }
    root
}
