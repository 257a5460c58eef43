//! One requirement judged by all that is known: the configuration, the boot parameters and the running kernel. Pure.

use super::boot_parameters::BootParameters;
use super::kernel_config::{KernelConfig, Setting};
use super::requirement::{Disabler, Probe, Requirement, Want};
use super::requirements::OLDEST;
use super::running_kernel::{RunningKernel, Sight};

/// All that is known of a kernel.
pub(super) struct Kernel {
    pub(super) config: Option<KernelConfig>,
    pub(super) parameters: BootParameters,
    /// Only when it is the one we run on.
    pub(super) running: Option<RunningKernel>,
}

/// A requirement and its verdict.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) requirement: &'static Requirement,
    /// `None`: there is no configuration to look it up in.
    pub(super) setting: Option<Setting>,
    pub(super) verdict: Verdict,
}

/// Whether a requirement is met.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is, as far as can be seen.
    Met,
    /// The kernel was built without it.
    NotBuilt,
    /// A boot parameter takes it away; as it stands on the command line.
    Disabled { parameter: String },
    /// A boot parameter is needed for it.
    NeedsParameter { parameter: String },
    /// It is a module, and its file is not installed.
    NoModuleFile { module: &'static str },
    /// It should be there, and the running kernel does not show it.
    NotShown { what: String },
    /// Nothing is known about it.
    Unknown,
}

impl Kernel {
    pub(super) fn judge(&self, requirement: &'static Requirement) -> Finding {
        let setting = self.config.as_ref().map(|config| config.setting(requirement.option));
        Finding { requirement, setting, verdict: self.verdict(requirement, setting) }
    }

    /// The version, if it is known and too old.
    pub(super) fn too_old(&self) -> Option<&str> {
        let version = self.version()?;
        let mut numbers =
            version.split(|char: char| !char.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
        let found = (numbers.next()?, numbers.next()?);
        (found < OLDEST).then_some(version)
    }

    pub(super) fn version(&self) -> Option<&str> {
        let running = self.running.as_ref().and_then(|running| running.release.as_deref());
        running.or(self.config.as_ref().and_then(|config| config.version.as_deref()))
    }

    /// What works is not asked for its reasons; after that, the cause that a person can remove comes first.
    fn verdict(&self, requirement: &Requirement, setting: Option<Setting>) -> Verdict {
        let sight = self.running.as_ref().zip(requirement.probe).map(|(running, probe)| running.look(probe));
        if sight == Some(Sight::Works) {
            return Verdict::Met;
        }
        if !self.is_wanted(requirement) {
            return Verdict::Met;
        }
        if let Some(parameter) = self.disabling_parameter(requirement.disabled_by) {
            return Verdict::Disabled { parameter: parameter.to_owned() };
        }
        if setting == Some(Setting::Off) {
            return Verdict::NotBuilt;
        }
        if let Some(parameter) = self.missing_parameter(requirement) {
            return Verdict::NeedsParameter { parameter };
        }
        if setting == Some(Setting::Module) {
            return self.verdict_on_module(requirement);
        }
        match (setting, sight) {
            // Without a configuration it may be a module that nobody needed yet.
            (None, Some(Sight::Missing(_))) if requirement.module.is_some() => self.verdict_on_module(requirement),
            (_, Some(Sight::Missing(what))) => not_shown(requirement, what),
            (None, _) => self.verdict_on_parameters(requirement),
            (Some(_), _) => Verdict::Met,
        }
    }

    /// Without a configuration it may be.
    fn is_wanted(&self, requirement: &Requirement) -> bool {
        let is_on = |config: &KernelConfig, option: &&str| config.setting(option) != Setting::Off;
        let Some(config) = &self.config else { return true };
        requirement.only_with.is_empty() || requirement.only_with.iter().any(|option| is_on(config, option))
    }

    fn disabling_parameter(&self, disablers: &[Disabler]) -> Option<&str> {
        disablers.iter().find_map(|disabler| self.parameters.disabled_by(*disabler))
    }

    fn missing_parameter(&self, requirement: &Requirement) -> Option<String> {
        let enabler = requirement.enabled_by?;
        let is_asked = self.config.as_ref()?.setting(enabler.when) == Setting::Builtin;
        (is_asked && !self.parameters.is_enabled_by(enabler)).then(|| format!("{}={}", enabler.name, enabler.value))
    }

    /// Nothing is known but the boot parameters, and which modules can be loaded.
    fn verdict_on_parameters(&self, requirement: &Requirement) -> Verdict {
        let module = requirement.module.filter(|module| {
            // One that is built in is not kept out by a list of modules.
            self.running.as_ref().is_some_and(|running| running.is_loadable(module))
        });
        match module.and_then(|module| self.parameters.module_kept_out_by(module)) {
            Some(parameter) => Verdict::Disabled { parameter: parameter.to_owned() },
            None => Verdict::Unknown,
        }
    }

    fn verdict_on_module(&self, requirement: &Requirement) -> Verdict {
        let Some(module) = requirement.module else {
            return Verdict::Met;
        };
        if let Some(parameter) = self.parameters.module_kept_out_by(module) {
            return Verdict::Disabled { parameter: parameter.to_owned() };
        }
        match self.running.as_ref().and_then(|running| running.has_module(module)) {
            Some(false) => Verdict::NoModuleFile { module },
            Some(true) => Verdict::Met,
            None if self.config.is_some() => Verdict::Met,
            None => Verdict::Unknown,
        }
    }
}

impl Finding {
    /// Whether it keeps instances from starting: hosted, a board's own needs do not.
    pub(super) fn is_fatal(&self, is_hosted: bool) -> bool {
        let is_needed = match self.requirement.want {
            Want::Required => true,
            Want::Board => !is_hosted,
            Want::Recommended => false,
        };
        is_needed && !matches!(self.verdict, Verdict::Met | Verdict::Unknown)
    }
}

/// securityfs and the like may simply not be mounted; an option that is built in and only shows there is believed.
fn not_shown(requirement: &Requirement, what: String) -> Verdict {
    match requirement.probe {
        Some(Probe::Path(path)) if path.starts_with("/sys/kernel/security/") => Verdict::Met,
        _ => Verdict::NotShown { what },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::requirements::REQUIREMENTS;
    use super::*;

    fn requirement(option: &str) -> &'static Requirement {
        match REQUIREMENTS.iter().find(|requirement| requirement.option == option) {
            Some(requirement) => requirement,
            None => panic!("{option} is not in the table"),
        }
    }

    fn kernel(config: &str, parameters: &str) -> Kernel {
        Kernel {
            config: Some(KernelConfig::parse(config)),
            parameters: BootParameters::parse(parameters),
            running: None,
        }
    }

    #[test]
    fn the_cause_is_named() {
        let disabled = |parameter: &str| Verdict::Disabled { parameter: parameter.to_owned() };
        let cases = [
            ("MEMCG", "CONFIG_MEMCG=y", "", Verdict::Met),
            ("MEMCG", "", "", Verdict::NotBuilt),
            ("MEMCG", "CONFIG_MEMCG=y", "cgroup_disable=memory", disabled("cgroup_disable=memory")),
            ("PSI", "CONFIG_PSI=y", "psi=0", disabled("psi=0")),
            ("PSI", "CONFIG_PSI=y\nCONFIG_PSI_DEFAULT_DISABLED=y", "psi=1", Verdict::Met),
            (
                "PSI",
                "CONFIG_PSI=y\nCONFIG_PSI_DEFAULT_DISABLED=y",
                "",
                Verdict::NeedsParameter { parameter: "psi=1".to_owned() },
            ),
            ("MODULE_DECOMPRESS", "", "", Verdict::Met),
            ("MODULE_DECOMPRESS", "CONFIG_MODULE_COMPRESS_NONE=y", "", Verdict::Met),
            ("MODULE_DECOMPRESS", "CONFIG_MODULE_COMPRESS_XZ=y", "", Verdict::NotBuilt),
            ("MODULE_DECOMPRESS", "CONFIG_MODULE_COMPRESS_XZ=y\nCONFIG_MODULE_DECOMPRESS=y", "", Verdict::Met),
            ("OVERLAY_FS", "CONFIG_OVERLAY_FS=m", "", Verdict::Met),
            ("OVERLAY_FS", "CONFIG_OVERLAY_FS=m", "nomodule", disabled("nomodule")),
            ("OVERLAY_FS", "CONFIG_OVERLAY_FS=y", "nomodule", Verdict::Met),
        ];
        for (option, config, parameters, verdict) in cases {
            let finding = kernel(config, parameters).judge(requirement(option));
            assert_eq!(finding.verdict, verdict, "{option}: {config} {parameters}");
        }
    }

    #[test]
    fn without_a_configuration_a_list_of_modules_is_still_understood() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("proc/sys/kernel/osrelease", "6.1.0-50-arm64\n"),
            ("lib/modules/6.1.0-50-arm64/modules.dep", "kernel/drivers/net/veth.ko:\n"),
            ("lib/modules/6.1.0-50-arm64/modules.builtin", "kernel/drivers/net/macvlan.ko\n"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let kernel = |parameters: &str| Kernel {
            config: None,
            parameters: BootParameters::parse(parameters),
            running: Some(RunningKernel::read(root.path())),
        };
        let verdict = |option: &str, parameters: &str| kernel(parameters).judge(requirement(option)).verdict;
        let parameter = "module_blacklist=veth,macvlan";
        assert_eq!(verdict("VETH", parameter), Verdict::Disabled { parameter: parameter.to_owned() });
        assert_eq!(verdict("VETH", "quiet"), Verdict::Unknown);
        assert_eq!(verdict("MACVLAN", parameter), Verdict::Unknown);
    }

    #[test]
    fn what_only_a_board_needs_is_not_fatal_hosted() {
        let finding = kernel("", "").judge(requirement("DM_VERITY"));
        assert!(finding.is_fatal(false) && !finding.is_fatal(true));
        let finding = kernel("", "").judge(requirement("TIME_NS"));
        assert!(!finding.is_fatal(false));
    }

    #[test]
    fn an_old_kernel_is_told_from_a_new_one() {
        for (version, too_old) in [("5.18.19", true), ("5.19.0", false), ("6.1.176", false), ("4.19.1", true)] {
            let config = format!("# Linux/arm {version} Kernel Configuration\n");
            assert_eq!(kernel(&config, "").too_old().is_some(), too_old, "{version}");
        }
    }
}
