//! The part `yado-updater`: what its command line asks for. Verbs that work are init's to call; those that only show are the
//! command's, `yado update` and `yado system`.

use crate::driver::{self, Request};
use crate::places::Places;
use crate::source::fetch_process;
use crate::{check_boot, exit_codes, history, slots, status};
use std::ffi::OsString;
use std::process::ExitCode;
use yado_wire::update_status::MISUSED;

const USAGE: &str = "usage: yado-updater VERB [--format table|json] [--data DIR] [--run DIR] [--state DEVICE]

  status      the release that runs, the update that goes on, and what the boot loader does next
  slots       the slots, and what the boot loader does next
  history     the updates of this device, and how each ended
  check-boot  prove that the boot loader's state can be changed: write what changes nothing, and read it back

What init starts: `resume`, and `run` with install [SOURCE], check [SOURCE], confirm, rollback, hold, unhold, cancel, or allow RELEASE.

DIR is where the data partition is mounted (/data), or init's runtime directory (/run/yado). DEVICE is the raw partition
of the boot state, or a file of the same bytes; without it, the boot loader is that of update.toml (`yado help keys`).";

/// The part; `args` without the program's name.
pub fn main(args: &[OsString]) -> ExitCode {
    match args.split_first().map(|(verb, rest)| (verb.to_str(), rest)) {
        // Started by the updater itself, to do without privileges what needs none.
        Some((Some("fetch"), [])) => return fetch_process::main(),
        Some((Some("resume"), [])) => return work(Request::Resume),
        Some((Some("run"), words)) => {
            return match driver::parse_request(words, &Places::of_environment()) {
                Ok(request) => work(request),
                Err(message) => refuse(&message),
            };
        }
        _ => {}
    }
    match parse(args) {
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Some((verb, places, format))) => match show(verb, &places, format) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(message) => {
                eprintln!("yado-updater: {message}");
                ExitCode::from(exit_of(verb))
            }
        },
        Err(message) => refuse(&message),
    }
}

/// Does what init asks for, and ends with what it came to.
fn work(request: Request) -> ExitCode {
    ExitCode::from(driver::run(&Places::of_environment(), request))
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("yado-updater: {message}\n{USAGE}");
    ExitCode::from(MISUSED)
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Status,
    Slots,
    History,
    CheckBoot,
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
}

fn show(verb: Verb, places: &Places, format: Format) -> Result<String, String> {
    match verb {
        Verb::Status => status::show(places, format),
        Verb::Slots => slots::show(places, format),
        Verb::History => history::show(places, format),
        Verb::CheckBoot => check_boot::show(places, format),
    }
}

fn exit_of(verb: Verb) -> u8 {
    match verb {
        Verb::Status | Verb::History => exit_codes::FAILED,
        Verb::Slots | Verb::CheckBoot => {
            exit_codes::of_rule("boot-loader").map_or(exit_codes::FAILED, |row| row.code)
        }
    }
}

/// `None`: help. What init says of places in the environment is what they are without options.
fn parse(args: &[OsString]) -> Result<Option<(Verb, Places, Format)>, String> {
    let mut rest = args.iter();
    let verb = match rest.next().and_then(|arg| arg.to_str()) {
        Some("status") => Verb::Status,
        Some("slots") => Verb::Slots,
        Some("history") => Verb::History,
        Some("check-boot") => Verb::CheckBoot,
        Some("help" | "--help" | "-h") => return Ok(None),
        Some(other) => return Err(format!("unknown command \"{}\"", other.escape_default())),
        None => return Err("a command is missing".to_owned()),
    };
    let mut places = Places::of_environment();
    let mut format = Format::Table;
    while let Some(arg) = rest.next() {
        match (arg.to_str(), rest.next()) {
            (Some("--help" | "-h"), _) => return Ok(None),
            (Some("--state"), Some(device)) => places.state = Some(device.into()),
            (Some("--data"), Some(path)) => places.data = path.into(),
            (Some("--run"), Some(path)) => places.run = path.into(),
            (Some("--format"), Some(name)) if name == "json" => format = Format::Json,
            (Some("--format"), Some(name)) if name == "table" => format = Format::Table,
            (Some("--format"), Some(_)) => return Err("--format is table or json".to_owned()),
            (Some("--state" | "--data" | "--run" | "--format"), None) => {
                return Err(format!("{} needs a value", arg.to_string_lossy()));
            }
            _ => return Err(format!("unknown option \"{}\"", arg.to_string_lossy().escape_default())),
        }
    }
    Ok(Some((verb, places, format)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<(Verb, Places, Format)>, String> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_understood_or_refused_with_a_reason() {
        assert_eq!(parsed(&["--help"]), Ok(None));
        let usual =
            Places { system: "/usr/lib/yado".into(), data: "/data".into(), run: "/run/yado".into(), state: None };
        assert_eq!(parsed(&["status"]), Ok(Some((Verb::Status, usual.clone(), Format::Table))));
        let places = Places { data: "/d".into(), run: "/r".into(), state: Some("/x".into()), ..usual };
        assert_eq!(
            parsed(&["slots", "--format", "json", "--state", "/x", "--data", "/d", "--run", "/r"]),
            Ok(Some((Verb::Slots, places, Format::Json)))
        );
        let refused: &[&[&str]] =
            &[&[], &["upgrade"], &["status", "--state"], &["status", "--format", "xml"], &["history", "x"]];
        for words in refused {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
