//! The size budgets of the two shipped programs. They are tightened when they can be, and never loosened.

use crate::arch::Arch;
use crate::cross::Artifact;

use super::tally::Tally;

/// A program's budget, stripped and static.
struct Budget {
    program: &'static str,
    /// On armv7, as design.md 9 has it.
    armhf_kib: u64,
    /// arm64 has no code as dense as Thumb-2, and its own budget: what was measured (663 and 3979 KiB, of which 1.2 MiB came with HTTP
    /// and TLS for updates) and a little room.
    arm64_kib: u64,
}

const BUDGETS: [Budget; 2] = [
    Budget { program: "yado-init", armhf_kib: 512, arm64_kib: 672 },
    Budget { program: "yado", armhf_kib: 3 * 1024, arm64_kib: 4096 },
];

/// The budget of a shipped program. The developer's own architecture has none.
pub(crate) fn size_budget_kib(program: &str, arch: Arch) -> Option<u64> {
    let Budget { program: _, armhf_kib, arm64_kib } = BUDGETS.iter().find(|budget| budget.program == program)?;
    match arch {
        Arch::Armhf => Some(*armhf_kib),
        Arch::Arm64 => Some(*arm64_kib),
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
