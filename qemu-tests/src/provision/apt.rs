//! A private apt folder for each suite: its own sources, lists and downloads, for all our architectures. Packages
//! are unpacked into the cache and never installed, so the machine's dpkg never hears of a foreign architecture
//! (one stale index there would break the developer's own `apt-get update`).
//!
//! The mirror is the one that the machine's own apt uses. Everything is for bookworm, whatever the machine runs:
//! the kernels and containers of the tests are part of what is tested.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failure::ProvisionError;
use super::packages_index::{self, Stanza};
use crate::arch::Arch;
use crate::cache::{Cache, Key};
use crate::command::Tool;
use crate::progress::Step;

/// A suite that we take packages from. Kept apart, so that each holds one version of each package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    /// bookworm itself: kernels, containers, and the compiler of the 1.85 floor.
    Main,
    /// The newest compiler for bookworm. Only for the machine's own architecture: the others' index was found
    /// stale on the mirror, and nothing else is needed from there.
    Security,
    /// bookworm's newer packages, with bookworm beside them for what they need: the emulator that fits where the
    /// machine's qemu-utils is newer than bookworm's.
    Backports,
    /// The newer kernels for boards.
    BoardBackports,
    /// The release before bookworm: a guest with an old systemd.
    Bullseye,
    /// What becomes the next release: a guest with the newest systemd.
    Sid,
}

impl Suite {
    /// The suite's name in the archive.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Suite::Main => "bookworm",
            Suite::Security => "bookworm-security",
            Suite::Backports | Suite::BoardBackports => "bookworm-backports",
            Suite::Bullseye => "bullseye",
            Suite::Sid => "sid",
        }
    }

    /// The name of its folder.
    const fn folder(self) -> &'static str {
        match self {
            Suite::Main | Suite::Security | Suite::Backports | Suite::Bullseye | Suite::Sid => self.name(),
            Suite::BoardBackports => "bookworm-backports-boards",
        }
    }

    /// Whether `/bin` and its like are links in it, as its package `usr-is-merged` says. Without that one `usrmerge` comes
    /// instead and brings all of perl.
    pub(super) const fn has_merged_usr(self) -> bool {
        !matches!(self, Suite::Bullseye)
    }

    const fn architectures(self) -> &'static str {
        match self {
            Suite::Main => "amd64,arm64,armhf",
            Suite::Bullseye | Suite::Sid => "amd64,arm64",
            Suite::Security | Suite::Backports => "amd64",
            Suite::BoardBackports => "arm64,armhf",
        }
    }

    /// The `Label:` of the archive's Release file, and the variable that names a mirror where apt knows none.
    const fn archive(self) -> (&'static str, &'static str) {
        match self {
            Suite::Main | Suite::Backports | Suite::BoardBackports | Suite::Bullseye | Suite::Sid => {
                ("Debian", "YADO_DEBIAN_MIRROR")
            }
            Suite::Security => ("Debian-Security", "YADO_SECURITY_MIRROR"),
        }
    }
}

/// The keys that sign Debian's archive; from the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite's apt folder.
#[derive(Debug)]
pub(crate) struct PrivateApt<'c> {
    cache: &'c Cache,
    suite: Suite,
    folder: PathBuf,
}

impl<'c> PrivateApt<'c> {
    /// Makes the folder and fetches the lists, unless they are there.
    pub(crate) fn open(cache: &'c Cache, suite: Suite) -> Result<PrivateApt<'c>, ProvisionError> {
        let folder = cache.root().join("apt").join(suite.folder());
        let apt = PrivateApt { cache, suite, folder };
        let _lock = cache.lock(&format!("apt-{}", suite.folder()))?;
        if !apt.folder.join("complete").exists() {
            apt.update()?;
        }
        Ok(apt)
    }

    /// Whose folder it is.
    pub(super) const fn suite(&self) -> Suite {
        self.suite
    }

    /// What the suite says of these packages.
    pub(crate) fn look_up(&self, arch: Arch, names: &[&str]) -> Result<Vec<Stanza>, ProvisionError> {
        // A package that is of no architecture is found only by its bare name, which also finds the machine's own.
        let wanted = names.iter().flat_map(|name| [format!("{name}:{arch}"), (*name).to_owned()]);
        // apt-cache fails when one name of many is unknown, but prints the others: we say which one it is.
        let text = self.tool("apt-cache").arg("show").args(wanted).output_even_if_failed()?;
        let stanzas = packages_index::parse_stanzas(&text);
        names
            .iter()
            .map(|name| {
                let fits = |stanza: &&Stanza| [arch.debian(), "all"].contains(&stanza.architecture.as_str());
                let found = stanzas.iter().filter(fits).find(|stanza| stanza.package == *name);
                found.cloned().ok_or_else(|| ProvisionError::NoPackage {
                    name: (*name).to_owned(),
                    arch,
                    suite: self.suite.name(),
                })
            })
            .collect()
    }

    /// `roots` and all that they need, as far as `is_wanted` says of a name.
    pub(crate) fn look_up_with_needs(
        &self,
        arch: Arch,
        roots: &[&str],
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Stanza>, ProvisionError> {
        let mut found: Vec<Stanza> = Vec::new();
        let mut names: Vec<String> = roots.iter().map(|name| (*name).to_owned()).collect();
        while !names.is_empty() {
            let round: Vec<&str> = names.iter().map(String::as_str).collect();
            let stanzas = self.look_up(arch, &round)?;
            let mut next: Vec<String> =
                stanzas.iter().flat_map(Stanza::needs).filter(|name| is_wanted(name)).collect();
            found.extend(stanzas);
            next.sort();
            next.dedup();
            next.retain(|name| found.iter().all(|stanza| stanza.package != *name));
            names = next;
        }
        Ok(found)
    }

    /// These packages unpacked over each other in one folder of the cache, called `name`.
    pub(crate) fn unpack(&self, name: &str, packages: &[Stanza]) -> Result<PathBuf, ProvisionError> {
        let key = packages.iter().fold(Key::new("unpack 1"), |key, stanza| key.with(&stanza.sha256));
        self.cache.entry(name, &key, |aside| self.unpack_into(name, packages, aside))
    }

    /// The same in a new folder of the caller, who makes an entry of more than the packages.
    pub(crate) fn unpack_into(&self, what: &str, packages: &[Stanza], folder: &Path) -> Result<(), ProvisionError> {
        let total: u64 = packages.iter().map(|stanza| stanza.size_bytes).sum();
        let step = Step::begin(format!("{what}: {} packages, {} MB", packages.len(), total.div_ceil(1_000_000)));
        let debs = folder.with_extension("debs");
        make_empty(&debs)?;
        self.download(packages, &debs)?;
        fs::create_dir(folder).map_err(ProvisionError::io("create", folder))?;
        for deb in files_of(&debs)? {
            Tool::new("dpkg-deb").arg("-x").arg(&deb).arg(folder).run()?;
        }
        fs::remove_dir_all(&debs).map_err(ProvisionError::io("remove", &debs))?;
        step.done();
        Ok(())
    }

    /// The line of this suite for another program's sources (mmdebstrap's).
    pub(crate) fn source_line(&self, arch: Arch) -> Result<String, ProvisionError> {
        source_line(self.suite, arch.debian())
    }

    /// A tool of apt that sees this folder's lists and knows nothing of what the machine has installed.
    fn tool(&self, program: &str) -> Tool {
        let place = |option: &str, path: &str| format!("{option}={}", self.folder.join(path).display());
        Tool::new(program)
            .args(["-o", &place("Dir::State::status", "status")])
            .args(["-o", "Dir::Etc::preferences=/dev/null", "-o", "Dir::Etc::preferencesparts=/dev/null"])
            .args(self.own_lists())
    }

    /// The options by which any apt uses this folder's sources and lists instead of the machine's.
    pub(super) fn own_lists(&self) -> Vec<String> {
        let place = |option: &str, path: &str| format!("{option}={}", self.folder.join(path).display());
        let values = [
            place("Dir::Etc::sourcelist", "sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            place("Dir::State::Lists", "lists"),
            place("Dir::Cache", "cache"),
            // Container images save space here, and every query then unpacks and parses all lists, for seconds.
            "Acquire::GzipIndexes=false".to_owned(),
            "Dir::Cache::pkgcache=pkgcache.bin".to_owned(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".to_owned(),
            // The folder may lie below a home that apt's own user cannot enter.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        let architectures = self.suite.architectures().split(',').map(|arch| format!("APT::Architectures::={arch}"));
        values.into_iter().chain(architectures).flat_map(|value| ["-o".to_owned(), value]).collect()
    }

    /// Fetches the lists; `complete` is written last and makes them count.
    fn update(&self) -> Result<(), ProvisionError> {
        let step = Step::begin(format!("package lists of {}", self.suite.name()));
        for part in ["lists/partial", "cache/archives/partial"] {
            let path = self.folder.join(part);
            fs::create_dir_all(&path).map_err(ProvisionError::io("create", &path))?;
        }
        let mut lines = source_line(self.suite, self.suite.architectures())?;
        if self.suite == Suite::Backports {
            lines.push_str(&source_line(Suite::Main, self.suite.architectures())?);
        }
        write(&self.folder.join("sources.list"), &lines)?;
        write(&self.folder.join("status"), "")?;
        self.fetch_lists()?;
        write(&self.folder.join("complete"), "")?;
        self.cache.note_made(format!("package lists of {}", self.suite.name()));
        step.done();
        Ok(())
    }

    /// A mirror that is being synchronised has an index that does not fit its signed list, for a moment.
    fn fetch_lists(&self) -> Result<(), ProvisionError> {
        const ATTEMPTS: u32 = 3;
        const PAUSE: Duration = Duration::from_secs(5);
        let attempt = || self.tool("apt-get").args(["-qq", "--error-on=any", "update"]).run();
        for _ in 1..ATTEMPTS {
            if attempt().is_ok() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(attempt()?)
    }

    /// Downloads exactly these versions. Lists that a moved mirror has left behind are fetched once more; the
    /// versions may then be gone for good, and the next run looks them up anew.
    fn download(&self, packages: &[Stanza], folder: &Path) -> Result<(), ProvisionError> {
        let wanted: Vec<String> =
            packages.iter().map(|s| format!("{}:{}={}", s.package, s.architecture, s.version)).collect();
        let attempt = || self.tool("apt-get").args(["-qq", "download"]).args(&wanted).in_folder(folder).run();
        if attempt().is_ok() {
            return Ok(());
        }
        self.update()?;
        Ok(attempt()?)
    }
}

fn source_line(suite: Suite, architectures: &str) -> Result<String, ProvisionError> {
    Ok(format!("deb [arch={architectures} signed-by={KEYRING}] {} {} main\n", mirror(suite)?, suite.name()))
}

/// Where the machine's own apt takes this suite's archive from.
fn mirror(suite: Suite) -> Result<String, ProvisionError> {
    let (label, variable) = suite.archive();
    if let Ok(mirror) = std::env::var(variable) {
        return Ok(mirror);
    }
    let ask =
        || Tool::new("apt-get").args(["indextargets", "--format", TARGET_FORMAT, "Created-By: Packages"]).output();
    if let Some(mirror) = find_mirror(&ask()?, label) {
        return Ok(mirror);
    }
    // apt tells only of lists that it has; a fresh container image has none.
    Tool::as_root("apt-get").args(["-qq", "update"]).run()?;
    let targets = ask()?;
    let found = find_mirror(&targets, label).or_else(|| match suite {
        Suite::Security => security_beside(&find_mirror(&targets, Suite::Main.archive().0)?),
        Suite::Main | Suite::Backports | Suite::BoardBackports | Suite::Bullseye | Suite::Sid => None,
    });
    found.ok_or(ProvisionError::NoMirror { label })
}

/// A minimal system may have no security updates; Debian's mirrors have them beside the archive.
fn security_beside(mirror: &str) -> Option<String> {
    Some(format!("{}/debian-security/", mirror.trim_end_matches('/').strip_suffix("/debian")?))
}

const TARGET_FORMAT: &str = "$(LABEL)|$(REPO_URI)";

fn find_mirror(targets: &str, label: &str) -> Option<String> {
    targets
        .lines()
        .filter_map(|line| line.split_once('|'))
        .find(|(has, _)| *has == label)
        .map(|(_, uri)| uri.to_owned())
}

fn make_empty(folder: &Path) -> Result<(), ProvisionError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(ProvisionError::io("remove", folder))?;
    }
    fs::create_dir(folder).map_err(ProvisionError::io("create", folder))
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, ProvisionError> {
    let entries = fs::read_dir(folder).map_err(ProvisionError::io("list", folder))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(ProvisionError::io("list", folder))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn write(path: &Path, text: &str) -> Result<(), ProvisionError> {
    fs::write(path, text).map_err(ProvisionError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::{find_mirror, security_beside};

    #[test]
    fn the_mirror_is_the_first_of_its_label_and_a_foreign_archive_is_none() {
        let targets = "\
            CloudSDK|http://packages.example/apt/\n\
            Debian|http://mirror.example/debian/\n\
            Debian|http://other.example/debian/\n\
            Debian-Security|http://mirror.example/debian-security/\n";
        assert_eq!(find_mirror(targets, "Debian").as_deref(), Some("http://mirror.example/debian/"));
        assert_eq!(
            find_mirror(targets, "Debian-Security").as_deref(),
            Some("http://mirror.example/debian-security/")
        );
        assert_eq!(find_mirror(targets, "Ubuntu"), None);
        assert_eq!(find_mirror("", "Debian"), None);
    }

    #[test]
    fn security_updates_are_beside_the_archive() {
        let security = security_beside("http://mirror.example/debian/");
        assert_eq!(security.as_deref(), Some("http://mirror.example/debian-security/"));
        assert_eq!(security_beside("http://mirror.example/pub/"), None);
    }
}
