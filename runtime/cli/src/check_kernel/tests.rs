//! The whole table against excerpts of real kernels' configurations. The excerpts hold the lines of the options in the
//! table, and `# CONFIG_… is not set` for those that were off.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::fuzzing::fuzz;
use judgement::Verdict;

/// Debian 12, linux-image-6.1.0-50-arm64 6.1.176-1.
const DEBIAN_ARM64: &str = include_str!("testdata/debian-6.1-arm64.config");
/// Debian 12, linux-image-6.1.0-50-armmp 6.1.176-1.
const DEBIAN_ARMHF: &str = include_str!("testdata/debian-6.1-armmp.config");

fn kernel(config: &str, parameters: &str) -> Kernel {
    Kernel { config: Some(KernelConfig::parse(config)), parameters: BootParameters::parse(parameters), running: None }
}

fn problems(kernel: &Kernel) -> Vec<&'static str> {
    let findings = REQUIREMENTS.iter().map(|requirement| kernel.judge(requirement));
    findings.filter(|finding| finding.verdict != Verdict::Met).map(|finding| finding.requirement.option).collect()
}

#[test]
fn debians_kernels_have_all_that_is_needed() {
    assert_eq!(problems(&kernel(DEBIAN_ARM64, "quiet")), [""; 0]);
    // Neither is needed: 32-bit ARM has no time namespaces, and Debian builds no pstore there.
    assert_eq!(problems(&kernel(DEBIAN_ARMHF, "quiet")), ["TIME_NS", "PSTORE_RAM"]);
}

#[test]
fn a_raspberry_pi_is_told_which_parameter_takes_its_memory_limits_away() {
    let kernel = kernel(DEBIAN_ARM64, "coherent_pool=1M cgroup_disable=memory rootwait");
    let findings: Vec<Finding> = REQUIREMENTS.iter().map(|requirement| kernel.judge(requirement)).collect();
    let text = view::render_table(&kernel, &findings, false);
    assert!(text.contains("missing: MEMCG: the boot parameter cgroup_disable=memory takes it away"), "{text}");
    assert!(text.ends_with("1 thing that is needed is missing\n"), "{text}");
    let value = view::render_json(&kernel, &findings, false);
    assert_eq!((&value["missing"], &value["kernel"]), (&1.into(), &"6.1.176".into()));
    let memcg = value["options"].as_array().unwrap().iter().find(|row| row["option"] == "MEMCG").unwrap();
    assert_eq!((&memcg["verdict"], &memcg["setting"]), (&"missing".into(), &"builtin".into()));
}

#[test]
fn taking_any_needed_option_away_is_noticed() {
    for requirement in REQUIREMENTS {
        let line = format!("CONFIG_{}=", requirement.option);
        let wanted_with = requirement.only_with.first().map(|option| format!("CONFIG_{option}=y"));
        let lines = DEBIAN_ARM64.lines().filter(|other| !other.starts_with(&line)).chain(wanted_with.as_deref());
        let without: String = lines.map(|line| format!("{line}\n")).collect();
        assert_eq!(problems(&kernel(&without, "")), [requirement.option]);
    }
}

#[test]
fn what_others_wrote_into_the_files_of_a_kernel_is_not_obeyed_by_a_terminal() {
    let config = "# Linux/arm 6.1\x1b[2J Kernel Configuration\n";
    let kernel = kernel(config, "module_blacklist=overlay cgroup_disable=\"memory,\x1b]0;x\nnothing is missing\"");
    let findings: Vec<Finding> = REQUIREMENTS.iter().map(|requirement| kernel.judge(requirement)).collect();
    let text = view::render_table(&kernel, &findings, false);
    assert!(text.starts_with("kernel 6.1\\u{1b}[2J\n"), "{text}");
    assert!(text.contains("cgroup_disable=memory,\\u{1b}]0;x\\u{a}nothing is missing takes it away"), "{text}");
}

/// Where a running kernel says what it has, below the root directory.
const SHOWN: [(&str, &[u8]); 6] = [
    ("proc/sys/kernel/osrelease", b"6.1.0-50-armmp\n"),
    ("proc/filesystems", b"nodev\tsysfs\nnodev\toverlay\n\terofs\n"),
    ("proc/misc", b"237 loop-control\n236 device-mapper\n"),
    ("proc/self/mountinfo", b"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"),
    ("sys/fs/cgroup/cgroup.controllers", b"cpuset cpu io memory pids\n"),
    ("lib/modules/6.1.0-50-armmp/modules.dep", b"kernel/drivers/md/dm-mod.ko.xz: \nkernel/fs/erofs/erofs.ko:\n"),
];

#[test]
fn files_of_a_kernel_of_any_text_give_each_requirement_its_line() {
    let root = tempfile::tempdir().unwrap();
    for (path, _) in SHOWN {
        fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
    }
    let parts =
        [DEBIAN_ARMHF.as_bytes(), b"quiet cgroup_disable=memory modprobe.blacklist=loop,dm_mod dyndbg=\"a b\""];
    let shown = SHOWN.map(|(_, text)| text);
    let words =
        ["\0", "CONFIG_", "=y\n", "=m\n", "# Linux/arm ", " Kernel Configuration\n", " - cgroup ", "\"", "\x1b[2J"];
    fuzz("check-kernel", &[[&parts[..], &shown[..]].concat().join(&0)], &words, |bytes| {
        let mut parts = bytes.split(|byte| *byte == 0);
        let mut next = || String::from_utf8_lossy(parts.next().unwrap_or_default());
        let (config, parameters) = (KernelConfig::parse(&next()), BootParameters::parse(&next()));
        for (path, _) in SHOWN {
            fs::write(root.path().join(path), &*next()).unwrap();
        }
        let kernel = Kernel { config: Some(config), parameters, running: Some(RunningKernel::read(root.path())) };
        let findings: Vec<Finding> = REQUIREMENTS.iter().map(|requirement| kernel.judge(requirement)).collect();
        let table = view::render_table(&kernel, &findings, false);
        assert!(!table.contains(|char: char| char.is_control() && !matches!(char, '\n' | '\t')), "{table:?}");
        let told = findings.iter().filter(|finding| !matches!(finding.verdict, Verdict::Met | Verdict::Unknown));
        let is_any_unknown = findings.iter().any(|finding| finding.verdict == Verdict::Unknown);
        // The kernel, an empty line, the headings; the rows; an empty line, one sentence for each problem, the sum.
        let lines =
            5 + findings.len() + usize::from(kernel.too_old().is_some()) + told.count() + usize::from(is_any_unknown);
        assert_eq!(table.lines().count(), lines, "{table}");
    });
}
