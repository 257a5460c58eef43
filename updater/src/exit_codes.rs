//! The exit codes of updates, one for each rule: so that a script on a thousand boards can tell a full disk from a wrong key without
//! reading words. They are a promise: a code keeps its meaning, and new ones come behind.

use crate::admission::Refusal;
use crate::machine::Refused;
use crate::source::SourceError;
use yado_image::release::ReleaseError;

pub use yado_wire::update_status::{DONE, EXIT_CODES as TABLE, ExitCode, FAILED};

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
