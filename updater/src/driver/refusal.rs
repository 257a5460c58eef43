//! What the machine refuses, in words that say what to do next.

use crate::machine::Refused;

pub(super) fn words(refused: Refused) -> &'static str {
    match refused {
        Refused::Busy => "another update goes on: `yado update status` shows it, `yado update cancel` stops it",
        Refused::TrialGoesOn => {
            "a release is on trial: wait until it is judged, or `yado update confirm` or `yado update rollback`"
        }
        Refused::Held => "updates are held: `yado update unhold` allows them again",
        Refused::Blocked => {
            "this release failed here before: `yado update history` says why, `yado update allow` lets it be tried again"
        }
        Refused::BelowFloor => "this release is older than one that was confirmed here",
        Refused::EpochBelowFloor => "this release's security epoch is lower than one that was confirmed here",
        Refused::NothingToDo => "all of this release is here already",
        Refused::SourceGaveNothing => "the source did not give the release, too often",
        Refused::NotAdmitted => "the release does not verify, or does not fit this device",
        Refused::NothingBefore => "there is nothing to go back to",
        Refused::BeforeIsBad => "what there is to go back to does not verify",
        Refused::NoTrial => "nothing is on trial",
        Refused::TooLate => "it has been started already: `yado update rollback` goes back",
        Refused::NothingGoesOn => "there is no update to cancel",
        Refused::NotBlocked => "no such release is blocked",
    }
}
