//! One file by HTTP: a request of version 1.0, so that no answer comes in chunks. Without TLS: whoever answers is not believed, the
//! image's signature is. So it must say how much it sends, and keep up a pace. No redirection is followed; where to it leads is said.

use std::fmt;
use std::io::{self, Chain, Cursor, Read, Take, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A tenth of what a modem of the second generation has.
const PACE: Pace = Pace { window: Duration::from_secs(30), min_bytes: 16 * 1024 };
/// Of status line and headers; servers' own limits are the same.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// Somebody who sends a byte now and then would keep us, and the lock of the images, for ever.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Of waiting for the server; also how long it may say nothing.
    window: Duration,
    /// In each.
    min_bytes: u64,
}

/// What follows the headers.
pub(super) struct Body {
    pub(super) bytes: Take<Chain<Cursor<Vec<u8>>, Paced>>,
    pub(super) size_bytes: u64,
}

/// Asks for it, and reads the headers.
pub(super) fn get(url: &str) -> Result<Body, HttpError> {
    get_at(url, PACE)
}

fn get_at(url: &str, pace: Pace) -> Result<Body, HttpError> {
    let Url { authority, path } = Url::parse(url)?;
    let stream = connect(authority, pace.window)?;
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {authority}\r\nUser-Agent: yado/{}\r\nAccept: */*\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    (&stream).write_all(request.as_bytes()).map_err(HttpError::Io)?;
    let mut stream = Paced { stream, pace, waited: Duration::ZERO, received_bytes: 0 };
    let mut received = Vec::new();
    loop {
        if let Some(Head { length, size_bytes }) = parse_head(&received)? {
            let rest = Cursor::new(received.split_off(length));
            return Ok(Body { bytes: rest.chain(stream).take(size_bytes), size_bytes });
        }
        if MAX_HEAD_BYTES < received.len() {
            return Err(HttpError::NoHttp);
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => return Err(HttpError::NoHttp),
            Ok(count) => received.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(HttpError::Io(error)),
        }
    }
}

/// A connection on which the server keeps up the pace. The time that we take ourselves, to write, does not count.
#[derive(Debug)]
pub(super) struct Paced {
    stream: TcpStream,
    pace: Pace,
    /// In this window.
    waited: Duration,
    received_bytes: u64,
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let read = self.stream.read(buffer);
        self.waited += began.elapsed();
        let Pace { window, min_bytes } = self.pace;
        let count = match read {
            Ok(count) => count,
            // So the kernel says that the time is over.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_slow(self.pace)),
            Err(error) => return Err(error),
        };
        self.received_bytes += count as u64;
        if count != 0 && window <= self.waited {
            if self.received_bytes < min_bytes {
                return Err(too_slow(self.pace));
            }
            (self.waited, self.received_bytes) = (Duration::ZERO, 0);
        }
        Ok(count)
    }
}

fn too_slow(Pace { window, min_bytes }: Pace) -> io::Error {
    let text = format!("the server sends less than {min_bytes} bytes in {} s", window.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

fn connect(authority: &str, timeout: Duration) -> Result<TcpStream, HttpError> {
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    let with_port = if after_host.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in with_port.to_socket_addrs().map_err(HttpError::Io)? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(timeout)).map_err(HttpError::Io)?;
                stream.set_write_timeout(Some(timeout)).map_err(HttpError::Io)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(HttpError::Io(last))
}

#[derive(Debug, PartialEq, Eq)]
struct Url<'u> {
    /// Host and port, as in the header `Host`.
    authority: &'u str,
    path: &'u str,
}

impl Url<'_> {
    fn parse(url: &str) -> Result<Url<'_>, HttpError> {
        let rest = url.strip_prefix("http://").ok_or(HttpError::Scheme)?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_good = !authority.is_empty()
            && !authority.contains(['@', '?'])
            && rest.bytes().all(|byte| byte.is_ascii_graphic());
        match is_good {
            true => Ok(Url { authority, path: if path.is_empty() { "/" } else { path } }),
            false => Err(HttpError::Url),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// Of it, in bytes.
    length: usize,
    /// Of what follows.
    size_bytes: u64,
}

/// `None`: there is more to come.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(HttpError::NoHttp),
    };
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    match response.code.unwrap_or_default() {
        200 => {}
        code @ 300..=399 => {
            return Err(HttpError::Elsewhere { code, location: header("Location").unwrap_or_default() });
        }
        code => return Err(HttpError::Status { code, reason: response.reason.unwrap_or_default().to_owned() }),
    }
    if header("Transfer-Encoding").is_some() {
        return Err(HttpError::Encoded);
    }
    let size_bytes = header("Content-Length").ok_or(HttpError::Endless)?;
    let size_bytes = size_bytes.trim().parse().map_err(|_| HttpError::NoHttp)?;
    Ok(Some(Head { length, size_bytes }))
}

/// Why it did not come.
#[derive(Debug)]
pub(super) enum HttpError {
    /// Something other than http.
    Scheme,
    /// Not a URL.
    Url,
    /// The network, or the server's name.
    Io(io::Error),
    /// What answers speaks something else.
    NoHttp,
    /// A redirection.
    Elsewhere { code: u16, location: String },
    /// Any other answer than the file.
    Status { code: u16, reason: String },
    /// In pieces, which nobody has asked for.
    Encoded,
    /// Of a length that nobody knows.
    Endless,
}

impl fmt::Display for HttpError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Scheme => {
                out.write_str("only http:// is known here: what is fetched is believed by its signature")
            }
            HttpError::Url => out.write_str("is not http://HOST[:PORT]/PATH"),
            HttpError::Io(source) => source.fmt(out),
            HttpError::NoHttp => out.write_str("what answers does not speak HTTP"),
            HttpError::Elsewhere { code, location } => {
                write!(out, "the server answers {code}: it is at {}", crate::output::printable(location))
            }
            HttpError::Status { code, reason } => {
                write!(out, "the server answers {code} {}", crate::output::printable(reason))
            }
            HttpError::Encoded => out.write_str("the server sends it in chunks, which HTTP/1.0 does not have"),
            HttpError::Endless => out.write_str("the server does not say how much it sends (Content-Length)"),
        }
    }
}

impl std::error::Error for HttpError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_a_path_and_nothing_else() {
        for (url, authority, path) in [
            ("http://h/a/b?c#d", "h", "/a/b?c"),
            ("http://10.0.0.1:8000", "10.0.0.1:8000", "/"),
            ("http://[::1]/x", "[::1]", "/x"),
        ] {
            assert_eq!(Url::parse(url).unwrap(), Url { authority, path }, "{url}");
        }
        for url in [
            "https://h/a",
            "ftp://h/a",
            "http://",
            "http:///a",
            "http://u@h/a",
            "http://h/a b",
            "http://h/a\r\nX: y",
            "http://h?x",
        ] {
            assert!(Url::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_answer_is_the_file_or_said_not_to_be() {
        let size = |text: &str| parse_head(text.as_bytes()).map(|head| head.map(|head| head.size_bytes));
        assert_eq!(size("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nxx").unwrap(), Some(12));
        assert_eq!(size("HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
        for (answer, told) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "answers 404 Not Found"),
            ("HTTP/1.1 302 Found\r\nLocation: http://other/\r\n\r\n", "answers 302: it is at http://other/"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "in chunks"),
            ("HTTP/1.0 200 OK\r\n\r\n", "does not say how much it sends"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "does not speak HTTP"),
            ("SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
        ] {
            let error = size(answer).unwrap_err().to_string();
            assert!(error.contains(told), "{answer:?}: {error}");
        }
    }

    /// Sends this, and then a byte each time that the client has not hung up for so long. How many it could send.
    fn drip(head: &'static str, pause: Duration) -> (String, std::thread::JoinHandle<u32>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x.img", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.set_read_timeout(Some(pause)).unwrap();
            client.write_all(head.as_bytes()).unwrap();
            let (mut sent, mut asked) = (0, [0; 4096]);
            loop {
                match client.read(&mut asked) {
                    Ok(0) => return sent,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return sent,
                }
                if 1000 <= sent || client.write_all(b"x").is_err() {
                    return sent;
                }
                sent += 1;
            }
        });
        (url, server)
    }

    #[test]
    fn a_server_that_drips_is_left_whether_it_is_in_the_headers_or_behind_them() {
        let pace = Pace { window: Duration::from_millis(500), min_bytes: 10_000 };
        for head in ["HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"] {
            for (pause, least) in [(Duration::from_millis(20), 5), (Duration::from_secs(60), 0)] {
                let (url, server) = drip(head, pause);
                let began = Instant::now();
                let told = match get_at(&url, pace) {
                    Err(error) => error.to_string(),
                    Ok(mut body) => body.bytes.read_to_end(&mut Vec::new()).unwrap_err().to_string(),
                };
                assert!(told.contains("less than 10000 bytes"), "{head:?}: {told}");
                assert!(began.elapsed() < Duration::from_secs(10), "{head:?}: {:?}", began.elapsed());
                let sent = server.join().unwrap();
                assert!((least..1000).contains(&sent), "{head:?}: {sent}");
            }
        }
    }
}
