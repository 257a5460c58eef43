//! What must be refused, by which step, and that nothing is left.

use crate::cases::serve_netd_after;
use crate::fixture::{Fixture, build_image, build_image_of};
use crate::init_role::launch_beside;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use yado_spec::LaunchRequest;
use yado_spec::instance::{Device, DeviceSelect, KernelLimit, Nic, NicKind, Required};
use yado_sys::packet;
use yado_wire::network::NetReply;
use yado_wire::{Failure, Step};

type Case = (&'static str, fn(&Fixture));
/// What is made wrong in a request.
type Spoil = Box<dyn Fn(&mut LaunchRequest)>;

pub(crate) const ALL: &[Case] = &[
    ("a_tampered_image_is_refused_with_its_own_reason", tampered),
    ("another_image_than_the_chosen_one_is_refused", other_image),
    ("a_signature_by_an_unknown_key_is_refused", unknown_key),
    ("a_start_that_cannot_go_on_names_its_step", steps),
    ("what_fails_inside_before_its_time_is_told", inside),
    ("an_init_that_is_not_there_or_not_a_program_is_refused", bad_init),
    ("a_link_in_place_of_a_directory_leads_nobody_out_of_the_root", links_in_the_root),
];

/// Starts, and wants a failure; then nothing may be left of the start.
fn fails(request: &LaunchRequest) -> Failure {
    fails_beside(request, || ())
}

/// The same, while somebody else does what the launcher waits for.
fn fails_beside(request: &LaunchRequest, meanwhile: impl FnOnce()) -> Failure {
    let failure = match launch_beside(request, meanwhile) {
        Ok(_) => panic!("it started"),
        Err(failure) => failure,
    };
    // The payload was killed; a dead process leaves its cgroup at once.
    let events = || fs::read_to_string(Path::new(&request.paths.cgroup).join("cgroup.events")).unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while events().contains("populated 1") {
        assert!(Instant::now() < until, "processes are left: {}", events());
        std::thread::yield_now();
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&request.paths.runtime), "mounts are left: {mounts}");
    failure
}

fn tampered(fixture: &Fixture) {
    let image = fs::read(fixture.path("image")).unwrap();
    let (header, _) = yado_image::open::read_header(&fs::File::open(fixture.path("image")).unwrap()).unwrap();
    let layout = &header.layout;
    let end = image.len() as u64;
    // With dm-verity a block is verified when it is read, and the init's first block is read at every start. Its hash stands
    // in the lowest level of the tree, which is the last: 128 hashes a block.
    let program = image.windows(4).position(|bytes| bytes == b"\x7fELF").unwrap() as u64;
    let lowest_level = layout.tree_offset() + layout.tree_bytes() - layout.payload_blocks().div_ceil(128) * 4096;
    let flipped: [(&str, u64, Step); 5] = [
        ("payload", program, Step::ImagePayload),
        ("tree", lowest_level + program / 4096 * 32, Step::ImageTree),
        ("manifest", layout.manifest_offset() + 5, Step::ImageManifest),
        ("signatures", layout.signatures_offset() + 60, Step::ImageSignature),
        ("header", end - 4096 + 40, Step::ImageHeader),
    ];
    for (part, offset, step) in flipped {
        let path = fixture.path(&format!("tampered-{part}"));
        fs::write(&path, &image).unwrap();
        let byte = [image[offset as usize] ^ 1];
        fs::File::options().write(true).open(&path).unwrap().write_at(&byte, offset).unwrap();
        let mut request = fixture.request("tampered", &["/bin/true"]);
        request.paths.image = path.to_str().unwrap().to_owned();
        let failure = fails(&request);
        println!("  {part}: {failure}");
        assert_eq!(failure.step, step, "{part}: {failure}");
        assert!(failure.object.contains("tampered-"), "{failure}");
    }
    // A changed header makes it another image. Whoever chose that one meets the signature.
    let path = fixture.path("tampered-header");
    let changed = fs::read(&path).unwrap();
    let block = changed[changed.len() - 4096..].try_into().unwrap();
    let mut request = fixture.request("tampered", &["/bin/true"]);
    (request.spec.image, request.paths.image) =
        (yado_image::header::fingerprint(block), path.to_str().unwrap().to_owned());
    let failure = fails(&request);
    println!("  header, chosen: {failure}");
    assert_eq!(failure.step, Step::ImageSignature, "{failure}");
    assert!(failure.reason.contains("does not fit the header"), "{failure}");
    let path = fixture.path("tampered-short");
    fs::write(&path, &image[..image.len() / 2]).unwrap();
    let mut request = fixture.request("tampered", &["/bin/true"]);
    request.paths.image = path.to_str().unwrap().to_owned();
    let failure = fails(&request);
    println!("  truncated: {failure}");
    assert_eq!(failure.step, Step::ImageHeader, "{failure}");
}

fn other_image(fixture: &Fixture) {
    let mut request = fixture.request("other", &["/bin/true"]);
    request.spec.image[0] ^= 1;
    let failure = fails(&request);
    assert_eq!(failure.step, Step::ImageHeader, "{failure}");
}

fn unknown_key(fixture: &Fixture) {
    let mut request = fixture.request("unknown", &["/bin/true"]);
    request.spec.image = build_image(fixture.directory.path(), "unknown", 8);
    request.paths.image = fixture.path("unknown").to_str().unwrap().to_owned();
    let failure = fails(&request);
    assert_eq!(failure.step, Step::ImageSignature, "{failure}");
}

fn steps(fixture: &Fixture) {
    let gpio = Device {
        name: "leds".to_owned(),
        select: DeviceSelect::Gpio { chip: "no-such-chip".to_owned() },
        required: Required::Within(Duration::ZERO),
        uid: 0,
        gid: 0,
        mode: 0o660,
    };
    let nic = eth0();
    let spoilt: Vec<(Step, Spoil)> = vec![
        (Step::DeviceAbsent, Box::new(move |request| request.spec.devices.push(gpio.clone()))),
        (Step::Network, Box::new(move |request| request.spec.nics.push(nic.clone()))),
        (Step::IdMap, Box::new(|request| request.idmap_base = 0)),
        (Step::IdMap, Box::new(|request| request.idmap_base = u32::MAX)),
        (Step::ImageOpen, Box::new(|request| request.paths.image.push_str("-none"))),
        (Step::ImageSignature, Box::new(|request| request.paths.trust.push_str("-none"))),
        (Step::Layer, Box::new(|request| request.paths.layer = "/proc/layer".to_owned())),
        (
            Step::Rlimits,
            Box::new(|request| {
                request.spec.limits.kernel =
                    vec![KernelLimit { resource: "nonsense".to_owned(), soft: None, hard: None }];
            }),
        ),
    ];
    for (step, spoil) in spoilt {
        let mut request = fixture.request("steps", &["/bin/true"]);
        spoil(&mut request);
        let failure = fails(&request);
        println!("  {failure}");
        assert_eq!(failure.step, step, "{failure}");
    }
}

fn eth0() -> Nic {
    Nic {
        name: "eth0".to_owned(),
        interface: "eth0".try_into().unwrap(),
        kind: NicKind::Network { network: "yado0".try_into().unwrap() },
        hwaddr: None,
        mtu: None,
        host_name: None,
        ipv4_address: None,
    }
}

/// The payload fails while the launcher does something else, and is then told more than it listens to.
fn inside(fixture: &Fixture) {
    let root = fixture.path("root-without-sys");
    assert!(Command::new("cp").arg("-a").args([&fixture.root(), &root]).status().unwrap().success());
    fs::remove_dir(root.join("sys")).unwrap();
    fs::write(root.join("sys"), "not a directory").unwrap();
    let (image, netd) = (fixture.path("image-without-sys"), fixture.path("inside-netd.sock"));
    let fingerprint = build_image_of(&root, &image);
    let request = || {
        let mut request = fixture.request("inside", &["/bin/true"]);
        request.spec.image = fingerprint;
        request.paths.image = image.to_str().unwrap().to_owned();
        request
    };
    let check = |failure: Failure| {
        println!("  {failure}");
        assert_eq!((failure.step, failure.object.as_str()), (Step::Mount, "/sys"), "{failure}");
    };

    // It is all over before the launcher says the next thing.
    let listener = packet::listen(&netd).unwrap();
    let mut with_nic = request();
    with_nic.spec.nics.push(eth0());
    with_nic.paths.netd = Some(netd.to_str().unwrap().to_owned());
    let before = children();
    check(fails_beside(&with_nic, || {
        serve_netd_after(&listener, Some(&NetReply::Attached), |_| wait_for_end_of_building(&before));
    }));
    // Most often the launcher has said all before.
    for _ in 0..8 {
        check(fails(&request()));
    }
}

fn children() -> Vec<String> {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap();
    children.split_whitespace().map(str::to_owned).collect()
}

/// Waits until a new child that mounted, as its name says, has ended or does nothing but listen. The launcher has another name.
fn wait_for_end_of_building(before: &[String]) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let new = children().into_iter().filter(|pid| !before.contains(pid));
        let states: Vec<String> =
            new.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok()).collect();
        if states.iter().any(|state| state.contains("(mount) S") || state.contains("(mount) Z")) {
            return;
        }
        assert!(Instant::now() < until, "{states:?}");
        std::thread::yield_now();
    }
}

fn bad_init(fixture: &Fixture) {
    for (init, errno) in [("/sbin/none", 2), ("/etc/passwd", 13), ("/bin", 13)] {
        let failure = fails(&fixture.request("bad-init", &[init]));
        assert_eq!((failure.step, failure.errno), (Step::Exec, errno), "{failure}");
        assert!(failure.object.contains(init), "{failure}");
    }
}

/// As no builder of ours packs it. What the link leads to on the host is the witness.
fn links_in_the_root(fixture: &Fixture) {
    let outside = fixture.path("outside");
    fs::create_dir(&outside).unwrap();
    for name in ["dev", "proc", "run", "sys"] {
        let place = fixture.path("root").join(name);
        fs::remove_dir(&place).unwrap();
        symlink(format!("../../../../../../..{}", outside.display()), &place).unwrap();
        let mut request = fixture.request(&format!("linked-{name}"), &["/bin/true"]);
        let image = fixture.path(&format!("linked-{name}-image"));
        request.spec.image = build_image_of(&fixture.path("root"), &image);
        request.paths.image = image.to_str().unwrap().to_owned();
        let failure = fails(&request);
        assert_eq!(failure.step, Step::Mount, "{failure}");
        assert!(failure.object.contains(name), "{failure}");
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
    }
    assert_eq!(outside.read_dir().unwrap().count(), 0);
}
