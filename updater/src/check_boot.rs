//! `yado-updater check-boot`: proves on the running device that the boot loader's state can be changed. What changes nothing is
//! written, read back past the cache, and compared: the order and the tries are as before. What is missing is named.

use crate::boot_loader::Boots;
use crate::command::Format;
use crate::driver::{open_loader, read_policy};
use crate::places::Places;
use serde_json::json;

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    what: &'static str,
    /// What was found, or what is wrong.
    result: Result<String, String>,
}

/// `Err`: something is missing; the text has all that was found.
pub(crate) fn show(places: &Places, format: Format) -> Result<String, String> {
    let checks = check(places);
    let is_good = checks.iter().all(|check| check.result.is_ok());
    let text = match format {
        Format::Table => table(&checks),
        Format::Json => {
            let all = checks.iter().map(|Check { what, result }| {
                let (is_ok, said) = match result {
                    Ok(said) => (true, said),
                    Err(said) => (false, said),
                };
                json!({ "check": what, "ok": is_ok, "said": said })
            });
            format!("{}\n", json!({ "ok": is_good, "checks": all.collect::<Vec<_>>() }))
        }
    };
    if is_good {
        return Ok(text);
    }
    // Programs read it all the same.
    print!("{text}");
    Err("the boot loader does not do what updates need".to_owned())
}

fn check(places: &Places) -> Vec<Check> {
    let mut loader = match open_loader(&read_policy(places), places) {
        Ok(loader) => loader,
        Err(error) => return vec![Check { what: "state", result: Err(error.to_string()) }],
    };
    let before = match loader.read() {
        Ok(before) => before,
        Err(error) => return vec![Check { what: "read", result: Err(error.to_string()) }],
    };
    let written = loader.prove_write().and_then(|said| Ok((said, loader.read()?)));
    let written = match written {
        Ok((said, after)) if after == before => Ok(said),
        Ok((_, after)) => Err(format!("it was {before:?} before, and is {after:?}")),
        Err(error) => Err(error.to_string()),
    };
    vec![
        Check { what: "read", result: Ok("the boot loader's state is there and whole".to_owned()) },
        Check { what: "next boot", result: next(&before) },
        Check { what: "fall back", result: other(&before) },
        Check { what: "write", result: written },
    ]
}

fn next(boots: &Boots) -> Result<String, String> {
    boots.next().map(|slot| format!("slot {slot}")).ok_or_else(|| "no slot has a try left".to_owned())
}

fn other(boots: &Boots) -> Result<String, String> {
    let others: Vec<String> = crate::boot_state::Slot::ALL
        .into_iter()
        .filter(|slot| Some(*slot) != boots.next() && boots.is_in_order(*slot))
        .map(|slot| format!("slot {slot}"))
        .collect();
    // One system alone is how a board comes from the factory.
    Ok(if others.is_empty() { "no other slot holds a good system yet".to_owned() } else { others.join(", ") })
}

fn table(checks: &[Check]) -> String {
    let rows = checks.iter().map(|Check { what, result }| match result {
        Ok(said) => vec![(*what).to_owned(), "ok".to_owned(), said.clone()],
        Err(said) => vec![(*what).to_owned(), "MISSING".to_owned(), said.clone()],
    });
    yado_wire::columns::text(&["CHECK", "RESULT", "SAID"], rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::boot_state::{BootState, Mark};
    use crate::state_partition;
    use std::fs::File;

    fn places(path: &std::path::Path) -> Places {
        Places { system: "/none".into(), data: "/none".into(), run: "/none".into(), state: Some(path.to_owned()) }
    }

    #[test]
    fn the_state_is_as_before_but_for_its_sequence() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let state = BootState::factory(Some(Mark::Empty));
        state_partition::write(file.as_file(), &state).unwrap();
        let text = show(&places(file.path()), Format::Table).unwrap();
        assert!(text.contains("write      ok      change 2 was written and read back\n"), "{text}");
        let after = state_partition::read(&File::open(file.path()).unwrap()).unwrap();
        assert_eq!(after, BootState { sequence: 2, ..state });
    }

    #[test]
    fn what_is_missing_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let checks = check(&places(file.path()));
        assert!(matches!(checks.as_slice(), [Check { what: "read", result: Err(_) }]), "{checks:?}");
        let checks = check(&places(std::path::Path::new("/none/state")));
        assert!(matches!(checks.as_slice(), [Check { what: "state", result: Err(_) }]), "{checks:?}");
    }
}
