//! A kernel's configuration: read from a file, gzipped or not, and parsed.

use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest text we read; a distribution's full configuration is a quarter of a MiB.
const MAX_BYTES: u64 = 2 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The options that are on, and which kernel it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KernelConfig {
    options: BTreeMap<String, Setting>,
    /// `6.1.176`, if the file says it.
    pub(super) version: Option<String>,
}

/// Whether and how an option is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// `=y`
    Builtin,
    /// `=m`
    Module,
    /// Not set, or not known to this kernel.
    Off,
}

/// Why there is no configuration.
#[derive(Debug)]
pub(super) enum ReadConfigError {
    Open {
        path: PathBuf,
        source: io::Error,
    },
    Read {
        path: PathBuf,
        source: io::Error,
    },
    TooLong {
        path: PathBuf,
    },
    /// Not one `CONFIG_` line.
    NoConfig {
        path: PathBuf,
    },
}

impl KernelConfig {
    /// Reads `path`, gzipped (as `/proc/config.gz`) or plain (as `/boot/config-*`).
    pub(super) fn read(path: &Path) -> Result<KernelConfig, ReadConfigError> {
        let mut file = File::open(path).map_err(|source| ReadConfigError::Open { path: path.to_owned(), source })?;
        let unreadable = |source| ReadConfigError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        (&mut file).take(MAX_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
        let mut text = Vec::new();
        if bytes.starts_with(&GZIP_MAGIC) {
            GzDecoder::new(bytes.as_slice()).take(MAX_BYTES).read_to_end(&mut text).map_err(unreadable)?;
        } else {
            text = bytes;
        }
        if MAX_BYTES <= text.len() as u64 {
            return Err(ReadConfigError::TooLong { path: path.to_owned() });
        }
        let config = KernelConfig::parse(&String::from_utf8_lossy(&text));
        if config.options.is_empty() {
            return Err(ReadConfigError::NoConfig { path: path.to_owned() });
        }
        Ok(config)
    }

    /// Lines that are neither an option that is on nor the kernel's name are passed over: the file has numbers and texts too.
    pub(super) fn parse(text: &str) -> KernelConfig {
        let mut config = KernelConfig::default();
        for line in text.lines() {
            if let Some((option, value)) = line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('=')) {
                let setting = match value {
                    "y" => Setting::Builtin,
                    "m" => Setting::Module,
                    _ => continue,
                };
                config.options.insert(option.to_owned(), setting);
            } else if let Some(name) =
                line.strip_prefix("# Linux/").and_then(|rest| rest.strip_suffix(" Kernel Configuration"))
            {
                config.version = name.split_once(' ').map(|(_, version)| version.to_owned());
            }
        }
        config
    }

    pub(super) fn setting(&self, option: &str) -> Setting {
        self.options.get(option).copied().unwrap_or(Setting::Off)
    }
}

impl Setting {
    pub(super) fn name(self) -> &'static str {
        match self {
            Setting::Builtin => "builtin",
            Setting::Module => "module",
            Setting::Off => "off",
        }
    }
}

impl fmt::Display for ReadConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadConfigError::Open { path, source } => write!(out, "open {}: {source}", path.display()),
            ReadConfigError::Read { path, source } => write!(out, "read {}: {source}", path.display()),
            ReadConfigError::TooLong { path } => write!(out, "{}: longer than {MAX_BYTES} bytes", path.display()),
            ReadConfigError::NoConfig { path } => write!(out, "{}: no kernel configuration", path.display()),
        }
    }
}

impl std::error::Error for ReadConfigError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    const TEXT: &str = "#\n# Linux/arm 6.1.176 Kernel Configuration\n#\nCONFIG_USER_NS=y\nCONFIG_VETH=m\n\
                        # CONFIG_TIME_NS is not set\nCONFIG_HZ=250\nCONFIG_LOCALVERSION=\"y\"\n";

    #[test]
    fn options_and_the_kernels_version_are_read() {
        let config = KernelConfig::parse(TEXT);
        assert_eq!(config.version.as_deref(), Some("6.1.176"));
        let settings = ["USER_NS", "VETH", "TIME_NS", "HZ", "LOCALVERSION"].map(|option| config.setting(option));
        assert_eq!(settings, [Setting::Builtin, Setting::Module, Setting::Off, Setting::Off, Setting::Off]);
    }

    #[test]
    fn gzipped_or_not_it_is_the_same_and_anything_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (plain, gzipped) = (directory.path().join("plain"), directory.path().join("gz"));
        std::fs::write(&plain, TEXT).unwrap();
        let mut encoder = GzEncoder::new(File::create(&gzipped).unwrap(), Compression::fast());
        encoder.write_all(TEXT.as_bytes()).unwrap();
        encoder.finish().unwrap();
        assert_eq!(KernelConfig::read(&plain).unwrap(), KernelConfig::read(&gzipped).unwrap());

        let whole = std::fs::read(&gzipped).unwrap();
        std::fs::write(&gzipped, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(KernelConfig::read(&gzipped), Err(ReadConfigError::Read { .. })));
        std::fs::write(&plain, "hello\n").unwrap();
        assert!(matches!(KernelConfig::read(&plain), Err(ReadConfigError::NoConfig { .. })));
        std::fs::write(&plain, vec![b'#'; MAX_BYTES as usize]).unwrap();
        assert!(matches!(KernelConfig::read(&plain), Err(ReadConfigError::TooLong { .. })));
    }
}
