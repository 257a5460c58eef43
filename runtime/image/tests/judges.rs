//! Programs that we did not write judge what the builder makes: veritysetup, fsck.erofs, the kernel, GNU tar.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use support::{build_sample, is_root, run, sample_options};
use yado_image::erofs::{Compression, Level, Owners};
use yado_image::pack::{self, Source};
use yado_image::{Layout, hex, inspect, verity};

const ALL: [Compression; 4] = [
    Compression::None,
    Compression::Lz4 { cluster_blocks: 1, level: Level::DEFAULT },
    Compression::Lz4 { cluster_blocks: 3, level: Level::DEFAULT },
    Compression::Lz4 { cluster_blocks: 16, level: Level::DEFAULT },
];

#[test]
fn veritysetup_makes_the_same_tree() {
    let directory = tempfile::tempdir().unwrap();
    let [data, hashes] = ["data", "hashes"].map(|name| directory.path().join(name));
    for blocks in [2, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
        let layout = Layout::new(blocks * 4096, 1).unwrap();
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&data).unwrap();
        file.set_len(layout.payload_bytes()).unwrap();
        for block in (0..blocks).step_by(61) {
            file.write_all_at(&block.to_le_bytes(), block * 4096 + block % 4088).unwrap();
        }
        let root_hash = hex::encode(&verity::write_tree(&file, &layout).unwrap());
        let mut tree = vec![0; layout.tree_bytes() as usize];
        file.read_exact_at(&mut tree, layout.tree_offset()).unwrap();

        let count = format!("--data-blocks={blocks}");
        let [data, hashes] = [&data, &hashes].map(|path| path.to_str().unwrap());
        drop(fs::remove_file(hashes));
        let format = ["format", "--no-superblock", "--salt=-", &count, data, hashes];
        let Some(printed) = run("veritysetup", &format) else { return };
        assert!(printed.contains(&root_hash), "{blocks} blocks: {root_hash} is not in {printed}");
        assert!(fs::read(hashes).unwrap() == tree, "{blocks} blocks: the trees differ");
        let offset = format!("--hash-offset={}", layout.tree_offset());
        run("veritysetup", &["verify", "--no-superblock", "--salt=-", &count, &offset, data, data, &root_hash]);
    }
}

#[test]
fn fsck_reads_every_file_back() {
    for compression in ALL {
        let directory = tempfile::tempdir().unwrap();
        let payload = payload_of(directory.path(), compression);
        if run("fsck.erofs", &["--extract", &payload]).is_none() {
            return;
        }
    }
}

/// The kernel mounts the payload, GNU tar archives what it sees, and the archive packs to the same bytes again. What
/// the kernel does not show or tar does not see would be missing then; what we do not read, see the next test.
#[test]
fn the_kernel_shows_what_was_packed() {
    if !is_root("mount") {
        return;
    }
    for compression in ALL {
        let directory = tempfile::tempdir().unwrap();
        let payload = payload_of(directory.path(), compression);
        let seen = directory.path().join("seen.tar");
        let script = "set -e; mkdir \"$0.mnt\"; mount -t erofs -o loop,ro \"$0\" \"$0.mnt\"; cd \"$0.mnt\"; \
            tar --create --file=\"$1\" --xattrs --xattrs-include='*' --numeric-owner --sort=name --format=posix .";
        if !mounts_erofs() || run("unshare", &["-m", "sh", "-c", script, &payload, seen.to_str().unwrap()]).is_none()
        {
            return;
        }
        let again = tempfile::tempdir().unwrap();
        build_sample(again.path(), |options| {
            options.compression = compression;
            options.source = Source::Tar(seen);
        });
        let [first, second] = [directory.path(), again.path()].map(|path| fs::read(path.join("image")).unwrap());
        assert!(first == second, "{compression:?}: what the kernel shows packs to other bytes");
    }
}

#[test]
fn attributes_owners_and_types_arrive_at_the_kernel() {
    if !is_root("mount") || !mounts_erofs() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let payload = payload_of(directory.path(), Compression::Lz4 { cluster_blocks: 1, level: Level::DEFAULT });
    let script = "set -e; mkdir \"$0.mnt\"; mount -t erofs -o loop,ro \"$0\" \"$0.mnt\"; cd \"$0.mnt\"; \
        stat -c '%n %A %u:%g %h %t:%T %Y' . bin/ping bin/owned-set-id dev dev/* links/* sticky-owned; readlink links/soft; \
        ls many | wc -l; stat -c %s files/text; if command -v getcap >/dev/null; then getcap -n bin/ping; fi";
    let Some(printed) = run("unshare", &["-m", "sh", "-c", script, &payload]) else { return };
    for line in [
        ". drwxr-xr-x 0:0 9 0:0 1650000000",
        "bin/ping -rwxr-xr-x 0:0 1 0:0 0",
        "bin/owned-set-id -rwsr-sr-x 70000:1000 1 0:0 1000000000",
        "dev/block brw-rw---- 0:0 1 103:1234 1650000000",
        "dev/character crw--w---- 0:0 1 103:1234 1650000000",
        "dev/pipe prw------- 0:0 1 0:0 1650000000",
        "links/hard -rw-r--r-- 0:0 2 0:0 1650000000",
        // Of a directory that no entry is about, and of a file from the future.
        "dev drwxr-xr-x 0:0 2 0:0 1700000000",
        "links/soft lrwxrwxrwx 0:0 1 0:0 1700000000",
        "sticky-owned drwxrwxrwt 70000:1000 2 0:0 1000000000",
        "../somewhere/else",
        "300",
        "300000",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in\n{printed}");
    }
    if run("getcap", &["-h"]).is_some() {
        let capabilities = "bin/ping cap_linux_immutable,cap_net_broadcast,cap_sys_rawio,cap_sys_ptrace=ep";
        assert!(printed.contains(capabilities), "{capabilities} is not in\n{printed}");
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes_from_a_directory_and_from_a_tar() {
    if !is_root("unpack devices and owners") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (image, _) = build_sample(directory.path(), |_| {});
    let from_tar = fs::read(&image).unwrap();
    let unpacked = directory.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let archive = directory.path().join("sample.tar");
    let [archive, target] = [&archive, &unpacked].map(|path| path.to_str().unwrap());
    let arguments = ["--extract", "--file", archive, "--directory", target, "--preserve-permissions"];
    let xattrs = ["--numeric-owner", "--xattrs", "--xattrs-include=*"];
    if run("tar", &[&arguments[..], &xattrs].concat()).is_none() {
        return;
    }
    build_sample(directory.path(), |options| options.source = Source::Directory(unpacked.clone()));
    assert!(fs::read(&image).unwrap() == from_tar, "directory and archive differ");

    fs::write(unpacked.join("files/text"), "changed").unwrap();
    build_sample(directory.path(), |options| options.source = Source::Directory(unpacked.clone()));
    assert!(fs::read(&image).unwrap() != from_tar);
}

/// Without a time of the image each file keeps its own, and the image is as old as its newest file.
#[test]
fn an_image_without_a_time_is_as_old_as_its_newest_file() {
    let directory = tempfile::tempdir().unwrap();
    let (image, _) = build_sample(directory.path(), |options| options.timestamp = None);
    assert_eq!(inspect::describe(&image).unwrap().manifest.created, 1_900_000_000);
}

/// The programs that everybody packs archives with, also as several streams, blocks and frames.
#[test]
fn a_compressed_archive_gives_the_same_bytes_and_a_bad_one_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let (image, _) = build_sample(directory.path(), |options| options.compression = Compression::None);
    let wanted = fs::read(&image).unwrap();
    let archive = directory.path().join("sample.tar");
    let packed = directory.path().join("packed");
    let build = || {
        let source = Source::Tar(packed.clone());
        let mut options = sample_options(directory.path());
        options.source = source;
        options.compression = Compression::None;
        pack::build(&options).map_err(|error| error.to_string())
    };
    let programs = [
        ("gzip", "gzip -c \"$0\" >\"$1\""),
        ("gzip", "(head -c 5000 \"$0\" | gzip; tail -c +5001 \"$0\" | gzip) >\"$1\""),
        ("xz", "xz -0 -c --block-size=100KiB \"$0\" >\"$1\""),
        ("xz", "(head -c 5000 \"$0\" | xz -0 --check=crc32; tail -c +5001 \"$0\" | xz -0) >\"$1\""),
        ("zstd", "zstd -q -c \"$0\" >\"$1\""),
        (
            "zstd",
            "(head -c 5000 \"$0\" | zstd; printf '\\120\\052\\115\\030\\003\\0\\0\\0abc'; tail -c +5001 \"$0\" | zstd -19) >\"$1\"",
        ),
    ];
    for (program, script) in programs {
        if run(program, &["--version"]).is_none() {
            continue;
        }
        run("sh", &["-c", script, archive.to_str().unwrap(), packed.to_str().unwrap()]).unwrap();
        fs::remove_file(&image).unwrap();
        build().unwrap();
        assert!(fs::read(&image).unwrap() == wanted, "{script}: other bytes");

        // Cut, and with a byte that is another one: refused in words, and the image that was there stays.
        let whole = fs::read(&packed).unwrap();
        let mut spoilt = whole.clone();
        spoilt[whole.len() / 2] ^= 1;
        for bad in [&whole[..whole.len() - whole.len() / 3], &whole[..12], &spoilt] {
            fs::write(&packed, bad).unwrap();
            let error = build().unwrap_err();
            let words = format!("what is compressed with {program} is damaged or cut short");
            assert!(error.contains(&words), "{script}: {error}");
            assert!(fs::read(&image).unwrap() == wanted);
        }
    }
    for (content, words) in [
        (&b"BZh91AY"[..], "it is compressed with bzip2; expected"),
        (
            b"\x01\x02\x03 no archive at all, and longer than a block of one: ".repeat(20).as_slice(),
            "it is no tar archive",
        ),
        (&fs::read(&archive).unwrap()[..600_000], "cut short"),
        (&fs::read(&archive).unwrap()[..700], "cut short"),
    ] {
        fs::write(&packed, content).unwrap();
        let error = build().unwrap_err();
        assert!(error.contains(words) && error.is_ascii(), "{words}: {error}");
    }
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "something is left over: {left:?}");
}

#[test]
fn owners_can_be_set_for_all_files() {
    let directory = tempfile::tempdir().unwrap();
    let (all_root, _) = build_sample(directory.path(), |options| options.owners = Owners::All { uid: 0, gid: 0 });
    let all_root = fs::read(all_root).unwrap();
    let (kept, _) = build_sample(directory.path(), |_| {});
    assert!(fs::read(kept).unwrap() != all_root);
}

fn payload_of(directory: &Path, compression: Compression) -> String {
    let (image, built) = build_sample(directory, |options| options.compression = compression);
    let payload = directory.join("payload");
    assert_eq!(inspect::extract(&image, &payload).unwrap(), built.header.layout.payload_bytes());
    payload.to_str().unwrap().to_owned()
}

fn mounts_erofs() -> bool {
    let known = fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.lines().any(|line| line == "\terofs"));
    if !known {
        eprintln!("SKIPPED: this kernel has no erofs (loaded)");
    }
    known
}

#[test]
fn any_number_of_threads_packs_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    for threads in [1, 2, 7] {
        let (path, _) = build_sample(directory.path(), |options| {
            options.compression = Compression::Lz4 { cluster_blocks: 16, level: Level::DEFAULT };
            options.threads = std::num::NonZeroUsize::new(threads).unwrap();
        });
        images.push(std::fs::read(path).unwrap());
    }
    assert!(images.iter().all(|image| *image == images[0]));
}

#[test]
fn a_higher_level_packs_smaller_and_there_is_none_above_12() {
    let directory = tempfile::tempdir().unwrap();
    let lengths = [1, 6, 12].map(|level| {
        let level = Level::new(level).unwrap();
        let (_, built) = build_sample(directory.path(), |options| {
            options.compression = Compression::Lz4 { cluster_blocks: 16, level };
        });
        built.header.layout.payload_bytes()
    });
    assert!(lengths[2] <= lengths[1] && lengths[1] <= lengths[0] && lengths[2] < lengths[0], "{lengths:?}");
    assert_eq!((Level::new(0), Level::new(13)), (None, None));
}
