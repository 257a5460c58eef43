//! The binary's other parts, by their names: what one of them knows best, it shows itself. The command does not link them.

use crate::command_line::Outcome;
use crate::output::Format;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Init's runtime directory on a board.
const RUN: &str = "/run/yado";

/// Becomes the updater, which shows this about the device of the init that listens on `socket`.
pub(crate) fn show_updater(verb: &str, socket: &Path, format: Format) -> Outcome {
    let format = match format {
        Format::Table => "table",
        Format::Json => "json",
    };
    let run = socket.canonicalize().ok().and_then(|socket| socket.parent().map(Path::to_owned));
    let mut updater = Command::new("/proc/self/exe");
    updater.arg0("yado-updater").args([verb, "--format", format]);
    // Hosted, all of an init's is in one directory.
    if let Some(run) = run.filter(|run| run != Path::new(RUN)) {
        updater.env("YADO_SYSTEM", run.with_file_name("system")).env("YADO_DATA", run.with_file_name("data"));
        updater.env("YADO_RUN", run);
    }
    Err(format!("become yado-updater: {}", updater.exec()).into())
}
