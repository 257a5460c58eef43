//! The power goes away in the middle of an apply that changes an instance and a network, adds an instance and deletes one: each
//! is as it was or as it is to be when the board is on again.

use super::bench::{Bench, TIMEOUT};
use super::failure::BrokenError;
use crate::board::BoardError;
use crate::board::qemu::OnReset;
use crate::report::{Observer, Witness};
use std::time::{Duration, Instant};

/// When it is cut, as parts of the time that a whole apply takes.
const CUTS: [f64; 3] = [0.25, 0.5, 0.8];

/// Those that change, are deleted, and are added.
const NAMES: [&str; 3] = ["changed", "leaves", "comes"];

/// Two configurations, each kept in a directory of the data partition: a limit, the address of a network, and which of two
/// instances there is beside `changed`.
const LAY_OUT: &str = "
lay_out() {
    mkdir -p /data/$1
    for name in changed $4; do
        printf '%s\\n' 'image = \"busybox\"' '[config]' 'boot.autostart = true' 'health.window = \"200ms\"' \\
            \"limits.memory = \\\"$2MiB\\\"\" '[devices.eth0]' 'type = \"nic\"' 'network = \"extra\"' > /data/$1/$name.toml
    done
    printf '%s\\n' '[config]' \"ipv4.address = \\\"$3/24\\\"\" > /data/$1/extra
}
lay_out red 16 10.204.1.1 leaves
lay_out blue 24 10.204.2.1 comes
mkdir -p /data/networks
# With a network of somebody's own there is no yado0 by itself.
echo '[config]' > /data/networks/yado0.toml
sync";

/// What a person would do, who edits the network's file and deletes an instance's before the others are applied, and asks again while
/// the board is still starting; 3: other instances of this board are bad.
fn apply(wanted: &str, deleted: &str) -> String {
    format!(
        "cp /data/{wanted}/extra /data/networks/.extra
sync
mv /data/networks/.extra /data/networks/extra.toml
rm -f /data/instances/{deleted}/instance.toml
sync
until yado apply /data/{wanted}/*.toml 2> /run/said; do
    [ $? = 3 ] && break
    grep -q 'ask again' /run/said || {{ cat /run/said >&2; exit 1; }}
    sleep 1
done"
    )
}

/// A line each: the instance, whose file it has, and its group's limit; then the addresses of the network, and what was written
/// aside and stayed there.
const LOOK: &str = "
for name in changed leaves comes; do
    file=/data/instances/$name/instance.toml is=absent
    if [ -e $file ]; then
        is=torn
        for one in red blue; do cmp -s /data/$one/$name.toml $file && is=$one; done
    fi
    echo $name $is $(cat /sys/fs/cgroup/instances/$name.*/memory.max 2> /dev/null) $(ls -d /run/yado/instances/$name.* | wc -l)
done 2> /dev/null
echo extra $(grep -o '10\\.204\\.[12]\\.1$' /proc/net/fib_trie | sort -u)
echo aside $(find /data/instances /data/state /run/yado/specs -name '.*.new')";

/// What that prints when nothing is half done. While nobody has applied it again, files that were to come may not be there yet.
const RED: &str = "changed red 16777216 1\nleaves red 16777216 1\ncomes absent 0\nextra 10.204.1.1\naside";
const BLUE: &str = "changed blue 25165824 1\nleaves absent 0\ncomes blue 25165824 1\nextra 10.204.2.1\naside";

pub(super) fn cut(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    bench.shell(LAY_OUT)?;
    let mut whole = Duration::ZERO;
    for (wanted, deleted, then) in [("blue", "leaves", BLUE), ("red", "comes", RED)] {
        let began = Instant::now();
        bench.shell(&apply(wanted, deleted))?;
        whole = began.elapsed();
        settle(bench, then)?;
    }
    observer.note("an apply takes its time", format!("{:.1} s", whole.as_secs_f64()));
    let ids = ids(bench)?;
    for (number, part) in CUTS.into_iter().enumerate() {
        let (wanted, deleted, then) = if number % 2 == 0 { ("blue", "leaves", BLUE) } else { ("red", "comes", RED) };
        let script = apply(wanted, deleted);
        let after = whole.mul_f64(part);
        let began = Instant::now();
        let _applying =
            bench.board()?.agent.start_run(&["/bin/sh", "-c", &script], "", TIMEOUT).map_err(BoardError::Agent)?;
        std::thread::sleep(after.saturating_sub(began.elapsed()));
        let loss = bench.cut_power()?;
        bench.switch_on_again(OnReset::End)?;
        bench.board()?.wait_status("board that has started those", TIMEOUT, |status| {
            let instances = status["instances"].as_array().filter(|instances| !instances.is_empty())?;
            let mut ours = instances.iter().filter(|one| NAMES.iter().any(|name| one["name"] == *name));
            ours.all(|one| one["state"] == "ready" || one["state"] == "failed").then_some(())
        })?;
        let seen = bench.shell(LOOK)?;
        let what = format!("cut {:.1} s after it began, {loss}: each is before or after", after.as_secs_f64());
        observer.check(Witness::Kernel, &what, seen.replace('\n', ", "), is_whole(&seen))?;
        bench.shell(&apply(wanted, deleted))?;
        settle(bench, then)?;
        let now = self::ids(bench)?;
        observer.check(
            Witness::OwnWord,
            "the next one goes on, and each has the id that it had",
            now.replace('\n', ", "),
            now == ids,
        )?;
    }
    Ok(())
}

/// Whether each line is one of those that it may be.
fn is_whole(seen: &str) -> bool {
    let may_be = |line: &str| {
        let is_one = |whole: &str| whole.lines().any(|of_it| of_it == line);
        // A file that was written aside is whole or it is not; nobody reads it, and the next one of that name is in its place.
        is_one(RED) || is_one(BLUE) || line.starts_with("aside ")
    };
    seen.lines().count() == RED.lines().count() && seen.lines().all(may_be)
}

fn settle(bench: &Bench<'_>, then: &str) -> Result<(), BrokenError> {
    let look = || Ok(bench.shell(LOOK).unwrap_or_default().into());
    let is_so = |seen: &serde_json::Value| (seen == then).then_some(());
    Ok(bench.board()?.wait_for(&format!("board that shows {then:?}"), TIMEOUT, look, is_so)?)
}

/// Who is who, as it is written down.
fn ids(bench: &Bench<'_>) -> Result<String, BrokenError> {
    bench.shell("cat /data/state/ids")
}
