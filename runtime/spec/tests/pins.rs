//! A pin gives an instance another image than its own key means, as long as the key means the image that the pin was made for.

#![allow(clippy::unwrap_used)]

mod world;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use world::{BUSYBOX, SYSTEM, facts, sources_of};
use yado_spec::compile::{Compiled, ImageFacts, compile, own_image};
use yado_spec::sources::pins::{DIRECTORY, MAX_PINS};
use yado_spec::sources::{Sources, read_sources};
use yado_wire::{InstanceName, hex};

const NEW: [u8; 32] = [0x11; 32];
const NEWER: [u8; 32] = [0x22; 32];

fn name(text: &str) -> InstanceName {
    InstanceName::parse(text).unwrap()
}

/// Two instances of the same image; the one that is called `it` has these pins.
fn sources(pins: &[([u8; 32], [u8; 32])]) -> Sources {
    let text: &[u8] = b"image = 'busybox'";
    let mut sources = sources_of(&[("it", text), ("other", text)], &[], &[]);
    for image in [NEW, NEWER] {
        sources.images.insert(image, PathBuf::from("image"));
    }
    sources.pins.insert(name("it"), pins.iter().copied().collect());
    sources
}

fn any(fingerprint: &[u8; 32], path: &Path) -> Result<ImageFacts, String> {
    match *fingerprint {
        NEW | NEWER => facts(&BUSYBOX, path),
        _ => facts(fingerprint, path),
    }
}

/// The images of both, and what is said of it.
fn images(sources: &Sources) -> ([[u8; 32]; 2], Vec<String>) {
    let Compiled { instances, passed_over, .. } = compile(sources, &any);
    let said = passed_over.iter().map(|(name, problem)| format!("{name}: {problem}")).collect();
    let images: Vec<_> = instances.into_iter().map(|(_, spec)| spec.unwrap().image).collect();
    (images.try_into().unwrap(), said)
}

#[test]
fn a_pin_counts_as_long_as_the_key_means_the_image_that_it_was_made_for() {
    assert_eq!(images(&sources(&[(BUSYBOX, NEW)])), ([NEW, BUSYBOX], vec![]));
    // A pin of the image that another pin leads to is one for a system whose own that is.
    assert_eq!(images(&sources(&[(BUSYBOX, NEW), (NEW, NEWER)])), ([NEW, BUSYBOX], vec![]));
    // The alias has come to mean another image, by a newer system or by hand, and comes back.
    let mut newer = sources(&[(BUSYBOX, NEW)]);
    newer.aliases.insert("busybox".to_owned(), NEWER);
    assert_eq!(images(&newer), ([NEWER, NEWER], vec![]));
    assert_eq!(own_image(&newer, &name("it")).unwrap(), NEWER);
    newer.aliases.insert("busybox".to_owned(), BUSYBOX);
    assert_eq!(images(&newer), ([NEW, BUSYBOX], vec![]));
    assert_eq!(own_image(&newer, &name("it")).unwrap(), BUSYBOX);
}

#[test]
fn a_pin_whose_image_cannot_be_used_is_passed_over_and_told() {
    let mut sources = sources(&[(BUSYBOX, NEW)]);
    sources.images.remove(&NEW);
    let (images, said) = images(&sources);
    let gone = format!("the image {} is not on this machine", hex::encode(&NEW));
    let reason = format!("an update gave it another image, and it has its own: {gone}");
    assert_eq!((images, said), ([BUSYBOX; 2], vec![format!("it: it.toml:1: image = \"busybox\": {reason}")]));
    let system = self::sources(&[(BUSYBOX, SYSTEM)]);
    let (images, said) = self::images(&system);
    assert!(images == [BUSYBOX; 2] && said[0].contains("it is the image of a system"), "{said:?}");
    // Its own image is none, and it needs none.
    let mut own_gone = self::sources(&[(BUSYBOX, NEW)]);
    own_gone.images.remove(&BUSYBOX);
    let compiled = compile(&own_gone, &any);
    assert_eq!(compiled.instances[0].1.as_ref().unwrap().image, NEW);
    assert!(compiled.instances[1].1.is_err() && compiled.passed_over.is_empty());
}

#[test]
fn whoever_asks_for_an_image_that_no_key_names_is_told_why_there_is_none() {
    let sources = sources_of(&[("wrong", b"image = 'busybx'"), ("none", b""), ("torn", b"image = ")], &[], &[]);
    for (instance, reason) in
        [("wrong", "did you mean busybox?"), ("none", "missing"), ("torn", "not TOML"), ("gone", "no such instance")]
    {
        let problem = own_image(&sources, &name(instance)).unwrap_err().to_string();
        assert!(problem.contains(reason), "{problem}");
    }
}

#[test]
fn pins_are_links_on_the_data_partition_and_sources_of_their_own_instance_alone() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pins");
    let _ = fs::remove_dir_all(&root);
    let (system, data) = (root.join("system"), root.join("data"));
    let write = |path: PathBuf, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for instance in ["it", "other"] {
        write(system.join(format!("appliance/{instance}.toml")), "image = 'busybox'");
    }
    let read = || read_sources(&system, Some(&data));
    let digests = || ["it", "other"].map(|instance| read().digest(&name(instance)).unwrap());
    let before = digests();
    let pin = |own: &str, target: String| {
        let directory = data.join(DIRECTORY).join("it");
        fs::create_dir_all(&directory).unwrap();
        symlink(target, directory.join(own)).unwrap();
    };
    let own = hex::encode(&BUSYBOX);
    pin(&own, format!("../../{}", hex::encode(&NEW)));
    assert_eq!(read().pins[&name("it")], [(BUSYBOX, NEW)].into());
    let pinned = digests();
    assert!(pinned[0] != before[0] && pinned[1] == before[1]);
    // Its image comes later.
    write(data.join("images").join(hex::encode(&NEW)).join("image"), "");
    assert!(![before[0], pinned[0]].contains(&digests()[0]));
    assert!(read().left_out.is_empty());
    // What is none is told, and the rest counts. A link of the system's is none, and what has a dot is not looked at.
    pin("busybox", format!("../../{}", hex::encode(&NEW)));
    pin(&"33".repeat(32), "../../../etc".to_owned());
    pin(".left-by", "7".to_owned());
    write(data.join(DIRECTORY).join("it").join("44".repeat(32)), "no link");
    write(data.join(DIRECTORY).join("no name").join("x"), "");
    let sources = read();
    assert_eq!((sources.pins.len(), &sources.pins[&name("it")]), (1, &[(BUSYBOX, NEW)].into()));
    assert_eq!(sources.left_out.len(), 4, "{:?}", sources.left_out);
    for number in 0..MAX_PINS {
        pin(&format!("0{number}").repeat(32), format!("../../{}", hex::encode(&NEW)));
    }
    let sources = read();
    assert_eq!(sources.pins[&name("it")].len(), MAX_PINS);
    assert!(sources.left_out.iter().any(|left_out| left_out.to_string().contains("more than")));
}
