//! What a hostile server, a stick of somebody else's and a cut of the power make of `yado image add`: nothing. The witnesses: the
//! directory of images, the file system's free blocks, and the server, which sees how much was taken from it.

use crate::added_images::{add, answer, kept, serve};
use crate::host::{Host, Running};
use rustix::fs::{CWD, FileType, Mode, mknodat, statvfs};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MIB: u64 = 1 << 20;

/// An image of the host's root by this name and release, beside it: its path, and its fingerprint.
fn build(host: &Host, name: &str, release: &str) -> (String, String) {
    let file = format!("{name}-{release}.img");
    host.build_file(&file, &["--name", name, "--release", release]);
    let path = host.path(&file).display().to_string();
    let (code, out, err) = yado(&["image", "info", "--format", "json", &path]);
    assert_eq!(code, 0, "{err}");
    let (_, rest) = out.split_once("\"fingerprint\": \"").unwrap();
    (path, rest[..64].to_owned())
}

fn yado(words: &[&str]) -> (i32, String, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_yado-init")).with_file_name("yado");
    // Who waits for ever is killed, and has no code of its own.
    let output = Command::new("timeout").arg("60").arg(program).args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn link_of(host: &Running, alias: &str) -> PathBuf {
    fs::read_link(host.path("data/images/aliases").join(alias)).unwrap()
}

/// The data partition is a small one of its own, as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn on(host: &Host, size: &str) -> SmallDisk {
        let data = host.path("data");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&data);
        assert!(mount.status().unwrap().success());
        SmallDisk(data)
    }

    fn free_bytes(&self) -> u64 {
        let disk = statvfs(&self.0).unwrap();
        disk.f_bavail * disk.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

#[test]
fn by_http_neither_an_older_nor_another_image_takes_a_name() {
    let Some(host) = Host::with(&[("other", "")]) else { return };
    let ((old, _), (new, new_fingerprint)) = (build(&host, "web", "1"), build(&host, "web", "2"));
    let (strange, strange_fingerprint) = build(&host, "strange", "9");
    let mut host = host.start();
    assert_eq!(add(&host, &[&new]).0, 0);
    let before = kept(&host);
    let served = |path: &str| {
        let bytes = fs::read(path).unwrap();
        serve(answer(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}", bytes.len()), &bytes))
    };
    for (path, options, reason) in [
        (&old, &[][..], "web is release 2 of web, and this is release 1 of web"),
        (&strange, &["--alias", "web"], "web is release 2 of web, and this is release 9 of strange"),
        // A name of the system's.
        (&strange, &["--alias", "busybox"], "busybox is release 1 of busybox, and this is release 9 of strange"),
        (&strange, &["--fingerprint", &new_fingerprint], "image-header: "),
    ] {
        let (url, server) = served(path);
        let (code, out, err) = add(&host, &[&[&*url], options].concat());
        assert!((code, &*out) == (1, "") && err.contains(reason) && err.contains(&url), "{path} {options:?}: {err}");
        server.join().unwrap();
        assert_eq!(kept(&host), before, "{path} {options:?}");
    }
    for (path, options) in [
        (&new, &["--fingerprint", &*new_fingerprint][..]),
        (&strange, &["--fingerprint", &strange_fingerprint]),
        (&old, &["--replace"]),
        // Onwards it goes by itself.
        (&new, &[]),
        (&strange, &["--alias", "web", "--replace"]),
    ] {
        let (url, server) = served(path);
        let (code, _, err) = add(&host, &[&[&*url], options].concat());
        assert_eq!(code, 0, "{path} {options:?}: {err}");
        server.join().unwrap();
    }
    assert_eq!(link_of(&host, "web"), Path::new("..").join(&strange_fingerprint));
    // What it names now is not there to be compared.
    fs::remove_dir_all(host.path("data/images").join(&strange_fingerprint)).unwrap();
    let (code, _, err) = add(&host, &[&new]);
    assert!(code == 1 && err.contains("--replace"), "{err}");
    let (code, _, err) = add(&host, &[&new, "--fingerprint", "12"]);
    assert!(code == 2 && err.contains("64 hexadecimal digits"), "{err}");
    assert!(host.end().success());
}

#[test]
fn a_server_that_does_not_say_how_much_it_sends_or_says_too_much_fills_nothing() {
    let Some(host) = Host::with(&[("other", "")]) else { return };
    let (image, _) = build(&host, "web", "1");
    let _disk = SmallDisk::on(&host, "size=64m");
    let mut host = host.start();
    let bytes = fs::read(&image).unwrap();
    let huge = 1_u64 << 40;
    for (head, reason) in [
        ("HTTP/1.0 200 OK".to_owned(), "does not say how much it sends"),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {huge}"), "no image is so large"),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {}", 60 * MIB), "there is no room for"),
    ] {
        let (url, server) = serve(answer(&head, &bytes));
        let (code, _, err) = add(&host, &[&url]);
        assert!(code == 1 && err.contains(reason), "{head}: {err}");
        server.join().unwrap();
        assert!(kept(&host).is_empty(), "{head}");
    }
    assert!(host.end().success());
}

#[test]
fn what_ends_never_is_taken_only_until_the_disk_has_no_more_than_all_else_needs() {
    let Some(host) = Host::with(&[("other", "")]) else { return };
    let disk = SmallDisk::on(&host, "size=64m");
    let mut host = host.start();
    let before = disk.free_bytes();
    let mut child = Command::new(host.path_of_yado())
        .args(["image", "add", "-", "--socket"])
        .arg(host.path("run/init.sock"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // The pipe itself holds some.
    let (chunk, mut taken) = ([0; 64 << 10], 0);
    while taken < 2 * before && input.write_all(&chunk).is_ok() {
        taken += chunk.len() as u64;
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && err.contains("there is no room for"), "{err}");
    assert!(taken < before - 6 * MIB, "{taken} of {before}");
    assert!(before / 2 < taken, "{taken} of {before}");
    assert_eq!(disk.free_bytes(), before);
    assert!(kept(&host).is_empty());
    assert!(host.end().success());
}

#[test]
fn who_is_killed_while_it_receives_leaves_nothing_on_the_disk() {
    let Some(host) = Host::with(&[("other", "")]) else { return };
    host.write_program("bin/large", &"x".repeat(12 << 20));
    let (image, _) = build(&host, "web", "1");
    let disk = SmallDisk::on(&host, "size=64m");
    let mut host = host.start();
    // The directories, and the lock.
    assert_eq!(add(&host, &["/dev/null"]).0, 1);
    let before = disk.free_bytes();
    let bytes = fs::read(&image).unwrap();
    let half = bytes.len() / 2;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut child = Command::new(host.path_of_yado())
        .args(["image", "add", &url, "--socket"])
        .arg(host.path("run/init.sock"))
        .spawn()
        .unwrap();
    let (mut client, _) = listener.accept().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", bytes.len());
    client.write_all(&answer(&head, &bytes[..half])).unwrap();
    // The rest never comes. The last of what it has read is still in its memory.
    host.wait_until("half of it is on the disk", |_| disk.free_bytes() + half as u64 <= before + MIB);
    let (code, _, err) = add(&host, &[&image]);
    assert!(code == 1 && err.contains("another image is being added"), "{err}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(kept(&host).is_empty(), "{:?}", kept(&host));
    host.wait_until("its blocks are free", |_| disk.free_bytes() == before);
    assert_eq!(add(&host, &[&image]).0, 0);
    assert!(host.end().success());
}

#[test]
fn what_lies_where_an_image_goes_leads_nowhere_else() {
    let Some(host) = Host::with(&[("other", "")]) else { return };
    let (image, fingerprint) = build(&host, "web", "1");
    let mut host = host.start();
    for directory in ["elsewhere", "data/images"] {
        fs::create_dir_all(host.path(directory)).unwrap();
    }
    let place = host.path("data/images").join(&fingerprint);
    symlink(host.path("elsewhere"), &place).unwrap();
    // By a name that an earlier one may have left.
    symlink(host.path("elsewhere/aside"), host.path("data/images/.aside")).unwrap();
    let (code, _, err) = add(&host, &[&image]);
    assert_eq!(code, 0, "{err}");
    assert!(fs::symlink_metadata(&place).unwrap().is_dir());
    assert_eq!(fs::read(place.join("image")).unwrap(), fs::read(&image).unwrap());
    assert_eq!(fs::read_dir(host.path("elsewhere")).unwrap().count(), 0);
    assert!(fs::symlink_metadata(host.path("data/images/.aside")).is_err());
    // A link in the image's own place, to what is verified well.
    fs::rename(place.join("image"), host.path("elsewhere/image")).unwrap();
    symlink(host.path("elsewhere/image"), place.join("image")).unwrap();
    assert_eq!(add(&host, &[&image]).0, 0);
    assert!(fs::symlink_metadata(place.join("image")).unwrap().is_file());
    // Nobody writes to it.
    mknodat(CWD, host.path("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let (fifo, socket) = (host.path("fifo"), host.path("run/init.sock"));
    let (code, _, err) = yado(&["image", "add", fifo.to_str().unwrap(), "--socket", socket.to_str().unwrap()]);
    assert!(code == 1 && err.contains("fifo: not a regular file"), "{code} {err}");
    assert!(host.end().success());
}

#[test]
fn a_name_that_instances_could_not_use_or_that_hides_an_image_is_refused() {
    let Some(host) = Host::with(&[("other", "")]) else { return };
    let (image, _) = build(&host, "web", "1");
    let mut host = host.start();
    let before = kept(&host);
    let long = "x".repeat(129);
    for alias in [&*long, "a\nb", "a\u{1b}[2J", "a\u{202e}b", "0123456789ab", "ABCDEFabcdef0"] {
        let (code, _, err) = add(&host, &[&image, "--alias", alias]);
        assert!(code == 1 && err.contains("is no name for an image"), "{alias:?}: {err}");
        assert!(!err.contains(['\u{1b}', '\u{202e}']) && err.lines().count() == 1, "{alias:?}: {err}");
        assert_eq!(kept(&host), before, "{alias:?}");
    }
    for alias in [&long[..128], "0123456789a", "cafe cafe cafe"] {
        assert_eq!(add(&host, &[&image, "--alias", alias]).0, 0, "{alias:?}");
    }
    assert!(host.end().success());
}

#[test]
fn an_image_keeps_its_signatures_and_a_damaged_one_is_mended() {
    let Some(host) = Host::with(&[("other", "")]) else { return };
    let (once, fingerprint) = build(&host, "web", "1");
    let path = |name: &str| host.path(name).display().to_string();
    assert_eq!(yado(&["key", "new", &path("second")]).0, 0);
    fs::copy(path("second.pub"), path("system/trust/second.pub")).unwrap();
    let twice = path("twice.img");
    fs::copy(&once, &twice).unwrap();
    assert_eq!(yado(&["image", "sign", "--key", &path("second.key"), &twice]).0, 0);
    let twice_bytes = fs::read(&twice).unwrap();
    assert_ne!(twice_bytes, fs::read(&once).unwrap());
    let mut host = host.start();
    let image = host.path("data/images").join(fingerprint).join("image");
    assert_eq!(add(&host, &[&once]).0, 0);
    // One more signature is taken, and not away again.
    for source in [&twice, &once] {
        assert_eq!(add(&host, &[source]).0, 0);
        assert!(fs::read(&image).unwrap() == twice_bytes, "{source}");
    }
    let mut damaged = twice_bytes;
    damaged[9000] ^= 1;
    fs::write(&image, damaged).unwrap();
    assert_eq!(add(&host, &[&once]).0, 0);
    assert!(fs::read(&image).unwrap() == fs::read(&once).unwrap());
    assert!(host.end().success());
}
