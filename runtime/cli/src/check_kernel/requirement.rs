//! What one requirement on the kernel is. The list itself is in `requirements`.

/// One kernel option that the runtime needs or likes.
#[derive(Debug)]
pub(super) struct Requirement {
    /// The option's name without `CONFIG_`.
    pub(super) option: &'static str,
    /// How much it is wanted.
    pub(super) want: Want,
    /// What it is for.
    pub(super) purpose: &'static str,
    /// Its module's name, for an option that may be one.
    pub(super) module: Option<&'static str>,
    /// Boot parameters that disable it.
    pub(super) disabled_by: &'static [Disabler],
    /// A boot parameter that it needs when another option is set.
    pub(super) enabled_by: Option<Enabler>,
    /// How a running kernel shows that it works.
    pub(super) probe: Option<Probe>,
    /// It is wanted only together with any of these options; with none of them named, always.
    pub(super) only_with: &'static [&'static str],
}

/// How much an option is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// No instance starts without it.
    Required,
    /// A board does not boot without it; on somebody else's Linux it is not needed.
    Board,
    /// Something is missing or weaker without it.
    Recommended,
}

/// A boot parameter that disables an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disabler {
    /// `cgroup_disable=memory`, one of a list with commas; a later `cgroup_enable=memory` takes it back (Raspberry Pi's
    /// kernels, whose firmware adds the first).
    Cgroup(&'static str),
    /// `NAME=VALUE`.
    Is(&'static str, &'static str),
}

/// A boot parameter that an option needs when the kernel was built with `when`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Enabler {
    pub(super) when: &'static str,
    pub(super) name: &'static str,
    pub(super) value: &'static str,
}

/// How a running kernel shows that an option works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// `/proc/self/ns/NAME` exists.
    Namespace(&'static str),
    /// NAME is in `cgroup.controllers` of the cgroup v2 root.
    Controller(&'static str),
    /// NAME is in `/proc/filesystems`.
    FileSystem(&'static str),
    /// NAME is in `/proc/misc`.
    Misc(&'static str),
    /// The path exists.
    Path(&'static str),
}

impl Requirement {
    pub(super) const fn new(option: &'static str, want: Want, purpose: &'static str) -> Requirement {
        Requirement {
            option,
            want,
            purpose,
            module: None,
            disabled_by: &[],
            enabled_by: None,
            probe: None,
            only_with: &[],
        }
    }

    pub(super) const fn module(mut self, name: &'static str) -> Requirement {
        self.module = Some(name);
        self
    }

    pub(super) const fn disabled_by(mut self, parameters: &'static [Disabler]) -> Requirement {
        self.disabled_by = parameters;
        self
    }

    pub(super) const fn enabled_by(mut self, enabler: Enabler) -> Requirement {
        self.enabled_by = Some(enabler);
        self
    }

    pub(super) const fn only_with(mut self, options: &'static [&'static str]) -> Requirement {
        self.only_with = options;
        self
    }

    pub(super) const fn probe(mut self, probe: Probe) -> Requirement {
        self.probe = Some(probe);
        self
    }
}
