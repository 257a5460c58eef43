//! Starts of which nothing is in memory, as the first ones after a boot: before each turn the machine drops all that it has cached
//! of files, and our image was not verified by an earlier start. In a contest of their own, because every cache is everybody's.

use super::{HASHED, Track, WARM};
use crate::bench::starts::{print_times, times};
use qemu_guest::contest::Contestant;
use std::error::Error;
use std::fs::File;

/// Each one's turns that count. The machine is slow for everybody meanwhile.
const LAPS: u32 = 20;

const COLD: &str = "cold";
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

const DEFINITION: &str = "cold: as above, and the machine has dropped all files, directories and inodes that it had cached, which it \
does before each turn of everybody's. What runs keeps its own program: our netd is the same file as our command and launcher.";

/// Times and prints them, where the machine lets us.
pub(super) fn measure(track: &Track) -> Result<(), Box<dyn Error>> {
    if let Err(error) = File::options().write(true).open(DROP_CACHES) {
        println!("   NOT TIMED cold starts: {DROP_CACHES}: {error}");
        return Ok(());
    }
    let results = track.run(LAPS, &contestants(&track.contestants))?;
    println!("\ncold, on this machine; {LAPS} turns each in random order, in ms\n   {DEFINITION}");
    print_times(&times(&results));
    for failed in &results.disqualified {
        println!("   NOT TIMED {}: {}", failed.contestant, failed.reason);
    }
    Ok(())
}

/// Of those that are timed otherwise: who has a warm and a hashed start is here once.
fn contestants(all: &[Contestant]) -> Vec<Contestant> {
    // What was written is written back first: only what is on the disk can be dropped.
    let drop_caches = format!("\"$@\" && sync && echo 3 >{DROP_CACHES}");
    let cold = all.iter().filter(|contestant| !contestant.name.ends_with(WARM)).map(|contestant| {
        let before = if contestant.before.is_empty() { vec!["true".to_owned()] } else { contestant.before.clone() };
        let words = ["sh", "-c", &drop_caches, "sh"].map(str::to_owned);
        let name = contestant.name.replace(HASHED, COLD);
        Contestant { name, before: words.into_iter().chain(before).collect(), ..contestant.clone() }
    });
    cold.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::native::{BY_SOCKET, OURS, WITHOUT_NIC, contestant};
    use qemu_guest::contest::{Gone, Start};

    #[test]
    fn each_has_one_cold_start_with_what_it_has_before_a_start_that_is_not_warm() {
        let one = |name: String, before: &[&str]| Contestant {
            name,
            before: before.iter().map(|word| (*word).to_owned()).collect(),
            start: Start::Command { argv: Vec::new(), environment: Vec::new() },
            gone: Gone::WhenItEnds,
        };
        let ours = |temperature| contestant(OURS, BY_SOCKET, WITHOUT_NIC, temperature);
        let all = [one("crun run".to_owned(), &[]), one(ours(WARM), &[]), one(ours(HASHED), &["touch", "image"])];
        let cold = contestants(&all);
        assert_eq!(cold.iter().map(|one| one.name.clone()).collect::<Vec<_>>(), ["crun run".to_owned(), ours(COLD)]);
        assert_eq!(cold[0].before[3..], ["sh", "true"]);
        assert_eq!(cold[1].before[3..], ["sh", "touch", "image"]);
    }
}
