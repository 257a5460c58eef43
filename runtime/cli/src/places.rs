//! Where the files of a device are, by what its init says.

use std::path::{Path, PathBuf};
use yado_wire::rescue::Mode;

/// Where things are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) socket: PathBuf,
    pub(crate) system: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) run: PathBuf,
}

impl Places {
    /// Those of the init that answers on `socket` and says that it runs as `mode`. A hosted one has all of its own below the
    /// directory in which its socket's lies, by whatever links the socket is named.
    pub(crate) fn of(socket: &Path, mode: Mode) -> Result<Places, String> {
        let (system, data, run) = match mode {
            Mode::System => ("/usr/lib/yado".into(), "/data".into(), "/run/yado".into()),
            Mode::Hosted => {
                let real = socket.canonicalize().map_err(|error| format!("{}: {error}", socket.display()))?;
                let run = real.parent().and_then(|run| Some((run, run.parent()?)));
                let (run, host) = run.ok_or_else(|| format!("{}: is not a socket of init", socket.display()))?;
                (host.join("system"), host.join("data"), run.to_owned())
            }
        };
        Ok(Places { socket: socket.to_owned(), system, data, run })
    }

    /// Where nothing of an init is, nobody is taken for deleted.
    pub(crate) fn refuse_strange(&self) -> Result<(), String> {
        if self.system.is_dir() || self.data.is_dir() {
            return Ok(());
        }
        let (system, data) = (self.system.display(), self.data.display());
        Err(format!("neither {system} nor {data} is a directory: nothing was changed"))
    }

    pub(crate) fn specs(&self) -> PathBuf {
        self.run.join("specs")
    }

    /// The keys that init has the launcher verify images by: the system's, and the administrator's.
    pub(crate) fn trust(&self) -> PathBuf {
        self.run.join("trust")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn where_things_are_is_what_init_says_and_not_how_its_socket_is_spelled() {
        let directory = tempfile::tempdir().unwrap();
        let host = directory.path().canonicalize().unwrap().join("host");
        std::fs::create_dir_all(host.join("run")).unwrap();
        std::fs::write(host.join("run/init.sock"), "").unwrap();
        std::os::unix::fs::symlink(host.join("run"), directory.path().join("link")).unwrap();
        let spelled = directory.path().join("link/init.sock");
        let hosted = Places::of(&spelled, Mode::Hosted).unwrap();
        let expected = Places {
            socket: spelled.clone(),
            system: host.join("system"),
            data: host.join("data"),
            run: host.join("run"),
        };
        assert_eq!(hosted, expected);
        assert!(hosted.refuse_strange().is_err());
        std::fs::create_dir(&hosted.data).unwrap();
        assert_eq!(hosted.refuse_strange(), Ok(()));
        let board = Places::of(&spelled, Mode::System).unwrap();
        assert_eq!((&*board.system, &*board.data), (Path::new("/usr/lib/yado"), Path::new("/data")));
        assert_eq!(board.run, Path::new("/run/yado"));
    }
}
