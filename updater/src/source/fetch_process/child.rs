//! The fetching process: `yado-updater fetch`, started by the updater with a socket as its standard input. It gives up what it could
//! do, hears what to fetch, and ends when the updater hangs up.

use super::confinement::restrict;
use crate::messages::{
    Ask, Failure, HEAD_BYTES, Kind, MAX_DATA_BYTES, MAX_MESSAGE_BYTES, Reply, Setup, clipped, decode, encode, head,
    no_message, parse_head,
};
use crate::source::http::{Client, Sink};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Serves one updater.
pub(crate) fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yado-updater: fetch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let link = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Who started it by hand has something else there.
    link.peer_addr()?;
    // Before: in a program whose other parts wait for signals, it makes itself a pair of sockets, which nobody may any more then.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    restrict()?;
    link.set_nonblocking(true)?;
    runtime.block_on(async { serve(Link(tokio::net::UnixStream::from_std(link)?)).await })
}

async fn serve(mut link: Link) -> io::Result<()> {
    let Some(setup) = link.receive::<Setup>().await? else { return Ok(()) };
    let mut client = Client::new(setup);
    while let Some(ask) = link.receive().await? {
        let answer = match (&mut client, ask) {
            (Err(reason), _) => Err(Failure::Broken { reason: reason.clone() }),
            (Ok(client), Ask::Look { file }) => {
                client.look(&file.to_string()).await.map(|(gives_ranges, bytes)| Reply::Seen { gives_ranges, bytes })
            }
            (Ok(client), Ask::Read { file, start, end }) => {
                client.fetch(&file.to_string(), start..end, &mut link).await.map(|_| Reply::Done)
            }
        };
        link.send(&answer.unwrap_or_else(|failure| Reply::Failed(short(failure)))).await?;
    }
    Ok(())
}

/// What servers say is in it.
fn short(failure: Failure) -> Failure {
    match failure {
        Failure::Broken { reason } => Failure::Broken { reason: clipped(&reason) },
        Failure::Missing | Failure::Short { .. } => failure,
    }
}

struct Link(tokio::net::UnixStream);

impl Link {
    /// `None`: the updater has hung up.
    async fn receive<M: serde::de::DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        let mut head = [0; HEAD_BYTES];
        match self.0.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let Some((Kind::Message, bytes)) = parse_head(head, MAX_MESSAGE_BYTES) else { return Err(no_message()) };
        let mut body = vec![0; bytes];
        self.0.read_exact(&mut body).await?;
        decode(&body).map(Some).ok_or_else(no_message)
    }

    async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        self.0.write_all(&encode(reply).ok_or_else(no_message)?).await
    }
}

impl Sink for Link {
    /// Who asked takes its time: nothing more is read from the server meanwhile.
    async fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(MAX_DATA_BYTES) {
            self.0.write_all(&head(Kind::Data, piece.len())).await?;
            self.0.write_all(piece).await?;
        }
        Ok(())
    }
}
