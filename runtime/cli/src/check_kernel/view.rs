//! The verdicts as a table for people and as JSON. Pure.

use super::judgement::{Finding, Kernel, Verdict};
use super::requirement::Want;
use super::requirements::OLDEST;
use crate::output::{printable, table};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// All rows, then each problem in a sentence.
pub(super) fn render_table(kernel: &Kernel, findings: &[Finding], is_hosted: bool) -> String {
    let mut out = format!("kernel {}\n\n", printable(kernel.version().unwrap_or("of unknown version")));
    let rows = findings.iter().map(|finding| {
        vec![
            finding.requirement.option.to_owned(),
            want_name(finding.requirement.want).to_owned(),
            finding.setting.map_or("?", |setting| setting.name()).to_owned(),
            word(finding, is_hosted).to_owned(),
            finding.requirement.purpose.to_owned(),
        ]
    });
    out.push_str(&table(&["OPTION", "WANTED", "KERNEL", "VERDICT", "WHAT FOR"], rows));
    out.push('\n');
    // Writing to a String does not fail.
    if let Some(version) = kernel.too_old() {
        let _ = writeln!(out, "the kernel is {}; needed is {}.{} or newer", printable(version), OLDEST.0, OLDEST.1);
    }
    for finding in findings {
        if let Some(sentence) = sentence(finding) {
            let option = finding.requirement.option;
            let _ = writeln!(out, "{}: {option}: {}", word(finding, is_hosted), printable(&sentence));
        }
    }
    let unknown = findings.iter().filter(|finding| finding.verdict == Verdict::Unknown).count();
    if unknown != 0 {
        let _ = writeln!(out, "{unknown} could not be checked: give the kernel's configuration with --config");
    }
    let fatal = fatal_count(kernel, findings, is_hosted);
    let _ = match fatal {
        0 => writeln!(out, "nothing that is needed is missing"),
        1 => writeln!(out, "1 thing that is needed is missing"),
        more => writeln!(out, "{more} things that are needed are missing"),
    };
    out
}

/// `{kernel, too_old, options: [{option, wanted, setting, verdict, cause, purpose}], missing}`
pub(super) fn render_json(kernel: &Kernel, findings: &[Finding], is_hosted: bool) -> Value {
    let options: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "option": finding.requirement.option,
                "wanted": want_name(finding.requirement.want),
                "setting": finding.setting.map(|setting| setting.name()),
                "verdict": word(finding, is_hosted),
                "cause": sentence(finding),
                "purpose": finding.requirement.purpose,
            })
        })
        .collect();
    json!({
        "kernel": kernel.version(),
        "too_old": kernel.too_old().is_some(),
        "options": options,
        "missing": fatal_count(kernel, findings, is_hosted),
    })
}

/// How many needed things are missing, the kernel's age among them.
pub(super) fn fatal_count(kernel: &Kernel, findings: &[Finding], is_hosted: bool) -> usize {
    let missing = findings.iter().filter(|finding| finding.is_fatal(is_hosted)).count();
    missing + usize::from(kernel.too_old().is_some())
}

fn word(finding: &Finding, is_hosted: bool) -> &'static str {
    match &finding.verdict {
        Verdict::Met => "ok",
        Verdict::Unknown => "unknown",
        _ if finding.is_fatal(is_hosted) => "missing",
        _ => "absent",
    }
}

fn want_name(want: Want) -> &'static str {
    match want {
        Want::Required => "required",
        Want::Board => "board",
        Want::Recommended => "recommended",
    }
}

fn sentence(finding: &Finding) -> Option<String> {
    let purpose = finding.requirement.purpose;
    match &finding.verdict {
        Verdict::Met | Verdict::Unknown => None,
        Verdict::NotBuilt => Some(format!("not in this kernel ({purpose})")),
        Verdict::Disabled { parameter } if parameter == "cgroup_disable=memory" => Some(format!(
            "the boot parameter {parameter} takes it away ({purpose}): remove it; on a Raspberry Pi, whose firmware adds it, \
             append cgroup_enable=memory"
        )),
        Verdict::Disabled { parameter } => {
            Some(format!("the boot parameter {parameter} takes it away ({purpose}): remove it"))
        }
        Verdict::NeedsParameter { parameter } => Some(format!("needs the boot parameter {parameter} ({purpose})")),
        Verdict::NoModuleFile { module } => Some(format!("the module {module} is not installed ({purpose})")),
        Verdict::NotShown { what } => Some(format!("{what} ({purpose})")),
    }
}
