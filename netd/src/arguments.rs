//! The command line of netd. Pure.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What netd was called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `--run DIR`: where its socket and its state are.
    pub run: PathBuf,
    /// `--networks FILE`, as often as wanted: what networks there are, in the first of these files that is there; default
    /// `networks.bin` in the run directory.
    pub networks: Vec<PathBuf>,
    /// `--hosted`: the machine belongs to somebody else; its links are left alone unless one is named.
    pub is_hosted: bool,
    /// `--log stderr`: not to the journal even if there is one.
    pub log: Log,
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// The journal if there is one, else standard error.
    Journal,
    /// Standard error.
    Stderr,
}

/// What is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgumentsError {
    /// An option that does not exist.
    Unknown(OsString),
    /// An option without its value, or with one that it cannot have.
    Value(&'static str),
    /// `--run` is missing.
    NoRun,
}

/// How netd is called.
pub const USAGE: &str = "usage: yado-netd --run DIR [--networks FILE]... [--hosted] [--log journal|stderr]";

/// Reads the arguments after the program's name.
pub fn parse_arguments(arguments: &[OsString]) -> Result<Arguments, ArgumentsError> {
    let mut run: Option<PathBuf> = None;
    let mut networks = Vec::new();
    let mut is_hosted = false;
    let mut log = Log::Journal;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            Some("--run") => run = Some(rest.next().ok_or(ArgumentsError::Value("--run"))?.into()),
            Some("--networks") => {
                networks.push(rest.next().ok_or(ArgumentsError::Value("--networks"))?.into());
            }
            Some("--hosted") => is_hosted = true,
            Some("--log") => {
                log = match rest.next().and_then(|value| OsStr::to_str(value)) {
                    Some("journal") => Log::Journal,
                    Some("stderr") => Log::Stderr,
                    Some(_) | None => return Err(ArgumentsError::Value("--log")),
                }
            }
            Some(_) | None => return Err(ArgumentsError::Unknown(argument.clone())),
        }
    }
    let run = run.ok_or(ArgumentsError::NoRun)?;
    if networks.is_empty() {
        networks.push(run.join("networks.bin"));
    }
    Ok(Arguments { run, networks, is_hosted, log })
}

impl core::fmt::Display for ArgumentsError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ArgumentsError::Unknown(argument) => write!(out, "unknown argument {}", argument.to_string_lossy()),
            ArgumentsError::Value(option) => write!(out, "{option}: missing or impossible value"),
            ArgumentsError::NoRun => out.write_str("--run is missing"),
        }
    }
}

impl std::error::Error for ArgumentsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_understood_whole_or_not_at_all() {
        let parse = |line: &str| parse_arguments(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        let expected = Arguments {
            run: "/run/yado".into(),
            networks: vec!["/run/yado/networks.bin".into()],
            is_hosted: false,
            log: Log::Journal,
        };
        assert_eq!(parse("--run /run/yado"), Ok(expected.clone()));
        let hosted =
            Arguments { networks: vec!["/n".into(), "/m".into()], is_hosted: true, log: Log::Stderr, ..expected };
        assert_eq!(parse("--networks /n --networks /m --hosted --log stderr --run /run/yado"), Ok(hosted));
        assert_eq!(parse(""), Err(ArgumentsError::NoRun));
        assert_eq!(parse("--run"), Err(ArgumentsError::Value("--run")));
        assert_eq!(parse("--run /r --log file"), Err(ArgumentsError::Value("--log")));
        assert_eq!(parse("--run /r x"), Err(ArgumentsError::Unknown("x".into())));
    }
}
