//! `yado-updater status`: the boot state, as a few lines for people or as JSON. It reads, and changes nothing.

use crate::boot_state::{BootState, PARTITION, Slot};
use crate::state_partition;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yado_sys::named_partition::{self, Disks, SYSFS};
use yado_wire::{columns, hex};

const USAGE: &str = "usage: yado-updater status [--state DEVICE] [--format table|json]

Shows the slots and what the boot loader will do next. DEVICE is the raw partition (or a file of the same bytes);
without it, the partition that is named `state` in the GPT.";

/// The part `yado-updater`; `args` without the program's name.
pub fn main(args: &[OsString]) -> ExitCode {
    // Started by the updater itself, to do without privileges what needs none.
    if args == ["fetch"] {
        return crate::source::fetch_process::main();
    }
    match parse_arguments(args) {
        Ok(Command::Help) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Command::Status { state, format }) => match read_state(state) {
            Ok(state) => {
                print!("{}", render(&state, format));
                ExitCode::SUCCESS
            }
            Err(message) => {
                eprintln!("yado-updater: {message}");
                ExitCode::FAILURE
            }
        },
        Err(message) => {
            eprintln!("yado-updater: {message}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, PartialEq)]
enum Command {
    Help,
    Status { state: Option<PathBuf>, format: Format },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Table,
    Json,
}

fn parse_arguments(args: &[OsString]) -> Result<Command, String> {
    let mut rest = args.iter();
    match rest.next().and_then(|arg| arg.to_str()) {
        Some("status") => {}
        Some("help" | "--help" | "-h") => return Ok(Command::Help),
        Some(other) => return Err(format!("unknown command \"{}\"", other.escape_default())),
        None => return Err("a command is missing".to_owned()),
    }
    let (mut state, mut format) = (None, Format::Table);
    while let Some(arg) = rest.next() {
        match (arg.to_str(), rest.next()) {
            (Some("--help" | "-h"), _) => return Ok(Command::Help),
            (Some("--state"), Some(device)) => state = Some(PathBuf::from(device)),
            (Some("--format"), Some(name)) if name == "json" => format = Format::Json,
            (Some("--format"), Some(name)) if name == "table" => format = Format::Table,
            (Some("--format"), Some(_)) => return Err("--format is table or json".to_owned()),
            (Some("--state" | "--format"), None) => return Err(format!("{} needs a value", arg.to_string_lossy())),
            _ => return Err(format!("unknown option \"{}\"", arg.to_string_lossy().escape_default())),
        }
    }
    Ok(Command::Status { state, format })
}

fn read_state(device: Option<PathBuf>) -> Result<BootState, String> {
    let path = match device {
        Some(path) => path,
        // As init takes `data`: another disk's partition of that name is not ours.
        None => named_partition::find(Path::new(SYSFS), &[PARTITION], &Disks::of_system(true))
            .map_err(|error| format!("partition `{PARTITION}`: {error}"))?
            .ok_or_else(|| format!("no partition is named `{PARTITION}`; name its device or a file with --state"))?,
    };
    let file = File::open(&path).map_err(|error| format!("open {}: {error}", path.display()))?;
    state_partition::read(&file).map_err(|error| format!("{}: {error}", path.display()))
}

fn render(state: &BootState, format: Format) -> String {
    match format {
        Format::Table => render_table(state),
        Format::Json => render_json(state),
    }
}

fn render_table(state: &BootState) -> String {
    let rows = Slot::ALL.into_iter().map(|slot| {
        let order = state.order.slots().iter().position(|other| *other == slot);
        let order = order.map_or("-".to_owned(), |at| (at + 1).to_string());
        vec![slot.to_string(), order, state.slot(slot).left.count().to_string(), word_for(state, slot).to_owned()]
    });
    let mut out = columns::text(&["SLOT", "ORDER", "TRIES", "STATE"], rows);
    let next = state.next().map_or("the boot script refills the tries".to_owned(), |slot| format!("slot {slot}"));
    out.push_str(&format!("next boot: {next}\nchanges so far: {}\n", state.sequence));
    for fingerprint in state.blocked.fingerprints() {
        out.push_str(&format!("blocked image: {}\n", hex::encode(fingerprint)));
    }
    out
}

/// All texts in it are ours or hexadecimal, so nothing needs escaping.
fn render_json(state: &BootState) -> String {
    let slots: Vec<String> = Slot::ALL
        .into_iter()
        .map(|slot| {
            format!(
                "{{\"name\":\"{slot}\",\"in_order\":{},\"tries_left\":{},\"state\":\"{}\"}}",
                state.order.slots().contains(&slot),
                state.slot(slot).left.count(),
                word_for(state, slot)
            )
        })
        .collect();
    let order: Vec<String> = state.order.slots().iter().map(|slot| format!("\"{slot}\"")).collect();
    let blocked: Vec<String> =
        state.blocked.fingerprints().iter().map(|fingerprint| format!("\"{}\"", hex::encode(fingerprint))).collect();
    format!(
        "{{\"sequence\":{},\"order\":[{}],\"next\":{},\"trial\":{},\"slots\":[{}],\"blocked\":[{}]}}\n",
        state.sequence,
        order.join(","),
        quoted(state.next()),
        quoted(state.trial),
        slots.join(","),
        blocked.join(",")
    )
}

fn word_for(state: &BootState, slot: Slot) -> &'static str {
    match state.slot(slot).mark {
        Some(mark) => mark.as_str(),
        None if state.trial == Some(slot) => "trial",
        None => "good",
    }
}

fn quoted(slot: Option<Slot>) -> String {
    slot.map_or("null".to_owned(), |slot| format!("\"{slot}\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_state::Mark;

    fn parse(words: &[&str]) -> Result<Command, String> {
        parse_arguments(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_understood_or_refused_with_a_reason() {
        assert_eq!(parse(&["--help"]), Ok(Command::Help));
        assert_eq!(parse(&["status"]), Ok(Command::Status { state: None, format: Format::Table }));
        assert_eq!(
            parse(&["status", "--format", "json", "--state", "/x"]),
            Ok(Command::Status { state: Some("/x".into()), format: Format::Json })
        );
        let refused: &[&[&str]] =
            &[&[], &["install"], &["status", "--state"], &["status", "--format", "xml"], &["status", "x"]];
        for words in refused {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_fresh_device_with_one_system_reads_as_such() {
        let state = BootState::factory(Some(Mark::Empty));
        assert_eq!(
            render(&state, Format::Table),
            "SLOT  ORDER  TRIES  STATE\nA     1      3      good\nB     -      0      empty\n\
             next boot: slot A\nchanges so far: 1\n"
        );
        assert_eq!(
            render(&state, Format::Json),
            "{\"sequence\":1,\"order\":[\"A\"],\"next\":\"A\",\"trial\":null,\"slots\":[\
             {\"name\":\"A\",\"in_order\":true,\"tries_left\":3,\"state\":\"good\"},\
             {\"name\":\"B\",\"in_order\":false,\"tries_left\":0,\"state\":\"empty\"}],\"blocked\":[]}\n"
        );
    }
}
