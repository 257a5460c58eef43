//! The exit codes of updates, one for each rule: so that a script on a thousand boards can tell a full disk from a wrong key without
//! reading words. They are a promise: a code keeps its meaning, and new ones come behind.

use crate::admission::Refusal;
use crate::machine::Refused;
use crate::source::SourceError;
use yado_image::release::ReleaseError;

/// A rule, by its name for programs, its code, and what broke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCode {
    /// The process ends with it.
    pub code: u8,
    /// In JSON.
    pub rule: &'static str,
    /// For people.
    pub meaning: &'static str,
}

const fn row(code: u8, rule: &'static str, meaning: &'static str) -> ExitCode {
    ExitCode { code, rule, meaning }
}

/// What was asked for is done.
pub const DONE: u8 = 0;
/// Something went wrong that has no row.
pub const FAILED: u8 = 1;

/// All of them. 0 is success, 1 anything that has no row, 2 a wrong command line.
pub const TABLE: &[ExitCode] = &[
    row(10, "source-missing", "the source has no such file"),
    row(11, "source-short", "a file of the source ends early"),
    row(12, "source-order", "a bundle's files are in another order than the release's"),
    row(13, "source-broken", "the source cannot be read: network, server, disk, stick"),
    row(20, "release-size", "no release: truncated, or too long"),
    row(21, "release-header", "no release: its header is not of this format"),
    row(22, "release-signature", "not signed by enough of the keys that this board trusts"),
    row(23, "release-manifest", "its manifest is not the one that was signed, or breaks a rule"),
    row(30, "held", "updates are held"),
    row(31, "product", "another product's release"),
    row(32, "architecture", "made for another processor"),
    row(33, "board", "made for other boards"),
    row(34, "already", "it runs already"),
    row(35, "blocked", "it failed here before"),
    row(36, "security-epoch", "of an older security epoch than what was confirmed"),
    row(37, "older", "not newer than what was confirmed"),
    row(38, "stepping-stone", "another release has to be installed first"),
    row(39, "runtime", "needs a later runtime"),
    row(40, "instance", "has an image for an instance that is not here"),
    row(41, "kernel", "the kernel lacks options that it needs"),
    row(42, "memory", "needs more memory than the board has"),
    row(43, "no-slot", "there is no second slot"),
    row(44, "slot-space", "the system is larger than the slot"),
    row(45, "no-boot-partition", "the slot has no place for boot files"),
    row(46, "boot-space", "the boot files are larger than the slot's boot partition"),
    row(47, "data-space", "the data partition has too little room for the images"),
    row(50, "busy", "another update goes on"),
    row(51, "trial", "a trial goes on: it has to be confirmed or undone first"),
    row(52, "nothing-before", "there is nothing to go back to"),
    row(53, "before-is-bad", "what there is to go back to does not verify"),
    row(54, "no-trial", "no trial goes on"),
    row(55, "too-late", "it has been started already: only a rollback helps"),
    row(56, "nothing-goes-on", "nothing goes on that could be cancelled"),
    row(57, "not-blocked", "no such release is blocked"),
    row(60, "device", "it could not be written, or something else is read back"),
    row(61, "boot-loader", "the boot loader's state cannot be read or written"),
    row(62, "state", "the data partition does not take what has to be remembered"),
    row(63, "trust", "the keys that this board trusts cannot be read, or there are none"),
    row(64, "reboot", "init does not start the machine again"),
    row(70, "fell-back", "it was tried, and what ran before runs again"),
    row(71, "cancelled", "somebody stopped it"),
];

/// The row of this rule.
pub fn of_rule(rule: &str) -> Option<ExitCode> {
    TABLE.iter().copied().find(|row| row.rule == rule)
}

/// The code for what went wrong; 1 where there is no row.
fn code(rule: &str) -> u8 {
    of_rule(rule).map_or(1, |row| row.code)
}

/// The rule by which the machine refused a request. What was not admitted has its own, by [`Refusal`] or [`ReleaseError`].
pub fn rule_of(refused: Refused) -> Option<&'static str> {
    Some(match refused {
        Refused::Busy => "busy",
        Refused::TrialGoesOn => "trial",
        Refused::Held => "held",
        Refused::Blocked => "blocked",
        Refused::BelowFloor => "older",
        Refused::EpochBelowFloor => "security-epoch",
        Refused::NothingToDo => "already",
        Refused::SourceGaveNothing => "source-broken",
        Refused::NotAdmitted => return None,
        Refused::NothingBefore => "nothing-before",
        Refused::BeforeIsBad => "before-is-bad",
        Refused::NoTrial => "no-trial",
        Refused::TooLate => "too-late",
        Refused::NothingGoesOn => "nothing-goes-on",
        Refused::NotBlocked => "not-blocked",
    })
}

/// See [`TABLE`].
pub fn of_refused(refused: Refused) -> u8 {
    rule_of(refused).map_or(1, code)
}

impl Refusal {
    /// See [`TABLE`].
    pub fn exit_code(&self) -> u8 {
        code(self.rule())
    }
}

impl SourceError {
    /// The rule's name for programs. Who stopped it has a reason of its own.
    pub fn rule(&self) -> Option<&'static str> {
        match self {
            SourceError::Missing { .. } => Some("source-missing"),
            SourceError::Short { .. } => Some("source-short"),
            SourceError::OutOfOrder { .. } => Some("source-order"),
            SourceError::Broken { .. } => Some("source-broken"),
            SourceError::Stopped(_) => None,
        }
    }

    /// See [`TABLE`].
    pub fn exit_code(&self) -> u8 {
        self.rule().map_or(1, code)
    }
}

/// See [`TABLE`].
pub fn of_release_error(error: &ReleaseError) -> u8 {
    code(error.rule())
}

/// The table for people, as `yado update --help` shows it.
pub fn text() -> String {
    let rows = TABLE.iter().map(|row| vec![row.code.to_string(), row.rule.to_owned(), row.meaning.to_owned()]);
    yado_wire::columns::text(&["CODE", "RULE", "MEANING"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_and_each_rule_is_there_once_and_none_is_a_signal_s_or_a_shell_s() {
        let codes: BTreeSet<u8> = TABLE.iter().map(|row| row.code).collect();
        let rules: BTreeSet<&str> = TABLE.iter().map(|row| row.rule).collect();
        assert_eq!((codes.len(), rules.len()), (TABLE.len(), TABLE.len()));
        assert!(codes.iter().all(|code| (3..=125).contains(code)));
        assert_eq!(text().lines().count(), TABLE.len() + 1);
    }

    #[test]
    fn what_goes_wrong_with_sources_and_releases_has_a_code() {
        assert_eq!(of_release_error(&ReleaseError::TooLong), 20);
        assert_eq!(of_release_error(&ReleaseError::Changed), 23);
        let file = crate::source::FileName::Release;
        assert_eq!(SourceError::OutOfOrder { file }.exit_code(), 12);
        assert_eq!((of_refused(Refused::Held), of_refused(Refused::NotBlocked)), (30, 57));
        assert_eq!(SourceError::Stopped(std::io::ErrorKind::StorageFull.into()).exit_code(), 1);
    }
}
