//! `yado rescue [--socket PATH] start|stop|restart NAME…` and `… status [--format FORMAT] [NAME]`, read by hand: scripts and other
//! programs call these over and over, and to build clap's commands for them took a fifth of the time until init is asked, and
//! nine tenths of the instructions of a status. Whatever is not exactly that, other options, mistakes and help among it, is clap's.

use super::{Arguments, SOCKET, Verb, control, status};
use crate::lazy::Lazy;
use crate::output::Format;
use clap::ValueEnum;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use yado_wire::InstanceName;

/// The arguments of `yado`, if they are of that form.
pub(crate) fn read(args: &[OsString]) -> Option<Arguments> {
    let rest = args.strip_prefix(&[OsString::from("rescue")])?;
    let (socket, rest) = match rest {
        [option, socket, rest @ ..] if option == "--socket" => (PathBuf::from(word(socket)?), rest),
        rest => (PathBuf::from(SOCKET), rest),
    };
    let (verb, rest) = rest.split_first()?;
    let verb = match verb.to_str()? {
        "status" => Verb::Status(Lazy(read_status(rest)?)),
        verb => read_control(verb, rest)?,
    };
    Some(Arguments { socket, project: None, verb })
}

fn read_status(rest: &[OsString]) -> Option<status::Arguments> {
    let (format, rest) = match rest {
        [option, format, rest @ ..] if option == "--format" => (Format::from_str(word(format)?, false).ok()?, rest),
        rest => (Format::Table, rest),
    };
    let instance = match rest {
        [] => None,
        [name] => Some(InstanceName::parse(word(name)?).ok()?),
        _ => return None,
    };
    Some(status::Arguments { instance, project: None, format })
}

fn read_control(verb: &str, names: &[OsString]) -> Option<Verb> {
    let names = names.iter().map(|name| InstanceName::parse(word(name)?).ok()).collect::<Option<Vec<_>>>()?;
    if names.is_empty() {
        return None;
    }
    match verb {
        "start" => Some(Verb::Start(Lazy(control::StartArguments { instances: names }))),
        "stop" => Some(Verb::Stop(Lazy(control::StopArguments { instances: names, timeout: None, force: false }))),
        "restart" => Some(Verb::Restart(Lazy(control::RestartArguments { instances: names }))),
        _ => None,
    }
}

/// A value, and no option.
fn word(text: &OsStr) -> Option<&str> {
    text.to_str().filter(|text| !text.is_empty() && !text.starts_with('-'))
}
