//! One file by HTTP: a request of version 1.0, so that no answer comes in chunks. Without TLS: whoever answers is not believed, the
//! image's signature is. No redirection is followed; where to it leads is said.

use std::fmt;
use std::io::{self, Cursor, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the next bytes: a server that says nothing for so long has gone.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Of status line and headers; servers' own limits are the same.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// What follows the headers.
pub(super) struct Body {
    pub(super) bytes: Box<dyn Read>,
    pub(super) size_bytes: Option<u64>,
}

/// Asks for it, and reads the headers.
pub(super) fn get(url: &str) -> Result<Body, HttpError> {
    let Url { authority, path } = Url::parse(url)?;
    let mut stream = connect(authority)?;
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {authority}\r\nUser-Agent: yado/{}\r\nAccept: */*\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes()).map_err(HttpError::Io)?;
    let mut received = Vec::new();
    loop {
        if let Some(Head { length, size_bytes }) = parse_head(&received)? {
            let rest = Cursor::new(received.split_off(length));
            let bytes = rest.chain(stream);
            return Ok(match size_bytes {
                Some(size_bytes) => Body { bytes: Box::new(bytes.take(size_bytes)), size_bytes: Some(size_bytes) },
                None => Body { bytes: Box::new(bytes), size_bytes: None },
            });
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

fn connect(authority: &str) -> Result<TcpStream, HttpError> {
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    let with_port = if after_host.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in with_port.to_socket_addrs().map_err(HttpError::Io)? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(READ_TIMEOUT)).map_err(HttpError::Io)?;
                stream.set_write_timeout(Some(READ_TIMEOUT)).map_err(HttpError::Io)?;
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
    size_bytes: Option<u64>,
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
    let size_bytes =
        header("Content-Length").map(|text| text.trim().parse().map_err(|_| HttpError::NoHttp)).transpose()?;
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
        assert_eq!(size("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nxx").unwrap(), Some(Some(12)));
        assert_eq!(size("HTTP/1.0 200 OK\r\n\r\n").unwrap(), Some(None));
        assert_eq!(size("HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
        for (answer, told) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "answers 404 Not Found"),
            ("HTTP/1.1 302 Found\r\nLocation: http://other/\r\n\r\n", "answers 302: it is at http://other/"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "in chunks"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "does not speak HTTP"),
            ("SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
        ] {
            let error = size(answer).unwrap_err().to_string();
            assert!(error.contains(told), "{answer:?}: {error}");
        }
    }
}
