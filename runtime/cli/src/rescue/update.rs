//! What `yado update` asks init: to start the updater, how that ended, and to end it.

use super::connection::{ANSWER_TIMEOUT, Connection, ExchangeError};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;
use yado_wire::rescue::{ExitStatus, Reply, Request};

/// An updater that is to end gets some seconds from init.
const MAKE_WAY_TIMEOUT: Duration = ANSWER_TIMEOUT.saturating_mul(3);

/// An updater that was started for us. It goes on when this is dropped.
pub(crate) struct StartedUpdater {
    connection: Connection<Reply>,
    /// Its process.
    pub(crate) pid: Option<i32>,
}

impl StartedUpdater {
    /// Has init start it with these words, and `input` as its standard input.
    pub(crate) fn start(
        socket: &Path,
        words: Vec<String>,
        input: Option<BorrowedFd<'_>>,
    ) -> Result<StartedUpdater, ExchangeError> {
        let input: Vec<BorrowedFd<'_>> = input.into_iter().collect();
        let connection = Connection::ask_init(socket, &Request::Update { words }, &input)?;
        connection.set_timeout(MAKE_WAY_TIMEOUT)?;
        match connection.next()?.0 {
            Reply::Service(status) => Ok(StartedUpdater { connection, pid: status.pid }),
            Reply::Refused(failure) => Err(ExchangeError::Refused(Box::new(failure))),
            _ => Err(connection.unexpected()),
        }
    }

    /// How it ended. `None`: it has not, within this time.
    pub(crate) fn wait(&self, time: Duration) -> Result<Option<ExitStatus>, ExchangeError> {
        self.connection.set_timeout(time)?;
        match self.connection.next_or_silence()? {
            None => Ok(None),
            Some((Reply::Exited(status), _)) => Ok(Some(status)),
            Some((Reply::Refused(failure), _)) => Err(ExchangeError::Refused(Box::new(failure))),
            Some(_) => Err(self.connection.unexpected()),
        }
    }
}

/// Has init end the updater that runs, if one does, and waits until it has ended: init gives it some seconds.
pub(crate) fn stop(socket: &Path) -> Result<(), ExchangeError> {
    let connection = Connection::ask_init(socket, &Request::StopUpdate, &[])?;
    connection.set_timeout(MAKE_WAY_TIMEOUT)?;
    connection.wait_until_done()
}

/// The process of the updater that runs, if one does.
pub(crate) fn running(socket: &Path) -> Result<Option<i32>, ExchangeError> {
    let services = super::status::ask(socket)?.services;
    Ok(services.iter().find(|service| service.name.as_str() == "updater").and_then(|service| service.pid))
}
