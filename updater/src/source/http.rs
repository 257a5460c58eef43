//! Files by HTTP and HTTPS: one connection, one request after the other, each for a range of a file. This runs in a process without
//! privileges ([`super::fetch_process`]): whatever a server or a proxy sends is met here and nowhere else.
//!
//! Everything is bounded: an answer's head in bytes and time, the body in bytes by what was asked for, its speed by a floor, attempts by
//! their number, all of it by a time that follows from the floor. Who answers is not believed: whoever asked checks each byte.

pub(crate) mod address;
pub(crate) mod answer;
mod attempts;
mod connection;
mod tls;

use crate::messages::{Failure, Setup};
use address::{Address, AddressError};
use answer::{Answer, Known, judge};
use attempts::Attempts;
use connection::{Connection, Origins};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ACCEPT_ENCODING, HOST, IF_RANGE, PROXY_AUTHORIZATION, RANGE, USER_AGENT};
use hyper::{Request, Response};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// A release has a few hundred files at most; what is known of more is forgotten.
const MAX_KNOWN: usize = 1024;
/// A few servers in a row are met; a loop is not.
const MAX_REDIRECTIONS: usize = 5;
const AGENT: &str = concat!("yado/", env!("CARGO_PKG_VERSION"));

/// Takes the bytes of a range, in order.
pub(crate) trait Sink {
    /// The next bytes. An error is the end of everything: nobody waits for more.
    fn take(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>>;
}

/// One server, perhaps others that it leads to, and what is known of its files.
pub(crate) struct Client {
    folder: Address,
    origins: Origins,
    limits: Limits,
    attempts: Attempts,
    connection: Option<Connection>,
    known: BTreeMap<String, File>,
}

/// What bounds a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Until a connection stands, with TLS and through a proxy.
    pub connect: Duration,
    /// From a request to the end of its answer's head.
    pub head: Duration,
    /// In each such time of waiting for a body ...
    pub window: Duration,
    /// ... so many bytes come at least.
    pub bytes_in_window: u64,
    /// So many attempts in a row that bring nothing.
    pub attempts: u32,
    /// Before the second of them; before each further one about twice as long.
    pub first_pause: Duration,
    /// On top of what the range takes at the lowest speed, all attempts and pauses of one range.
    pub grace: Duration,
}

impl Default for Limits {
    /// The speed is a tenth of what a modem of the second generation has.
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(30),
            head: Duration::from_secs(30),
            window: Duration::from_secs(30),
            bytes_in_window: 16 << 10,
            attempts: 6,
            first_pause: Duration::from_secs(2),
            grace: Duration::from_secs(600),
        }
    }
}

/// How long all attempts at so many bytes may take.
pub(crate) fn longest(limits: &Limits, bytes: u64) -> Duration {
    let windows = bytes / limits.bytes_in_window.max(1);
    limits.window.saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX)).saturating_add(limits.grace)
}

#[derive(Default)]
struct File {
    known: Known,
    /// Where it was last found, if not below the folder.
    moved: Option<Address>,
}

/// How an attempt ended that did not bring all.
enum End {
    /// It is as it is.
    For(Failure),
    /// Another one may do.
    Again { reason: String, after: Option<Duration> },
}

/// Why there is no answer.
enum SendError {
    HungUp(String),
    End(End),
}

impl End {
    fn again(reason: impl ToString) -> End {
        End::Again { reason: reason.to_string(), after: None }
    }

    fn broken(reason: impl ToString) -> End {
        End::For(Failure::Broken { reason: reason.to_string() })
    }
}

impl Client {
    /// A client for the folder of this set-up. Nothing is asked yet.
    pub(crate) fn new(setup: Setup) -> Result<Client, String> {
        let folder = Address::parse(&setup.url).map_err(|error| error.to_string())?;
        Ok(Client {
            origins: Origins::new(&folder.origin, &setup)?,
            folder,
            limits: setup.limits,
            attempts: Attempts::new(&setup.limits, setup.chance),
            connection: None,
            known: BTreeMap::new(),
        })
    }

    /// Whether the server gives parts of this file, and how long it is, as it answers to the request for the first byte.
    pub(crate) async fn look(&mut self, name: &str) -> Result<(bool, Option<u64>), Failure> {
        struct Ignore;
        impl Sink for Ignore {
            async fn take(&mut self, _: &[u8]) -> io::Result<()> {
                Ok(())
            }
        }
        match self.fetch(name, 0..1, &mut Ignore).await {
            Ok(is_range) => Ok((is_range, self.known.get(name).and_then(|file| file.known.bytes))),
            // It is there and empty.
            Err(Failure::Short { bytes }) => Ok((false, Some(bytes))),
            Err(failure) => Err(failure),
        }
    }

    /// Gives the bytes of a range of the file to the sink, however many attempts it takes; says whether the last answer was a part.
    pub(crate) async fn fetch(
        &mut self,
        name: &str,
        mut range: Range<u64>,
        sink: &mut impl Sink,
    ) -> Result<bool, Failure> {
        // A server without parts sends all that comes before, too.
        let until = Instant::now().checked_add(longest(&self.limits, range.end));
        self.attempts.begin();
        loop {
            let before = range.start;
            let (reason, after) = match self.attempt(name, &mut range, sink).await {
                Ok(is_range) => return Ok(is_range),
                Err(End::For(failure)) => {
                    self.connection = None;
                    return Err(failure);
                }
                Err(End::Again { reason, after }) => (reason, after),
            };
            self.connection = None;
            let pause = self.attempts.pause(range.start.saturating_sub(before), after);
            let is_in_time = |pause: &Duration| until.is_none_or(|until| Instant::now() + *pause < until);
            let Some(pause) = pause.filter(is_in_time) else {
                return Err(Failure::Broken { reason: format!("{reason}; tried {} times", self.attempts.made()) });
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// One request, with its redirections.
    async fn attempt(&mut self, name: &str, range: &mut Range<u64>, sink: &mut impl Sink) -> Result<bool, End> {
        if MAX_KNOWN < self.known.len() {
            self.known.clear();
        }
        let mut address = match self.known.get(name).and_then(|file| file.moved.clone()) {
            Some(moved) => moved,
            None => self.folder.below(name),
        };
        for _ in 0..=MAX_REDIRECTIONS {
            let known = self.known.get(name).map(|file| file.known.clone()).unwrap_or_default();
            let response = self.ask(&address, range, &known).await?;
            let body = match judge(response.status(), response.headers(), range, &known) {
                Answer::Body(body) => body,
                Answer::Moved { location } => {
                    // What comes with it is not read.
                    self.connection = None;
                    address = address
                        .redirected(&location)
                        .map_err(|error: AddressError| End::broken(format!("redirected: {error}")))?;
                    self.known.entry(name.to_owned()).or_default().moved = Some(address.clone());
                    continue;
                }
                answer => return Err(self.end_of(name, answer)),
            };
            let file = self.known.entry(name.to_owned()).or_default();
            file.known = body.known.clone();
            self.take_body(response.into_body(), &body, range, sink).await?;
            return Ok(body.is_range);
        }
        self.forget_move(name);
        Err(End::broken(format!("more than {MAX_REDIRECTIONS} redirections")))
    }

    fn forget_move(&mut self, name: &str) -> bool {
        self.known.get_mut(name).is_some_and(|file| file.moved.take().is_some())
    }

    fn end_of(&mut self, name: &str, answer: Answer) -> End {
        // Where it was before may have been for a while only.
        let was_moved = self.forget_move(name);
        match answer {
            Answer::Missing | Answer::Refused { .. } if was_moved => End::again("it is no longer where it was"),
            Answer::Missing => End::For(Failure::Missing),
            Answer::Ends { bytes } => End::For(Failure::Short { bytes }),
            Answer::Changed => {
                self.known.remove(name);
                End::broken("the file was changed on the server while it was fetched")
            }
            Answer::Later { reason, after } => End::Again { reason, after },
            Answer::Refused { reason } => End::broken(reason),
            Answer::Body(_) | Answer::Moved { .. } => End::again("unreachable: taken before"),
        }
    }

    /// Sends the request, over the connection that there is if it is to the same server and still good.
    async fn ask(&mut self, address: &Address, range: &Range<u64>, known: &Known) -> Result<Response<Incoming>, End> {
        let (limits, origin) = (self.limits, &address.origin);
        if let Some(mut connection) = self.connection.take().filter(|connection| connection.origin == *origin) {
            // A server hangs up when nothing was asked for a while. That is no failure.
            if connection.is_good().await {
                match self.send(&mut connection, address, range, known).await {
                    Ok(response) => {
                        self.connection = Some(connection);
                        return Ok(response);
                    }
                    Err(SendError::HungUp(_)) => {}
                    Err(SendError::End(end)) => return Err(end),
                }
            }
        }
        let mut connection = timeout(limits.connect, self.origins.connect(origin))
            .await
            .map_err(|_| End::again(format!("{}: no connection in {:?}", origin.with_port(), limits.connect)))?
            .map_err(|error| match error.is_final {
                true => End::broken(error.reason),
                false => End::again(error.reason),
            })?;
        match self.send(&mut connection, address, range, known).await {
            Ok(response) => {
                self.connection = Some(connection);
                Ok(response)
            }
            Err(SendError::HungUp(reason)) => Err(End::again(reason)),
            Err(SendError::End(end)) => Err(end),
        }
    }

    async fn send(
        &self,
        connection: &mut Connection,
        address: &Address,
        range: &Range<u64>,
        known: &Known,
    ) -> Result<Response<Incoming>, SendError> {
        let target = if connection.is_to_proxy { address.to_string() } else { address.path.clone() };
        let mut request = Request::get(target)
            .header(HOST, address.origin.host_header())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT_ENCODING, "identity")
            .header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        if let Some(authorization) = connection.is_to_proxy.then(|| self.origins.proxy_authorization()).flatten() {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        // At the beginning of a file any version of it will do.
        if let Some(validator) = known.validator.as_ref().filter(|_| 0 < range.start) {
            request = request.header(IF_RANGE, validator);
        }
        let request = request.body(NoBody).map_err(|error| SendError::End(End::broken(error)))?;
        let answer = timeout(self.limits.head, connection.sender.send_request(request)).await;
        let no_answer = || SendError::End(End::again(format!("no answer in {:?}", self.limits.head)));
        answer.map_err(|_| no_answer())?.map_err(|error| match error.is_parse() {
            true => SendError::End(End::broken(format!("no answer that HTTP has: {}", with_causes(&error)))),
            false => SendError::HungUp(with_causes(&error)),
        })
    }

    /// Gives the part of the body that was asked for to the sink; `range` begins behind it then.
    async fn take_body(
        &mut self,
        mut body: Incoming,
        what: &answer::Body,
        range: &mut Range<u64>,
        sink: &mut impl Sink,
    ) -> Result<(), End> {
        let Limits { window, bytes_in_window, .. } = self.limits;
        let (mut skip, mut received) = (what.skip, 0_u64);
        let (mut waited, mut in_window) = (Duration::ZERO, 0_u64);
        while range.start < range.end {
            let since = Instant::now();
            let next = timeout(window.saturating_sub(waited), next_bytes(&mut body)).await;
            waited += since.elapsed();
            let bytes = match next {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(Some(Err(error))) => return Err(End::again(with_causes(&error))),
                // An answer that was cut off is an error before this: it is the file that ends.
                Ok(None) if what.is_range && what.known.bytes.is_none_or(|bytes| range.start < bytes) => {
                    return Err(End::again("the answer ended early"));
                }
                Ok(None) => {
                    let bytes = if what.is_range { range.start } else { received };
                    return Err(End::For(Failure::Short { bytes }));
                }
                Err(_) => Bytes::new(),
            };
            received += bytes.len() as u64;
            in_window += bytes.len() as u64;
            if window <= waited {
                if in_window < bytes_in_window {
                    return Err(End::again(format!("too slow: {in_window} bytes in {window:?}")));
                }
                (waited, in_window) = (Duration::ZERO, 0);
            }
            let skipped = skip.min(bytes.len() as u64);
            skip -= skipped;
            let wanted = range.end.saturating_sub(range.start);
            let bytes = bytes.get(skipped as usize..).unwrap_or_default();
            let bytes =
                bytes.get(..bytes.len().min(usize::try_from(wanted).unwrap_or(usize::MAX))).unwrap_or_default();
            sink.take(bytes).await.map_err(End::broken)?;
            range.start += bytes.len() as u64;
        }
        if !body.is_end_stream() {
            // What follows is not wanted; it would stand before the next answer.
            self.connection = None;
        }
        Ok(())
    }
}

async fn next_bytes(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => return Some(Ok(bytes)),
                // Trailers, which are bounded as the head is.
                Err(_) => continue,
            },
            Some(Err(error)) => return Some(Err(error)),
            None => return None,
        }
    }
}

/// hyper says what it did, its cause says what happened.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A request for a file has no body.
pub(crate) struct NoBody;

impl hyper::body::Body for NoBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
