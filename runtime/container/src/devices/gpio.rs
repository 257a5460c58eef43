//! Finds the GPIO chip that a spec selects by label or name.

use super::NodeSource;
use super::sysfs::Sysfs;

/// The chip's node. A label wins over a name, since names depend on the order in which drivers come up.
pub(super) fn node(sysfs: &Sysfs, chip: &str) -> Vec<(String, NodeSource)> {
    let by_label = sysfs.gpio.iter().find(|found| found.label.as_deref() == Some(chip));
    let found = by_label.or_else(|| sysfs.gpio.iter().find(|found| found.name == chip));
    found.map(|found| (found.name.clone(), found.source)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::sysfs::GpioChip;
    use super::*;
    use yado_sys::device_filter::DeviceKind;

    #[test]
    fn a_label_wins_over_a_name() {
        let chip = |name: &str, label: Option<&str>, minor| GpioChip {
            name: name.to_owned(),
            label: label.map(str::to_owned),
            source: NodeSource { kind: DeviceKind::Char, major: 254, minor },
        };
        let sysfs = Sysfs {
            gpio: vec![
                chip("gpiochip0", Some("gpio-sim.0-node0"), 0),
                chip("gpiochip1", Some("gpiochip2"), 1),
                chip("gpiochip2", None, 2),
            ],
            ..Sysfs::default()
        };
        let minor = |wanted: &str| node(&sysfs, wanted).first().map(|(_, source)| source.minor);
        assert_eq!(minor("gpio-sim.0-node0"), Some(0));
        assert_eq!(minor("gpiochip0"), Some(0));
        assert_eq!(minor("gpiochip2"), Some(1));
        assert_eq!(minor("pl061"), None);
    }
}
