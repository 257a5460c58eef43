//! `yado image add` and `yado apply` are enough to add a container to a device: from a file, by HTTP, from standard input. What is
//! not what it should be, or does not fit, leaves nothing. The witnesses: the instance's own answer, the server that was asked, and
//! the directory of images.

use crate::host::{Host, Running};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use yado_wire::rescue::{ExitStatus, InstanceState};

const RUNS: &str = "[config]\nboot.autostart = true\n";

/// A host that runs, with the signed image `fresh.img` beside it, which it does not have.
fn host_and_image() -> Option<Running> {
    let host = Host::with(&[("other", "")])?;
    host.write_program("bin/fresh", "#!/bin/sh\nexit 42\n");
    host.build_file("fresh.img", &[]);
    Some(host.start())
}

pub(crate) fn add(host: &Running, arguments: &[&str]) -> (i32, String, String) {
    let socket = host.path("run/init.sock");
    host.yado(&[&["image", "add", "--socket", socket.to_str().unwrap()], arguments].concat(), "")
}

/// All below the images of the data partition, but for the lock.
pub(crate) fn kept(host: &Running) -> BTreeSet<String> {
    fn collect(directory: &Path, into: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            into.insert(entry.path().display().to_string());
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), into);
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&host.path("data/images"), &mut found);
    found.retain(|path| !path.ends_with("/.lock") && !path.ends_with("/aliases"));
    found
}

/// Applies an instance of this image, and has it answer with what only this image has.
fn runs(host: &Running, name: &str, image: &str) {
    let file = host.path(&format!("{name}.toml"));
    fs::write(&file, format!("image = \"{image}\"\n{RUNS}")).unwrap();
    let socket = host.path("run/init.sock");
    let (code, out, err) = host.yado(&["apply", "--socket", socket.to_str().unwrap(), file.to_str().unwrap()], "");
    assert_eq!(code, 0, "{out}{err}");
    host.wait_for(name, InstanceState::Running);
    assert_eq!(host.exec(name, &["/bin/fresh"]), Ok(ExitStatus::Code(42)));
}

/// Answers one request with these bytes, and gives back what it was asked.
pub(crate) fn serve(answer: Vec<u8>) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/images/fresh.img", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut buffer = [0; 1024];
        while !asked.ends_with(b"\r\n\r\n") {
            let count = client.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "it hung up");
            asked.extend_from_slice(&buffer[..count]);
        }
        // Who was told enough hangs up.
        let _ = client.write_all(&answer);
        String::from_utf8(asked).unwrap()
    });
    (url, server)
}

pub(crate) fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), b"\r\n\r\n", body].concat()
}

#[test]
fn an_image_is_added_from_a_file_by_http_and_from_standard_input_and_then_runs() {
    let Some(mut host) = host_and_image() else { return };
    let image = host.path("fresh.img");
    let (code, out, err) = add(&host, &[image.to_str().unwrap(), "--alias", "stick"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("verified; instances call it stick"), "{out}");
    runs(&host, "one", "stick");

    let bytes = fs::read(&image).unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", bytes.len());
    let (url, server) = serve(answer(&head, &bytes));
    let (code, out, err) = add(&host, &[&url, "--alias", "web", "--format", "json"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("\"alias\": \"web\""), "{out}");
    let asked = server.join().unwrap();
    assert!(asked.starts_with("GET /images/fresh.img HTTP/1.0\r\nHost: 127.0.0.1:"), "{asked}");
    runs(&host, "two", "web");

    let script = format!(
        "exec {} image add --socket {} - <{}",
        host.path_of_yado().display(),
        host.path("run/init.sock").display(),
        image.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // Its own name.
    runs(&host, "three", "busybox");
    let names: BTreeSet<String> = fs::read_dir(host.path("data/images/aliases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["busybox", "stick", "web"].map(str::to_owned).into());
    assert!(host.end().success());
    // It is still there after the next boot.
    let mut host = host.start_again();
    for name in ["one", "two", "three"] {
        host.wait_for(name, InstanceState::Running);
    }
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn what_is_not_a_good_image_is_refused_by_name_and_leaves_nothing() {
    let Some(host) = Host::with(&[("other", "")]) else { return };
    host.build_file("good.img", &[]);
    host.build_file("unsigned.img", &["--unsigned"]);
    // elf(5): of 32 bits, for ARM, a program.
    let program = format!("\x7fELF\x01\x01\x01{}\x02\0\x28\0\x01{}", "\0".repeat(9), "\0".repeat(31));
    host.write_program("bin/foreign", &program);
    host.build_file("foreign.img", &["--arch", "armhf", "--init", "/bin/foreign"]);
    host.build_file("system.img", &["--kind", "system"]);
    let mut host = host.start();
    let path = |name: &str| host.path(name).display().to_string();
    let good = fs::read(path("good.img")).unwrap();
    fs::write(path("cut.img"), &good[..good.len() / 2]).unwrap();
    fs::write(path("text.img"), "this is no image\n".repeat(1000)).unwrap();
    fs::write(path("empty.img"), "").unwrap();
    fs::write(path("tampered.img"), &good).unwrap();
    let tampered = fs::File::options().write(true).open(path("tampered.img")).unwrap();
    tampered.write_all_at(&[good[9000] ^ 1], 9000).unwrap();
    let before = kept(&host);
    for (name, reason) in [
        ("cut.img", "image-header"),
        ("text.img", "image-header"),
        ("empty.img", "0 bytes are too short for an image"),
        ("tampered.img", "image-payload"),
        ("unsigned.img", "image-signature"),
        ("foreign.img", "armhf"),
        ("system.img", "system"),
        ("absent.img", "No such file"),
    ] {
        let (code, out, err) = add(&host, &[&path(name)]);
        println!("{name}: {err}");
        assert_eq!((code, out.as_str()), (1, ""), "{name}: {err}");
        assert!(err.contains(name) && err.contains(reason), "{name}: {err}");
        assert_eq!(kept(&host), before, "{name}");
    }
    for alias in ["", "../up", ".aside", &"0".repeat(64)] {
        let (code, _, err) = add(&host, &[&path("good.img"), "--alias", alias]);
        assert!(code == 1 && err.contains("is no name for an image"), "{alias}: {err}");
    }
    let length = good.len();
    for (head, body, reason) in [
        ("HTTP/1.1 404 Not Found".to_owned(), &b"gone"[..], "the server answers 404 Not Found"),
        ("HTTP/1.1 302 Found\r\nLocation: https://x/y".to_owned(), b"", "answers 302: it is at https://x/y"),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {length}"), &good[..5000], "it ended after 5000 bytes of"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked".to_owned(), b"", "in chunks"),
        ("SSH-2.0-server".to_owned(), b"", "does not speak HTTP"),
    ] {
        let (url, server) = serve(answer(&head, body));
        let (code, _, err) = add(&host, &[&url]);
        assert!(code == 1 && err.contains(&url) && err.contains(reason), "{head}: {err}");
        server.join().unwrap();
    }
    let (code, _, err) = add(&host, &["https://127.0.0.1/x"]);
    assert!(code == 1 && err.contains("only http:// is known here"), "{err}");
    assert_eq!(kept(&host), before);
    assert!(host.end().success());
}

#[test]
fn an_image_for_which_there_is_no_room_leaves_nothing() {
    let Some(host) = Host::with(&[("other", "")]) else { return };
    host.build_file("fresh.img", &[]);
    let data = host.path("data");
    let mount = |words: &[&str]| Command::new(words[0]).args(&words[1..]).arg(&data).status().unwrap().success();
    assert!(mount(&["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"]));
    let mut host = host.start();
    let image = host.path("fresh.img");
    assert!(1 << 20 < image.metadata().unwrap().len());
    let (code, _, err) = add(&host, &[image.to_str().unwrap()]);
    assert!(code == 1 && err.contains("data/images: there is no room for"), "{err}");
    assert_eq!(kept(&host), BTreeSet::new());
    assert!(host.end().success());
    assert!(mount(&["umount"]));
}
