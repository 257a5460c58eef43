//! The page "bring your own root", run as it stands there: from a root to an instance that runs. The instance's own init is the
//! witness.

use super::host::Host;
use crate::guests::root_of;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use yado_wire::rescue::{ExitStatus, InstanceState};

const PAGE: &str = include_str!("../../../BRING-YOUR-OWN-ROOT.md");

/// A board's init is where the command looks for it; this one is elsewhere.
const ASK_THIS_INIT: &str = "
yado() {
    verb=$1
    shift
    case $verb,$1 in
    image,add) shift; command yado image add --socket \"$socket\" \"$@\" ;;
    apply,* | rescue,*) command yado $verb --socket \"$socket\" \"$@\" ;;
    *) command yado $verb \"$@\" ;;
    esac
}
";

#[test]
fn the_page_leads_from_a_root_to_an_instance_that_runs() {
    let Some(root) = root_of("systemd") else { return };
    let Some(host) = Host::with(&[("other", "")]) else { return };
    let blocks: Vec<&str> = PAGE.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    let [_, build, add] = blocks[..] else { panic!("{blocks:?}") };
    let commands = PAGE.lines().filter(|line| blocks.iter().any(|block| block.lines().any(|of| of == *line)));
    assert_eq!(commands.count(), 10);

    let work = host.path("work");
    std::fs::create_dir_all(&work).unwrap();
    std::fs::create_dir_all(host.path("data/trust")).unwrap();
    symlink(root, work.join("root.tar")).unwrap();
    let build = build.replace("/data/", &format!("{}/", host.path("data").display()));
    let build = build.replace("arm64", std::env::consts::ARCH);
    run(&build, &host.path("run/init.sock"), &work);

    host.write_network("yado0", "[config]\nipv4.address = \"10.212.1.1/24\"\n");
    let mut host = host.start();
    let said = run(add, &host.path("run/init.sock"), &work);
    assert!(said.lines().any(|line| line.starts_with("web ")), "{said}");
    host.wait_for("web", InstanceState::Ready);
    let is_up = ["systemctl", "is-active", "--quiet", "multi-user.target"];
    host.wait_until("it is up", |host| host.exec("web", &is_up) == Ok(ExitStatus::Code(0)));
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

/// What it printed, where `yado` is what was built.
fn run(commands: &str, socket: &Path, work: &Path) -> String {
    let built = Path::new(env!("CARGO_BIN_EXE_yado-init")).parent().unwrap();
    let path = format!("{}:{}", built.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-euc", &format!("{ASK_THIS_INIT}{commands}")]).current_dir(work);
    let output = shell.env("PATH", path).env("socket", socket).output().unwrap();
    assert!(output.status.success(), "{commands}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
