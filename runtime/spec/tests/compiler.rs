//! The compiler from outside: what is said becomes the spec, and what is wrong is told with its place and its remedy.

#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;
use world::{BUSYBOX, FULL, compile_all, compile_one, problems};
use yado_spec::InstanceSpec;
use yado_spec::instance::*;
use yado_spec::network::{AddressSource, LinkSelector};
use yado_wire::InstanceName;
use yado_wire::names::clipped;

const LEAST: &str = "image = 'busybox'\n";

fn name(text: &str) -> InstanceName {
    InstanceName::parse(text).unwrap()
}

#[test]
fn an_instance_of_which_nothing_is_said_has_the_defaults_of_the_tables() {
    let spec = compile_one(LEAST).unwrap();
    let expected = InstanceSpec {
        name: name("it"),
        image: BUSYBOX,
        init: vec!["/sbin/init".to_owned()],
        image_stop_method: StopMethod::Signal(12),
        environment: vec![],
        boot: Boot {
            autostart: false,
            delay: Duration::ZERO,
            priority: 0,
            after: vec![],
            shutdown_timeout: Duration::from_secs(30),
            stop_priority: 0,
            stop_method: None,
        },
        health: Health {
            ready: Readiness::Alive { window: Duration::from_secs(10) },
            probe: None,
            watchdog: None,
            required: true,
        },
        restart: Restart {
            policy: RestartPolicy::Never,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            attempts: 10,
        },
        limits: Limits { cpu_priority: 10, ..Limits::default() },
        security: Security {
            privileged: false,
            nesting: false,
            idmap_size: 65_536,
            no_new_privs: false,
            time_namespace: false,
            update_lock: false,
            label: None,
            syscalls_deny_default: true,
            protection_start: false,
            protection_delete: false,
        },
        nics: vec![],
        root: RootSpec { pool: "default".to_owned(), size_bytes: None },
        disks: vec![],
        devices: vec![],
    };
    assert_eq!(spec.security, Security::default());
    assert_eq!(spec, expected);
}

#[test]
fn an_instance_that_nests_has_ids_for_inner_containers_unless_it_says_how_many() {
    let ids = |config: &str| compile_one(&format!("{LEAST}[config]\n{config}")).unwrap().security.idmap_size;
    assert_eq!(ids("security.nesting = false"), 65_536);
    // Debian's first user has 100000 to 165535.
    assert_eq!(ids("security.nesting = true"), 1 << 20);
    assert_eq!(ids("security.nesting = true\nsecurity.idmap.size = 70000"), 70_000);
    assert_eq!(ids("security.idmap.size = 70000"), 70_000);
}

/// A field that no key reaches would be the same in both. Destructured without `..`, so that a new field asks for its key.
#[test]
fn every_field_of_a_spec_is_reached_by_a_key() {
    let InstanceSpec {
        name: _,
        image,
        init,
        image_stop_method,
        environment,
        boot,
        health,
        restart,
        limits,
        security,
        nics,
        root,
        disks,
        devices,
    } = compile_one(FULL).unwrap();
    assert_eq!((image, init), (BUSYBOX, vec!["/sbin/init".to_owned()]));
    assert_eq!(image_stop_method, StopMethod::Signal(12));
    assert_eq!(environment, [("TZ".into(), "Asia/Tokyo".into())]);
    let Boot { autostart, delay, priority, after, shutdown_timeout, stop_priority, stop_method } = boot;
    assert_eq!((autostart, delay, priority), (true, Duration::from_secs(3), -7));
    assert_eq!((after, shutdown_timeout, stop_priority), (vec![], Duration::from_secs(60), 9));
    assert_eq!(stop_method, Some(StopMethod::Command(vec!["/sbin/init".into(), "0".into()])));
    let Health { ready, probe, watchdog, required } = health;
    assert_eq!(ready, Readiness::Notify { timeout: Duration::from_secs(120) });
    assert_eq!((watchdog, required), (Some(Duration::from_secs(15)), false));
    let Some(Probe { attempt, interval, timeout, failures }) = probe else { panic!("it has a probe") };
    assert_eq!(attempt, ProbeAttempt::Exec(vec!["/usr/bin/check".into(), "--quick".into()]));
    assert_eq!((interval, timeout, failures), (Duration::from_secs(60), Duration::from_millis(1500), 5));
    let Restart { policy, first_pause, longest_pause, attempts } = restart;
    assert_eq!((policy, attempts), (RestartPolicy::Always, 3));
    assert_eq!((first_pause, longest_pause), (Duration::from_millis(250), Duration::from_secs(120)));
    let Limits { memory, swap_bytes, cpu, cpus, cpu_priority, processes, kernel } = limits;
    assert_eq!((memory, swap_bytes), (Some(MemoryLimit::Soft(24 << 20)), Some(0)));
    assert_eq!(cpu, Some(CpuAllowance::Quota { quota_us: 25_000, period_us: 100_000 }));
    assert_eq!((cpus, cpu_priority, processes), (Some(Cpus::Set("0-1,3".into())), 5, Some(40)));
    assert_eq!(kernel, [KernelLimit { resource: "nofile".into(), soft: Some(1024), hard: Some(4096) }]);
    let Security {
        privileged,
        nesting,
        idmap_size,
        no_new_privs,
        time_namespace,
        update_lock,
        label,
        syscalls_deny_default,
        protection_start,
        protection_delete,
    } = security;
    assert!(privileged && nesting && no_new_privs && protection_start && protection_delete && !syscalls_deny_default);
    assert!(time_namespace && update_lock);
    assert_eq!((idmap_size, label.as_deref()), (131_072, Some("shellfish")));

    let lan = Nic {
        name: "eth0".into(),
        interface: clipped("lan"),
        kind: NicKind::Network { network: clipped("yado0") },
        hwaddr: Some([2, 0, 0x5e, 0x10, 0, 1]),
        mtu: Some(1400),
        host_name: Some(clipped("vbusy")),
        ipv4_address: Some([10, 158, 0, 20].into()),
    };
    let macvlan = Nic {
        name: "eth1".into(),
        interface: clipped("eth1"),
        kind: NicKind::Macvlan { parent: clipped("enp1s0") },
        hwaddr: None,
        mtu: None,
        host_name: None,
        ipv4_address: None,
    };
    assert_eq!(nics, [lan, macvlan]);

    assert_eq!(root, RootSpec { pool: "default".into(), size_bytes: Some(1 << 30) });
    let etc = Disk {
        name: "etc".into(),
        source: DiskSource::Path("/etc".into()),
        path: "/mnt/etc".into(),
        readonly: true,
        required: false,
        shift: true,
        recursive: true,
    };
    let scratch = Disk {
        name: "scratch".into(),
        source: DiskSource::Tmpfs { size_bytes: Some(4 << 20) },
        path: "/scratch".into(),
        readonly: false,
        required: true,
        shift: false,
        recursive: false,
    };
    assert_eq!(disks, [etc, scratch]);

    let device = |name: &str, select, required, (uid, gid, mode)| Device {
        name: name.to_owned(),
        select,
        required,
        uid,
        gid,
        mode,
    };
    let at_once = Required::Within(Duration::ZERO);
    let usb = UsbMatch {
        vendor: Some(0x0951),
        product: Some(0x1666),
        serial: Some("E0D5".into()),
        bus: Some(1),
        device: Some(4),
    };
    let stick = UsbMatch { vendor: Some(0x46f4), product: Some(1), ..UsbMatch::default() };
    let node = |kind, source: &str, path: &str| DeviceSelect::Node { kind, source: source.into(), path: path.into() };
    let root = (0, 0, 0o660);
    let expected = [
        device("dongle", DeviceSelect::Usb(usb), Required::No, root),
        device("relays", DeviceSelect::Gpio { chip: "relays".into() }, at_once, root),
        device("sd", node(NodeKind::Block, "/dev/sda", "/dev/sda"), Required::No, root),
        device(
            "serial",
            node(NodeKind::Char, "/dev/ttyS1", "/dev/modem"),
            Required::Within(Duration::from_secs(5)),
            (10, 20, 0o600),
        ),
        device("stick", DeviceSelect::Hotplug { usb: stick, subsystem: Some("block".into()) }, Required::No, root),
    ];
    assert_eq!(devices, expected);
}

/// Each line: what follows `image = …` in the file `it.toml`, and what is told of it.
#[test]
fn what_is_wrong_is_told_with_file_line_key_value_and_remedy() {
    let cases: &[(&str, &str)] = &[
        // Names.
        (
            "[config]\nlimits.memry = '1MiB'",
            "it.toml:3: limits.memry = \"1MiB\": no such key; did you mean limits.memory?",
        ),
        ("[config]\nweather = 'fine'", "it.toml:3: weather = \"fine\": no such key"),
        (
            "[config]\nenviroment.TZ = 'UTC'",
            "it.toml:3: enviroment.TZ = \"UTC\": no such key; did you mean environment.TZ?",
        ),
        ("imgae = 'x'", "it.toml:2: imgae = \"x\": no such key; did you mean image?"),
        ("limits.memory = '64MiB'", "it.toml:2: limits: not offered: it belongs below [config]"),
        ("[confg]\na = 1", "it.toml:2: confg: no such key; did you mean config?"),
        ("[devices.x]\ntype = 'dsk'", "it.toml:3: devices.x.type = \"dsk\": no such device type; did you mean disk?"),
        (
            "[devices.x]\ntype = 'proxy'",
            "it.toml:3: devices.x.type = \"proxy\": not offered: connections are not passed yet; give the instance an address that can be reached",
        ),
        ("[devices.eth0]\nnetwork = 'yado0'", "it.toml:2: devices.eth0.type: missing: type = \"nic\""),
        (
            "[devices.x]\ntype = 'gpio'\nchp = 'a'\nchip = 'a'",
            "it.toml:4: devices.x.chp = \"a\": no such option; did you mean chip?",
        ),
        // Values.
        (
            "[config]\nlimits.memory = '32M'",
            "it.toml:3: limits.memory = \"32M\": must be a whole number with a unit: 32MiB (by 1024) or 32MB (by 1000)",
        ),
        (
            "[config]\nlimits.memory = 32",
            "it.toml:3: limits.memory = \"32\": must be at least 1MiB; was the unit forgotten?",
        ),
        ("[config]\nboot.autostart = 'maybe'", "it.toml:3: boot.autostart = \"maybe\": must be true or false"),
        (
            "[config]\nlimits.cpu.priority = 11",
            "it.toml:3: limits.cpu.priority = \"11\": must be a whole number from 0 to 10",
        ),
        (
            "[config]\nboot.restart = 'sometimes'",
            "it.toml:3: boot.restart = \"sometimes\": must be never or on-failure or always",
        ),
        (
            "[config]\nlimits.kernel.nofiles = 1",
            "it.toml:3: limits.kernel.nofiles = \"1\": must be limits.kernel.RESOURCE with one of as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack",
        ),
        // Not even its init could run.
        (
            "[config]\nlimits.processes = 0",
            "it.toml:3: limits.processes = \"0\": must be a whole number from 1 to 4194304",
        ),
        // Its users but root would be nobody, and the next instance's ids begin where these end.
        (
            "[config]\nsecurity.idmap.size = 1",
            "it.toml:3: security.idmap.size = \"1\": must be a whole number from 65536 to 1073741824",
        ),
        ("[config]\nlimits.processes = [1]", "it.toml:3: limits.processes: must be a single value"),
        ("config = 1", "it.toml:2: config = \"1\": must be a table: [config]"),
        ("devices.x = 1", "it.toml:2: devices.x = \"1\": must be a table with a type"),
        ("profiles = 'a'", "it.toml:2: profiles = \"a\": must be a list of names, such as [\"one\", \"two\"]"),
        (
            "[devices.x]\ntype = 'disk'\nsource = '/etc'\npath = '/a/../..'",
            "it.toml:5: devices.x.path = \"/a/../..\": must be an absolute path below /, without . and ..",
        ),
        (
            "[devices.x]\ntype = 'disk'\nsource = 'ceph:a/b'\npath = '/a'",
            "it.toml:4: devices.x.source = \"ceph:a/b\": must be an absolute path of the system, or tmpfs:",
        ),
        // Known and refused.
        (
            "[config]\nraw.lxc = 'lxc.x = 1'",
            "it.toml:3: raw.lxc = \"lxc.x = 1\": not offered: there is no LXC, AppArmor profile or QEMU below; use the keys above, and boot.stop.method for lxc.signal.halt",
        ),
        (
            "[config]\nsecurity.idmap.isolated = false",
            "it.toml:3: security.idmap.isolated = \"false\": not offered: only true; no two instances share user ids",
        ),
        (
            "[config]\nlinux.kernel_modules = 'x'",
            "it.toml:3: linux.kernel_modules = \"x\": not offered: modules belong to the system image, which loads them at boot",
        ),
        // Missing and conflicting.
        (
            "[devices.x]\ntype = 'disk'\nsource = '/etc'",
            "it.toml:2: devices.x.path: missing: path = \"/where/in/the/instance\"",
        ),
        (
            "[devices.x]\ntype = 'nic'",
            "it.toml:2: devices.x.network: missing: network = \"yado0\", or nictype with parent",
        ),
        (
            "[devices.x]\ntype = 'nic'\nnictype = 'bridged'",
            "it.toml:2: devices.x.parent: missing: parent = \"INTERFACE\"",
        ),
        (
            "[devices.x]\ntype = 'nic'\nnetwork = 'yado0'\nnictype = 'bridged'",
            "it.toml:5: devices.x.nictype = \"bridged\": either network, or nictype with parent",
        ),
        (
            "[devices.x]\ntype = 'nic'\nnetwork = 'yado1'",
            "it.toml:4: devices.x.network = \"yado1\": no such network; did you mean yado0?",
        ),
        (
            "[devices.x]\ntype = 'nic'\nnetwork = 'yado0'\nipv4.address = '10.9.0.2'",
            "it.toml:5: devices.x.ipv4.address = \"10.9.0.2\": must be an address of yado0, which is 10.158.0.1/24, and not the network's own",
        ),
        (
            "[devices.x]\ntype = 'usb'\nrequired.timeout = 5",
            "it.toml:4: devices.x.required.timeout = \"5\": only with required = true; write it as \"required.timeout\"",
        ),
        (
            "[devices.x]\ntype = 'unix-hotplug'",
            "it.toml:2: devices.x.vendorid: missing: at least one of vendorid, productid and subsystem",
        ),
        (
            "[devices.a]\ntype = 'disk'\npath = '/'\n[devices.b]\ntype = 'disk'\npath = '/'",
            "it.toml:7: devices.b.path = \"/\": the path is that of the device a too",
        ),
        (
            "[devices.x]\ntype = 'disk'\npath = '/'\npool = 'fast'",
            "it.toml:5: devices.x.pool = \"fast\": not offered: only default; there is one pool, the data partition",
        ),
        (
            "[devices.x]\ntype = 'disk'\npath = '/a'\nsource = '/b'\npool = 'default'",
            "it.toml:6: devices.x.pool = \"default\": only the root is kept in a pool",
        ),
        (
            "[config]\nboot.autorestart = true\nboot.restart = 'always'",
            "it.toml:3: boot.autorestart = \"true\": boot.restart is set too; use one of them",
        ),
        (
            "[config]\nhealth.timeout = 5",
            "it.toml:3: health.timeout = \"5\": it counts only with health.ready = \"notify\" or \"probe\"",
        ),
        (
            "[config]\nhealth.ready = 'probe'",
            "it.toml:3: health.ready = \"probe\": health.probe does not say what to try",
        ),
        (
            "[config]\nhealth.ready = 'probe'\nhealth.probe = 'tcp:80'\nhealth.window = 5",
            "it.toml:5: health.window = \"5\": it counts only with health.ready = \"alive\"",
        ),
        (
            "[config]\nhealth.probe.failures = 5",
            "it.toml:3: health.probe.failures = \"5\": it counts only with health.probe",
        ),
        (
            "[config]\nhealth.probe = 'tcp:http'",
            "it.toml:3: health.probe = \"tcp:http\": must be tcp: with a port, such as tcp:5432, or an address and a port, such as tcp:10.158.0.20:5432",
        ),
        (
            "[config]\nlimits.cpu = 1\n\"limits.cpu\" = 2",
            "it.toml:4: limits.cpu = \"2\": given twice, in quotes and dotted",
        ),
        (
            "[devices.a]\ntype = 'nic'\nname = 'e'\nnetwork = 'yado0'\n[devices.b]\ntype = 'nic'\nname = 'e'\nnetwork = 'yado0'",
            "it.toml:8: devices.b.name = \"e\": the interface's name is that of the device a too",
        ),
        (
            "[devices.a]\ntype = 'disk'\nsource = '/a'\npath = '/x'\n[devices.b]\ntype = 'disk'\nsource = '/b'\npath = '/x/'",
            "it.toml:9: devices.b.path = \"/x/\": the path is that of the device a too",
        ),
        (
            "[devices.a]\ntype = 'unix-char'\npath = '/dev/x'\n[devices.b]\ntype = 'unix-block'\nsource = '/dev/y'\npath = '/dev/x'",
            "it.toml:8: devices.b.path = \"/dev/x\": the node is that of the device a too",
        ),
        // Other files.
        ("profiles = ['defualt']", "it.toml:2: profiles = \"defualt\": no such profile"),
        ("after = ['it2']", "it.toml:2: after = \"it2\": no such instance"),
        ("after = ['it']", "it.toml:2: after = \"it\": a cycle: it after it"),
        // TOML itself.
        (
            "[config]\nlimits.memory = '1MiB'\nlimits.memory.swap = false",
            "it.toml:4: not TOML: cannot extend value of type string with a dotted key; another key begins so or is its beginning: write it in quotes, \"limits.memory.swap\" = …",
        ),
    ];
    for (text, expected) in cases {
        let found = problems(compile_one(&format!("{LEAST}{text}\n")));
        assert!(found.iter().any(|line| line == expected), "{text}\n  said: {found:#?}\n  not:  {expected:?}");
    }
}

#[test]
fn images_are_found_by_alias_fingerprint_and_its_beginning() {
    let full = "b0".repeat(32);
    for image in ["busybox", full.as_str(), "b0b0b0b0b0b0", "B0B0B0B0B0B0"] {
        assert_eq!(compile_one(&format!("image = '{image}'")).map(|spec| spec.image), Ok(BUSYBOX), "{image}");
    }
    let cases = [
        ("", "it.toml: image: missing: image = \"ALIAS\" or a fingerprint"),
        ("image = 'busibox'", "it.toml:1: image = \"busibox\": no such image; did you mean busybox?"),
        ("image = 'b0b0b0b0b0b1'", "it.toml:1: image = \"b0b0b0b0b0b1\": no such image"),
        ("image = 'b0b0'", "it.toml:1: image = \"b0b0\": no such image"),
        (
            "image = 'system'",
            "it.toml:1: image = \"system\": not offered: it is the image of a system; an instance needs one of an instance",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(problems(compile_one(text)), [expected], "{text}");
    }
    // What follows from the broken line is not told.
    assert_eq!(problems(compile_one("= 'busybox'")).len(), 1);
    let gone = "cc".repeat(32);
    assert_eq!(
        problems(compile_one(&format!("image = '{gone}'"))),
        [format!("it.toml:1: image = \"{}\"…: not offered: the image {gone} is not on this machine", &gone[..60])]
    );
}

#[test]
fn all_problems_of_a_file_are_told_in_its_order() {
    let text = "image = 'busibox'\nafter = ['none']\n[config]\nlimits.memry = 1\nlimits.cpu = 'x'\n[devices.d]\ntype = 'disc'\nbad =\n";
    let found = problems(compile_one(text));
    let lines: Vec<&str> = found.iter().map(|line| line.split(':').nth(1).unwrap()).collect();
    for line in ["1", "2", "4", "5", "7", "8"] {
        assert!(lines.contains(&line), "line {line} is not told: {found:#?}");
    }
}

#[test]
fn profiles_are_taken_in_order_below_the_instance_and_default_is_taken_where_none_are_named() {
    let profiles = [
        ("default", "[config]\nlimits.processes = 10\n[devices.eth0]\ntype = 'nic'\nnetwork = 'yado0'\n"),
        ("big", "[config]\nlimits.processes = 500\n\"limits.memory\" = '64MiB'\n"),
    ];
    let instances = [
        (
            "named",
            "image = 'busybox'\nprofiles = ['default', 'big']\n[config]\nlimits.memory = '32MiB'\n[devices.eth0]\ntype = 'none'\n",
        ),
        ("reversed", "image = 'busybox'\nprofiles = ['big', 'default']\n"),
        ("silent", "image = 'busybox'\n"),
        ("without", "image = 'busybox'\nprofiles = []\n"),
    ];
    let compiled = compile_all(&instances, &profiles, &[]);
    let found: Vec<_> = compiled
        .instances
        .into_iter()
        .map(|(name, spec)| {
            let spec = spec.unwrap();
            (name.to_string(), spec.limits.processes, spec.limits.memory, spec.nics.len())
        })
        .collect();
    let expected = [
        ("named".to_owned(), Some(500), Some(MemoryLimit::Hard(32 << 20)), 0),
        ("reversed".to_owned(), Some(10), Some(MemoryLimit::Hard(64 << 20)), 1),
        ("silent".to_owned(), Some(10), None, 1),
        ("without".to_owned(), None, None, 0),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_bad_profile_fails_its_users_with_its_own_lines_and_nobody_else() {
    let compiled = compile_all(
        &[("free", "image = 'busybox'\nprofiles = []\n"), ("user", "image = 'busybox'\nprofiles = ['p']\n")],
        &[("p", "image = 'busybox'\n[config]\nlimits.memory = 'much'\n")],
        &[],
    );
    let expected = [
        "p.toml:1: image = \"busybox\": not offered: a profile has none; it belongs to the instance",
        "p.toml:3: limits.memory = \"much\": must be a whole number with a unit, such as 64MiB or 64MB",
    ];
    let mut instances = compiled.instances.into_iter().map(|(_, spec)| spec);
    assert!(instances.next().unwrap().is_ok());
    assert_eq!(problems(instances.next().unwrap()), expected);
    assert_eq!(compiled.profile_problems.len(), 2);
}

#[test]
fn a_cycle_fails_its_members_and_those_who_wait_for_them_and_nobody_else() {
    let after = |list: &str| format!("image = 'busybox'\nafter = [{list}]\n");
    let texts = [
        ("a", after("'b'")),
        ("b", after("'c', 'free'")),
        ("c", after("'a'")),
        ("free", after("")),
        ("late", after("'free', 'free'")),
        ("waits", after("'late', 'a'")),
        ("waits-more", after("'waits'")),
    ];
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let found: Vec<(String, Vec<String>, Vec<String>)> = compile_all(&texts, &[], &[])
        .instances
        .into_iter()
        .map(|(name, spec)| {
            let after = spec.iter().flat_map(|spec| spec.boot.after.iter().map(InstanceName::to_string)).collect();
            (name.to_string(), after, problems(spec))
        })
        .collect();
    let expected: &[(&str, &[&str], &[&str])] = &[
        ("a", &[], &["a.toml:2: after = \"b\": a cycle: a after b after c after a"]),
        ("b", &[], &["b.toml:2: after = \"c\": a cycle: b after c after a after b"]),
        ("c", &[], &["c.toml:2: after = \"a\": a cycle: c after a after b after c"]),
        ("free", &[], &[]),
        ("late", &["free"], &[]),
        ("waits", &[], &["waits.toml:2: after = \"a\": cannot start after a, which has problems"]),
        ("waits-more", &[], &["waits-more.toml:2: after = \"waits\": cannot start after waits, which has problems"]),
    ];
    for ((name, after, problems), (expected_name, expected_after, expected_problems)) in found.iter().zip(expected) {
        assert_eq!((name.as_str(), after.as_slice()), (*expected_name, expected_after.map_strings().as_slice()));
        assert_eq!(problems, expected_problems);
    }
}

trait MapStrings {
    fn map_strings(&self) -> Vec<String>;
}

impl MapStrings for &[&str] {
    fn map_strings(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[test]
fn networks_are_what_their_files_say_and_the_defaults_fill_what_is_missing() {
    let default = compile_all(&[], &[], &[]).networks;
    assert_eq!(default, yado_spec::NetworksSpec::default_networks());

    let compiled = compile_all(
        &[],
        &[],
        &[
            (
                "lan0",
                "[config]\n\"ipv4.address\" = '10.20.0.1/24'\n\"ipv4.dhcp.ranges\" = '10.20.0.10-10.20.0.20, 10.20.0.30-10.20.0.40'\ndns.domain = 'box'\nbridge.mtu = 1400\nbridge.external_interfaces = 'eth1, eth2'\n",
            ),
            (
                "wan",
                "type = 'physical'\n[config]\nparent = '52:54:00:12:34:56'\n\"ipv4.address\" = '192.168.7.2/24'\n\"ipv4.gateway\" = '192.168.7.1'\n\"dns.nameservers\" = '9.9.9.9, 1.1.1.1'\n",
            ),
        ],
    );
    assert_eq!(compiled.network_problems, []);
    let [lan] = compiled.networks.bridges.as_slice() else { panic!("{:?}", compiled.networks) };
    let ipv4 = lan.ipv4.as_ref().unwrap();
    assert_eq!((ipv4.address.to_string().as_str(), ipv4.nat), ("10.20.0.1/24", false), "NAT is for auto");
    assert_eq!(ipv4.dhcp.as_ref().unwrap().ranges.len(), 2);
    assert_eq!((lan.dns.domain.as_str(), lan.mtu, lan.external_interfaces.len()), ("box", Some(1400), 2));
    let [wan] = compiled.networks.uplinks.as_slice() else { panic!("{:?}", compiled.networks) };
    assert_eq!(wan.link, LinkSelector::Address([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
    assert!(matches!(&wan.sources[..], [AddressSource::Static(said)] if said.nameservers.len() == 2));
}

#[test]
fn a_bad_network_is_told_and_left_out_and_the_uplink_stays() {
    let cases: &[(&str, &str)] = &[
        (
            "[config]\nipv4.adress = 'auto'",
            "net0.toml:2: ipv4.adress = \"auto\": no such key; did you mean ipv4.address?",
        ),
        ("ipv4.address = 'auto'", "net0.toml:1: ipv4: not offered: it belongs below [config]"),
        ("type = 'ovn'", "net0.toml:1: type = \"ovn\": not offered: networks are bridges or physical"),
        ("type = 'brdge'", "net0.toml:1: type = \"brdge\": must be bridge or physical"),
        ("[config]\nparent = 'eth0'", "net0.toml:2: parent = \"eth0\": not offered: only with type = \"physical\""),
        (
            "[config]\nipv4.address = '10.0.0.0/24'",
            "net0.toml:2: ipv4.address = \"10.0.0.0/24\": must be an address such as 10.158.0.1/24 (not an address that a host can have in this network)",
        ),
        (
            "[config]\nipv4.address = 'none'\nipv4.nat = true",
            "net0.toml:3: ipv4.nat = \"true\": not with ipv4.address = \"none\"",
        ),
        (
            "[config]\nipv4.address = '10.1.0.1/24'\nipv4.dhcp.ranges = '10.2.0.1-10.2.0.9'",
            "net0.toml:3: ipv4.dhcp.ranges = \"10.2.0.1-10.2.0.9\": not within the network of ipv4.address",
        ),
        (
            "[config]\nipv6.address = 'auto'",
            "net0.toml:2: ipv6.address = \"auto\": not offered: only none; networks have no IPv6 yet",
        ),
        (
            "[config]\nraw.dnsmasq = 'x'",
            "net0.toml:2: raw.dnsmasq = \"x\": not offered: there is no dnsmasq below; use the keys above",
        ),
        (
            "type = 'physical'\n[config]\nipv4.gateway = '10.0.0.1'",
            "net0.toml:3: ipv4.gateway = \"10.0.0.1\": only with ipv4.address; else DHCP gives it",
        ),
    ];
    for (text, expected) in cases {
        let compiled = compile_all(&[], &[], &[("net0", text)]);
        let found: Vec<String> = compiled.network_problems.iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|line| line == expected), "{text}\n  said: {found:#?}\n  not:  {expected:?}");
        assert_eq!(compiled.networks.uplinks.len(), 1);
        assert!(compiled.networks.bridges.iter().all(|bridge| bridge.name != "net0"));
    }
    let twice = compile_all(
        &[],
        &[],
        &[("a0", "[config]\nipv4.address = '10.1.0.1/16'"), ("b0", "[config]\nipv4.address = '10.1.2.1/24'")],
    );
    assert_eq!(
        twice.network_problems[0].to_string(),
        "b0.toml: ipv4.address 10.1.2.1/24 is in the network of a0 (10.1.0.1/16)"
    );
}

#[test]
fn a_spec_too_long_for_its_file_is_told() {
    let lines: String = (0..900).map(|n| format!("environment.V{n} = '{}'\n", "x".repeat(60))).collect();
    assert!(compile_one(&format!("{LEAST}[config]\n{lines}")).is_ok());
    let more: String = (0..60).map(|n| format!("environment.W{n} = '{}'\n", "x".repeat(200))).collect();
    let found = problems(compile_one(&format!("{LEAST}[config]\n{lines}{more}")));
    assert!(found.iter().any(|line| line.contains("longer than 65536 bytes")), "{found:?}");
}
