//! What `yado apply` shows of a change is what init does: for every key of the tables, the row's word on when it applies,
//! [`changes`] and [`split`] agree; and what is shown is what would be written.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use world::{FULL, compile_all, problems};
use yado_spec::InstanceSpec;
use yado_spec::apply::{needs_restart, split};
use yado_spec::changes::{Change, changes};
use yado_spec::device_types::DEVICE_TYPES;
use yado_spec::instance::{RootSpec, StopMethod};
use yado_spec::keys;
use yado_spec::row::{Row, RowKind};
use yado_spec::setting::Applies;

/// Two values of each key, and what else has to be said so that the key counts. A row `name*` has an example of a name.
const KEYS: &[(&str, &str, &str, &str)] = &[
    ("boot.autostart", "true", "false", ""),
    ("boot.autostart.delay", "3s", "1m", ""),
    ("boot.autostart.priority", "1", "-2", ""),
    ("boot.stop.priority", "1", "-2", ""),
    ("boot.stop.method", "SIGRTMIN+3", "/sbin/init 0", ""),
    ("boot.host_shutdown_timeout", "1m", "2m", ""),
    ("boot.restart", "always", "on-failure", ""),
    ("boot.restart.pause", "250ms", "2s", ""),
    ("boot.restart.pause_max", "2m", "3m", ""),
    ("boot.restart.attempts", "3", "4", ""),
    ("health.ready", "alive", "notify", ""),
    ("health.timeout", "5s", "6s", "\"health.ready\" = 'notify'"),
    ("health.window", "5s", "6s", ""),
    ("health.probe", "tcp:127.0.0.1:80", "exec:/bin/check -q", ""),
    ("health.probe.interval", "5s", "6s", "\"health.probe\" = 'tcp:80'"),
    ("health.probe.timeout", "5s", "6s", "\"health.probe\" = 'tcp:80'"),
    ("health.probe.failures", "5", "6", "\"health.probe\" = 'tcp:80'"),
    ("health.watchdog", "15s", "20s", ""),
    ("health.required", "false", "true", ""),
    ("limits.memory", "64MiB", "128MiB", ""),
    ("limits.memory.enforce", "hard", "soft", "\"limits.memory\" = '64MiB'"),
    ("limits.memory.swap", "true", "32MiB", ""),
    ("limits.cpu", "2", "3-3", ""),
    ("limits.cpu.allowance", "50%", "25ms/100ms", ""),
    ("limits.cpu.priority", "10", "5", ""),
    ("limits.processes", "40", "50", ""),
    ("limits.kernel.nofile", "1024:unlimited", "1024", ""),
    ("security.privileged", "true", "false", ""),
    ("security.nesting", "true", "false", "\"security.idmap.size\" = '65536'"),
    ("security.idmap.size", "65536", "131072", ""),
    ("security.no_new_privs", "true", "false", ""),
    ("security.time_namespace", "true", "false", ""),
    ("security.update_lock", "true", "false", ""),
    ("security.label", "one", "two", ""),
    ("security.syscalls.deny_default", "true", "false", ""),
    ("security.protection.start", "true", "false", ""),
    ("security.protection.delete", "true", "false", ""),
    ("environment.TZ", "Asia/Tokyo", "UTC", ""),
];

/// The same of devices, by type.
const OPTIONS: &[(&str, &str, &str, &str, &str)] = &[
    ("disk", "path", "/a", "/b", "source = '/etc'"),
    ("disk", "source", "/etc", "/srv", "path = '/a'"),
    ("disk", "size", "4MiB", "8MB", "path = '/a'\nsource = 'tmpfs:'"),
    ("disk", "readonly", "true", "false", "path = '/a'\nsource = '/etc'"),
    ("disk", "required", "true", "false", "path = '/a'\nsource = '/etc'"),
    ("disk", "shift", "true", "false", "path = '/a'\nsource = '/etc'"),
    ("disk", "recursive", "true", "false", "path = '/a'\nsource = '/etc'"),
    ("nic", "network", "yado0", "yado1", ""),
    ("nic", "nictype", "bridged", "physical", "parent = 'eth0'"),
    ("nic", "parent", "eth0", "eth1", "nictype = 'macvlan'"),
    ("nic", "name", "lan0", "lan1", "network = 'yado0'"),
    ("nic", "hwaddr", "02:00:5e:10:00:01", "02:00:5e:10:00:02", "network = 'yado0'"),
    ("nic", "mtu", "1280", "1400", "network = 'yado0'"),
    ("nic", "host_name", "vone", "vtwo", "network = 'yado0'"),
    ("nic", "ipv4.address", "10.158.0.20", "10.158.0.21", "network = 'yado0'"),
    ("unix-char", "source", "/dev/ttyS0", "/dev/ttyS1", "path = '/dev/modem'"),
    ("unix-char", "path", "/dev/ttyS0", "/dev/ttyS1", "source = '/dev/ttyS2'"),
    ("unix-char", "required", "true", "false", "path = '/dev/ttyS0'"),
    ("unix-char", "required.timeout", "5s", "6s", "path = '/dev/ttyS0'"),
    ("unix-char", "uid", "1", "2", "path = '/dev/ttyS0'"),
    ("unix-char", "gid", "1", "2", "path = '/dev/ttyS0'"),
    ("unix-char", "mode", "0660", "0600", "path = '/dev/ttyS0'"),
    ("unix-block", "source", "/dev/sda", "/dev/sdb", "path = '/dev/disk'"),
    ("unix-block", "path", "/dev/sda", "/dev/sdb", "source = '/dev/sdc'"),
    ("unix-block", "required", "true", "false", "path = '/dev/sda'"),
    ("unix-block", "required.timeout", "5s", "6s", "path = '/dev/sda'"),
    ("unix-block", "uid", "1", "2", "path = '/dev/sda'"),
    ("unix-block", "gid", "1", "2", "path = '/dev/sda'"),
    ("unix-block", "mode", "0660", "0600", "path = '/dev/sda'"),
    ("usb", "vendorid", "0951", "1666", ""),
    ("usb", "productid", "0951", "1666", ""),
    ("usb", "serial", "E0D5", "E0D6", ""),
    ("usb", "busnum", "1", "2", ""),
    ("usb", "devnum", "1", "2", ""),
    ("usb", "required", "true", "false", ""),
    ("usb", "required.timeout", "5s", "6s", "required = true"),
    ("usb", "uid", "1", "2", ""),
    ("usb", "gid", "1", "2", ""),
    ("usb", "mode", "0660", "0600", ""),
    ("unix-hotplug", "vendorid", "0951", "1666", ""),
    ("unix-hotplug", "productid", "0951", "1666", ""),
    ("unix-hotplug", "subsystem", "tty", "block", ""),
    ("unix-hotplug", "required", "true", "false", "subsystem = 'tty'"),
    ("unix-hotplug", "required.timeout", "5s", "6s", "subsystem = 'tty'\nrequired = true"),
    ("unix-hotplug", "uid", "1", "2", "subsystem = 'tty'"),
    ("unix-hotplug", "gid", "1", "2", "subsystem = 'tty'"),
    ("unix-hotplug", "mode", "0660", "0600", "subsystem = 'tty'"),
    ("gpio", "chip", "relays", "gpiochip0", ""),
    ("gpio", "required", "true", "false", "chip = 'relays'"),
    ("gpio", "required.timeout", "5s", "6s", "chip = 'relays'"),
    ("gpio", "uid", "1", "2", "chip = 'relays'"),
    ("gpio", "gid", "1", "2", "chip = 'relays'"),
    ("gpio", "mode", "0660", "0600", "chip = 'relays'"),
];

/// A device of each type.
const DEVICES: &[(&str, &str)] = &[
    ("disk", "source = '/etc'\npath = '/a'"),
    ("nic", "network = 'yado0'"),
    ("unix-char", "path = '/dev/ttyS0'"),
    ("unix-block", "path = '/dev/sda'"),
    ("usb", "vendorid = '0951'"),
    ("unix-hotplug", "subsystem = 'tty'"),
    ("gpio", "chip = 'relays'"),
];

fn compile(text: &str) -> InstanceSpec {
    let compiled = compile_all(&[("it", text)], &[], &[("yado0", ""), ("yado1", "")]).instances.remove(0).1;
    assert!(compiled.is_ok(), "{text}\n{:#?}", problems(compiled));
    compiled.unwrap()
}

fn with_config(lines: &str) -> InstanceSpec {
    compile(&format!("image = 'busybox'\n[config]\n{lines}\n"))
}

fn with_device(device_type: &str, lines: &str) -> InstanceSpec {
    compile(&format!("image = 'busybox'\n[devices.one]\ntype = '{device_type}'\n{lines}\n"))
}

/// Whether it is in a spec, and so can differ.
fn is_in_spec(row: &dyn Row) -> bool {
    // `boot.restart` says the same and is what is shown.
    let is_other_word = row.name() == "boot.autorestart";
    !is_other_word && matches!(row.kind(), RowKind::One | RowKind::Each)
}

fn check_one(
    key: &str,
    applies: Applies,
    (old_text, new_text): (&str, &str),
    old: &InstanceSpec,
    new: &InstanceSpec,
) {
    let all = changes(old, new);
    let (old_text, new_text) = (Some(old_text.to_owned()), Some(new_text.to_owned()));
    let expected = Change { key: key.to_owned(), old: old_text, new: new_text, applies };
    assert!(all.contains(&expected), "{expected:?} is not told: {all:#?}");
    check_pair(old, new);
    if applies == Applies::AtOnce {
        assert!(!needs_restart(old, new), "{key}: told as at once, and init waits for a restart");
        assert_eq!(split(old, new), *new, "{key}");
    } else {
        assert!(needs_restart(old, new), "{key}: told as at restart, and init applies it at once");
    }
}

/// What must hold of any two specs.
fn check_pair(old: &InstanceSpec, new: &InstanceSpec) {
    let now = split(old, new);
    let has_other = |all: &[Change], applies: Applies| all.iter().any(|change| change.applies != applies);
    let (done, left) = (changes(old, &now), changes(&now, new));
    assert!(!has_other(&done, Applies::AtOnce), "init does at once: {done:#?}");
    assert!(!has_other(&left, Applies::AtRestart), "init leaves for a restart: {left:#?}");
    assert_eq!(left.is_empty(), !needs_restart(old, new), "{left:#?}");
    assert_eq!(changes(old, new).is_empty(), old == new);
    assert_eq!(split(&now, new), now, "a second time changes something");
}

#[test]
fn every_key_applies_when_its_row_says() {
    for setting in keys::GROUPS.iter().flat_map(|(_, table)| *table).filter(|setting| is_in_spec(*setting)) {
        let example =
            KEYS.iter().find(|(name, ..)| keys::key(name).is_some_and(|found| std::ptr::eq(found, setting)));
        let Some((key, old, new, besides)) = example else { panic!("{} has no example in KEYS", setting.name) };
        let line = |value: &str| with_config(&format!("{besides}\n\"{key}\" = '{value}'"));
        check_one(key, setting.applies, (old, new), &line(old), &line(new));
        check_pair(&line(old), &with_config(besides));
        check_pair(&with_config(besides), &line(new));
    }
}

#[test]
fn every_option_of_a_device_applies_when_its_row_says() {
    for device_type in DEVICE_TYPES {
        for row in device_type.options().into_iter().filter(|row| is_in_spec(*row)) {
            let (name, option) = (device_type.name, row.name());
            let example = OPTIONS.iter().find(|(found, key, ..)| *found == name && *key == option);
            let Some((_, _, old, new, besides)) = example else {
                panic!("{name}.{option} has no example in OPTIONS")
            };
            let line = |value: &str| with_device(name, &format!("{besides}\n\"{option}\" = '{value}'"));
            check_one(&format!("devices.one.{option}"), row.applies(), (old, new), &line(old), &line(new));
        }
    }
}

#[test]
fn a_device_comes_and_goes_when_its_type_says() {
    let without = compile("image = 'busybox'");
    for (name, lines) in DEVICES {
        let device_type = DEVICE_TYPES.iter().find(|device_type| device_type.name == *name).unwrap();
        let with = with_device(name, lines);
        for (old, new) in [(&without, &with), (&with, &without)] {
            check_pair(old, new);
            let all = changes(old, new);
            let of_type = all.iter().find(|change| change.key == "devices.one.type").unwrap();
            assert_eq!(of_type.applies, device_type.applies, "{name}");
            // Whoever adds a device did not write its defaults.
            assert_eq!(all.len(), 1 + lines.lines().count(), "{all:#?}");
        }
        assert_eq!(needs_restart(&without, &with), device_type.applies == Applies::AtRestart, "{name}");
        for (other, lines) in DEVICES {
            check_pair(&with, &with_device(other, lines));
        }
    }
}

#[test]
fn everything_at_once_is_told_in_the_words_of_the_configuration() {
    let old = compile("image = 'busybox'\n[config]\n\"limits.memory\" = '64MiB'\nenvironment.A = '1'\n");
    let new = compile(
        "image = 'busybox'\n[config]\n\"limits.memory\" = '128MiB'\nhealth.ready = 'notify'\nenvironment.B = '2'\n\
         [devices.leds]\ntype = 'gpio'\nchip = 'leds'\n[devices.lan]\ntype = 'nic'\nnetwork = 'yado0'\nmtu = 1400\n",
    );
    let none = "-".to_owned();
    let lines: Vec<String> = changes(&old, &new)
        .into_iter()
        .map(|Change { key, old, new, applies }| {
            format!("{key}: {} → {}, {applies}", old.as_ref().unwrap_or(&none), new.as_ref().unwrap_or(&none))
        })
        .collect();
    let expected = [
        "health.ready: alive → notify, at once",
        "health.timeout: - → 90s, at once",
        "health.window: 10s → -, at once",
        "limits.memory: 64MiB → 128MiB, at once",
        "environment.A: 1 → -, at restart",
        "environment.B: - → 2, at restart",
        "devices.lan.mtu: - → 1400, at restart",
        "devices.lan.network: - → yado0, at restart",
        "devices.lan.type: - → nic, at restart",
        "devices.leds.chip: - → leds, at once",
        "devices.leds.type: - → gpio, at once",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn another_image_waits_for_a_restart_with_its_init_and_how_that_is_stopped() {
    let old = compile("image = 'busybox'");
    let image_stop_method = StopMethod::Signal(30);
    let new = InstanceSpec { image: [1; 32], init: vec!["/bin/init".into()], image_stop_method, ..old.clone() };
    let keys: Vec<String> = changes(&old, &new).into_iter().map(|change| change.key).collect();
    assert_eq!(keys, ["image", "image: init", "image: stop method"]);
    check_pair(&old, &new);
    assert_eq!(split(&old, &new), old);
}

#[test]
fn another_pool_or_size_of_the_root_waits_for_a_restart() {
    let old = compile("image = 'busybox'");
    let root = RootSpec { pool: "fast".into(), size_bytes: Some(1 << 30) };
    let new = InstanceSpec { root, ..old.clone() };
    let told: Vec<_> = changes(&old, &new).into_iter().map(|change| (change.key, change.new.unwrap())).collect();
    let expected = [("devices.root.pool", "fast"), ("devices.root.size", "1GiB")];
    assert_eq!(told, expected.map(|(key, text)| (key.to_owned(), text.to_owned())));
    check_pair(&old, &new);
}

/// A configuration from nothing but what is shown compiles to the same spec.
#[test]
fn what_is_shown_is_what_would_be_written() {
    let bare = compile("image = 'busybox'");
    let full = compile(FULL);
    check_pair(&bare, &full);
    check_pair(&full, &bare);
    let mut config = String::new();
    let mut devices: BTreeMap<String, String> = BTreeMap::new();
    for change in changes(&bare, &full) {
        let Some(text) = change.new else { continue };
        match change.key.strip_prefix("devices.").and_then(|rest| rest.split_once('.')) {
            Some((device, option)) => {
                // Of the root only what was said is shown: it is there anyway.
                let start = if device == "root" { "type = 'disk'\npath = '/'\n" } else { "" };
                *devices.entry(device.to_owned()).or_insert_with(|| start.to_owned()) +=
                    &format!("\"{option}\" = '{text}'\n");
            }
            None => config += &format!("\"{}\" = '{text}'\n", change.key),
        }
    }
    let tables: String = devices.iter().map(|(name, lines)| format!("[devices.{name}]\n{lines}")).collect();
    assert_eq!(compile(&format!("image = 'busybox'\n[config]\n{config}{tables}")), full);
}
