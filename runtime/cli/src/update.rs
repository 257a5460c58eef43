//! `yado update`: what a person or a program on the device does with releases. What works runs as a process of init's, and goes on
//! whoever hangs up; what is only shown is told by the updater itself, the same binary by another name.

mod follow;
mod view;

use crate::command_line::Outcome;
use crate::output::Format;
use crate::part;
use crate::rescue;
use clap::{Args, Subcommand};
use follow::Follow;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use yado_wire::update_status::EXIT_CODES;

#[derive(Debug, Args)]
#[command(after_help = exit_codes())]
pub(crate) struct Arguments {
    /// init's socket; hosted: DIR/run/init.sock
    #[arg(long, global = true, value_name = "PATH", default_value = rescue::SOCKET)]
    socket: PathBuf,
    /// How to show it; json: a line each time that it is further
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what runs, what is installed, how far an update is, and what the last check has found
    Status {
        /// Go on until the update that is at work has ended
        #[arg(long, short)]
        follow: bool,
    },
    /// Ask a source what it has, and whether it could be installed; status shows what was found
    Check {
        /// As of install; by default `source` of update.toml
        #[arg(value_name = "SOURCE")]
        source: Option<String>,
    },
    /// Install a release, start it on trial, and keep it when it is healthy
    Install {
        /// Where it is: http://… or https://…, a directory, a bundle, `usb` for a stick, or `-` for a bundle on standard input; by
        /// default `source` of update.toml
        #[arg(value_name = "SOURCE")]
        source: Option<String>,
    },
    /// Keep what is on trial, without waiting for its health any longer
    Confirm,
    /// Go back to what ran before the last update
    Rollback,
    /// Keep everything from being installed, until unhold
    Hold,
    /// Let releases be installed again
    Unhold,
    /// Stop the update that is at work, and forget it; what runs stays as it is
    Cancel,
    /// Let a release be installed again that failed here
    Allow {
        /// Its fingerprint, as status and history show it
        #[arg(value_name = "RELEASE")]
        release: String,
    },
    /// Show the updates of this device, and how each ended
    History,
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Arguments { socket, format, verb } = arguments;
    let follow = Follow { socket: &socket, format };
    match verb {
        Verb::Status { follow: true } => follow.watch(),
        Verb::Status { follow: false } => part::show_updater("status", &socket, format),
        Verb::History => part::show_updater("history", &socket, format),
        Verb::Check { source } => follow.ask("check", source),
        Verb::Install { source } => follow.ask("install", source),
        Verb::Confirm => follow.decide("confirm", None),
        Verb::Rollback => follow.decide("rollback", None),
        Verb::Hold => follow.decide("hold", None),
        Verb::Unhold => follow.decide("unhold", None),
        Verb::Allow { release } => follow.decide("allow", Some(release)),
        Verb::Cancel => follow.decide("cancel", None),
    }
}

impl Follow<'_> {
    /// Does it with the release of this source, or of that which update.toml names.
    fn ask(&self, verb: &str, source: Option<String>) -> Outcome {
        if source.as_deref() == Some("-") {
            let input = io::stdin();
            return self.run(&[verb], source, Some(input.as_fd()));
        }
        self.run(&[verb], source.map(absolute).transpose()?, None)
    }

    /// Takes the place of an updater that is at work, watching a trial for instance: what it had begun goes on with the decision known.
    fn decide(&self, verb: &str, argument: Option<String>) -> Outcome {
        rescue::stop_updater(self.socket)?;
        self.run(&[verb], argument, None)
    }
}

/// Of the updater's sources that which has no address. A directory of this name is `./usb`.
const USB_STICK: &str = "usb";

/// The updater works in another directory.
fn absolute(source: String) -> Result<String, String> {
    if source.contains("://") || source == USB_STICK {
        return Ok(source);
    }
    let path = std::path::absolute(&source).map_err(|error| format!("{source}: {error}"))?;
    path.into_os_string().into_string().map_err(|_| format!("{source}: its name is not UTF-8"))
}

fn exit_codes() -> String {
    let usual = [(0, "done"), (1, "something else went wrong"), (2, "the command line is not understood")];
    let all = usual.into_iter().chain(EXIT_CODES.iter().map(|row| (row.code, row.meaning)));
    let lines: Vec<String> = all.map(|(code, meaning)| format!("  {code:>3}  {meaning}")).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_source_means_the_same_wherever_the_updater_works() {
        assert_eq!(absolute("http://host/release-2/".to_owned()).unwrap(), "http://host/release-2/");
        assert_eq!(absolute("/media/stick".to_owned()).unwrap(), "/media/stick");
        assert_eq!(absolute("usb".to_owned()).unwrap(), "usb");
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute("release-2".to_owned()).unwrap(), here.join("release-2").to_str().unwrap());
    }

    #[test]
    fn the_help_has_every_exit_code() {
        let help = exit_codes();
        for row in EXIT_CODES {
            assert!(
                help.lines().any(|line| line.trim_start() == format!("{}  {}", row.code, row.meaning)),
                "{row:?}"
            );
        }
    }
}
