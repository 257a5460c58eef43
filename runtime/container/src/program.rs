//! The program that is executed inside: how it is found, and its environment.

use crate::account::Login;
use rustix::io::Errno;
use std::ffi::CString;
use yado_spec::InstanceSpec;
use yado_wire::{Failure, Step};

/// LXD's default `PATH`, for images without one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The value of `$container`: LXD's, because programs know it and expect little of such a container. OpenRC and others know a short
/// list of names, and treat a container with another name as a machine with hardware.
pub(crate) const CONTAINER: &str = "lxc";

/// An environment: a later value of a name replaces the earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    /// The environment of the instance's init. systemd and others see by `container` that they are in one.
    pub(crate) fn of_init(spec: &InstanceSpec, notify_socket: Option<&str>) -> Environment {
        let mut environment = Environment(Vec::new());
        environment.set("PATH", DEFAULT_PATH);
        environment.set("TERM", "linux");
        environment.set("container", CONTAINER);
        if let Some(socket) = notify_socket {
            environment.set("NOTIFY_SOCKET", socket);
            if let Some(longest) = spec.health.watchdog {
                environment.set("WATCHDOG_USEC", &longest.as_micros().to_string());
            }
        }
        environment.add_spec(spec);
        environment
    }

    /// The environment of a command, as with `lxc exec`, and with what login(1) sets for a user with a name.
    pub(crate) fn of_command(spec: &InstanceSpec, added: &[String], login: Option<&Login>) -> Environment {
        let mut environment = Environment(Vec::new());
        environment.set("PATH", DEFAULT_PATH);
        environment.set("LANG", "C.UTF-8");
        if let Some(Login { name, home, shell }) = login {
            environment.set("HOME", home);
            environment.set("USER", name);
            environment.set("LOGNAME", name);
            environment.set("SHELL", shell);
        }
        environment.set("container", CONTAINER);
        environment.add_spec(spec);
        for entry in added {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            environment.set(name, value);
        }
        environment
    }

    fn add_spec(&mut self, spec: &InstanceSpec) {
        for (name, value) in &spec.environment {
            self.set(name, value);
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(present, _)| present != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    fn path(&self) -> &str {
        self.get("PATH").unwrap_or(DEFAULT_PATH)
    }

    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(present, _)| present == name).map(|(_, value)| value.as_str())
    }

    fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}"))
    }
}

/// Executes `argv`. Returns only if that failed.
pub(crate) fn execute(argv: &[String], environment: &Environment) -> Failure {
    match argv.first().filter(|program| !program.is_empty()) {
        Some(program) => execute_file(program, argv, environment),
        None => Failure::refused(Step::Exec, "command", "no program is named"),
    }
}

/// Executes a shell as login(1) does: a dash before its name tells it to read what a login reads.
pub(crate) fn execute_login_shell(shell: &str, environment: &Environment) -> Failure {
    let name = shell.rsplit('/').next().unwrap_or(shell);
    execute_file(shell, &[format!("-{name}")], environment)
}

fn execute_file(program: &str, argv: &[String], environment: &Environment) -> Failure {
    let nul = || Failure::refused(Step::Exec, program, "a NUL byte in an argument or in the environment");
    let (Some(arguments), Some(entries)) = (c_strings(argv.iter().cloned()), c_strings(environment.entries())) else {
        return nul();
    };
    let mut last = Failure::from_io(Step::Exec, program, &Errno::NOENT.into());
    for candidate in candidates(program, environment.path()) {
        let Ok(file) = CString::new(candidate) else { return nul() };
        let error = yado_sys::exec::exec(&file, &arguments, &entries);
        let failure = Failure::from_io(Step::Exec, program, &error);
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR) => {}
            // A file that may not be executed: go on, but return this error at the end, as execvp(3) does.
            Some(Errno::ACCESS) => last = failure,
            _ => return failure,
        }
    }
    last
}

/// The files to try: a name with a slash is itself, any other is looked up.
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let directories = path.split(':').filter(|directory| !directory.is_empty());
    directories.map(|directory| format!("{directory}/{program}")).collect()
}

fn c_strings(texts: impl Iterator<Item = String>) -> Option<Vec<CString>> {
    texts.map(|text| CString::new(text).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let mut environment = Environment(Vec::new());
        environment.set("PATH", "/bin");
        environment.set("A", "1");
        environment.set("PATH", "/usr/bin");
        assert_eq!(environment.entries().collect::<Vec<_>>(), ["A=1", "PATH=/usr/bin"]);
        assert_eq!(environment.path(), "/usr/bin");
    }

    #[test]
    fn a_name_is_looked_up_and_a_path_is_not() {
        assert_eq!(candidates("sh", "/usr/bin::/bin"), ["/usr/bin/sh", "/bin/sh"]);
        assert_eq!(candidates("./sh", "/bin"), ["./sh"]);
        assert!(candidates("sh", "").is_empty());
    }

    #[test]
    fn no_program_and_a_nul_byte_are_refused_before_the_kernel_is_asked() {
        let environment = Environment(Vec::new());
        assert_eq!(execute(&[], &environment).reason.as_str(), "no program is named");
        let failure = execute(&["/bin/true\0".to_owned()], &environment);
        assert_eq!(failure.reason.as_str(), "a NUL byte in an argument or in the environment");
        assert_eq!(execute(&["no-such-program".to_owned()], &environment).errno, 2);
    }
}
