//! Each call that the filter denies, made on the board's own kernel: by an instance's init and by a command in it, on arm64 also by a
//! program of 32 bits; and beside each the same in an instance without the filter, where the kernel itself answers.

use super::appliance::{ANSWERS, FILTERED, UNFILTERED};
use super::arena::{Arena, TIMEOUT};
use super::failure::HostileError;
use crate::arch::Arch;
use crate::board::BuildError;
use crate::cache::Cache;
use crate::command::Tool;
use crate::cross::{self, Artifact, Program};
use crate::report::{Observer, Witness};
use qemu_guest::Ended;
use qemu_guest::attack::PROGRAM;
use qemu_guest::denied_calls::{self, Held};

/// Where the program of 32 bits is inside: in the writable layer, since programs are not executed from `/run` and `/dev/shm`.
const OF_32_BITS: &str = "/root/attack-of-32-bits";

/// The attacking program for the other architecture whose programs the board's kernel runs too, in base64; `None`: there is no other.
pub(super) fn program_of_32_bits(cache: &Cache, arch: Arch) -> Result<Option<String>, BuildError> {
    match arch {
        Arch::Arm64 => {}
        Arch::Armhf | Arch::Amd64 => return Ok(None),
    }
    let program = Program { package: "qemu-guest", binary: Some(PROGRAM) };
    let built = cross::build(cache, Arch::Armhf, &[program])?;
    let in_base64 = |artifact: Artifact| Tool::new("base64").args(["-w", "0"]).arg(artifact.path).output();
    Ok(built.into_iter().find(|artifact| artifact.name == PROGRAM).map(in_base64).transpose()?)
}

pub(super) fn look(arena: &mut Arena<'_>, observer: &mut Observer) -> Result<(), HostileError> {
    for (name, mode) in [(FILTERED, "Seccomp:\t2"), (UNFILTERED, "Seccomp:\t0")] {
        arena.board()?.yado(&["rescue", "start", name])?;
        let status = arena.wait_settled(name)?;
        let shown = arena.shell(&format!("grep Seccomp: /proc/{}/status", status["pid"]))?;
        let is_so = shown == mode;
        observer.check(Witness::Kernel, &format!("the mode of the init of {name}"), shown, is_so)?;
    }
    let answers = of_both(|name| {
        let pid = arena.instance(name)?["pid"].to_string();
        Ok(arena.board()?.agent.read_file(&format!("/proc/{pid}/root{ANSWERS}"))?)
    })?;
    judge(observer, "as it starts", &answers)?;
    let answers = of_both(|name| Ok(arena.attack(name, &[denied_calls::VERB])?.stdout))?;
    judge(observer, "by a command", &answers)?;
    if let Some(program) = &arena.of_32_bits {
        let answers = of_both(|name| {
            bring(arena, name, program)?;
            Ok(arena.board()?.exec_output(name, &[OF_32_BITS, denied_calls::VERB], TIMEOUT)?)
        })?;
        judge(observer, "by a program of 32 bits", &answers)?;
        of_both(|name| Ok(arena.board()?.exec_output(name, &["rm", OF_32_BITS], TIMEOUT)?))?;
    }
    of_both(|name| Ok(arena.board()?.yado(&["rescue", "stop", name])?))?;
    Ok(())
}

fn of_both(look: impl Fn(&str) -> Result<String, HostileError>) -> Result<[String; 2], HostileError> {
    Ok([look(FILTERED)?, look(UNFILTERED)?])
}

/// A program into an instance, through a command's input.
fn bring(arena: &Arena<'_>, name: &str, base64: &str) -> Result<(), HostileError> {
    let script = format!("base64 -d > {OF_32_BITS} && chmod 755 {OF_32_BITS}");
    let argv = ["/usr/bin/yado", "rescue", "exec", "--no-tty", name, "--", "/bin/sh", "-c", &script];
    let ran = arena.board()?.agent.start_run(&argv, base64, TIMEOUT)?.ran()?;
    match ran.ended {
        Ended::Code(0) => Ok(()),
        Ended::Code(_) | Ended::Signal(_) | Ended::TimedOut => {
            Err(HostileError::Lacks { place: OF_32_BITS, wanted: format!("program: {}", ran.stderr.trim()) })
        }
    }
}

/// One check for all calls: the instance without the filter is what shows that the filter answered, and not the kernel.
fn judge(observer: &mut Observer, how: &str, [filtered, unfiltered]: &[String; 2]) -> Result<(), HostileError> {
    let compared = denied_calls::compare(filtered, unfiltered);
    let wrong =
        compared.iter().filter(|call| call.held != Held::Yes).map(|call| format!("{} {}", call.name, call.seen));
    let wrong: Vec<String> = wrong.collect();
    let all: Vec<String> = compared.iter().map(|call| format!("{} {}", call.name, call.seen)).collect();
    let is_held = wrong.is_empty() && !all.is_empty();
    let shown = if is_held { all.join("; ") } else { format!("wrong: {}", wrong.join("; ")) };
    let what = format!("{how}: each denied call gets the filter's answer, and each beside it the kernel's");
    Ok(observer.check(Witness::Peer, &what, shown, is_held)?)
}
