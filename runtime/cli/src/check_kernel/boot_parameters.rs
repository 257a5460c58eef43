//! The kernel's command line, as far as it can take away what the runtime needs. Pure.

use super::requirement::{Disabler, Enabler};

/// The parameters in their order; the kernel lets later ones win.
#[derive(Debug, Default)]
pub(super) struct BootParameters {
    words: Vec<String>,
}

impl BootParameters {
    /// A value with spaces stands in double quotes, which the kernel takes away.
    pub(super) fn parse(text: &str) -> BootParameters {
        let mut words = vec![String::new()];
        let mut is_quoted = false;
        for char in text.chars() {
            match char {
                '"' => is_quoted = !is_quoted,
                char if char.is_whitespace() && !is_quoted => words.push(String::new()),
                char => {
                    if let Some(word) = words.last_mut() {
                        word.push(char);
                    }
                }
            }
        }
        words.retain(|word| !word.is_empty());
        BootParameters { words }
    }

    /// The parameter that `disabler` means, as it stands on the command line, if nothing later takes it back.
    pub(super) fn disabled_by(&self, disabler: Disabler) -> Option<&str> {
        match disabler {
            Disabler::Is(name, value) => self
                .last(|word| word.split_once('=').is_some_and(|(other, _)| is_same_name(other, name)))
                .filter(|word| word.split_once('=').is_some_and(|(_, other)| other == value)),
            Disabler::Cgroup(controller) => self
                .last(|word| {
                    list_of(word, "cgroup_disable", controller) || list_of(word, "cgroup_enable", controller)
                })
                .filter(|word| list_of(word, "cgroup_disable", controller)),
        }
    }

    /// Whether the parameter of `enabler` is there and is the last of its name.
    pub(super) fn is_enabled_by(&self, enabler: Enabler) -> bool {
        self.disabled_by(Disabler::Is(enabler.name, enabler.value)).is_some()
    }

    /// The parameter that keeps `module` from being loaded.
    pub(super) fn module_kept_out_by(&self, module: &str) -> Option<&str> {
        self.last(|word| {
            word == "nomodule"
                || word.split_once('=').is_some_and(|(name, list)| {
                    (is_same_name(name, "module_blacklist") || name == "modprobe.blacklist")
                        && list.split(',').any(|other| is_same_name(other, module))
                })
        })
    }

    fn last(&self, is_wanted: impl Fn(&str) -> bool) -> Option<&str> {
        self.words.iter().rev().map(String::as_str).find(|word| is_wanted(word))
    }
}

fn list_of(word: &str, name: &str, item: &str) -> bool {
    word.split_once('=').is_some_and(|(other, list)| other == name && list.split(',').any(|entry| entry == item))
}

/// The kernel takes `-` and `_` for the same in names of parameters and modules.
fn is_same_name(left: &str, right: &str) -> bool {
    let folded = |byte: u8| if byte == b'-' { b'_' } else { byte };
    left.len() == right.len() && left.bytes().zip(right.bytes()).all(|(left, right)| folded(left) == folded(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_that_disables_is_found_as_it_stands() {
        let memory = Disabler::Cgroup("memory");
        let cases = [
            ("quiet cgroup_disable=memory", memory, Some("cgroup_disable=memory")),
            ("cgroup_disable=cpu,memory", memory, Some("cgroup_disable=cpu,memory")),
            ("cgroup_disable=memory cgroup_enable=memory", memory, None),
            ("cgroup_enable=memory cgroup_disable=memory", memory, Some("cgroup_disable=memory")),
            ("cgroup_disable=memory2", memory, None),
            ("psi=0", Disabler::Is("psi", "0"), Some("psi=0")),
            ("psi=0 psi=1", Disabler::Is("psi", "0"), None),
            ("dyndbg=\"file a psi=0\"", Disabler::Is("psi", "0"), None),
            (
                "systemd.unified-cgroup-hierarchy=0",
                Disabler::Is("systemd.unified_cgroup_hierarchy", "0"),
                Some("systemd.unified-cgroup-hierarchy=0"),
            ),
        ];
        for (text, disabler, found) in cases {
            assert_eq!(BootParameters::parse(text).disabled_by(disabler), found, "{text}");
        }
    }

    #[test]
    fn a_module_can_be_kept_out() {
        let parameters = BootParameters::parse("root=/dev/sda modprobe.blacklist=loop,dm_mod");
        assert_eq!(parameters.module_kept_out_by("dm-mod"), Some("modprobe.blacklist=loop,dm_mod"));
        assert_eq!(parameters.module_kept_out_by("overlay"), None);
        assert_eq!(BootParameters::parse("nomodule").module_kept_out_by("overlay"), Some("nomodule"));
    }
}
