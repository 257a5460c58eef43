//! What `yado apply` asks init.

use super::connection::{Connection, ExchangeError};
use super::status::{self, StatusReply};
use std::path::Path;
use yado_wire::rescue::{Applied, InstanceStatus, Mode, Reply, Request};

/// How init runs, and the instances that it has.
pub(crate) fn instances(socket: &Path) -> Result<(Mode, Vec<InstanceStatus>), ExchangeError> {
    let StatusReply { system, instances, .. } = status::ask(socket)?;
    Ok((system.mode, instances))
}

/// Has what was compiled applied, and tells `each` what became of an instance when it did. Without a time limit: how long one
/// may take to stop is its own affair, and init ends it.
pub(crate) fn apply(
    socket: &Path,
    forget: bool,
    mut each: impl FnMut(&Applied),
) -> Result<Vec<Applied>, ExchangeError> {
    let connection = Connection::ask_init(socket, &Request::Apply { forget }, &[])?;
    let mut all = Vec::new();
    loop {
        match connection.next()?.0 {
            Reply::Applied(applied) => {
                each(&applied);
                all.push(applied);
            }
            Reply::Done => return Ok(all),
            Reply::Refused(failure) => return Err(ExchangeError::Refused(Box::new(failure))),
            _ => return Err(connection.unexpected()),
        }
    }
}
