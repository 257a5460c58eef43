//! `yado check` and `yado compile`, from outside, with a store of one image.
#![allow(clippy::unwrap_used)]

mod command;

use command::{Workshop, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

/// A workshop with `sys/`: the image `box` and the instance `good` made of it.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.write_program("root/sbin/init");
    workshop.succeed(&["image", "build", "root", "b.img", "--name", "box", "--arch", "armhf"]);
    let info = workshop.json(&["image", "info", "b.img", "--format", "json"]);
    let fingerprint = info["fingerprint"].as_str().unwrap();
    fs::create_dir_all(workshop.path(&format!("sys/images/{fingerprint}"))).unwrap();
    fs::create_dir_all(workshop.path("sys/images/aliases")).unwrap();
    fs::rename(workshop.path("b.img"), workshop.path(&format!("sys/images/{fingerprint}/image"))).unwrap();
    symlink(format!("../{fingerprint}"), workshop.path("sys/images/aliases/box")).unwrap();
    workshop.write("sys/appliance/good.toml", "image = \"box\"\n[config]\nlimits.memory = \"32MiB\"\n");
    workshop
}

const COMPILE: [&str; 5] = ["compile", "--system", "sys", "--out", "out"];

#[test]
fn a_good_directory_becomes_specs() {
    let workshop = workshop();
    let output = workshop.succeed(&COMPILE);
    assert_eq!(text(&output.stderr), "");
    let mut names: Vec<_> =
        fs::read_dir(workshop.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    // Who compiles at the same time waits for the first.
    assert_eq!(names, [".lock", "good.bin", "networks.bin"]);
}

#[test]
fn one_bad_instance_is_named_and_the_other_is_compiled() {
    let workshop = workshop();
    workshop.write("sys/appliance/bad.toml", "image = \"box\"\n[config]\nlimits.memroy = \"32MiB\"\n");
    let output = workshop.run(&COMPILE);
    assert_eq!(output.status.code(), Some(3));
    let reason = "sys/appliance/bad.toml:3: limits.memroy = \"32MiB\": no such key; did you mean limits.memory?";
    assert!(text(&output.stderr).contains(reason), "{output:?}");
    assert_eq!(fs::read_to_string(workshop.path("out/bad.err")).unwrap(), format!("{reason}\n"));
    assert!(workshop.path("out/good.bin").exists() && !workshop.path("out/bad.bin").exists());

    // Mended, its error goes; broken again, its spec goes.
    workshop.write("sys/appliance/bad.toml", "image = \"box\"\n");
    workshop.succeed(&COMPILE);
    assert!(workshop.path("out/bad.bin").exists() && !workshop.path("out/bad.err").exists());
    workshop.write("sys/appliance/bad.toml", "image = \"nobox\"\n");
    assert_eq!(workshop.run(&COMPILE).status.code(), Some(3));
    assert!(!workshop.path("out/bad.bin").exists() && workshop.path("out/bad.err").exists());
}

#[test]
fn an_image_that_is_another_than_its_name_says_is_not_used() {
    let workshop = workshop();
    let images = fs::read_dir(workshop.path("sys/images")).unwrap().map(|entry| entry.unwrap().path());
    let image = images.map(|path| path.join("image")).find(|path| path.exists()).unwrap();
    workshop.write("root/more", "another file\n");
    let other = ["image", "build", "root", "other.img", "--name", "box", "--arch", "armhf"];
    workshop.succeed(&other);
    fs::rename(workshop.path("other.img"), image).unwrap();
    assert_eq!(workshop.run(&COMPILE).status.code(), Some(3));
    let error = fs::read_to_string(workshop.path("out/good.err")).unwrap();
    assert!(error.contains("is the image "), "{error}");
}

#[test]
fn an_instance_cannot_take_the_networks_file() {
    let workshop = workshop();
    workshop.write("sys/appliance/networks.toml", "image = \"box\"\n");
    assert_eq!(workshop.run(&COMPILE).status.code(), Some(3));
    let compiled = fs::read(workshop.path("out/networks.bin")).unwrap();
    fs::remove_file(workshop.path("sys/appliance/networks.toml")).unwrap();
    workshop.succeed(&COMPILE);
    assert_eq!(fs::read(workshop.path("out/networks.bin")).unwrap(), compiled);
}

#[test]
fn check_names_file_line_key_value_and_what_would_be_right() {
    let workshop = workshop();
    workshop.succeed(&["check", "sys/appliance/good.toml"]);
    workshop.succeed(&["check", "--dir", "sys"]);
    workshop.write("sys/appliance/bad.toml", "image = \"box\"\n[config]\nlimits.memory = \"lots\"\n");
    for arguments in
        [["check", "sys/appliance/bad.toml", "--format=json"].as_slice(), &["check", "--dir", "sys", "--format=json"]]
    {
        let output = workshop.run(arguments);
        assert_eq!(output.status.code(), Some(1));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let problem = &value["problems"][0];
        assert_eq!(problem["file"], "sys/appliance/bad.toml");
        assert_eq!(
            (&problem["line"], &problem["key"], &problem["value"]),
            (&3.into(), &"limits.memory".into(), &"lots".into())
        );
        assert!(problem["reason"].as_str().unwrap().contains("64MiB"), "{problem}");
    }
    workshop.fail(&["check", "nothing.toml"]);
}

/// As LXD does in a directory pool on a file system without quotas: what is said is kept and told, and nothing is refused for it.
#[test]
fn the_size_of_a_root_is_kept_and_its_owner_warned() {
    let workshop = workshop();
    workshop.write(
        "sys/appliance/sized.toml",
        "image = \"box\"\n[devices.root]\ntype = \"disk\"\npath = \"/\"\npool = \"default\"\nsize = \"1GiB\"\n",
    );
    let output = workshop.succeed(&COMPILE);
    let warning = "yado: warning: instance sized: devices.root.size: not enforced: the root's layer has no quota yet; it shares the \
         data partition\n";
    assert_eq!(text(&output.stderr), warning);
    assert!(workshop.path("out/sized.bin").exists());
}

#[test]
fn many_at_once_take_turns() {
    let workshop = workshop();
    for number in 0..8 {
        workshop.write(&format!("sys/appliance/i{number}.toml"), "image = \"box\"\n");
    }
    workshop.succeed(&COMPILE);
    let spec = fs::read(workshop.path("out/good.bin")).unwrap();
    for round in 0..5 {
        let spawn = |_| workshop.command(&COMPILE).stderr(Stdio::piped()).spawn().unwrap();
        for child in (0..6).map(spawn).collect::<Vec<_>>() {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}: {output:?}");
        }
        assert_eq!(fs::read(workshop.path("out/good.bin")).unwrap(), spec);
    }
}

#[test]
fn what_a_cut_apply_has_left_on_the_data_partition_goes() {
    let workshop = workshop();
    workshop.write("data/instances/one/instance.toml", "image = \"box\"\n");
    workshop.write("data/instances/one/.instance.toml.new", "image = \"bo");
    workshop.write("data/instances/never/.instance.toml.new", "image = \"bo");
    workshop.succeed(&[COMPILE.as_slice(), &["--data", "data"]].concat());
    assert!(workshop.path("out/one.bin").exists());
    let left = ["one/instance.toml", "one/.instance.toml.new", "never"]
        .map(|path| workshop.path("data/instances").join(path).exists());
    assert_eq!(left, [true, false, false]);
}
