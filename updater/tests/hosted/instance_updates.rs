//! An update of one of two instances: a good image is kept, a bad one is taken back with all that it wrote, and the other instance
//! runs on. Whatever is cut, and whether the machine starts in between: it goes on, or back. The instance's own files say which
//! image and which layer it runs with.

use crate::host::{Host, Running};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use yado_updater::instances::{self, Done, Failed, InstancesError, Kind, Places, Tell, Wanted};
use yado_wire::formats::Standing;
use yado_wire::rescue::{ExitStatus, InstanceState};
use yado_wire::{InstanceName, hex};

/// Ready as soon as a program of its image says so.
const WEB: &str = "[config]
boot.autostart = true
boot.host_shutdown_timeout = 1
health.ready = \"probe\"
health.timeout = \"15s\"
\"health.probe\" = \"exec:/bin/healthy\"
\"health.probe.interval\" = \"1s\"
";
const OTHER: &str = "[config]\nboot.autostart = true\n";

fn name(text: &str) -> InstanceName {
    InstanceName::parse(text).unwrap()
}

struct Updated {
    host: Running,
    places: Places,
    /// The file of each image, by fingerprint.
    files: BTreeMap<[u8; 32], PathBuf>,
    good: [u8; 32],
    bad: [u8; 32],
}

/// A host with two instances that run, the second one called web, and two images that it does not have.
fn updated() -> Option<Updated> {
    let host = Host::with(&[("web", WEB), ("other", OTHER)])?;
    let image = |version: &str, exit_code: u8| {
        host.write_program("bin/healthy", &format!("#!/bin/sh\nexit {exit_code}\n"));
        host.write("root/etc/version", version);
        host.build_file(&format!("{version}.img"), &["--version", version]);
    };
    image("good", 0);
    image("bad", 1);
    host.write_program("bin/healthy", "#!/bin/sh\nexit 0\n");
    host.write("root/etc/version", "first");
    host.use_image("web", &["--version", "first"]);
    let host = host.start();
    let mut files = BTreeMap::new();
    let [good, bad] = ["good", "bad"].map(|version| {
        let file = host.path(&format!("{version}.img"));
        let (code, out, err) = host.yado(&["image", "info", "--format", "json", file.to_str().unwrap()], "");
        assert_eq!(code, 0, "{err}");
        let (_, rest) = out.split_once("\"fingerprint\": \"").unwrap();
        let fingerprint = hex::parse_digest(&rest[..64]).unwrap();
        files.insert(fingerprint, file);
        fingerprint
    });
    let (system, data, run) = (host.path("system"), host.path("data"), host.path("run"));
    let yado = host.path_of_yado().to_owned();
    host.wait_for("web", InstanceState::Ready);
    host.wait_for("other", InstanceState::Running);
    Some(Updated {
        host,
        places: Places { system, data, run, yado, standing: Standing::Confirmed },
        files,
        good,
        bad,
    })
}

impl Updated {
    /// As the writer of images does it: whole, and under its own name.
    fn stage(&self, update: u32, image: [u8; 32]) {
        let wanted = [Wanted { instance: name("web"), image }];
        let mut put = |image: &[u8; 32]| {
            let directory = self.places.data.join("images").join(hex::encode(image));
            fs::create_dir_all(&directory).unwrap();
            fs::copy(&self.files[image], directory.join("image")).unwrap();
            Ok(())
        };
        instances::stage::<InstancesError>(&self.places, update, &wanted, &mut put, &mut |_, _| Ok(())).unwrap();
    }

    /// Calls one of the functions, and stops it after so many steps. What was done last, if it did not come to its end.
    fn cut_after(&self, steps: usize, function: impl FnOnce(Tell<'_>) -> Result<(), Failed>) -> Option<Done> {
        let (mut left, mut last) = (steps, None);
        let ended = function(&mut |_, done| {
            last = Some(done);
            self.assert_apart();
            left = left.checked_sub(1).ok_or(InstancesError::Stopped)?;
            Ok(())
        });
        match ended {
            Ok(()) => None,
            Err(Failed { error: InstancesError::Stopped, .. }) => last,
            Err(error) => panic!("{error}"),
        }
    }

    fn switch(&self, update: u32, kind: Kind, steps: usize) -> Option<Done> {
        self.cut_after(steps, |tell| instances::switch(&self.places, update, kind, tell))
    }

    fn undo(&self, update: u32, steps: usize) -> Option<Done> {
        self.cut_after(steps, |tell| instances::undo(&self.places, update, tell))
    }

    fn keep(&self, update: u32, steps: usize) -> Option<Done> {
        self.cut_after(steps, |tell| Ok(instances::keep(&self.places, update, tell)?))
    }

    fn runs(&self, script: &str) -> bool {
        // The image has names for some of busybox's programs only.
        let script = format!("b=/bin/busybox; {script}");
        self.host.exec("web", &["sh", "-c", &script]) == Ok(ExitStatus::Code(0))
    }

    fn is(&self, version: &str, written: &str) -> bool {
        self.runs(&format!("[ \"$(cat /etc/version) $(cat /root/written)\" = '{version} {written}' ]"))
    }

    /// What is never ready is started again and again: it may be between two runs.
    fn until(&self, what: &str, is_true: impl Fn(&Updated) -> bool) {
        self.host.wait_until(what, |_| is_true(self));
    }

    /// What lies below the layers, and the pins with their asides.
    fn beside(&self) -> Vec<String> {
        let names = |path: &str| {
            let entries = fs::read_dir(self.places.data.join(path)).into_iter().flatten();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let mut all = [names("layers"), names("images/instances")].concat();
        all.retain(|name| name.contains('.'));
        all.sort();
        all
    }

    fn has_image(&self, image: [u8; 32]) -> bool {
        self.places.data.join("images").join(hex::encode(&image)).exists()
    }

    /// A new image never has the layer that was there before.
    fn assert_apart(&self) {
        let status = self.host.status("web");
        let mark = self.places.data.join(format!("layers/{}.trial/.left-by", status.id));
        if status.pid.is_some() && status.fingerprint == Some(self.bad) {
            assert!(fs::symlink_metadata(mark).is_ok(), "{status:?}");
        }
    }

    fn start_again(self) -> Updated {
        let Updated { mut host, places, files, good, bad } = self;
        host.kill();
        let host = host.start_again();
        host.wait_until("web was started", |host| host.status("web").pid.is_some());
        Updated { host, places, files, good, bad }
    }
}

/// All names below, with everything but the time of the last access.
fn seen(path: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let content = match found.file_type() {
            kind if kind.is_file() => format!("{:?}", fs::read(&path).unwrap()),
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
            kind if kind.is_dir() => {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            _ => found.rdev().to_string(),
        };
        let what = (found.ino(), found.mode(), found.uid(), found.gid(), found.mtime(), found.mtime_nsec());
        all.insert(path, format!("{what:?} {content}"));
    }
    all
}

#[test]
fn a_good_image_is_kept_a_bad_one_is_undone_to_the_byte_and_the_other_instance_runs_on() {
    let Some(mut updated) = updated() else { return };
    let others = updated.host.status("other").pid;
    assert!(updated.runs(
        "echo before >/root/written; $b mkdir /root/folder; $b ln -s nowhere /root/folder/link; $b rm /bin/ls"
    ));
    let (good, bad) = (updated.good, updated.bad);
    updated.stage(1, good);
    assert_eq!(updated.switch(1, Kind::Install, usize::MAX), None);
    updated.host.wait_for("web", InstanceState::Ready);
    assert!(updated.is("good", "before") && updated.runs("[ -h /root/folder/link ] && [ ! -e /bin/ls ]"));
    assert!(updated.runs("echo during >/root/written"));
    assert_eq!(updated.keep(1, usize::MAX), None);
    assert_eq!(updated.beside(), [".web.before", "2.before"]);

    updated.stage(2, bad);
    let layer = updated.places.data.join("layers/2/upper");
    let mut before = BTreeMap::new();
    instances::switch(&updated.places, 2, Kind::Install, &mut |_, done| {
        if done == Done::Stopped {
            before = seen(&layer);
        }
        Ok(())
    })
    .unwrap();
    updated.until("the bad image has the layer", |updated| updated.is("bad", "during"));
    let writes = "$b rm /root/written; $b rm -r /root/folder; $b chmod 711 /root; echo trial >/root/trial";
    updated.until("it writes", |updated| updated.runs(writes));
    updated.host.wait_until("its probe says what it is", |host| host.status("web").last_failure.is_some());
    let mut after = BTreeMap::new();
    instances::undo(&updated.places, 2, &mut |_, done| {
        if done == Done::LayerExchanged {
            after = seen(&layer);
        }
        Ok(())
    })
    .unwrap();
    assert!(!before.is_empty() && before == after, "{before:#?}\n{after:#?}");
    updated.host.wait_for("web", InstanceState::Ready);
    assert!(updated.is("good", "during") && updated.runs("[ ! -e /root/trial ] && [ -h /root/folder/link ]"));
    assert_eq!(updated.beside(), [".web.before", "2.before"], "what was kept of the first update is kept");
    assert!(updated.has_image(good) && !updated.has_image(bad));

    // Back to before the first update, and forth again: each with its layer.
    for (update, version, written) in [(3, "first", "before"), (4, "good", "during")] {
        assert_eq!(updated.switch(update, Kind::Rollback, usize::MAX), None);
        updated.host.wait_for("web", InstanceState::Ready);
        assert!(updated.is(version, written), "{update}");
        assert_eq!(updated.keep(update, usize::MAX), None);
        assert!(updated.has_image(good));
    }
    // A rollback that is taken back.
    assert_eq!(updated.switch(5, Kind::Rollback, usize::MAX), None);
    assert_eq!(updated.undo(5, usize::MAX), None);
    updated.host.wait_for("web", InstanceState::Ready);
    assert!(updated.is("good", "during"));
    // An update of nothing but the system leaves nothing to go back to.
    assert_eq!(updated.keep(6, usize::MAX), None);
    assert!(updated.beside().is_empty() && updated.has_image(good));
    let error = instances::switch(&updated.places, 7, Kind::Rollback, &mut |_, _| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "nothing is kept of before the last update");
    assert_eq!(updated.host.status("other").pid, others);
    assert!(updated.host.end().success());
    assert_eq!(updated.host.left_over(), [""; 0]);
}

#[test]
fn whatever_is_cut_goes_on_or_back_also_after_a_start_of_the_machine() {
    let Some(mut updated) = updated() else { return };
    assert!(updated.runs("echo before >/root/written"));
    let (bad, mut update) = (updated.bad, 0);
    let is_as_before = |updated: &Updated| {
        updated.host.wait_for("web", InstanceState::Ready);
        assert!(updated.is("first", "before") && updated.beside().is_empty() && !updated.has_image(bad));
    };
    for (starts_again, goes_on) in [(true, true), (false, false), (true, false)] {
        for steps in 0.. {
            update += 1;
            updated.stage(update, bad);
            let last = updated.switch(update, Kind::Install, steps);
            println!("{starts_again} {goes_on}: cut after {last:?}");
            if starts_again {
                updated = updated.start_again();
                updated.assert_apart();
            }
            if goes_on {
                assert_eq!(updated.switch(update, Kind::Install, usize::MAX), None);
                updated.until("the bad image has the layer", |updated| updated.is("bad", "before"));
                updated.until("it writes", |updated| updated.runs("echo trial >/root/written"));
            }
            assert_eq!(updated.undo(update, usize::MAX), None);
            is_as_before(&updated);
            if last.is_none() {
                break;
            }
        }
    }
    for starts_again in [false, true] {
        for steps in 0.. {
            update += 1;
            updated.stage(update, bad);
            assert_eq!(updated.switch(update, Kind::Install, usize::MAX), None);
            updated.until("it writes", |updated| updated.runs("echo trial >/root/written"));
            let last = updated.undo(update, steps);
            println!("{starts_again}: undo is cut after {last:?}");
            if starts_again {
                updated = updated.start_again();
                updated.assert_apart();
            }
            assert_eq!(updated.undo(update, usize::MAX), None);
            is_as_before(&updated);
            if last.is_none() {
                break;
            }
        }
    }
    // What is kept is kept once.
    for steps in 0.. {
        update += 1;
        updated.stage(update, updated.good);
        assert_eq!(updated.switch(update, Kind::Install, usize::MAX), None);
        let last = updated.keep(update, steps);
        assert_eq!(updated.keep(update, usize::MAX), None);
        assert_eq!(updated.keep(update, usize::MAX), None);
        assert_eq!(updated.beside(), [".web.before", "2.before"], "{last:?}");
        updated.host.wait_for("web", InstanceState::Ready);
        assert!(updated.is("good", "before"));
        if last.is_none() {
            break;
        }
    }
    assert!(updated.host.end().success());
    assert_eq!(updated.host.left_over(), [""; 0]);
}
