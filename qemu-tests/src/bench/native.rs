//! The same comparison as on the board on this machine's own kernel: from the request until all is gone, with a hosted init, the
//! command around it, crun, LXC and bare namespaces. What is timed are the programs as they are shipped. Everything runs in
//! mount, network and process namespaces of its own, and what is on a board's tmpfs is on one here.
//!
//! `YADO_BENCH_BEFORE` names a directory with `yado` and `yado-init` of another build, which takes part too.

pub(crate) mod budgets;
mod cold;
pub(crate) mod image_build;

use super::Promise;
use super::rivals::{CRUN, MAP, PLACE, Rivals};
use super::starts::{Times, print_times, times};
use crate::arch::Arch;
use crate::board::host_yado::{HostYado, ImageOptions};
use crate::board::system_image;
use crate::cache::Cache;
use crate::cross::{self, Program};
use crate::provision;
use qemu_guest::contest::{Contest, Contestant, Gone, Results, Start};
use std::error::Error;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Each one's turns that count.
const LAPS: u32 = 60;

/// The most of crun's time that a start may take: what is aimed at, and what `cargo accept` holds, where a neighbour's noise
/// must not look like a defect.
struct Goal {
    word: &'static str,
    aim: f64,
    budget: f64,
}

const GOALS: [Goal; 2] =
    [Goal { word: WITHOUT_NIC, aim: 0.5, budget: 0.65 }, Goal { word: WITH_NIC, aim: 0.6, budget: 0.8 }];
const WITHOUT_NIC: &str = "no nic";
const WITH_NIC: &str = "nic";
const WORDS: [&str; 2] = [WITHOUT_NIC, WITH_NIC];
const WARM: &str = "warm";
const HASHED: &str = "hashed";
/// In one contest; cold starts are in one of their own.
const TEMPERATURES: [&str; 2] = [WARM, HASHED];
const BY_SOCKET: &str = "socket";
const BY_COMMAND: &str = "command";
const WAYS: [&str; 2] = [BY_SOCKET, BY_COMMAND];
/// The build that is judged.
const OURS: &str = "yado";

const DEFINITION: &str = "yado: until init tells the instance as stopped (its processes, mounts and control group are gone) and \
the request was answered, or the command has ended. Warm: the image was verified by an earlier start and is kept; hashed: its \
file was touched since, so it is hashed again. Data, images and layers are on this folder's disk, runtime directories on a tmpfs. \
The others: until the command has ended; their root is the same files in a plain directory, they verify nothing, mount no \
overlay, and have no nic. crun is Debian's: linked dynamically, and it executes itself once more from a copy in memory.";

/// Makes the namespaces' own tmpfs and control group tree, starts one init per directory (`PROGRAM DIRECTORY`, from `$INITS`),
/// and runs the race in the foreground. The KiB that init, its reader and netd take each second after it are in the directory's `pss`,
/// a line for each second.
const SCRIPT: &str = r#"set -eu
mount --make-rprivate /
mount -t tmpfs run /run
umount --recursive --lazy /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
cp -r "$FILES/." /
printf '%s\n' "$INITS" | while read -r init directory; do
    "$init" --hosted "$directory" </dev/null >"$directory/log" 2>&1 &
    until [ -S "$directory/run/init.sock" ]; do sleep 0.1; done
done
sleep 5
"$RACE"
for second in 1 2 3 4 5 6 7 8; do
    sleep 1
    printf '%s\n' "$INITS" | while read -r init directory; do
        for process in /proc/[0-9]*; do
            case "$(readlink "$process/exe")" in "$directory"/*) sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' "$process/smaps_rollup" ;; esac
        done | tr '\n' ' ' >>"$directory/pss"
        echo >>"$directory/pss"
    done
done
"#;

/// Times all, prints, and says whether the goals are reached. `Err`: there is nothing to compare.
pub(super) fn measure(cache: &Cache, directory: &Path) -> Result<bool, Box<dyn Error>> {
    let track = Track::lay_out(cache, directory)?;
    let is_good = tell(&track.run(LAPS, &track.contestants)?);
    cold::measure(&track)?;
    Ok(is_good)
}

/// Those of ours that did not start each time. Whoever fails once has no more turns, and its times until then say nothing.
fn failed_starts(results: &Results, laps: u32) -> Vec<Promise> {
    let ways = WORDS.iter().flat_map(|word| TEMPERATURES.map(|temperature| (word, temperature)));
    let names = ways.flat_map(|(word, temperature)| WAYS.map(|way| contestant(OURS, way, word, temperature)));
    let failed = names.filter_map(|name| {
        let started = results.laps.iter().filter(|lap| lap.contestant == name).count();
        let reason = results.disqualified.iter().find(|failed| failed.contestant == name);
        let has_failed = reason.is_some() || started != laps as usize;
        has_failed.then(|| Promise {
            what: format!("{name}: {laps} starts succeed"),
            seen: format!("{started}; {}", reason.map_or("the others were not made", |failed| &failed.reason)),
            holds: false,
        })
    });
    failed.collect()
}

/// What part of crun's time each warm start takes, each's by the attempt whose median is its least, beside the most that it may.
fn warm_starts(attempts: &[Vec<Times>], most: fn(&Goal) -> f64) -> Vec<Promise> {
    let least = |name: &str| {
        let times = attempts.iter().flatten().filter(|times| times.name == name);
        times.map(|times| times.median_us).min()
    };
    let ways = GOALS.iter().flat_map(|goal| WAYS.map(|way| (goal, contestant(OURS, way, goal.word, WARM))));
    let seen = ways.map(|(goal, name)| {
        let ratio = least(&name).zip(least(CRUN)).map(|(ours, theirs)| ours as f64 / theirs as f64);
        let most = most(goal);
        Promise {
            what: format!("{name}: at most {most} of crun's time"),
            seen: ratio.map_or("not timed".to_owned(), |ratio| format!("{ratio:.2}")),
            holds: ratio.is_some_and(|ratio| ratio <= most),
        }
    });
    seen.collect()
}

/// The name of one of ours, by which its times are found again.
fn contestant(build: &str, way: &str, word: &str, temperature: &str) -> String {
    format!("{build} by {way}, {word}, {temperature}")
}

/// Where all is laid out that a contest needs.
struct Track {
    contestants: Vec<Contestant>,
    /// `PROGRAM DIRECTORY` of each init.
    inits: String,
    /// What is copied over the root of the namespaces.
    files: PathBuf,
    race: PathBuf,
}

impl Track {
    fn lay_out(cache: &Cache, directory: &Path) -> Result<Track, Box<dyn Error>> {
        let built = cross::build(
            cache,
            Arch::Amd64,
            &[
                Program { package: "yado-init", binary: None },
                Program { package: "yado", binary: None },
                Program { package: "qemu-guest", binary: Some("guest-race") },
            ],
        )?;
        let program = |name: &str| built.iter().find(|built| built.name == name).map(|built| built.path.clone());
        let missing = |name: &str| format!("no {name} was built");
        // A run before this one; that there was none is as good.
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory.join("root"))?;
        let directory = directory.canonicalize()?;
        lay_out_root(&directory.join("root"))?;
        let mut builds = vec![(
            OURS,
            [
                program("yado-init").ok_or_else(|| missing("yado-init"))?,
                program("yado").ok_or_else(|| missing("yado"))?,
            ],
        )];
        if let Some(before) = std::env::var_os("YADO_BENCH_BEFORE").map(PathBuf::from) {
            builds.push(("before", [before.join("yado-init"), before.join("yado")]));
        }
        let tool = HostYado::build(cache)?;
        let rivals = rivals(cache, &directory.join("root"));
        let mut contestants = rivals.contestants();
        contestants.push(unshare(&directory.join("root")));
        let mut inits = Vec::new();
        for (name, [init, yado]) in &builds {
            let host = Host { name, directory: directory.join(name), has_limits: rivals.has_limits, tool: &tool };
            host.lay_out(init, yado, &directory.join("root"))?;
            contestants.extend(host.contestants());
            inits.push(format!("{} {}", host.directory.join("bin/yado-init").display(), host.directory.display()));
        }
        let files = directory.join("files");
        for (path, text) in rivals.files() {
            write(&files.join(path.trim_start_matches('/')), &text)?;
        }
        for made in ["crun", "lxc", "lxc-root"] {
            fs::create_dir_all(files.join(PLACE.trim_start_matches('/')).join(made))?;
        }
        let race = program("guest-race").ok_or_else(|| missing("guest-race"))?;
        Ok(Track { contestants, inits: inits.join("\n"), files, race })
    }

    fn run(&self, laps: u32, contestants: &[Contestant]) -> Result<Results, Box<dyn Error>> {
        run(&Contest { laps, contestants: contestants.to_vec() }, &self.inits, &self.files, &self.race)
    }
}

fn tell(results: &Results) -> bool {
    let times = times(results);
    println!(
        "\ncreate a container, run `true`, gone, on this machine; {LAPS} turns each in random order, in ms\n   {DEFINITION}"
    );
    print_times(&times);
    for failed in &results.disqualified {
        println!("   NOT TIMED {}: {}", failed.contestant, failed.reason);
    }
    let mut is_good = times.iter().any(|times| times.name == CRUN) && failed_starts(results, LAPS).is_empty();
    for Promise { what, seen, holds } in warm_starts(std::slice::from_ref(&times), |goal| goal.aim) {
        println!("   {} {what}: {seen}", if holds { "✓" } else { "✗" });
        is_good &= holds;
    }
    is_good
}

fn run(contest: &Contest, inits: &str, files: &Path, race: &Path) -> Result<Results, Box<dyn Error>> {
    // Before others on both processors, or their compilers would be what is timed; it is inherited by all.
    let words = [
        "--rr",
        "5",
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        SCRIPT,
    ];
    let mut child = Command::new("chrt")
        .args(words)
        .env("INITS", inits)
        .env("FILES", files)
        .env("RACE", race)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let text = serde_json::to_string(contest)?;
    child.stdin.take().ok_or("no pipe to the race")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout)?),
        false => Err(format!("the race: {}: {}", output.status, String::from_utf8_lossy(&output.stdout)).into()),
    }
}

/// Those that this machine has, or can have unpacked; who is missing is disqualified by name.
fn rivals(cache: &Cache, root: &Path) -> Rivals {
    // LXC's package would make a bridge on the machine where it is installed.
    let tree = provision::peers(cache, Arch::Amd64);
    if let Err(error) = &tree {
        println!("   crun and LXC as they are installed, if they are: {error}");
    }
    let tree = tree.unwrap_or_else(|_| PathBuf::from("/"));
    let program = |name: &str| tree.join("usr/bin").join(name).display().to_string();
    let has =
        |name: &str| fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|list| list.contains(name));
    let limits = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    let raised = rustix::process::Rlimit { current: limits.current, maximum: None };
    // It is what crun does before it loads a filter. Ours does not need to, and has one.
    let has_device_filter = rustix::process::setrlimit(rustix::process::Resource::Memlock, raised).is_ok();
    let rivals = Rivals {
        crun: program("crun"),
        lxc_start: program("lxc-start"),
        libraries: tree.join("usr/lib").join(Arch::Amd64.gnu_triplet()).display().to_string(),
        root: root.display().to_string(),
        has_limits: has("memory") && has("pids"),
        has_device_filter,
    };
    for (what, has) in
        [("limits of memory and processes", rivals.has_limits), ("a device filter of crun's", has_device_filter)]
    {
        if !has {
            println!("   NOT TIMED with {what}: this machine does not let us");
        }
    }
    rivals
}

fn unshare(root: &Path) -> Contestant {
    let words =
        ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--uts", "--net", "--ipc", "--cgroup", "--fork"];
    let mut argv: Vec<String> = words.map(str::to_owned).to_vec();
    argv.extend([format!("--root={}", root.display()), "/bin/true".to_owned()]);
    Contestant {
        name: "unshare".to_owned(),
        before: Vec::new(),
        start: Start::Command { argv, environment: Vec::new() },
        gone: Gone::WhenItEnds,
    }
}

fn lay_out_root(root: &Path) -> Result<(), Box<dyn Error>> {
    for directory in ["bin", "dev", "etc", "proc", "run", "sbin", "sys", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let busybox = root.join("bin/busybox");
    fs::copy("/bin/busybox", &busybox).map_err(|error| format!("/bin/busybox (package busybox-static): {error}"))?;
    fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755))?;
    symlink("busybox", root.join("bin/true"))?;
    // The others' containers have it as theirs.
    let (first, _) = MAP;
    Ok(chown(root, Some(first), Some(first))?)
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    Ok(fs::write(path, text)?)
}

/// A hosted init's directory, as README lays it out.
struct Host<'a> {
    name: &'a str,
    directory: PathBuf,
    has_limits: bool,
    /// Makes keys and images; the program on a device does not.
    tool: &'a HostYado,
}

impl Host<'_> {
    fn lay_out(&self, init: &Path, yado: &Path, root: &Path) -> Result<(), Box<dyn Error>> {
        let path = |relative: &str| self.directory.join(relative);
        for directory in ["bin", "data", "run", "system/appliance", "system/trust", "system/images/aliases"] {
            fs::create_dir_all(path(directory))?;
        }
        fs::copy(init, path("bin/yado-init"))?;
        fs::copy(yado, path("bin/yado"))?;
        self.tool.new_key(&path("key"))?;
        fs::copy(path("key.pub"), path("system/trust/key.pub"))?;
        write(&path("system/verify"), "start\n")?;
        let limits = if self.has_limits { "limits.memory = \"16MiB\"\nlimits.processes = 20\n" } else { "" };
        for (instance, image, nic) in
            [("once", "warm", ""), ("nic", "warm", NIC), ("cold", "cold", ""), ("cold-nic", "cold", NIC)]
        {
            let text = format!(
                "image = \"{image}\"\nprofiles = []\n[config]\nboot.autostart = false\nboot.restart = \"never\"\n{limits}{nic}"
            );
            write(&path(&format!("system/appliance/{instance}.toml")), &text)?;
        }
        // Two of the same root, told apart by their names.
        for image in ["warm", "cold"] {
            let options = ImageOptions {
                source: root,
                kind: "container",
                architecture: Arch::Amd64.debian(),
                name: image,
                release: 1,
                boot_files: &[],
                key: &path("key.key"),
                init: Some("/bin/true"),
                halt_signal: None,
                minimum_runtime: None,
            };
            self.tool.build_image(&options, &path("built"))?;
            let fingerprint = system_image::fingerprint(&path("built"))?;
            fs::create_dir_all(path(&format!("system/images/{fingerprint}")))?;
            fs::rename(path("built"), path(&format!("system/images/{fingerprint}/image")))?;
            symlink(format!("../{fingerprint}"), path(&format!("system/images/aliases/{image}")))?;
        }
        Ok(())
    }

    fn contestants(&self) -> Vec<Contestant> {
        let text = |path: PathBuf| path.display().to_string();
        let yado = text(self.directory.join("bin/yado"));
        let socket = text(self.directory.join("run/init.sock"));
        let command = |words: &[&str]| {
            let all = [yado.as_str(), "rescue", "--socket", &socket].into_iter().chain(words.iter().copied());
            all.map(str::to_owned).collect::<Vec<String>>()
        };
        let touch = vec!["touch".to_owned(), text(self.directory.join("system/images/aliases/cold/image"))];
        let mut all = Vec::new();
        for (word, warm, cold) in [(WITHOUT_NIC, "once", "cold"), (WITH_NIC, "nic", "cold-nic")] {
            for (temperature, instance, before) in [(WARM, warm, Vec::new()), (HASHED, cold, touch.clone())] {
                let start = Start::Command { argv: command(&["start", instance]), environment: Vec::new() };
                let request = Start::Request { socket: socket.clone(), instance: instance.to_owned() };
                for (by, start) in [(BY_SOCKET, request), (BY_COMMAND, start)] {
                    all.push(Contestant {
                        name: contestant(self.name, by, word, temperature),
                        before: before.clone(),
                        start,
                        gone: Gone::WhenStopped {
                            instance: instance.to_owned(),
                            events: command(&["events", "--format", "json"]),
                        },
                    });
                }
            }
        }
        all
    }
}

const NIC: &str = "[devices.eth0]\ntype = \"nic\"\nnetwork = \"yado0\"\n";

#[cfg(test)]
mod tests {
    use super::*;
    use qemu_guest::contest::{Disqualified, Lap};

    const ALL: [(&str, u64); 9] = [
        ("yado by socket, no nic, warm", 50),
        ("yado by command, no nic, warm", 60),
        ("yado by socket, no nic, hashed", 70),
        ("yado by command, no nic, hashed", 70),
        ("yado by socket, nic, warm", 60),
        ("yado by command, nic, warm", 70),
        ("yado by socket, nic, hashed", 90),
        ("yado by command, nic, hashed", 90),
        (CRUN, 100),
    ];

    /// Two laps of all, but what is said of some.
    fn results(others: &[(&str, u64)]) -> Results {
        let micros =
            |name: &str, usual| others.iter().find(|(other, _)| *other == name).map_or(usual, |(_, own)| *own);
        let all = ALL.iter().chain(&ALL);
        let laps = all.map(|(name, usual)| Lap { contestant: (*name).to_owned(), micros: micros(name, *usual) });
        Results { laps: laps.collect(), disqualified: Vec::new() }
    }

    fn broken(attempts: &[Vec<Times>]) -> Vec<String> {
        warm_starts(attempts, |goal| goal.budget)
            .into_iter()
            .filter(|seen| !seen.holds)
            .map(|Promise { seen, .. }| seen)
            .collect()
    }

    #[test]
    fn a_start_that_fails_once_is_a_failure_whatever_the_others_took() {
        assert!(failed_starts(&results(&[]), 2).is_empty());
        let mut failing = results(&[]);
        let at = failing.laps.iter().rposition(|lap| lap.contestant == ALL[6].0);
        at.map(|at| failing.laps.remove(at));
        let seen = |results: &Results| failed_starts(results, 2).into_iter().map(|one| one.seen).collect::<Vec<_>>();
        assert_eq!(seen(&failing), ["1; the others were not made"]);
        let failed = |name: &str| Disqualified { contestant: name.to_owned(), reason: "exit 1".to_owned() };
        failing.disqualified = vec![failed(ALL[6].0), failed("lxc-start")];
        assert_eq!(seen(&failing), ["1; exit 1"]);
        assert_eq!(failed_starts(&Results::default(), 2).len(), 8);
    }

    #[test]
    fn an_attempt_that_disturbed_crun_excuses_nobody_and_one_that_disturbed_us_is_none() {
        let attempt = |others: &[(&str, u64)]| times(&results(others));
        assert!(broken(&[attempt(&[])]).is_empty());
        let slow = (ALL[0].0, 90);
        assert!(broken(&[attempt(&[slow]), attempt(&[])]).is_empty());
        // By the least of the ratios it would be 0.45.
        assert_eq!(broken(&[attempt(&[slow, (CRUN, 200)]), attempt(&[slow])]), ["0.90"]);
        assert_eq!(broken(&[Vec::new()]).len(), 4);
    }
}
