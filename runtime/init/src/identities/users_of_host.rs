//! Hosted: the ids that the machine's own users have for containers of theirs (subuid(5), subgid(5)). An instance that had one of them
//! too would be no wall to that user, nor the user to it. On a board there are no such users.

use super::{FIRST_HOST_ID, Range};
use crate::log::{Log, Priority};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use yado_sys::regular_file;

const FILES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

/// Tens of thousands of users. What is behind it is not known.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The ranges of all users, as far as they may meet those of instances.
pub(super) fn read(log: &mut Log) -> Vec<Range> {
    let mut ranges = Vec::new();
    for path in FILES {
        match read_file(Path::new(path)) {
            Ok(text) => ranges.extend(parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log.say(
                Priority::Warning,
                format_args!("{path}: {error}: instances may be given ids that users of this machine have"),
            ),
        }
    }
    joined(ranges)
}

fn read_file(path: &Path) -> io::Result<String> {
    let file: File = regular_file::open_linked(path)?;
    if file.metadata()?.uid() != 0 {
        return Err(io::Error::other("it is not root's"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lines of user, first id and count. A line that is none of these gives nobody anything, as for newuidmap(1).
fn parse(text: &str) -> impl Iterator<Item = Range> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split(':').skip(1);
        let (first, count): (u32, u32) = (words.next()?.parse().ok()?, words.next()?.trim_end().parse().ok()?);
        let end = first.saturating_add(count);
        let first = first.max(FIRST_HOST_ID);
        (first < end).then(|| Range { first, count: end.saturating_sub(first) })
    })
}

/// Those that overlap or follow each other as one, so that many users are few ranges.
fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable_by_key(|range| range.first);
    let mut all: Vec<Range> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.first <= last.end() => {
                last.count = last.end().max(range.end()).saturating_sub(last.first);
            }
            Some(_) | None => all.push(range),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    fn ranges(text: &str) -> Vec<(u32, u32)> {
        joined(parse(text).collect()).into_iter().map(|range| (range.first, range.end())).collect()
    }

    #[test]
    fn users_in_any_order_are_one_range_where_they_follow_each_other() {
        let text = "ann:1065536:65536\nbob:1000000:65536\n1001:900000:200000\nlow:100000:65536\neve:2000000:65536\n";
        assert_eq!(ranges(text), [(1_000_000, 1_131_072), (2_000_000, 2_065_536)]);
        assert_eq!(ranges("root:1:4294967295\n"), [(1_000_000, u32::MAX)]);
        for nothing in ["", "\n", "ann\n", "ann:1000000\n", "ann:1000000:0\n", "ann:-1:5\n", "ann:1000000:x\n", "#\n"]
        {
            assert_eq!(ranges(nothing), [], "{nothing:?}");
        }
    }

    #[test]
    fn any_file_of_users_gives_ranges_in_order_that_do_not_meet() {
        let seed = b"ann:1000000:65536\nbob:1065536:65536\neve:2000000:1\n".to_vec();
        fuzz("users_of_host", &[seed], &[":", "\n", "4294967295", "1000000"], |bytes| {
            let all = ranges(&String::from_utf8_lossy(bytes));
            assert!(all.iter().all(|(first, end)| FIRST_HOST_ID <= *first && first < end), "{all:?}");
            assert!(all.windows(2).all(|pair| pair[0].1 < pair[1].0), "{all:?}");
        });
    }
}
