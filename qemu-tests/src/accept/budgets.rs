//! The size budgets of the two shipped programs. They are tightened when they can be, and never loosened.

use crate::arch::Arch;
use crate::cross::Artifact;

use super::tally::Tally;

/// A program's budget.
struct Budget {
    program: &'static str,
    /// On armv7, stripped and static. arm64 code is larger by nature and gets half as much again.
    armhf_kib: u64,
}

const BUDGETS: [Budget; 2] =
    [Budget { program: "yado-init", armhf_kib: 512 }, Budget { program: "yado", armhf_kib: 3 * 1024 }];

/// The budget of a shipped program. The developer's own architecture has none.
pub(crate) fn size_budget_kib(program: &str, arch: Arch) -> Option<u64> {
    let Budget { program: _, armhf_kib } = BUDGETS.iter().find(|budget| budget.program == program)?;
    match arch {
        Arch::Armhf => Some(*armhf_kib),
        Arch::Arm64 => Some(armhf_kib * 3 / 2),
        Arch::Amd64 => None,
    }
}

/// Compares what was built for `arch` with the budgets.
pub(super) fn check_sizes(tally: &mut Tally, arch: Arch, programs: &[Artifact]) {
    for Budget { program, .. } in BUDGETS {
        let Some(budget_kib) = size_budget_kib(program, arch) else { continue };
        let Some(artifact) = programs.iter().find(|artifact| artifact.name == program) else {
            tally.fail(&format!("{program} for {arch}"), "was not built");
            continue;
        };
        match std::fs::metadata(&artifact.path) {
            Err(error) => tally.fail(&artifact.path.display().to_string(), &error.to_string()),
            Ok(metadata) => {
                let size_kib = metadata.len().div_ceil(1024);
                let name = format!("{program} for {arch}: {size_kib} KiB, budget {budget_kib} KiB");
                if size_kib <= budget_kib { tally.pass(&name) } else { tally.fail(&name, "over its budget") }
            }
        }
    }
}
