//! How long `true` takes, from the decision to start it until it is gone: by the launcher, by crun and LXC on the same root,
//! and bare namespaces by unshare(1). Ratios of one run; absolute times mean nothing on their own.

use crate::fixture::Fixture;
use crate::init_role::launch;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use yado_sys::clone::{self, Namespaces};
use yado_sys::mount::{self, Attributes};

const ROUNDS: usize = 200;

pub(crate) fn measure(fixture: &Fixture) {
    let bundle = fixture.path("bundle");
    fs::create_dir_all(&bundle).unwrap();
    if has_crun() {
        crun_bundle(fixture, &bundle);
    }
    let mut request = fixture.request("bench", &["/bin/true"]);
    // An overlay syncs the disk of its layer when it is unmounted. crun's root is a plain directory, which nobody syncs.
    let layer = tempfile::tempdir_in("/dev/shm").unwrap();
    request.paths.layer = layer.path().to_str().unwrap().to_owned();
    let mut steps: Vec<(&str, Vec<u32>)> = Vec::new();
    let mut started = Vec::new();
    let ours = times(|| {
        let payload = launch(&request).unwrap_or_else(|failure| panic!("{failure}"));
        started.push(payload.until_started);
        for (index, time) in payload.steps.iter().enumerate() {
            if steps.len() == index {
                steps.push((time.step.name(), Vec::new()));
            }
            steps[index].1.push(time.micros);
        }
        payload.finish();
    });
    for (name, mut micros) in steps {
        micros.sort_unstable();
        println!("{:>8} us (least {:>6})  {name}", micros[micros.len() / 2], micros[0]);
    }
    started.sort_unstable();
    println!("until its init runs: median {:?}, least {:?}", started[ROUNDS / 2], started[0]);
    let unshare = times(|| {
        let root = format!("--root={}", fixture.root().display());
        quiet(Command::new("unshare").args(["-UrmpunfiC", &root, "/bin/true"]));
    });
    see_cgroup2_only();
    let crun = crun_times(&bundle);
    let lxc = lxc_times(fixture);
    for (name, times) in
        [("launcher", Some(&ours)), ("crun", crun.as_ref()), ("lxc-start", lxc.as_ref()), ("unshare", Some(&unshare))]
    {
        let Some(Times { median, least, cpu }) = times else { continue };
        print!("{name:>9}: median {median:?}, least {least:?}, CPU {cpu:?}");
        match &crun {
            None => println!(),
            Some(crun) => {
                let [median, least, cpu] = [(median, crun.median), (least, crun.least), (cpu, crun.cpu)]
                    .map(|(own, cruns)| own.as_secs_f64() / cruns.as_secs_f64());
                println!("; to crun's {median:.2}, {least:.2}, {cpu:.2}");
            }
        }
    }
}

fn crun_times(bundle: &Path) -> Option<Times> {
    if !has_crun() {
        println!("NOT TIMED crun: it is not installed (package crun)");
        return None;
    }
    Some(times(|| {
        let id = format!("yado-bench-{}", std::process::id());
        quiet(Command::new("crun").args(["--cgroup-manager=disabled", "run", "-b"]).arg(bundle).arg(id));
    }))
}

fn has_crun() -> bool {
    Command::new("crun").arg("--version").stdout(Stdio::null()).status().is_ok()
}

/// Where LXC's Debian packages are unpacked (`cargo bench-board --hosted` says it): installing them would change the
/// machine's network.
const LXC_TREE: &str = "YADO_BENCH_LXC";

/// `lxc-start` in the foreground, with `true` as the container's init: no program of LXC's own runs inside.
fn lxc_times(fixture: &Fixture) -> Option<Times> {
    let Some(tree) = std::env::var_os(LXC_TREE).map(PathBuf::from) else {
        println!("NOT TIMED lxc-start: {LXC_TREE} names no tree with LXC in it");
        return None;
    };
    // Unlike the launcher and crun, LXC looks for the root as the root of its user namespace.
    fs::set_permissions(fixture.directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let place = fixture.path("lxc");
    fs::create_dir_all(place.join("root")).unwrap();
    let config = [
        format!("lxc.rootfs.path = dir:{}", fixture.root().display()),
        format!("lxc.rootfs.mount = {}", place.join("root").display()),
        "lxc.init.cmd = /bin/true".to_owned(),
        "lxc.idmap = u 0 1000000 65536".to_owned(),
        "lxc.idmap = g 0 1000000 65536".to_owned(),
        "lxc.net.0.type = empty".to_owned(),
        "lxc.console.path = none".to_owned(),
        "lxc.mount.auto = proc:mixed sys:ro cgroup:rw:force".to_owned(),
        "lxc.apparmor.profile = unconfined".to_owned(),
    ];
    fs::write(place.join("config"), config.join("\n") + "\n").unwrap();
    let libraries = format!("{}-linux-gnu", std::env::consts::ARCH);
    Some(times(|| {
        quiet(
            Command::new(tree.join("usr/bin/lxc-start"))
                .env("LD_LIBRARY_PATH", tree.join("usr/lib").join(&libraries))
                .args(["--foreground", "--name", "yado-bench", "--logpriority", "ERROR", "--lxcpath"])
                .arg(&place)
                .arg("--rcfile")
                .arg(place.join("config"))
                .arg("--logfile")
                .arg(place.join("log")),
        );
    }))
}

/// On a busy machine the least and the CPU time still say something.
struct Times {
    median: Duration,
    least: Duration,
    /// User and system time of one round's processes, on average.
    cpu: Duration,
}

fn times(mut round: impl FnMut()) -> Times {
    let cpu_before = cpu_of_children();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            round();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let cpu = (cpu_of_children() - cpu_before) / ROUNDS as u32;
    Times { median: times[ROUNDS / 2], least: times[0], cpu }
}

/// Fields 16 and 17 of proc_pid_stat(5), in ticks of 10 ms.
fn cpu_of_children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields.split_whitespace().skip(13).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// crun refuses the old and the new cgroup tree side by side, so in a mount namespace of our own only the new one is there.
/// Its cgroup is left out: that is less work for crun, never more.
fn see_cgroup2_only() {
    const CGROUP: &str = "/sys/fs/cgroup";
    clone::unshare(Namespaces::NEWNS).unwrap();
    mount::make_all_private().unwrap();
    rustix::mount::unmount(CGROUP, rustix::mount::UnmountFlags::DETACH).unwrap();
    let cgroup2 = mount::new_file_system("cgroup2", &[], Attributes::empty()).unwrap();
    mount::attach_at(&cgroup2, CGROUP).unwrap();
}

fn quiet(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// The bundle that `crun spec` writes, with our root, `true`, and the namespaces and id map that the launcher makes.
fn crun_bundle(fixture: &Fixture, bundle: &Path) {
    quiet(Command::new("crun").arg("spec").current_dir(bundle));
    let path = bundle.join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let root = fixture.root();
    let text = text
        .replace("\"rootfs\"", &format!("\"{}\"", root.display()))
        .replace("\"sh\"", "\"/bin/true\"")
        .replace("\"terminal\": true", "\"terminal\": false");
    fs::write(&path, text).unwrap();
}
