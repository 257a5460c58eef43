//! A board that looks for new releases by itself, with a real init: it comes back when the updater said, and what is found is said,
//! installed or left, as the policy wants it. The instance's own files say which image it runs.

use crate::host::{Host, Running};
use serde_json::Value;
use std::fs;
use yado_wire::rescue::{ExitStatus, InstanceState};

const POLICY: &str =
    "boot.loader = \"file\"\ntrial.window = \"0s\"\ntrial.deadline = \"1m\"\ncheck.interval = \"1h\"\n";

/// A trial is good only where netd runs, which it does for whoever has a nic.
const WEB: &str = "[config]
boot.autostart = true
boot.host_shutdown_timeout = 1
[devices.eth0]
type = \"nic\"
network = \"lan0\"
";

struct Board(Running);

impl Board {
    fn yado(&self, words: &[&str]) -> (i32, String) {
        let (code, out, err) = self.0.yado(words, "");
        (code, format!("{out}{err}"))
    }

    fn update(&self, words: &[&str]) -> (i32, String) {
        let socket = self.0.path("run/init.sock");
        self.yado(&[&["update"], words, &["--socket", socket.to_str().unwrap()]].concat())
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.update(&["status", "--format", "json"]).1).unwrap()
    }

    /// What the last check of this source has found.
    fn waits_for_check(&self, rule: &str, words: &str) {
        self.0.wait_until(&format!("a check says: {words}"), |_| {
            let check = &self.status()["last_check"];
            check["rule"].as_str().unwrap_or_default() == rule
                && check["says"].as_str().is_some_and(|says| says.contains(words))
        });
        let check = self.status()["last_check"].clone();
        assert_eq!((&check["release"], &check["source"]), (&2.into(), &self.source().into()));
    }

    fn source(&self) -> String {
        self.0.path("source").display().to_string()
    }

    /// The next check is due, and the updater is told so by whatever makes it look.
    fn makes_due(&self, words: &[&str], code: i32) {
        let _ = fs::remove_file(self.0.path("run/updater/last-check"));
        fs::write(self.0.path("run/updater/next-check"), "0\n").unwrap();
        let (found, said) = self.update(words);
        assert_eq!(found, code, "{words:?}: {said}");
    }

    fn runs_version(&self, version: &str) -> bool {
        let script = format!("[ \"$(cat /etc/version)\" = {version} ]");
        self.0.exec("web", &["sh", "-c", &script]) == Ok(ExitStatus::Code(0))
    }
}

/// Init has an instance that runs `first`, and the source has a release with `second`.
fn board() -> Option<Board> {
    let host = Host::with(&[("web", WEB)])?;
    host.write("root/etc/version", "second");
    host.build_file("second.img", &["--version", "second"]);
    host.write("root/etc/version", "first");
    host.use_image("web", &["--version", "first"]);
    host.write_network("lan0", "[config]\nipv4.address = \"10.206.3.1/24\"\n");
    let source = host.path("source");
    host.write("system/update.toml", &format!("{POLICY}source = \"{}\"\n", source.display()));
    host.write("run/boot", &format!("slot=A\nfingerprint={}\n", "ab".repeat(32)));
    // An updater of this boot has named the first check for in a while.
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let due = uptime.split('.').next().unwrap().parse::<u64>().unwrap() + 8;
    host.write("run/updater/next-check", &format!("{due}\n"));
    let (image, key) = (host.path("second.img"), host.path("key.key"));
    let board = Board(host.start());
    let image = format!("web={}", image.display());
    let words = ["release", "build", "--name", "meter", "--version", "2", "--release", "2", "--output"];
    let rest = [&board.source(), "--key", key.to_str().unwrap(), &image];
    let (code, said) = board.yado(&[&words[..], &rest].concat());
    assert_eq!(code, 0, "{said}");
    Some(board)
}

#[test]
fn a_board_looks_by_itself_and_installs_what_it_finds_if_its_policy_says_so() {
    let Some(mut board) = board() else { return };
    board.0.wait_for("web", InstanceState::Running);
    // Nobody asks for a check: init comes back at the time that was named. Hosted, it does not come at a boot.
    assert_eq!(board.update(&["unhold"]).0, 0);
    board.waits_for_check("", "release 2 may be installed");
    let looks = board.0.logs_until(None, "release 2 may be installed");
    let of = |text: &str| looks.iter().filter(|line| line.contains(text)).count();
    assert_eq!((of("updater: resume"), of("looks at ")), (1, 1), "{looks:#?}");
    board.0.wait_until("it rests", |_| board.status()["work"].is_null());
    let next = board.status()["next_check_s"].as_u64().unwrap();
    assert!((3200..=3960).contains(&next), "{next}");
    assert!(board.runs_version("first"), "nobody has asked for it");
    assert_eq!(board.update(&["history"]).1, "no update has ended on this device\n");
    let (code, said) = board.update(&["check"]);
    assert!(code == 0 && said.contains("release 2 may be installed"), "{said}");

    // What is held is looked at, and left.
    fs::write(board.0.path("data/update.toml"), "install.automatic = true\n").unwrap();
    board.makes_due(&["hold"], 0);
    board.waits_for_check("held", "release 2 may be installed");
    assert!(board.update(&["status"]).1.contains("(rule held)\n"));
    assert!(board.runs_version("first") && board.status()["phase"] == "idle");

    board.makes_due(&["unhold"], 0);
    board.0.wait_until("release 2 is confirmed", |_| {
        let status = board.status();
        status["release"] == 2 && status["phase"] == "idle"
    });
    assert!(board.runs_version("second"));
    assert!(board.update(&["history"]).1.contains("confirmed"));

    // The same release again is nothing to worry about, and nothing to do.
    let remembered = fs::read(board.0.path("data/state/update")).unwrap();
    board.makes_due(&["confirm"], 54);
    board.waits_for_check("already", "release 2");
    assert!(!board.update(&["status"]).1.contains("(rule already)"));
    assert_eq!(fs::read(board.0.path("data/state/update")).unwrap(), remembered);
    assert!(board.0.end().success());
    assert_eq!(board.0.left_over(), [""; 0]);
}
