//! Sources from a real directory: the data partition wins, what is not right is left out with a reason, and a digest
//! changes with everything that a spec is made from.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use yado_spec::sources::{MAX_SOURCE_BYTES, SourceError, read_sources};
use yado_wire::InstanceName;

/// An empty directory of this test's own.
fn directory(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sources-{test}"));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory for the test");
    directory
}

fn write(path: PathBuf, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
    fs::write(path, content).expect("a file");
}

fn name(text: &str) -> InstanceName {
    InstanceName::parse(text).expect("a name")
}

const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const TWO: &str = "2222222222222222222222222222222222222222222222222222222222222222";

fn alias(images: PathBuf, alias: &str, target: &str) {
    fs::create_dir_all(images.join("aliases")).expect("a directory");
    let link = images.join("aliases").join(alias);
    let _ = fs::remove_file(&link);
    symlink(target, link).expect("a link");
}

#[test]
fn the_data_partition_wins_and_every_source_is_in_the_digest() {
    let root = directory("digest");
    let (system, data) = (root.join("system"), root.join("data"));
    assert!(read_sources(&system, Some(&data)).instances.is_empty(), "nothing is there yet");

    write(system.join("appliance/web.toml"), "image = 'a'");
    write(system.join("appliance/db.toml"), "image = 'b'");
    write(system.join("appliance/profiles/default.toml"), "");
    write(system.join("appliance/networks/yado0.toml"), "");
    write(system.join("images").join(ONE).join("image"), "");
    alias(system.join("images"), "a", &format!("../{ONE}"));
    let only_system = read_sources(&system, None);
    let first = only_system.digest(&name("web")).expect("a digest");
    assert_ne!(only_system.digest(&name("db")), Some(first));
    assert_eq!(only_system.digest(&name("gone")), None);
    assert!(only_system.left_out.is_empty(), "{:?}", only_system.left_out);

    let mut digests = vec![first];
    let mut changed = |what: &str| {
        let digest = read_sources(&system, Some(&data)).digest(&name("web")).expect("a digest");
        assert!(!digests.contains(&digest), "{what} is not in the digest");
        digests.push(digest);
    };
    write(data.join("instances/web/instance.toml"), "image = 'a' # mine");
    changed("the instance's own file");
    write(data.join("profiles/default.toml"), "# mine");
    changed("a profile");
    write(data.join("profiles/more.toml"), "");
    changed("a new profile");
    alias(data.join("images"), "a", &format!("../{TWO}"));
    changed("an alias");
    write(data.join("images").join(TWO).join("image"), "");

    let sources = read_sources(&system, Some(&data));
    assert_eq!(sources.instances[&name("web")].path, data.join("instances/web/instance.toml"));
    assert_eq!(sources.instances[&name("db")].path, system.join("appliance/db.toml"));
    assert_eq!(sources.aliases["a"], [0x22; 32]);
    assert_eq!(sources.images[&[0x11; 32]], system.join("images").join(ONE).join("image"));
    assert_eq!(sources.images.len(), 2);
    assert_eq!(sources.networks.len(), 1);

    let before = sources.digest(&name("web"));
    write(data.join("instances/other/instance.toml"), "image = 'a'");
    assert_eq!(
        read_sources(&system, Some(&data)).digest(&name("web")),
        before,
        "another instance is no source of this"
    );
}

#[test]
fn what_is_not_right_is_left_out_with_a_reason_and_the_rest_counts() {
    let root = directory("left-out");
    let (system, data) = (root.join("system"), root.join("data"));
    write(system.join("appliance/good.toml"), "");
    write(system.join("appliance/no good.toml"), "");
    write(system.join("appliance/.hidden.toml"), "");
    write(system.join("appliance/readme.md"), "");
    write(system.join("appliance/long.toml"), vec![b'#'; MAX_SOURCE_BYTES as usize + 1]);
    write(system.join("appliance/just.toml"), vec![b'#'; MAX_SOURCE_BYTES as usize]);
    fs::create_dir_all(system.join("appliance/folder.toml")).expect("a directory");
    fs::create_dir_all(data.join("instances/empty")).expect("a directory");
    alias(system.join("images"), "bad", "../../etc/passwd");
    // Of what is on the data partition nothing leads out of it. A link to nothing is not nothing.
    write(data.join("kept/inside.toml"), "");
    for (instance, target) in [("inside", "../../kept/inside.toml"), ("kmsg", "/proc/kmsg"), ("nowhere", "none")] {
        fs::create_dir_all(data.join("instances").join(instance)).expect("a directory");
        symlink(target, data.join("instances").join(instance).join("instance.toml")).expect("a link");
    }
    fs::create_dir_all(data.join("networks")).expect("a directory");
    symlink(system.join("appliance/good.toml"), data.join("networks/out.toml")).expect("a link");
    write(system.join("images/aliases/file"), "");

    let sources = read_sources(&system, Some(&data));
    let names: Vec<&str> = sources.instances.keys().map(InstanceName::as_str).collect();
    assert_eq!(names, ["folder", "good", "inside", "just", "kmsg", "long", "nowhere"]);
    assert!(matches!(sources.instances[&name("long")].content, Err(SourceError::TooLong { .. })));
    assert!(matches!(sources.instances[&name("folder")].content, Err(SourceError::Read { .. })));
    assert!(sources.instances[&name("just")].content.is_ok() && sources.instances[&name("inside")].content.is_ok());
    for source in [&sources.instances[&name("kmsg")], &sources.networks["out"]] {
        let error = source.content.as_ref().expect_err("it is refused").to_string();
        assert!(error.contains("leads out of") && error.contains(".toml: "), "{error}");
    }
    assert!(sources.instances[&name("nowhere")].content.is_err());
    assert_eq!(sources.digest(&name("long")), None, "no cache of it is fresh");
    assert!(sources.digest(&name("good")).is_some());
    let reasons: Vec<String> = sources.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(reasons.len(), 3, "{reasons:#?}");
    assert!(reasons.iter().any(|reason| reason.contains("no good.toml")), "{reasons:#?}");
    assert!(
        reasons.iter().any(|reason| reason.contains("aliases/bad: an alias is a link to ../FINGERPRINT")),
        "{reasons:#?}"
    );
    // A file among the links is no link, and not one that could not be read.
    assert!(reasons.iter().any(|reason| reason.contains("aliases/file: an alias is a link to")), "{reasons:#?}");
}
