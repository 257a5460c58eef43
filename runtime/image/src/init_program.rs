//! What the init of a root is, found before the root is packed: where its path leads (inside the root, whatever its links say),
//! whether the kernel could execute it, and how inits of that kind are asked to power off. A root whose init could not be
//! executed is refused; one whose init is not known is packed.

mod elf;
mod known;

use crate::erofs::{Body, Content, Node, Place, Tree, read_beginning};
use crate::image_target::Architecture;
use core::fmt;
use elf::Executable;
use std::fs::File;
use std::io;

pub use known::InitKind;

/// The init of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProgram {
    /// The file to which the path of the init leads.
    pub file: String,
    /// What it is.
    pub kind: InitKind,
}

/// Why a root could not start with this init.
#[derive(Debug)]
pub enum InitError {
    /// Its path leads nowhere: what it names, and the last file that was found on the way.
    Missing {
        /// The file that is not there.
        file: String,
    },
    /// It leads to a directory, a device or the like.
    NotFile {
        /// Where it leads.
        file: String,
    },
    /// Nobody may execute it.
    NotExecutable {
        /// The file.
        file: String,
    },
    /// Links lead in a circle.
    Circle {
        /// The path.
        path: String,
    },
    /// It is for another processor.
    Architecture {
        /// The file.
        file: String,
        /// What it is for.
        found: String,
        /// What the image is for.
        wanted: Architecture,
    },
    /// It is neither an ELF program nor a script.
    NotProgram {
        /// The file.
        file: String,
    },
    /// What it is executed by, the interpreter of a script or the loader of a program, cannot be.
    Interpreter {
        /// The init.
        file: String,
        /// Why its interpreter cannot.
        source: Box<InitError>,
    },
    /// It cannot be read.
    Read {
        /// The file.
        file: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for InitError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::Missing { file } => write!(out, "{file} is not in the root"),
            InitError::NotFile { file } => write!(out, "{file} is not a regular file"),
            InitError::NotExecutable { file } => write!(out, "{file} is not executable"),
            InitError::Circle { path } => write!(out, "{path}: symbolic links lead in a circle"),
            InitError::Architecture { file, found, wanted } => {
                write!(out, "{file} is for {found}, and the image for {}", wanted.name())
            }
            InitError::NotProgram { file } => write!(out, "{file} is neither a program nor a script"),
            InitError::Interpreter { file, source } => write!(out, "{file} needs what cannot be executed: {source}"),
            InitError::Read { file, source } => write!(out, "read {file}: {source}"),
        }
    }
}

impl std::error::Error for InitError {}

/// As many links as the kernel follows: path_resolution(7).
const MAX_LINKS: usize = 40;

/// What is read of a program to tell what it is: the largest init that is told by its text, sysvinit's, has 52 KiB.
const MAX_READ_BYTES: u64 = 4 << 20;

/// Interpreters of interpreters: as deep as the kernel goes.
const MAX_INTERPRETERS: u32 = 4;

/// Finds the init of a root. `argv`: the program, as it is called inside, and its arguments.
pub fn find(
    tree: &Tree,
    archive: Option<&File>,
    argv: &[String],
    architecture: Architecture,
) -> Result<InitProgram, InitError> {
    let path = argv.first().map_or("", String::as_str);
    let root = Root { tree, archive, architecture };
    let (file, bytes) = root.executable(path, 0)?;
    let kind = known::kind_of(argv, &file, &bytes, &|path| root.resolve(path).is_ok());
    Ok(InitProgram { file, kind })
}

struct Root<'a> {
    tree: &'a Tree,
    archive: Option<&'a File>,
    architecture: Architecture,
}

impl Root<'_> {
    /// The file to which a path leads and what it begins with, if the kernel could execute it.
    fn executable(&self, path: &str, depth: u32) -> Result<(String, Vec<u8>), InitError> {
        let (file, place) = self.resolve(path)?;
        let Node { mode, body, .. } = self.tree.node(place);
        let Body::File(content) = body else { return Err(InitError::NotFile { file }) };
        if mode & 0o111 == 0 {
            return Err(InitError::NotExecutable { file });
        }
        let bytes = self.read(&file, content)?;
        let interpreter = match elf::parse(&bytes) {
            Some(Executable { machine, interpreter }) => match machine == self.architecture.into() {
                true => interpreter,
                false => {
                    let (found, wanted) = (machine.to_string(), self.architecture);
                    return Err(InitError::Architecture { file, found, wanted });
                }
            },
            None => Some(script_interpreter(&bytes).ok_or(InitError::NotProgram { file: file.clone() })?),
        };
        if let Some(interpreter) = interpreter.filter(|_| depth < MAX_INTERPRETERS) {
            if let Err(source) = self.executable(&interpreter, depth.saturating_add(1)) {
                return Err(InitError::Interpreter { file, source: Box::new(source) });
            }
        }
        Ok((file, bytes))
    }

    fn read(&self, file: &str, content: &Content) -> Result<Vec<u8>, InitError> {
        read_beginning(content, self.archive, MAX_READ_BYTES)
            .map_err(|source| InitError::Read { file: file.to_owned(), source })
    }

    /// Follows all links from the root's top, which nothing leads out of: `..` there is the top itself, as in the instance.
    fn resolve(&self, path: &str) -> Result<(String, Place), InitError> {
        let mut names: Vec<Vec<u8>> = names_from_last(path.as_bytes());
        let mut above: Vec<(Vec<u8>, Place)> = Vec::new();
        let mut links: usize = 0;
        while let Some(name) = names.pop() {
            if name == b".." {
                above.pop();
                continue;
            }
            let directory = above.last().map_or(Tree::ROOT, |(_, place)| *place);
            let shown = || shown(above.iter().map(|(name, _)| name.as_slice()).chain([name.as_slice()]));
            let Body::Directory(entries) = &self.tree.node(directory).body else {
                return Err(InitError::Missing { file: shown() });
            };
            let Some(&place) = entries.get(&name) else { return Err(InitError::Missing { file: shown() }) };
            let Body::Symlink(target) = &self.tree.node(place).body else {
                above.push((name, place));
                continue;
            };
            links = links.saturating_add(1);
            if MAX_LINKS < links {
                return Err(InitError::Circle { path: path.to_owned() });
            }
            if target.starts_with(b"/") {
                above.clear();
            }
            names.extend(names_from_last(target));
        }
        let place = above.last().map_or(Tree::ROOT, |(_, place)| *place);
        Ok((shown(above.iter().map(|(name, _)| name.as_slice())), place))
    }
}

/// The names of a path, the last one first.
fn names_from_last(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.rev().map(<[u8]>::to_vec).collect()
}

fn shown<'a>(names: impl Iterator<Item = &'a [u8]>) -> String {
    names.map(|name| format!("/{}", name.escape_ascii())).collect()
}

/// What stands behind `#!`, as execve(2) reads it.
fn script_interpreter(bytes: &[u8]) -> Option<String> {
    let line = bytes.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let path = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    String::from_utf8(path.to_vec()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    struct Files {
        directory: tempfile::TempDir,
        tree: Tree,
    }

    impl Files {
        fn new() -> Files {
            Files { directory: tempfile::tempdir().unwrap(), tree: Tree::new() }
        }

        fn add(&mut self, path: &str, mode: u16, body: Body) {
            let node = Node { mode, uid: 0, gid: 0, modified: None, xattrs: BTreeMap::new(), body };
            self.tree.insert(path.as_bytes(), node).unwrap();
        }

        fn file(&mut self, path: &str, mode: u16, bytes: &[u8]) -> &mut Files {
            let source = self.directory.path().join(self.tree.len().to_string());
            std::fs::write(&source, bytes).unwrap();
            self.add(path, mode, Body::File(Content::Path { path: source, bytes: bytes.len() as u64 }));
            self
        }

        fn link(&mut self, path: &str, target: &str) -> &mut Files {
            self.add(path, 0o777, Body::Symlink(target.into()));
            self
        }

        fn find(&self, argv: &[&str]) -> Result<InitProgram, String> {
            let argv: Vec<String> = argv.iter().map(|&word| word.into()).collect();
            find(&self.tree, None, &argv, Architecture::Armhf).map_err(|error| error.to_string())
        }

        fn kind(&self, argv: &[&str]) -> InitKind {
            self.find(argv).unwrap().kind
        }
    }

    /// A static program for this machine with this text in it.
    fn program(machine: u16, class: u8, text: &str) -> Vec<u8> {
        let mut bytes = [b"\x7fELF", [class, 1, 1].as_slice(), &[0; 9], &[2, 0], &machine.to_le_bytes()].concat();
        bytes.resize(64, 0);
        bytes.extend(text.as_bytes());
        bytes
    }

    fn armhf(text: &str) -> Vec<u8> {
        program(40, 1, text)
    }

    #[test]
    fn each_usual_init_is_known_and_stopped_in_its_own_way() {
        use InitKind::*;
        let mut files = Files::new();
        files.file("usr/lib/systemd/systemd", 0o755, &armhf("")).link("lib", "usr/lib");
        files.link("systemd/init", "/lib/systemd/systemd");
        files.file("bin/busybox", 0o755, &armhf("BusyBox v1.35.0")).link("bb/init", "../bin/busybox");
        files.link("bb/sh", "/bin/busybox");
        files.file("hard/init", 0o755, &armhf("BusyBox v1.35.0"));
        files.file("sysv/init", 0o755, &armhf("/etc/inittab\0/run/initctl\0"));
        files.file("sbin/openrc-init", 0o755, &armhf("")).link("openrc/init", "/sbin/openrc-init");
        files.file("usr/lib/runit/runit-init", 0o755, &armhf("")).link("runit/init", "/lib/runit/runit-init");
        files.file("sbin/finit", 0o755, &armhf("")).link("finit/init", "/../sbin/finit");
        files.file("sbin/dinit", 0o755, &armhf("")).file("sbin/tini", 0o755, &armhf(""));
        files.file("app", 0o755, &armhf("hello"));
        let cases: [(&[&str], InitKind, &str); 13] = [
            (&["/systemd/init"], Systemd, "SIGRTMIN+3"),
            (&["/bb/init"], Busybox, "SIGUSR2"),
            (&["/bin/busybox", "init"], Busybox, "SIGUSR2"),
            (&["/hard/init"], Busybox, "SIGUSR2"),
            (&["/sysv/init", "2"], SysVinit, "/sysv/init 0"),
            (&["/openrc/init"], OpenrcInit, "/sbin/openrc-shutdown --poweroff now"),
            (&["/runit/init"], Runit, "/runit/init 0"),
            (&["/finit/init"], Finit, "SIGUSR2"),
            (&["/sbin/dinit"], Dinit, "SIGTERM"),
            (&["/sbin/tini", "--", "/app"], SmallInit, "SIGTERM"),
            (&["/app"], Unknown, "SIGTERM"),
            (&["/bb/sh", "-c", "x"], Unknown, "SIGTERM"),
            (&["/bin/busybox", "sh"], Unknown, "SIGTERM"),
        ];
        for (argv, kind, stop) in cases {
            let found = files.kind(argv);
            let argv: Vec<String> = argv.iter().map(|&word| word.into()).collect();
            assert_eq!((found, found.stop(&argv).to_string().as_str()), (kind, stop), "{argv:?}");
        }
    }

    #[test]
    fn an_init_that_the_kernel_could_not_execute_is_refused_with_the_reason() {
        let mut files = Files::new();
        files
            .file("plain", 0o644, &armhf(""))
            .file("foreign", 0o755, &program(183, 2, ""))
            .link("gone", "/nowhere/x");
        files.link("a", "b").link("b", "/a").file("text", 0o755, b"hello").add("dir", 0o755, Body::Fifo);
        files.file("script", 0o755, b"#! /bin/sh -e\n").file("other", 0o755, &program(8, 1, ""));
        let cases = [
            ("/sbin/init", "/sbin is not in the root"),
            ("/plain", "/plain is not executable"),
            ("/foreign", "/foreign is for arm64, and the image for armhf"),
            ("/other", "/other is for ELF machine 8 (32 bits), and the image for armhf"),
            ("/gone", "/nowhere is not in the root"),
            ("/a", "/a: symbolic links lead in a circle"),
            ("/text", "/text is neither a program nor a script"),
            ("/dir", "/dir is not a regular file"),
            ("", " is not a regular file"),
            ("/plain/x", "/plain/x is not in the root"),
            ("/script", "/script needs what cannot be executed: /bin is not in the root"),
        ];
        for (path, reason) in cases {
            assert_eq!(files.find(&[path]), Err(reason.to_owned()), "{path}");
        }
        files.file("bin/sh", 0o755, &armhf(""));
        assert_eq!(files.kind(&["/script"]), InitKind::Unknown);
    }

    #[test]
    fn nothing_outside_of_the_root_is_looked_at() {
        let mut files = Files::new();
        let outside = files.directory.path().join("outside");
        std::fs::write(&outside, armhf("")).unwrap();
        files.link("init", outside.to_str().unwrap()).link("climb", &format!("../../../..{}", outside.display()));
        assert!(Path::new(&outside).exists());
        for path in ["/init", "/climb"] {
            assert!(files.find(&[path]).unwrap_err().ends_with("is not in the root"), "{path}");
        }
    }
}
