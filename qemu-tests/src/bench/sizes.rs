//! How large the shipped programs are.

use super::BenchReport;
use crate::accept::budgets::size_budget_kib;
use crate::board::BuildError;
use crate::board::ingredients::Ingredients;
use serde::Serialize;

/// One program.
#[derive(Debug, Serialize)]
pub(super) struct Size {
    program: &'static str,
    kib: u64,
    budget_kib: Option<u64>,
}

pub(super) fn measure(ingredients: &Ingredients, report: &mut BenchReport) -> Result<(), BuildError> {
    println!("\nsizes, stripped and static");
    let programs = &ingredients.programs;
    for (program, path) in [("yado-init", &programs.yado_init), ("yado", &programs.yado)] {
        let kib = std::fs::metadata(path).map_err(BuildError::io(path))?.len().div_ceil(1024);
        let budget_kib = size_budget_kib(program, ingredients.arch);
        report.sizes.push(Size { program, kib, budget_kib });
        if let Some(budget_kib) = budget_kib {
            let what = format!("{program} for {} has at most {budget_kib} KiB", ingredients.arch);
            report.promise(what, format!("{kib} KiB"), kib <= budget_kib);
        }
    }
    Ok(())
}
