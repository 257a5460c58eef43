//! `health.probe`, from text to what is tried.

use crate::instance::ProbeAttempt;
use crate::values::Expected;
use std::net::{Ipv4Addr, SocketAddr};

/// A command line, and a request's path, are short; both go to the launcher with every try.
const MAX_BYTES: usize = 1024;

/// What a probe tries: `exec:…`, `tcp:…` or `http:…`.
pub(crate) fn parse_probe(text: &str) -> Result<ProbeAttempt, Expected> {
    let wrong = |what: &str| Err(Expected(what.to_owned()));
    if MAX_BYTES < text.len() {
        return wrong("at most 1024 bytes");
    }
    match text.split_once(':') {
        Some(("exec", command)) => {
            let argv: Vec<String> = command.split_ascii_whitespace().map(str::to_owned).collect();
            match argv.is_empty() || command.contains('\0') {
                true => wrong("exec: with a program and its arguments, such as exec:/usr/bin/check --quick"),
                false => Ok(ProbeAttempt::Exec(argv)),
            }
        }
        Some(("tcp", address)) => match parse_address(address) {
            Some(address) => Ok(ProbeAttempt::Tcp(address)),
            None => {
                wrong("tcp: with a port, such as tcp:5432, or an address and a port, such as tcp:10.158.0.20:5432")
            }
        },
        Some(("http", rest)) => {
            let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            // What goes into a request line is a URI: RFC 3986 has no blanks, controls or other scripts in it.
            match parse_address(address).filter(|_| path.bytes().all(|byte| byte.is_ascii_graphic())) {
                Some(address) if path.is_empty() => Ok(ProbeAttempt::Http(address, "/".to_owned())),
                Some(address) => Ok(ProbeAttempt::Http(address, path.to_owned())),
                None => wrong("http: with a port and a path, such as http:8080/health"),
            }
        }
        Some((_, _)) | None => wrong("exec:PROGRAM ARGUMENT…, tcp:[ADDRESS:]PORT or http:[ADDRESS:]PORT[/PATH]"),
    }
}

/// `PORT`, `ADDRESS:PORT`, `[ADDRESS]:PORT`.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let address = match text.contains(':') {
        true => text.parse().ok(),
        false => text.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
    };
    address.filter(|address| address.port() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_is_said_in_one_line() {
        let table = [
            ("exec:/usr/bin/check --quick", "exec:/usr/bin/check --quick"),
            ("exec:  true  ", "exec:true"),
            ("tcp:5432", "tcp:127.0.0.1:5432"),
            ("tcp:10.158.0.20:53", "tcp:10.158.0.20:53"),
            ("tcp:[::1]:53", "tcp:[::1]:53"),
            ("http:8080", "http:127.0.0.1:8080/"),
            ("http:8080/health?deep=1", "http:127.0.0.1:8080/health?deep=1"),
            ("http:[::1]:80/a:b", "http:[::1]:80/a:b"),
        ];
        for (text, shown) in table {
            assert_eq!(parse_probe(text).map(|attempt| attempt.to_string()), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_could_not_be_tried_is_refused_with_what_could() {
        let long = format!("exec:{}", "x".repeat(MAX_BYTES));
        let table = [
            ("", "exec:PROGRAM"),
            ("ping", "exec:PROGRAM"),
            ("https:443/", "exec:PROGRAM"),
            ("exec:", "exec: with a program"),
            ("exec:a\0b", "exec: with a program"),
            ("tcp:", "tcp: with a port"),
            ("tcp:0", "tcp: with a port"),
            ("tcp:65536", "tcp: with a port"),
            ("tcp:db:5432", "tcp: with a port"),
            ("tcp:::1:53", "tcp: with a port"),
            ("http:/health", "http: with a port"),
            ("http:80/a b", "http: with a port"),
            ("http:80/\r\nHost: x", "http: with a port"),
            (&long, "at most 1024 bytes"),
        ];
        for (text, start) in table {
            let refused = parse_probe(text).expect_err(text);
            assert!(refused.0.starts_with(start), "{text}: {}", refused.0);
        }
    }
}
