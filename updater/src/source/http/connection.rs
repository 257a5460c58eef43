//! A connection to a server: name, address, perhaps a proxy between, TLS, and hyper's half of HTTP on it.

use super::address::{Address, Origin, Security};
use super::tls::Tls;
use super::{NoBody, with_causes};
use crate::messages::Setup;
use base64ct::{Base64, Encoding};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::ToSocketAddrs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Of an answer's head; what is more is refused. Servers' own limits are half of it.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// More addresses of one name are not tried.
const MAX_ADDRESSES: usize = 4;

/// An open connection.
pub(crate) struct Connection {
    pub(crate) origin: Origin,
    /// Requests name the whole address then.
    pub(crate) is_to_proxy: bool,
    pub(crate) sender: SendRequest<NoBody>,
}

impl Connection {
    /// Whether a request can be sent: the server may have hung up meanwhile.
    pub(crate) async fn is_good(&self) -> bool {
        // What came in while nobody looked is seen by its task first.
        tokio::task::yield_now().await;
        self.sender.is_ready()
    }
}

/// How to reach servers.
pub(crate) struct Origins {
    tls: Option<Tls>,
    proxy: Option<Proxy>,
}

struct Proxy {
    origin: Origin,
    authorization: Option<String>,
}

/// Why there is no connection.
pub(crate) struct ConnectError {
    pub(crate) reason: String,
    /// Trying again does not help.
    pub(crate) is_final: bool,
}

impl Origins {
    /// With the certificates of this set-up, of which ours is for this server alone.
    pub(crate) fn new(own: &Origin, setup: &Setup) -> Result<Origins, String> {
        let tls = if setup.authorities.is_empty() { None } else { Some(Tls::new(own, setup)?) };
        if tls.is_none() && own.security == Security::Tls {
            return Err("no certificates of authorities to judge https:// by".to_owned());
        }
        Ok(Origins { tls, proxy: setup.proxy.as_deref().map(Proxy::parse).transpose()? })
    }

    /// What the proxy is told of us.
    pub(crate) fn proxy_authorization(&self) -> Option<&str> {
        self.proxy.as_ref().and_then(|proxy| proxy.authorization.as_deref())
    }

    /// Connects. How long it may take is the caller's to say.
    pub(crate) async fn connect(&self, origin: &Origin) -> Result<Connection, ConnectError> {
        let wrong = |reason: String| ConnectError { reason, is_final: false };
        let first = self.proxy.as_ref().map_or(origin, |proxy| &proxy.origin);
        let mut stream = dial(first).await.map_err(|error| wrong(format!("{}: {error}", first.with_port())))?;
        // Answers of a few bytes are waited for.
        let _ = stream.set_nodelay(true);
        let is_to_proxy = self.proxy.is_some() && origin.security == Security::Plain;
        if let Some(proxy) = self.proxy.as_ref().filter(|_| !is_to_proxy) {
            proxy.tunnel(&mut stream, origin).await?;
        }
        let sender = match origin.security {
            Security::Plain => speak(TokioIo::new(stream)).await,
            Security::Tls => {
                let tls = self.tls.as_ref().ok_or_else(|| ConnectError {
                    reason: format!("{}: no certificates of authorities to judge it by", origin.host),
                    is_final: true,
                })?;
                speak(TokioIo::new(tls.connect(origin, stream).await?)).await
            }
        };
        let sender = sender.map_err(|error| wrong(with_causes(&error)))?;
        Ok(Connection { origin: origin.clone(), is_to_proxy, sender })
    }
}

/// The C library looks the name up, as for every other program of the board. It waits meanwhile, and there is nothing else to do.
async fn dial(origin: &Origin) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (origin.host.as_str(), origin.port).to_socket_addrs()?.take(MAX_ADDRESSES) {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn speak<IO>(io: IO) -> hyper::Result<SendRequest<NoBody>>
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    let (sender, connection) = builder.handshake(io).await?;
    // It ends when the sender is dropped. What goes wrong there is told to the request that waits.
    drop(tokio::spawn(connection));
    Ok(sender)
}

impl Proxy {
    /// `http://[USER:PASSWORD@]HOST:PORT`
    fn parse(text: &str) -> Result<Proxy, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("the proxy's address: {error}");
        let (user, bare) = match text.strip_prefix("http://").and_then(|rest| rest.rsplit_once('@')) {
            Some((user, host)) => (Some(user), format!("http://{host}")),
            None => (None, text.to_owned()),
        };
        let origin = Address::parse(&bare).map_err(|error| wrong(&error))?.origin;
        if origin.security == Security::Tls {
            return Err(wrong(&"a proxy is spoken to by http://"));
        }
        let authorization = user.map(|user| {
            let mut buffer = vec![0; user.len() * 2 + 4];
            Base64::encode(user.as_bytes(), &mut buffer).map(|base64| format!("Basic {base64}"))
        });
        let authorization = authorization.transpose().map_err(|error| wrong(&error))?;
        Ok(Proxy { origin, authorization })
    }

    /// Asks for a connection through it (RFC 9110, 9.3.6).
    async fn tunnel(&self, stream: &mut TcpStream, origin: &Origin) -> Result<(), ConnectError> {
        let wrong = |is_final, reason: String| ConnectError { reason: format!("the proxy: {reason}"), is_final };
        let target = origin.with_port();
        let authorization =
            self.authorization.as_ref().map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"));
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|error| wrong(false, error.to_string()))?;
        let mut head = Vec::new();
        // Byte by byte: what follows the head is the server's already.
        while !head.ends_with(b"\r\n\r\n") {
            if MAX_HEAD_BYTES <= head.len() {
                return Err(wrong(true, "its answer has no end".to_owned()));
            }
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(error) => return Err(wrong(false, error.to_string())),
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&head).map(|_| response.code) {
            Ok(Some(200..=299)) => Ok(()),
            Ok(Some(code @ 500..=599)) => Err(wrong(false, format!("it answered {code}"))),
            Ok(Some(code)) => Err(wrong(true, format!("it answered {code}"))),
            Ok(None) | Err(_) => Err(wrong(true, "no answer that HTTP has".to_owned())),
        }
    }
}
