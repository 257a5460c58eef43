//! From what people and policy write to a source: `-` is standard input, `http://…` and `https://…` a web server, a path a folder or
//! a bundle.

use super::bundle::Bundle;
use super::directory::Directory;
use super::fetch_process::{FetchProcess, HttpOptions, Limits};
use super::{FileName, Source, SourceError};
use std::env;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_sys::regular_file;

/// What `update.toml` says of transfers, and what the board knows of the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// A file of certificates of authorities; `None` for the system's.
    pub authorities: Option<PathBuf>,
    /// A file with our certificate and its key.
    pub certificate: Option<PathBuf>,
    /// `http://HOST:PORT`; `None` for what the environment says.
    pub proxy: Option<String>,
    /// Bytes per second over a minute.
    pub speed_floor: u32,
    /// See [`HttpOptions::not_before_seconds`].
    pub not_before_seconds: u64,
}

/// The source that is a bundle on standard input.
pub const STANDARD_INPUT: &str = "-";

/// Where Debian and others keep them.
pub(crate) const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Those of all authorities of the world take a quarter of it.
const MAX_PEM_BYTES: u64 = 900 << 10;
/// The speed of a source is measured over so much of waiting for it.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// Opens it. Of a web server that is the first request; nothing of the others is read yet.
pub fn open(source: &str, transfer: &Transfer) -> Result<Box<dyn Source>, SourceError> {
    if source == STANDARD_INPUT {
        return Ok(Box::new(Bundle::new(io::stdin().lock())));
    }
    if source.contains("://") {
        return Ok(Box::new(FetchProcess::open(http_options(source, transfer)?)?));
    }
    let path = Path::new(source);
    if path.is_dir() {
        return Ok(Box::new(Directory::new(path)));
    }
    let bundle = regular_file::open_linked(path).map_err(|error| failed(path, &error))?;
    Ok(Box::new(Bundle::new(bundle)))
}

fn http_options(url: &str, transfer: &Transfer) -> Result<HttpOptions, SourceError> {
    let Transfer { authorities, certificate, proxy, speed_floor, not_before_seconds } = transfer;
    let mut options = HttpOptions::new(url, &|name| env::var(name).ok());
    let is_tls = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    options.authorities = match authorities {
        Some(path) => read(path)?,
        // Without TLS none are needed, and where they are, their lack is said.
        None if is_tls => read(Path::new(SYSTEM_AUTHORITIES)).unwrap_or_default(),
        None => Vec::new(),
    };
    options.identity = certificate.as_deref().map(read).transpose()?;
    options.proxy = proxy.clone().or(options.proxy);
    options.not_before_seconds = *not_before_seconds;
    let bytes_in_window = u64::from(*speed_floor).saturating_mul(WINDOW.as_secs());
    options.limits = Limits { window: WINDOW, bytes_in_window, ..Limits::default() };
    Ok(options)
}

fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let file = regular_file::open_linked(path).map_err(|error| failed(path, &error))?;
    let read = file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(path, &error))?;
    if MAX_PEM_BYTES < read as u64 {
        return Err(failed(path, &"more than 900 KiB, which no certificates take"));
    }
    Ok(bytes)
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> SourceError {
    SourceError::Broken { file: FileName::Release, reason: format!("{}: {error}", path.display()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Ranges;
    use super::*;
    use std::fs;

    fn transfer() -> Transfer {
        Transfer {
            authorities: None,
            certificate: None,
            proxy: Some("http://proxy:8080".to_owned()),
            speed_floor: 500,
            not_before_seconds: 7,
        }
    }

    #[test]
    fn a_folder_and_a_bundle_are_told_apart_and_what_is_neither_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = (folder.path().to_str().unwrap(), folder.path().join("bundle"));
        fs::write(&file, [0; 1024]).unwrap();
        assert_eq!(open(path, &transfer()).unwrap().ranges(), Ranges::Any);
        assert_eq!(open(file.to_str().unwrap(), &transfer()).unwrap().ranges(), Ranges::Whole);
        let missing = open(&format!("{path}/none"), &transfer()).map(drop).unwrap_err().to_string();
        assert!(missing.contains("/none"), "{missing}");
    }

    #[test]
    fn what_the_policy_says_of_transfers_is_what_a_server_is_met_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pem");
        fs::write(&path, "some").unwrap();
        let with = Transfer { authorities: Some(path.clone()), certificate: Some(path.clone()), ..transfer() };
        let options = http_options("https://h/", &with).unwrap();
        assert_eq!((options.authorities, options.identity), (b"some".to_vec(), Some(b"some".to_vec())));
        assert_eq!((options.limits.bytes_in_window, options.not_before_seconds), (30_000, 7));
        assert_eq!(options.proxy.as_deref(), Some("http://proxy:8080"));
        fs::write(&path, vec![0; (900 << 10) + 1]).unwrap();
        let error = http_options("https://h/", &with).unwrap_err().to_string();
        assert!(error.contains("900 KiB") && error.contains("pem"), "{error}");
    }
}
