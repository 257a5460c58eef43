//! What an update says of one instance's image, through `yado apply`: the instance has it from its next start, as long as its own
//! key means the image that the pin was made for. The kernel is the witness: it executes what only one image has, or finds nothing.

use crate::added_images::add;
use crate::host::{Host, Running};
use crate::name;
use std::fs;
use std::os::unix::fs::symlink;
use yado_wire::hex;
use yado_wire::rescue::{ExitStatus, InstanceState, Reply, Request};

const RUNS: &str = "[config]\nboot.autostart = true\n";

/// What runs in the instance: the programs that are not in every image, by their exit code.
fn programs(host: &Running, instance: &str) -> [bool; 2] {
    ["/bin/fresh", "/bin/third"].map(|program| host.exec(instance, &[program]) == Ok(ExitStatus::Code(42)))
}

fn apply(host: &Running) -> (i32, String, String) {
    host.yado(&["apply", "--socket", host.path("run/init.sock").to_str().unwrap()], "")
}

fn restart(host: &Running) {
    assert_eq!(host.ask(&Request::Restart(name("one"))), [Reply::Done]);
    host.wait_for("one", InstanceState::Running);
}

fn added(host: &Running, file: &str) -> String {
    let path = host.path(file);
    let (code, out, err) = add(host, &[path.to_str().unwrap(), "--alias", file, "--format", "json"]);
    assert_eq!(code, 0, "{err}");
    let (_, rest) = out.split_once("\"fingerprint\": \"").unwrap();
    rest[..64].to_owned()
}

#[test]
fn a_pin_changes_the_image_of_its_instance_at_the_next_start_and_an_alias_that_moves_takes_it_back() {
    let Some(host) = Host::with(&[("one", RUNS), ("other", RUNS)]) else { return };
    for program in ["fresh", "third"] {
        host.write_program(&format!("bin/{program}"), "#!/bin/sh\nexit 42\n");
        host.build_file(&format!("{program}.img"), &["--version", program]);
    }
    let mut host = host.start();
    for instance in ["one", "other"] {
        host.wait_for(instance, InstanceState::Running);
    }
    let (fresh, third) = (added(&host, "fresh.img"), added(&host, "third.img"));
    let own = hex::encode(&host.status("one").fingerprint.unwrap());
    let others = host.status("other").pid;
    let pins = host.path("data/images/instances/one");
    fs::create_dir_all(&pins).unwrap();
    symlink(format!("../../{fresh}"), pins.join(&own)).unwrap();
    let (code, out, err) = apply(&host);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&fresh) && out.contains("waits for the next start"), "{out}");
    assert!(host.status("one").waits_for_restart && programs(&host, "one") == [false; 2]);
    restart(&host);
    assert_eq!(programs(&host, "one"), [true, false]);
    // It is what counts after the next boot too, and nobody else's.
    host.kill();
    let mut host = host.start_again();
    for instance in ["one", "other"] {
        host.wait_for(instance, InstanceState::Running);
    }
    assert_eq!((programs(&host, "one"), programs(&host, "other")), ([true, false], [false; 2]));
    assert_ne!(host.status("other").pid, others);
    let others = host.status("other").pid;

    // Its own key comes to mean a newer image, and then the one from before again.
    fs::create_dir_all(host.path("data/images/aliases")).unwrap();
    let alias = host.path("data/images/aliases/busybox");
    symlink(format!("../{third}"), &alias).unwrap();
    assert_eq!(apply(&host).0, 0);
    restart(&host);
    assert_eq!(programs(&host, "one"), [true, true], "the third image has both");
    fs::remove_file(&alias).unwrap();
    assert_eq!(apply(&host).0, 0);
    restart(&host);
    assert_eq!(programs(&host, "one"), [true, false]);

    // Its image is lost: the own one is better than none.
    fs::rename(host.path("data/images").join(&fresh), host.path("away")).unwrap();
    let (code, _, err) = apply(&host);
    assert!(code == 0 && err.contains("one.toml:1: image = \"busybox\": an update gave it another image"), "{err}");
    assert!(err.contains(&format!("the image {fresh} is not on this machine")), "{err}");
    restart(&host);
    assert_eq!(programs(&host, "one"), [false; 2]);
    fs::rename(host.path("away"), host.path("data/images").join(&fresh)).unwrap();
    let (code, out, err) = apply(&host);
    assert!(code == 0 && out.contains(&fresh) && err.is_empty(), "{out}{err}");
    // And the pin goes before it was started with it.
    fs::remove_file(pins.join(&own)).unwrap();
    assert_eq!(apply(&host).0, 0);
    restart(&host);
    assert_eq!((programs(&host, "one"), host.status("other").pid), ([false; 2], others));
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}
