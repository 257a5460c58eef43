//! What an install costs: memory, time, and what is written to flash. The installs run in a process of their own, of which the kernel
//! tells how much memory it had at most.

use super::images::{BLOCK, Image, block, image, keys};
use super::sources::FileSource;
use sha2::{Digest, Sha256};
use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use yado_image::ImageKind;
use yado_sys::loop_device::attach_writable;
use yado_updater::slot::{ImageToWrite, Target, write_image};
use yado_updater::source::Ranges;

/// Set for the process that installs: image, its fingerprint, target, and perhaps an old image.
const TASK: &str = "YADO_TEST_INSTALL";
/// Of the whole updater, whatever the image.
const MAX_RSS_KIB: u64 = 8 << 10;

/// What the process tells.
#[derive(Debug)]
struct Cost {
    rss_kib: u64,
    time: Duration,
    written_bytes: u64,
}

/// No test of its own: what [`install`] runs.
#[test]
fn installs_for_another_process() {
    let Ok(task) = env::var(TASK) else { return };
    let mut words = task.split(' ');
    let [path, fingerprint, target] = [(); 3].map(|()| words.next().unwrap());
    let fingerprint = yado_image::hex::parse_digest(fingerprint).unwrap();
    let bytes = fs::metadata(path).unwrap().len();
    let to_write = ImageToWrite { fingerprint, bytes, kind: ImageKind::System, threshold: 1 };
    let old = words.next().map(|old| File::open(old).unwrap());
    let mut source = FileSource::open(Path::new(path), Ranges::Any);
    let mut target = Target::open_device(Path::new(target)).unwrap();
    let begun = Instant::now();
    let written = write_image(&to_write, &keys(), &mut source, &mut target, old.as_ref(), &mut ()).unwrap();
    let micros = begun.elapsed().as_micros();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak = peak.strip_suffix(" kB").unwrap();
    println!("\ncost: {peak} {micros} {}", written.counts.written_bytes);
}

fn install(image: &Image, target: &str, old: Option<&Path>) -> Cost {
    let fingerprint = yado_image::hex::encode(&image.to_write.fingerprint);
    let old = old.map_or_else(String::new, |old| format!(" {}", old.display()));
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "slot::cost::installs_for_another_process", "--nocapture"])
        .env(TASK, format!("{} {fingerprint} {target}{old}", image.path.display()))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let cost = told.lines().find_map(|line| line.strip_prefix("cost: "));
    let cost = cost.unwrap_or_else(|| panic!("{told}{}", String::from_utf8_lossy(&output.stderr)));
    let mut numbers = cost.split(' ').map(|number| number.parse().unwrap());
    let [rss_kib, micros, written_bytes] = [(); 3].map(|()| numbers.next().unwrap());
    Cost { rss_kib, time: Duration::from_micros(micros), written_bytes }
}

/// A slot on a loop device; `None`: there is none here, and why was printed.
fn slot(path: &Path, bytes: u64) -> Option<yado_sys::loop_device::LoopDevice> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
    attach_writable(&file).map_err(|error| println!("SKIPPED: no loop device: {error}")).ok()
}

#[test]
fn no_image_takes_more_than_8_mib_of_memory() {
    // The blocks of 128 MiB lie all over the table of the old image's blocks; `YADO_TEST_MIB` says more.
    let mib: u64 = env::var("YADO_TEST_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(128);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let blocks = (mib << 20) / BLOCK as u64;
    // Sparse: every 8th block has content, and every 800th another one in the new image.
    let make = |name: &str, new: u64| {
        image(&at(name), ImageKind::System, blocks, |file| {
            for place in (0..blocks).step_by(8) {
                let number = 1 + place + if place % 800 == 0 { new } else { 0 };
                file.write_all_at(&block(number), place * BLOCK as u64).unwrap();
            }
        })
    };
    let (old, new) = (make("old", 0), make("new", blocks));
    let Some(device) = slot(&at("slot"), new.to_write.bytes + 4096) else { return };
    let cost = install(&new, &device.path, Some(&old.path));
    println!("{mib} MiB: {cost:?}");
    assert!(cost.rss_kib <= MAX_RSS_KIB, "{cost:?}");
}

/// Run by hand, and alone: `YADO_TEST_SPEED_MIB=512 cargo test -p yado-updater --test slot -- --nocapture cost`.
#[test]
fn a_whole_install_is_as_fast_as_the_disk_and_a_hundredth_writes_little_more_than_that() {
    let mib: u64 = env::var("YADO_TEST_SPEED_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(16);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let blocks = (mib << 20) / BLOCK as u64;
    let make = |name: &str, is_other: fn(u64) -> bool| {
        image(&at(name), ImageKind::System, blocks, |file| {
            for place in 0..blocks {
                let number = 1 + place + if is_other(place) { blocks } else { 0 };
                file.write_all_at(&block(number), place * BLOCK as u64).unwrap();
            }
        })
    };
    let first = make("first", |_| false);
    // A hundredth of the blocks: once in few places, as after an update of some packages, and once everywhere.
    let together = make("together", |place| place % 12_800 < 128);
    let everywhere = make("everywhere", |place| place % 100 == 99);
    let bytes = first.to_write.bytes;
    let Some(device) = slot(&at("slot"), bytes + 4096) else { return };
    let seconds = |begun: Instant| begun.elapsed().as_secs_f64();
    let rate = |seconds: f64| mib as f64 / seconds;

    let begun = Instant::now();
    let (mut hash, mut file, mut buffer) = (Sha256::new(), File::open(&first.path).unwrap(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    println!("SHA-256 {:.0} MiB/s ({:02x})", rate(seconds(begun)), hash.finalize()[0]);
    let (from, to) = (format!("if={}", first.path.display()), format!("of={}", device.path));
    for how in ["oflag=direct", "conv=fsync"] {
        let begun = Instant::now();
        let output = Command::new("dd").args(["bs=1M", "conv=fsync", how, &from, &to]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("dd {how} {:.0} MiB/s", rate(seconds(begun)));
    }
    // As a slot that never had an image.
    File::options()
        .write(true)
        .open(at("slot"))
        .and_then(|file| file.set_len(0).and_then(|()| file.set_len(bytes + 4096)))
        .unwrap();
    let whole = install(&first, &device.path, None);
    println!("install {:.0} MiB/s, {whole:?}", rate(whole.time.as_secs_f64()));
    for (image, name) in [(&together, "together"), (&everywhere, "everywhere")] {
        install(&first, &device.path, None);
        let cost = install(image, &device.path, None);
        let times = bytes as f64 / cost.written_bytes as f64;
        println!("a hundredth {name}: {cost:?}, a plain copy writes {times:.1} times as much");
        assert!(cost.written_bytes < bytes / 20);
    }
}
