//! Addresses of files by HTTP: which are taken, and where a redirection leads to.

use hyper::Uri;
use hyper::http::uri::{Authority, Scheme};
use std::fmt;
use std::net::Ipv6Addr;

/// `http://HOST[:PORT]/PATH` or `https://…`, without a user's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) origin: Origin,
    /// Begins with `/`; with the query.
    pub(crate) path: String,
}

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) security: Security,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Whether there is TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Security {
    Plain,
    Tls,
}

/// The longest address that is taken: what servers take too.
pub(crate) const MAX_BYTES: usize = 8192;

impl Address {
    /// An address as people write it.
    pub(crate) fn parse(text: &str) -> Result<Address, AddressError> {
        if MAX_BYTES < text.len() {
            return Err(AddressError::TooLong);
        }
        let uri: Uri = text.parse().map_err(|_| AddressError::NotAnAddress)?;
        let security = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => Security::Plain,
            Some(scheme) if *scheme == Scheme::HTTPS => Security::Tls,
            Some(_) | None => return Err(AddressError::Scheme),
        };
        let authority = uri.authority().ok_or(AddressError::NotAnAddress)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Address { origin: Origin::of(security, authority)?, path })
    }

    /// The file of this name below a folder.
    pub(crate) fn below(&self, name: &str) -> Address {
        let (path, query) =
            self.path.split_once('?').map_or((self.path.as_str(), None), |(path, query)| (path, Some(query)));
        let slash = if path.ends_with('/') { "" } else { "/" };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Address { origin: self.origin.clone(), path: format!("{path}{slash}{name}{query}") }
    }

    /// Where `Location: …` of an answer from here leads to (RFC 3986, 5.2, without `..`, which servers do not send). Never from TLS to
    /// none.
    pub(crate) fn redirected(&self, location: &str) -> Result<Address, AddressError> {
        let location = location.split('#').next().unwrap_or_default();
        let there = if location.contains("://") {
            Address::parse(location)?
        } else if let Some(rest) = location.strip_prefix("//") {
            let scheme = match self.origin.security {
                Security::Plain => "http",
                Security::Tls => "https",
            };
            Address::parse(&format!("{scheme}://{rest}"))?
        } else {
            let folder =
                self.path.split('?').next().and_then(|path| path.rsplit_once('/')).map_or("", |(folder, _)| folder);
            let path = if location.starts_with('/') { location.to_owned() } else { format!("{folder}/{location}") };
            let path: Uri = path.parse().map_err(|_| AddressError::NotAnAddress)?;
            Address { origin: self.origin.clone(), path: path.to_string() }
        };
        if self.origin.security == Security::Tls && there.origin.security == Security::Plain {
            return Err(AddressError::LessSecure);
        }
        if MAX_BYTES < there.path.len() {
            return Err(AddressError::TooLong);
        }
        Ok(there)
    }
}

impl Origin {
    fn of(security: Security, authority: &Authority) -> Result<Origin, AddressError> {
        if authority.as_str().contains('@') {
            return Err(AddressError::User);
        }
        // `port()` has none also where there is a number that is no port.
        let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match (rest, security) {
            ("", Security::Plain) => 80,
            ("", Security::Tls) => 443,
            _ => authority.port_u16().ok_or(AddressError::NotAnAddress)?,
        };
        let name = authority.host();
        let in_brackets = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let (host, is_one) = match in_brackets {
            Some(host) => (host, host.parse::<Ipv6Addr>().is_ok()),
            None => (name, !name.is_empty() && !name.contains(['[', ']', ':'])),
        };
        if !is_one || port == 0 {
            return Err(AddressError::NotAnAddress);
        }
        Ok(Origin { security, host: host.to_ascii_lowercase(), port })
    }

    /// As in `Host:` and in `CONNECT`; the port only where it is not the usual one.
    pub(crate) fn host_header(&self) -> String {
        match (self.security, self.port) {
            (Security::Plain, 80) | (Security::Tls, 443) => self.bracketed(),
            _ => self.with_port(),
        }
    }

    /// `HOST:PORT`
    pub(crate) fn with_port(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.origin.security {
            Security::Plain => "http",
            Security::Tls => "https",
        };
        write!(out, "{scheme}://{}{}", self.origin.host_header(), self.path)
    }
}

/// Why a text is no address that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressError {
    NotAnAddress,
    Scheme,
    User,
    TooLong,
    LessSecure,
}

impl fmt::Display for AddressError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            AddressError::NotAnAddress => "no address: expected http://HOST/PATH or https://HOST/PATH",
            AddressError::Scheme => "only http:// and https:// can be fetched",
            AddressError::User => "an address with a user's name is not taken: use a client certificate",
            AddressError::TooLong => "the address is too long",
            AddressError::LessSecure => "it leads from https:// to http://",
        })
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn an_address_comes_out_as_it_was_written() {
        for text in ["http://h/", "http://h:81/a/b?c=d", "https://[fe80::1]:8443/x", "https://h/"] {
            assert_eq!(address(text).to_string(), text);
        }
        assert_eq!(address("http://H").to_string(), "http://h/");
        assert_eq!(address("https://h:443/x").to_string(), "https://h/x");
        for (text, error) in [
            ("", AddressError::NotAnAddress),
            ("/x", AddressError::Scheme),
            ("ftp://h/", AddressError::Scheme),
            ("http://u:p@h/", AddressError::User),
            ("http://h:99999/", AddressError::NotAnAddress),
            ("http://h/a b", AddressError::NotAnAddress),
            ("http://h/\r\nX: y", AddressError::NotAnAddress),
            ("http://h[x]/", AddressError::NotAnAddress),
            ("http://[x]/", AddressError::NotAnAddress),
            ("http://[h/", AddressError::NotAnAddress),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Address::parse(&format!("http://h/{}", "x".repeat(9000))), Err(AddressError::TooLong));
    }

    #[test]
    fn files_lie_below_the_folder() {
        for folder in ["http://h/r", "http://h/r/"] {
            assert_eq!(address(folder).below("images/x").to_string(), "http://h/r/images/x");
        }
        assert_eq!(address("http://h/r?key=1").below("release").to_string(), "http://h/r/release?key=1");
        assert_eq!(address("http://h").below("release").to_string(), "http://h/release");
    }

    #[test]
    fn a_redirection_leads_on_and_never_out_of_tls() {
        let from = address("https://h:81/a/b?c");
        for (location, there) in [
            ("https://g/x", "https://g/x"),
            ("//g/x", "https://g/x"),
            ("/x?y", "https://h:81/x?y"),
            ("x", "https://h:81/a/x"),
            ("x#part", "https://h:81/a/x"),
        ] {
            assert_eq!(from.redirected(location).unwrap().to_string(), there, "{location}");
        }
        assert_eq!(from.redirected("http://h:81/a"), Err(AddressError::LessSecure));
        assert_eq!(from.redirected("ftp://h/a"), Err(AddressError::Scheme));
        assert_eq!(from.redirected("/a b"), Err(AddressError::NotAnAddress));
        assert!(address("http://h/").redirected("https://h/").is_ok());
    }
}
