//! A lower limit for the clock. A board without a clock chip starts in 1970: then the clock is set to the build time of the
//! system, or to the last time that was saved. A clock chip with a later time is believed, also after 2038 on 32-bit kernels,
//! which do not read it then themselves.

use std::fs;
use std::path::Path;
use yado_sys::{calendar, file_reserve, file_time, regular_file};

/// When this code was written; an image says better in `build-time`.
const WRITTEN_S: i64 = 1_795_300_000;

/// A clock chip that says more than this is broken: its backup battery is empty, or its year is two digits.
const LATEST_S: i64 = 7_258_118_400;

/// What the clock should be set to; `None`: it is right as far as we know. Pure.
pub fn correction(now_s: i64, built_s: Option<i64>, saved_s: Option<i64>, chip_s: Option<i64>) -> Option<i64> {
    let floor = [Some(WRITTEN_S), built_s, saved_s].into_iter().flatten().filter(|time| *time <= LATEST_S).max()?;
    let chip = chip_s.filter(|time| floor <= *time && *time <= LATEST_S);
    match chip {
        Some(chip) if now_s < floor => Some(chip),
        Some(_) | None => (now_s < floor).then_some(floor),
    }
}

/// Sets the clock if it is before what is known to have been. Returns the new time.
pub(crate) fn raise(system: &Path, saved: &Path) -> Option<i64> {
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
    let saved_s = regular_file::open(saved).and_then(file_time::modified_s).ok();
    let to = correction(
        calendar::now_s(),
        number(&system.join("build-time")),
        saved_s,
        number(Path::new("/sys/class/rtc/rtc0/since_epoch")),
    )?;
    calendar::set_s(to).ok()?;
    Some(to)
}

/// Saves the time, as the modification time of an empty file: nothing of it can be torn.
pub(crate) fn save(path: &Path) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let file = file_reserve::open_or_make(path, 0o644)?;
    file_time::set_modified_s(&file, calendar::now_s())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_never_before_what_was() {
        const BUILT: i64 = WRITTEN_S + 1000;
        const SAVED: i64 = WRITTEN_S + 5000;
        const IN_2040: i64 = 2_208_988_800;
        let table = [
            // (now, built, saved, chip) → set to
            ((0, None, None, None), Some(WRITTEN_S)),
            ((0, Some(BUILT), None, None), Some(BUILT)),
            ((0, Some(BUILT), Some(SAVED), None), Some(SAVED)),
            ((0, Some(BUILT), Some(SAVED), Some(SAVED + 7)), Some(SAVED + 7)),
            ((0, Some(BUILT), Some(SAVED), Some(5)), Some(SAVED)),
            ((0, Some(BUILT), None, Some(IN_2040)), Some(IN_2040)),
            ((0, Some(BUILT), None, Some(i64::MAX)), Some(BUILT)),
            ((0, Some(BUILT), Some(i64::MAX), None), Some(BUILT)),
            ((SAVED + 9, Some(BUILT), Some(SAVED), Some(SAVED + 99)), None),
            ((IN_2040, Some(BUILT), None, None), None),
        ];
        for ((now, built, saved, chip), expected) in table {
            assert_eq!(correction(now, built, saved, chip), expected, "{now} {built:?} {saved:?} {chip:?}");
        }
    }
}
