//! The whole table against excerpts of real kernels' configurations. The excerpts hold the lines of the options in the
//! table, and `# CONFIG_… is not set` for those that were off.
#![allow(clippy::unwrap_used)]

use super::*;
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
        let without: String =
            DEBIAN_ARM64.lines().filter(|other| !other.starts_with(&line)).map(|line| format!("{line}\n")).collect();
        assert_eq!(problems(&kernel(&without, "")), [requirement.option]);
    }
}
