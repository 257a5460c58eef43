//! Which files a process of the updater may still use, by Landlock, as far as this kernel has it: not before 5.13, and not where it was
//! left out. Then there is what its user and its capabilities leave it.

use landlock::{
    ABI, Access, CompatLevel, Compatible, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use std::path::PathBuf;

pub(crate) use landlock::{AccessFs, BitFlags, LandlockStatus, RulesetStatus};

/// Newer kernels know of more; what is not named here they leave as it is.
const KNOWN: ABI = ABI::V6;

/// Whether files are moved from one directory to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moves {
    /// Never.
    None,
    /// It must be possible: the first version of Landlock forbids it in any case, so there it is as if there were none.
    Needed,
}

/// From now on this process and all that it starts may use these files, and what is below these directories, as it says here, and no
/// others: of a path that is not there, nothing. Nor does it reach abstract sockets of others, or send them signals.
pub(crate) fn allow_only(
    rules: &[(PathBuf, BitFlags<AccessFs>)],
    moves: Moves,
) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default();
    if moves == Moves::Needed {
        ruleset = ruleset.set_compatibility(CompatLevel::SoftRequirement).handle_access(AccessFs::Refer)?;
    }
    let mut created = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for (path, access) in rules {
        // One that is not there cannot be used anyhow.
        let Ok(opened) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { *access } else { *access & AccessFs::from_file(KNOWN) };
        created = created.add_rule(PathBeneath::new(opened, access))?;
    }
    created.restrict_self()
}

/// From now on this process writes, makes and removes no file anywhere, also of what it mounts itself; it reads as before. For mounts
/// that are moved to a place or taken away there is Landlock's own refusal.
pub(crate) fn forbid_writing() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .restrict_self()
}
