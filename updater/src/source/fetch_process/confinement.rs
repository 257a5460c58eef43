//! What the fetching process gives up before it reads its first byte from a network: everything but sockets of the Internet and the
//! files by which a C library looks a name up.

use crate::file_rules::{self, AccessFs, Moves};
use std::io;
use std::path::PathBuf;
use yado_sys::capabilities::{self, Capabilities};
use yado_sys::identity;
use yado_sys::rlimit::KernelResource;
use yado_sys::seccomp::{CLIENT_CALLS, Filter, INTERNET_ONLY, READER_CALLS};

/// An id that belongs to nobody else: below that of nobody, above what systems give to people and services, and not in a range that
/// containers get.
const FETCHER: u32 = 65_533;

/// To a server, the C library's files and the link.
const MAX_DESCRIPTORS: u64 = 16;
const MAX_ADDRESS_SPACE: u64 = 256 << 20;

/// Files of the resolver, and where a dynamic C library has the parts that it loads for it.
const RESOLVER_FILES: &[&str] = &[
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
];
const RESOLVER_FOLDERS: &[&str] = if cfg!(target_env = "gnu") { &["/lib", "/usr/lib"] } else { &[] };

/// Gives it all up, for good. Who is not root stays who it is; the rest is the same.
pub(super) fn restrict() -> io::Result<()> {
    for (name, most) in [("nofile", MAX_DESCRIPTORS), ("as", MAX_ADDRESS_SPACE), ("fsize", 0), ("core", 0)] {
        limit(name, most)?;
    }
    if identity::is_root() {
        let until_then = Capabilities::SETUID | Capabilities::SETGID | Capabilities::SETPCAP;
        capabilities::keep_only(until_then)?;
        capabilities::drop_from_bounding_set(until_then)?;
        identity::become_user(FETCHER, FETCHER, &[])?;
    }
    // It starts no process and no thread; before, root would still be counted as root.
    limit("nproc", 0)?;
    capabilities::set_no_new_privs()?;
    forbid_files().map_err(io::Error::other)?;
    Filter::allow_all_but(INTERNET_ONLY).install()?;
    Filter::answer_only(&[READER_CALLS, CLIENT_CALLS].concat()).install()
}

fn limit(name: &str, most: u64) -> io::Result<()> {
    match KernelResource::parse(name) {
        Some(resource) => resource.set_own(Some(most), Some(most)),
        None => Ok(()),
    }
}

fn forbid_files() -> Result<(), landlock::RulesetError> {
    let mut rules = Vec::new();
    for (paths, access) in
        [(RESOLVER_FILES, AccessFs::ReadFile.into()), (RESOLVER_FOLDERS, AccessFs::ReadFile | AccessFs::Execute)]
    {
        rules.extend(paths.iter().map(|path| (PathBuf::from(path), access)));
    }
    file_rules::allow_only(&rules, Moves::None).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use landlock::{CompatLevel, Compatible, Ruleset, RulesetAttr};
    use std::fs::File;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    const INSIDE: &str = "source::fetch_process::confinement::tests::what_the_other_test_runs";

    /// A process of its own is restricted, tries, and says what the kernel answered.
    #[test]
    fn files_programs_and_sockets_of_this_machine_are_out_of_reach() {
        let itself = std::env::current_exe().unwrap();
        // A file that anybody may read.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let arguments = ["--exact", INSIDE, "--ignored", "--nocapture", "--test-threads=1"];
        let output = Command::new(itself).args(arguments).env("OUT_OF_REACH", &path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        for expected in ["resolver: Ok", "internet: Ok", "unix: Err(Some(97))", "thread: Err(Some(38))"] {
            assert!(said.contains(expected), "{expected}: {said}{}", String::from_utf8_lossy(&output.stderr));
        }
        if said.contains("landlock: Err") {
            eprintln!("SKIPPED: this kernel has no Landlock");
        } else {
            assert!(said.contains("\nfile: Err(Some(13))") && said.contains("\nnew file: Err(Some(13))"), "{said}");
        }
    }

    #[test]
    #[ignore = "restricts its process: the test above runs it in one of its own"]
    fn what_the_other_test_runs() {
        let Some(path) = std::env::var_os("OUT_OF_REACH").map(std::path::PathBuf::from) else { return };
        let landlock = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let landlock = landlock.handle_access(AccessFs::ReadFile).and_then(|rules| rules.create());
        restrict().unwrap();
        println!("landlock: {:?}", landlock.map(drop));
        let errno = |error: std::io::Error| error.raw_os_error();
        let say = |what: &str, answer: Result<(), Option<i32>>| println!("{what}: {answer:?}");
        say("resolver", File::open("/etc/hosts").map(drop).map_err(errno));
        say("file", File::open(&path).map(drop).map_err(errno));
        say("new file", File::create(format!("{}.new", path.display())).map(drop).map_err(errno));
        say("internet", UdpSocket::bind("127.0.0.1:0").map(drop).map_err(errno));
        say("unix", UnixDatagram::unbound().map(drop).map_err(errno));
        say("thread", std::thread::Builder::new().spawn(|| ()).map(drop).map_err(errno));
    }
}
