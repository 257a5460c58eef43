//! `yado rescue [--socket PATH] start|stop|restart NAME…`, read by hand: scripts and other programs call these over and over, and
//! to build clap's commands for them took a fifth of the time until init is asked. Whatever is not exactly that, options,
//! mistakes and help among it, is clap's.

use super::{Arguments, SOCKET, Verb, control};
use crate::lazy::Lazy;
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
    let (verb, names) = rest.split_first()?;
    let names = names.iter().map(|name| InstanceName::parse(word(name)?).ok()).collect::<Option<Vec<_>>>()?;
    if names.is_empty() {
        return None;
    }
    let verb = match verb.to_str()? {
        "start" => Verb::Start(Lazy(control::StartArguments { instances: names })),
        "stop" => Verb::Stop(Lazy(control::StopArguments { instances: names, timeout: None, force: false })),
        "restart" => Verb::Restart(Lazy(control::RestartArguments { instances: names })),
        _ => return None,
    };
    Some(Arguments { socket, project: None, verb })
}

/// A value, and no option.
fn word(text: &OsStr) -> Option<&str> {
    text.to_str().filter(|text| !text.is_empty() && !text.starts_with('-'))
}
