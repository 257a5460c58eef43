//! A source on a web server. HTTP and TLS are spoken by a process of its own without any privilege ([`child`]); here, beside the
//! keys and the slots, only bytes and few small messages are read from it. It can delay an update and spoil a read, which whoever
//! asked notices by a hash. It cannot do more.

mod child;
mod confinement;

pub(crate) use child::main;

use super::http::longest;
use super::{FileName, Ranges, Source, SourceError};
use crate::messages::{self, AnswerError, Ask, Reply, Setup, encode};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use yado_sys::{random, stream};

pub use super::http::Limits;

/// What a web server is met with.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// The folder of the release: `http://…` or `https://…`.
    pub url: String,
    /// `http://[USER:PASSWORD@]HOST:PORT`
    pub proxy: Option<String>,
    /// Certificates of authorities to judge servers by, as PEM. Without them there is no `https://`.
    pub authorities: Vec<u8>,
    /// Our certificate and its key, as PEM, for that server alone.
    pub identity: Option<Vec<u8>>,
    /// It is later than this, in seconds since 1970, whatever the clock says: for instance when the running system was made.
    pub not_before_seconds: u64,
    /// What bounds a fetch.
    pub limits: Limits,
    /// Our own program: `/proc/self/exe`.
    pub program: PathBuf,
}

impl HttpOptions {
    /// For this address, by the proxy that the environment names, with nothing else.
    pub fn new(url: &str, environment: &dyn Fn(&str) -> Option<String>) -> HttpOptions {
        HttpOptions {
            url: url.to_owned(),
            proxy: proxy_for(url, environment),
            authorities: Vec::new(),
            identity: None,
            not_before_seconds: 0,
            limits: Limits::default(),
            program: "/proc/self/exe".into(),
        }
    }
}

/// By the convention of other programs: `http_proxy`, `https_proxy`, and `no_proxy` for names that end so.
fn proxy_for(url: &str, environment: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let variable = format!("{}_proxy", scheme.to_ascii_lowercase());
    // Upper case only for TLS: HTTP_PROXY can come from a request to a CGI program.
    let other = (variable == "https_proxy").then_some("HTTPS_PROXY");
    let value = |name: &str| environment(name).filter(|value| !value.is_empty());
    let proxy = value(&variable).or_else(|| value(other?))?;
    let host = rest.split(['/', '?']).next()?;
    let host = host.strip_prefix('[').map_or_else(|| host.split(':').next(), |host| host.split(']').next())?;
    let exceptions = value("no_proxy").or_else(|| value("NO_PROXY")).unwrap_or_default();
    let is_exception = |exception: &str| {
        let name = exception.trim_start_matches('.');
        let is_below = host.strip_suffix(name).is_some_and(|above| above.is_empty() || above.ends_with('.'));
        !name.is_empty() && (name == "*" || is_below)
    };
    (!exceptions.split(',').map(str::trim).any(is_exception)).then_some(proxy)
}

/// The process that fetches, and the link to it. It is started with the first request, and again after one that was stopped.
#[derive(Debug)]
pub struct FetchProcess {
    options: HttpOptions,
    ranges: Ranges,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    link: UnixStream,
}

impl FetchProcess {
    /// Starts the process, and asks the server whether it gives parts of files.
    pub fn open(options: HttpOptions) -> Result<FetchProcess, SourceError> {
        let mut source = FetchProcess { options, ranges: Ranges::Whole, running: None };
        let (gives_ranges, _) = source.look(FileName::Release)?;
        source.ranges = if gives_ranges { Ranges::Any } else { Ranges::Whole };
        Ok(source)
    }

    fn look(&mut self, file: FileName) -> Result<(bool, Option<u64>), SourceError> {
        self.ask(file, &Ask::Look { file }, 1)?;
        match self.answer(file, 0, &mut |_| Ok(()))? {
            Reply::Seen { gives_ranges, bytes } => Ok((gives_ranges, bytes)),
            Reply::Done | Reply::Failed(_) => Err(self.give_up(file, "it answered another question")),
        }
    }

    fn ask(&mut self, file: FileName, ask: &Ask, bytes: u64) -> Result<(), SourceError> {
        if self.running.is_none() {
            self.running =
                Some(start(&self.options).map_err(|error| broken(file, format!("start a process: {error}")))?);
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        // It ends what takes too long by itself, and says so. This is for one that does not.
        let longest = longest(&self.options.limits, bytes).saturating_mul(2);
        let message = encode(ask).unwrap_or_default();
        let sent = running.link.set_read_timeout(Some(longest.max(Duration::from_secs(1))));
        match sent.and_then(|()| running.link.write_all(&message)) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.give_up(file, &error.to_string())),
        }
    }

    /// Gives data to `take`, never more than `most_bytes`, until the answer comes.
    fn answer(
        &mut self,
        file: FileName,
        most_bytes: u64,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Reply, SourceError> {
        let Some(Running { child: _, link }) = &mut self.running else {
            return Err(self.give_up(file, "it has ended"));
        };
        let mut left_bytes = most_bytes;
        match messages::read_answer(link, &mut left_bytes, take) {
            Ok(Reply::Failed(failure)) => Err(failure.about(file)),
            Ok(Reply::Done) if 0 < left_bytes => Err(self.give_up(file, "it gives less than it says")),
            Ok(reply) => Ok(reply),
            Err(AnswerError::Stopped(error)) => {
                // What is still under way is not waited for.
                self.stop();
                Err(SourceError::Stopped(error))
            }
            Err(error) => Err(self.give_up(file, &error.to_string())),
        }
    }

    /// It is not spoken to any more.
    fn give_up(&mut self, file: FileName, why: &str) -> SourceError {
        let how = self.stop();
        broken(file, format!("the process that fetches: {why}{how}"))
    }

    /// Ends it, and says how it had ended if it did so by itself.
    fn stop(&mut self) -> String {
        let Some(Running { mut child, link }) = self.running.take() else { return String::new() };
        let ended = child.try_wait().ok().flatten();
        drop(link);
        let _ = child.kill();
        let _ = child.wait();
        ended.map_or(String::new(), |status| format!(" ({status})"))
    }
}

impl Drop for FetchProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Source for FetchProcess {
    fn ranges(&self) -> Ranges {
        self.ranges
    }

    /// It takes a request; what is wrong is told by the read that follows.
    fn length(&mut self, file: FileName) -> Option<u64> {
        self.look(file).ok().and_then(|(_, bytes)| bytes)
    }

    fn read(
        &mut self,
        file: FileName,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        if range.is_empty() {
            return Ok(());
        }
        let ask = Ask::Read { file, start: range.start, end: range.end };
        self.ask(file, &ask, range.end)?;
        match self.answer(file, range.end - range.start, take)? {
            Reply::Done => Ok(()),
            Reply::Seen { .. } | Reply::Failed(_) => Err(self.give_up(file, "it answered another question")),
        }
    }
}

fn start(options: &HttpOptions) -> io::Result<Running> {
    let (ours, theirs) = stream::pair()?;
    let child = Command::new(&options.program)
        .arg0("yado-updater")
        .arg("fetch")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    let mut running = Running { child, link: UnixStream::from(ours) };
    let HttpOptions { url, proxy, authorities, identity, not_before_seconds, limits, program: _ } = options;
    let setup = Setup {
        url: url.clone(),
        proxy: proxy.clone(),
        authorities: authorities.clone(),
        identity: identity.clone(),
        not_before_seconds: *not_before_seconds,
        limits: *limits,
        chance: u64::from_le_bytes(random::random_bytes()?),
    };
    let setup = encode(&setup).ok_or_else(|| io::Error::other("the certificates are more than 1 MiB"))?;
    // A process that ends at once does not read it. What it said stands in the log, and its end is noticed at the answer.
    running.link.set_write_timeout(Some(Duration::from_secs(30)))?;
    match running.link.write_all(&setup) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(running),
    }
}

fn broken(file: FileName, reason: String) -> SourceError {
    SourceError::Broken { file, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_proxy_and_its_exceptions() {
        let environment = |name: &str| match name {
            "http_proxy" => Some("http://p:1".to_owned()),
            "HTTPS_PROXY" => Some("http://q:2".to_owned()),
            "no_proxy" => Some("local, .example.org".to_owned()),
            _ => None,
        };
        let cases = [
            ("http://h/x", Some("http://p:1")),
            ("https://h:8443/x", Some("http://q:2")),
            ("http://local:81/", None),
            ("http://www.example.org/", None),
            ("http://example.org", None),
            ("http://notexample.org/", Some("http://p:1")),
            ("http://[::1]/", Some("http://p:1")),
            ("nothing", None),
        ];
        for (url, proxy) in cases {
            assert_eq!(proxy_for(url, &environment).as_deref(), proxy, "{url}");
        }
        assert_eq!(proxy_for("http://h/", &|name| (name == "no_proxy").then(|| "*".to_owned())), None);
    }
}
