//! Attacks from inside, those that need no board: the program that makes them is this one, put into an image with the
//! libraries that it is linked to.

use crate::cases::{idle, run};
use crate::fixture::{Fixture, build_image_of};
use crate::init_role::{exec, launch};
use qemu_guest::attack::{self, Attempt, Expected, Line, Watched};
use qemu_guest::denied_calls::{self, Compared, Held};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use yado_spec::LaunchRequest;
use yado_sys::children::Ended;

type Case = (&'static str, fn(&Fixture));

pub(crate) const ALL: &[Case] = &[
    ("what_is_tried_inside_is_refused_or_bounded", inside),
    ("what_is_tried_inside_a_nested_one_is_refused_or_bounded", inside_nested),
    ("each_denied_call_is_refused_to_init_and_to_commands", denied_calls),
];

/// What needs a controller of the kernel's to be held, which a machine that runs these tests may lack.
const ON_A_BOARD_ONLY: [&str; 2] = ["fork-bomb", "memory-hog"];

fn inside(fixture: &Fixture) {
    attack_all(fixture, &fixture.request("attacks", &["/bin/sleep", "1000"]));
}

/// `security.nesting` shows all of `/proc` and passes controllers on, and opens nothing else.
fn inside_nested(fixture: &Fixture) {
    let mut request = fixture.request("attacks-nested", &["/bin/sleep", "1000"]);
    request.spec.security.nesting = true;
    attack_all(fixture, &request);
}

/// Makes every attempt in an instance like this one.
fn attack_all(fixture: &Fixture, request: &LaunchRequest) {
    let wanted: Vec<&Attempt> = attack::all()
        .filter(|attempt| matches!(attempt.watched, Watched::Inside) && !ON_A_BOARD_ONLY.contains(&attempt.name))
        .collect();
    let program = program();
    let mut words = vec![program.as_str(), "these"];
    words.extend(wanted.iter().map(|attempt| attempt.name));
    let mut request = request.clone();
    use_the_programs_image(fixture, &mut request);
    let payload = launch(&request).unwrap_or_else(|failure| panic!("{failure}"));
    let (ended, output) = exec(&request, &payload, &words).unwrap_or_else(|failure| panic!("{failure}"));
    payload.kill();
    assert_eq!(ended, Ended::Code(0), "{output}");
    let lines: Vec<Line> = output.lines().filter_map(|line| Line::parse(line.trim_end())).collect();
    let mut broken = Vec::new();
    for attempt in wanted {
        let Some(line) = lines.iter().find(|line| line.name == attempt.name) else {
            panic!("{} was not tried: {output}", attempt.name);
        };
        let word = match (attempt.expected, line.outcome.is_held()) {
            (Expected::Held, true) => "",
            (Expected::Held, false) => {
                broken.push(line.to_string());
                "BROKEN"
            }
            (Expected::Open(why), _) => why,
        };
        println!("  {line}\t{word}");
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Whether the kernel has the call is told by what else of the same it shows.
const SHOWN_BY: [(&str, &str); 4] = [
    ("kexec_load", "/sys/kernel/kexec_loaded"),
    ("init_module", "/proc/modules"),
    ("finit_module", "/proc/modules"),
    ("delete_module", "/proc/modules"),
];

/// Beside the answers in an instance without the filter: only what the kernel would do is what the filter can be seen to deny.
fn denied_calls(fixture: &Fixture) {
    let [filtered, unfiltered] = [true, false].map(|is_on| answers(fixture, is_on));
    for ((with, without), whose) in filtered.iter().zip(&unfiltered).zip(["init", "a command"]) {
        for Compared { name, seen, held } in denied_calls::compare(with, without) {
            let is_in_kernel = || SHOWN_BY.iter().all(|(call, shown)| *call != name || Path::new(shown).exists());
            let word = match held {
                Held::Yes => "",
                Held::Unknown if !is_in_kernel() => "not in this kernel",
                Held::Unknown | Held::No => panic!("{whose}: {name} {seen}"),
            };
            println!("  {whose}: {name} {seen} {word}");
        }
    }
}

/// What the kernel answers to an instance's init, and to a command in it.
fn answers(fixture: &Fixture, syscalls_deny_default: bool) -> [String; 2] {
    let program = program();
    let words = [program.as_str(), denied_calls::VERB];
    let mut request = fixture.request("denied-calls", &words);
    request.spec.security.syscalls_deny_default = syscalls_deny_default;
    use_the_programs_image(fixture, &mut request);
    let of_init = run(&request);
    let mut request = fixture.request("denied-calls-idle", &["/bin/sleep", "1000"]);
    request.spec.security.syscalls_deny_default = syscalls_deny_default;
    use_the_programs_image(fixture, &mut request);
    let payload = idle(&request);
    let (ended, of_command) = exec(&request, &payload, &words).unwrap_or_else(|failure| panic!("{failure}"));
    payload.kill();
    assert_eq!(ended, Ended::Code(0), "{of_command}");
    [of_init, of_command]
}

/// Where [`root_with_the_program`] has it.
fn program() -> String {
    format!("/bin/{}", attack::PROGRAM)
}

fn use_the_programs_image(fixture: &Fixture, request: &mut LaunchRequest) {
    let image = fixture.path(&format!("{}-image", request.spec.name));
    request.spec.image = build_image_of(&root_with_the_program(fixture), &image);
    request.paths.image = image.to_str().unwrap().to_owned();
}

/// The fixture's root, and this program with all that ldd(1) says it needs.
fn root_with_the_program(fixture: &Fixture) -> PathBuf {
    let root = fixture.path("attack-root");
    let own = std::env::current_exe().unwrap();
    copy_tree(&fixture.root(), &root);
    fs::copy(&own, root.join("bin").join(attack::PROGRAM)).unwrap();
    let said = Command::new("ldd").arg(&own).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    for library in said.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(library, place).unwrap();
    }
    root
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-aT").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
