//! Versions of the files on the data partition. Both systems of a device read those: the one that runs, and the one that it goes back
//! to. So a release that is on trial writes nothing that the release before it cannot read: it writes each file in the version in
//! which it has found it, and in its own newest one only when it is confirmed.
//!
//! Whoever changes a format raises the newest version, and reads the older one as well, until no release that wrote that can be gone
//! back to any more. What is said of each format stands in `runtime/FORMATS.md`.

/// How it stands with the release that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It stays.
    Confirmed,
    /// It may be left for the one before it.
    OnTrial,
}

/// The versions of one format that this release reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    oldest: u32,
    newest: u32,
}

/// A build for tests is a later release, of which each format has one version more.
const LATER: u32 = if cfg!(feature = "next-formats") { 1 } else { 0 };

impl Versions {
    /// From the oldest to the newest one.
    pub const fn new(oldest: u32, newest: u32) -> Versions {
        Versions { oldest, newest: newest + LATER }
    }

    /// What a confirmed release writes.
    pub const fn newest(self) -> u32 {
        self.newest
    }

    /// Whether this release reads it.
    pub const fn has(self, version: u32) -> bool {
        self.oldest <= version && version <= self.newest
    }

    /// In which version a file is written. `found`: that of the file which is there.
    pub const fn to_write(self, standing: Standing, found: Option<u32>) -> u32 {
        match (standing, found) {
            (Standing::Confirmed, _) => self.newest,
            (Standing::OnTrial, Some(found)) if self.has(found) => found,
            // Whoever wrote what was there, or would have, knows the oldest.
            (Standing::OnTrial, Some(_) | None) => self.oldest,
        }
    }
}

/// The version in the first line of a file: what stands behind `magic`.
pub fn version(text: &str, magic: &str) -> Option<u32> {
    text.lines().next()?.strip_prefix(magic)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_trial_what_was_found_stays_as_the_release_before_can_read_it() {
        let versions = Versions { oldest: 2, newest: 4 };
        for found in [None, Some(0), Some(2), Some(3), Some(4), Some(5)] {
            assert_eq!(versions.to_write(Standing::Confirmed, found), 4, "{found:?}");
        }
        for (found, written) in [(None, 2), (Some(1), 2), (Some(2), 2), (Some(3), 3), (Some(4), 4), (Some(5), 2)] {
            assert_eq!(versions.to_write(Standing::OnTrial, found), written, "{found:?}");
        }
        assert_eq!([1, 2, 4, 5].map(|version| versions.has(version)), [false, true, true, false]);
    }

    #[test]
    fn a_version_is_a_number_alone_behind_its_magic() {
        assert_eq!(version("yado-ids 3\nnext 1\n", "yado-ids "), Some(3));
        for text in ["", "yado-ids", "yado-ids \n", "yado-ids 3x\n", "yado-update 3\n", "\nyado-ids 3\n"] {
            assert_eq!(version(text, "yado-ids "), None, "{text:?}");
        }
    }
}
