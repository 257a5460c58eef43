//! What `yado image build` takes on this machine, beside `mkfs.erofs` with the same compression of the same files.

use crate::arch::Arch;
use crate::bench::Promise;
use crate::board::host_yado::{HostYado, ImageOptions};
use crate::cache::Cache;
use crate::command::Tool;
use crate::provision;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A part of Debian's root that is packed within seconds.
const FILES: &str = "./usr/bin";
/// What starts such an image.
const INIT: &str = "/usr/bin/init";
/// Each one's turns, of which the quickest counts: who else works on the machine makes one slower and never quicker.
const TURNS: usize = 3;
/// What images of ours have, in the words of mkfs.erofs(1).
const COMPRESSION: [&str; 2] = ["-zlz4hc,12", "-C65536"];
/// What an image may have beside the compressed files: hash tree, manifest and signatures, and where clusters begin.
const MAX_LARGER: f64 = 1.03;

/// Whether an image is packed at least as fast as by `mkfs.erofs`, and is about as small.
pub(crate) fn promises(cache: &Cache, directory: &Path) -> Result<Vec<Promise>, Box<dyn Error>> {
    let arch: Arch = std::env::consts::ARCH.parse()?;
    let root = provision::debian_root(cache, arch)?;
    let yado = HostYado::build(cache)?;
    let place = directory.join("image-build");
    let _ = fs::remove_dir_all(&place);
    let files = place.join("root");
    fs::create_dir_all(&files)?;
    Tool::new("tar").arg("-xf").arg(&root).arg("-C").arg(&files).arg(FILES).run()?;
    // A program that needs no libraries, since only a part of the root is there.
    fs::copy("/bin/busybox", files.join(INIT.trim_start_matches('/')))
        .map_err(|error| format!("/bin/busybox (package busybox-static): {error}"))?;
    let (key, image, peer) = (place.join("key"), place.join("yado.img"), place.join("peer.img"));
    yado.new_key(&key)?;
    let options = ImageOptions {
        source: &files,
        kind: "container",
        architecture: arch.debian(),
        name: "bench",
        release: 1,
        boot_files: &[],
        key: &key.with_extension("key"),
        init: Some(INIT),
        halt_signal: Some("SIGTERM"),
        minimum_runtime: None,
    };
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    for _ in 0..TURNS {
        for path in [&image, &peer] {
            let _ = fs::remove_file(path);
        }
        ours = ours.min(timed(|| yado.build_image(&options, &image))?);
        theirs = theirs.min(timed(|| Tool::new("mkfs.erofs").args(COMPRESSION).arg(&peer).arg(&files).run())?);
    }
    let larger = fs::metadata(&image)?.len() as f64 / fs::metadata(&peer)?.len() as f64;
    fs::remove_dir_all(&place)?;
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let compression = COMPRESSION.join(" ");
    Ok(vec![
        Promise {
            what: format!("yado image build takes at most the time of mkfs.erofs {compression}"),
            seen: format!("{ratio:.2} of its {:.1} s", theirs.as_secs_f64()),
            holds: ratio <= 1.0,
        },
        Promise {
            what: format!("its image, signed and with a hash tree, is at most {MAX_LARGER} as large"),
            seen: format!("{larger:.3}"),
            holds: larger <= MAX_LARGER,
        },
    ])
}

fn timed<E>(work: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
    let began = Instant::now();
    work().map(|()| began.elapsed())
}
