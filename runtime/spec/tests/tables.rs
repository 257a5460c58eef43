//! The tables of keys themselves: complete, consistent, and where defaults are said.

#![allow(clippy::unwrap_used)]

use yado_spec::device_types::DEVICE_TYPES;
use yado_spec::network_keys::{BRIDGE, PHYSICAL};
use yado_spec::row::{Row, RowKind, find_row, rows};
use yado_spec::{keys, reference};

fn check_table(table: &[&'static dyn Row]) {
    for (at, row) in table.iter().enumerate() {
        let name = row.name();
        assert!(row.help().ends_with('.') && 10 < row.help().len(), "{name}: help is whole sentences");
        assert!(!row.help().contains("  "), "{name}: help has double blanks");
        assert!(table[..at].iter().all(|earlier| earlier.name() != name), "{name} is there twice");
        let example = name.replace('*', "nofile");
        assert_eq!(find_row(table, &example).unwrap().name(), name, "{name} is hidden by another row");
        if !row.default().is_empty() {
            assert_eq!(row.check(name, row.default()), Ok(()), "{name}: the default cannot be set");
        }
        match row.kind() {
            RowKind::Refused { reason } => {
                assert!(row.default().is_empty(), "{name}");
                assert!(row.check(&example, "x").unwrap_err().to_string().ends_with(reason), "{name}");
            }
            RowKind::Always { value } => {
                assert_eq!(row.check(&example, value), Ok(()), "{name}");
                assert!(row.check(&example, "other").is_err(), "{name}");
            }
            RowKind::One => assert!(!name.ends_with('*'), "{name} has one value"),
            RowKind::Each => assert!(name.ends_with('*'), "{name} has a value for each name"),
            RowKind::Kept => {}
        }
        if !matches!(row.kind(), RowKind::Refused { .. }) {
            assert!(row.describe().is_some_and(|text| !text.is_empty()), "{name}");
        }
    }
}

#[test]
fn every_row_has_help_and_a_default_that_can_be_set_and_hides_no_other() {
    for (_, table) in keys::GROUPS {
        check_table(&rows(table));
        for setting in *table {
            let example = setting.name.replace('*', "nofile");
            assert!(
                std::ptr::eq(keys::key(&example).unwrap(), setting),
                "{} is hidden by another group",
                setting.name
            );
        }
    }
    for device_type in DEVICE_TYPES {
        assert!(device_type.help.ends_with('.'), "{}", device_type.name);
        check_table(&device_type.options());
    }
    check_table(&rows(BRIDGE));
    check_table(&rows(PHYSICAL));
}

/// lxd-api's first group, as far as it is about instances: each is known, whether it is offered or refused with a reason.
#[test]
fn lxds_keys_are_known() {
    let known = [
        "boot.autostart",
        "boot.autostart.delay",
        "boot.autostart.priority",
        "boot.host_shutdown_timeout",
        "boot.stop.priority",
        "boot.autorestart",
        "limits.cpu",
        "limits.cpu.allowance",
        "limits.cpu.priority",
        "limits.memory",
        "limits.memory.enforce",
        "limits.memory.swap",
        "limits.processes",
        "limits.kernel.nofile",
        "security.privileged",
        "security.nesting",
        "security.idmap.isolated",
        "security.idmap.size",
        "security.idmap.base",
        "security.protection.delete",
        "security.protection.start",
        "security.protection.shift",
        "security.syscalls.deny_default",
        "environment.PATH",
        "user.anything",
        "snapshots.pattern",
        "snapshots.expiry",
        "volatile.base_image",
        "volatile.eth0.hwaddr",
        "image.os",
        "cloud-init.user-data",
        "raw.lxc",
        "migration.stateful",
    ];
    for name in known {
        assert!(keys::key(name).is_some(), "{name}");
    }
}

#[test]
fn the_reference_tells_every_row() {
    let text = reference::markdown();
    for (_, table) in keys::GROUPS {
        for setting in *table {
            assert!(text.contains(&format!("`{}`", setting.name)), "{}", setting.name);
            assert!(
                reference::explain(setting.name).is_some_and(|text| text.contains(setting.help)),
                "{}",
                setting.name
            );
        }
    }
    for device_type in DEVICE_TYPES {
        assert!(text.contains(&format!("type = \"{}\"", device_type.name)), "{}", device_type.name);
        for row in device_type.options() {
            let name = format!("{}.{}", device_type.name, row.name());
            assert!(reference::explain(&name).is_some_and(|text| text.contains(row.help())), "{name}");
        }
    }
    for (kind, table) in [("bridge", BRIDGE), ("physical", PHYSICAL)] {
        for setting in table {
            let told = format!("networks, type = \"{kind}\":\n{}\n    {}\n", setting.name, setting.help);
            assert!(reference::explain(setting.name).is_some_and(|text| text.contains(&told)), "{told}");
        }
    }
    for name in reference::names() {
        assert!(reference::explain(&name).is_some(), "{name}");
    }
    assert_eq!(reference::explain("weather"), None);
    assert!(reference::explain("limits.memory").is_some_and(|text| text.contains("a change applies at once\n")));
    assert!(
        reference::explain("security.nesting").is_some_and(|text| text.contains("a change applies at restart\n"))
    );
    assert!(reference::explain("gpio").is_some_and(|text| text.contains("it comes or goes at once\n")));
    assert!(reference::explain("nic.parent").is_some_and(|text| text.contains("bridge or host interface")));
}
