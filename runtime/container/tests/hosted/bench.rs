//! How long `true` takes, from the decision to start it until it is gone: by the launcher, by crun on the same root, and
//! bare namespaces by unshare(1). Ratios of one run; absolute times mean nothing on their own.

use crate::fixture::Fixture;
use crate::init_role::launch;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 200;

pub(crate) fn measure(fixture: &Fixture) {
    let bundle = fixture.path("bundle");
    fs::create_dir_all(&bundle).unwrap();
    crun_bundle(fixture, &bundle);
    let order = fixture.order("bench", &["/bin/true"]);
    let mut last = Vec::new();
    let ours = median(|| {
        let payload = launch(&order).unwrap_or_else(|failure| panic!("{failure}"));
        last = payload.steps.clone();
        payload.finish();
    });
    for time in last {
        println!("{:>8} us  {}", time.micros, time.step.name());
    }
    let crun = median(|| {
        let id = format!("yado-bench-{}", std::process::id());
        quiet(Command::new("crun").args(["run", "-b"]).arg(&bundle).arg(id));
    });
    let unshare = median(|| {
        let root = format!("--root={}", fixture.root().display());
        quiet(Command::new("unshare").args(["-UrmpunfiC", &root, "/bin/true"]));
    });
    let ratio = ours.as_secs_f64() / crun.as_secs_f64();
    println!("launcher {ours:?}, crun {crun:?}, unshare {unshare:?}; launcher/crun {ratio:.2}");
}

fn median(mut round: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            round();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

fn quiet(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// The bundle that `crun spec` writes, with our root, `true`, and the namespaces and id map that the launcher makes.
fn crun_bundle(fixture: &Fixture, bundle: &std::path::Path) {
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
