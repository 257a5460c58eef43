//! `yado update` on a device: what it asks init, and what it shows of the updater's work until that has ended. A shell script stands in
//! the updater's place and says how far it is; the verbs that only show are the real updater's.

use super::{host, host::Host, updates};
use crate::host::Running;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

const UPDATER: &str = "\
echo \"$*\" >>$YADO_RUN/seen
say() { echo \"{\\\"pid\\\":$$,$1}\" >$YADO_RUN/updater/aside; mv $YADO_RUN/updater/aside $YADO_RUN/updater/status; }
case \"$1 $2\" in
'run install')
    say '\"phase\":\"staging\",\"release\":2,\"version\":\"1.4.0\",\"slot\":\"B\",\"stage\":\"write\",\"done\":50,\"total\":100'
    [ \"$3\" != - ] || cat >$YADO_RUN/input
    trap 'exit 31' TERM
    while [ ! -e $YADO_RUN/go-on ]; do sleep 0.1; done
    case \"$3\" in
    *bad) say '\"phase\":\"candidate\",\"error\":\"release: no trusted key signed it\",\"rule\":\"signature\",\"exit\":11'; exit 11 ;;
    *) say '\"phase\":\"armed\",\"release\":2,\"note\":\"the system reboots\",\"exit\":0' ;;
    esac ;;
'run cancel') say '\"phase\":\"idle\",\"note\":\"the update is forgotten\",\"exit\":0' ;;
esac
";

fn command(host: &Running, words: &[&str]) -> Command {
    let mut command = Command::new(host.path_of_yado());
    command.arg("update").args(words).arg("--socket").arg(host.path("run/init.sock"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn go_on(host: &Running) {
    fs::write(host.path("run/go-on"), "").unwrap();
}

/// The next line that it shows.
fn next_line(child: &mut Child, reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    assert_ne!(reader.read_line(&mut line).unwrap(), 0, "it has ended: {:?}", child.try_wait());
    line.trim_end().to_owned()
}

#[test]
fn an_install_is_shown_as_it_goes_and_ends_with_the_updaters_code() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start_with_updater(UPDATER);
    let mut child = command(&host, &["install", "http://host/release-2/"]).spawn().unwrap();
    let mut shown = BufReader::new(child.stderr.take().unwrap());
    let line = next_line(&mut child, &mut shown);
    assert_eq!(line, "release 2 (1.4.0): writing slot B  [############            ]  50%  50 B of 100 B");
    go_on(&host);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "release 2: armed, the system reboots\n");
    assert!(updates::seen(&host).contains("run install http://host/release-2/"));
    // What is refused says by which rule, and its code is the updater's.
    let output = command(&host, &["install", "/media/bad"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(11));
    assert!(said.ends_with("yado: release: no trusted key signed it (rule signature)\n"), "{said}");
    // Programs read lines of JSON, and the last one has the code too.
    let output = command(&host, &["install", "/media/bad", "--format", "json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap();
    assert!(last.contains("\"exit\":11") && last.contains("\"rule\":\"signature\""), "{text}");
    assert!(host.end().success());
}

#[test]
fn whoever_leaves_leaves_the_install_alone_and_cancel_ends_it() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start_with_updater(UPDATER);
    let mut child = command(&host, &["install", "/media/stick"]).spawn().unwrap();
    let mut shown = BufReader::new(child.stderr.take().unwrap());
    next_line(&mut child, &mut shown);
    let interrupt = |child: &Child| yado_sys::children::signal_child(child.id() as i32, 2);
    interrupt(&child);
    let said = next_line(&mut child, &mut shown);
    assert!(said.contains("the update goes on") && said.contains("yado update cancel"), "{said}");
    interrupt(&child);
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(130), None));
    // Another terminal sees it, and one at a time is at work.
    let mut watcher = command(&host, &["status", "--follow"]).spawn().unwrap();
    let mut seen = BufReader::new(watcher.stderr.take().unwrap());
    assert!(next_line(&mut watcher, &mut seen).contains("writing slot B"));
    let output = command(&host, &["install", "/media/other"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("it is at work: run install /media/stick"), "{said}");
    let output = command(&host, &["cancel"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "idle, the update is forgotten\n");
    assert_eq!(watcher.wait().unwrap().code(), Some(1), "it did not end by itself");
    assert_eq!(updates::seen(&host), "run install /media/stick\nrun cancel\n");
    assert!(host.end().success());
}

#[test]
fn a_bundle_on_standard_input_reaches_the_updater() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start_with_updater(UPDATER);
    go_on(&host);
    let mut child = command(&host, &["install", "-"]).spawn().unwrap();
    let bundle = vec![7; 1 << 20];
    child.stdin.take().unwrap().write_all(&bundle).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(host.path("run/input")).unwrap(), bundle);
    assert!(host.end().success());
}

#[test]
fn what_only_shows_is_the_updaters_own_word() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    let mut host = host.start();
    let output = command(&host, &["history"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "no update has ended on this device\n");
    for (verb, words) in [("update", "status"), ("system", "slots")] {
        let mut command = Command::new(host.path_of_yado());
        command.args([verb, words, "--format", "json", "--socket"]).arg(host.path("run/init.sock"));
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // No machine of the tests has a partition of that name.
        assert!(said.contains("no partition is named `state`"), "{words}: {said}");
    }
    assert_eq!(host::count_everywhere("yado-updater status --format json"), 0);
    assert!(host.end().success());
}
