//! A directory laid out for a hosted init, and the init that runs on it.

use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus as ProcessStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use yado_sys::{datagram, identity, memfd, packet};
use yado_wire::rescue::{
    Applied, ApplyOutcome, Command as CommandFile, CommandUser, EventKind, ExitStatus, InstanceState, InstanceStatus,
    Reply, Request, RunEnd,
};
use yado_wire::{AboutInstance, Failure, InstanceName, MAX_FRAME_BYTES};

const BUSYBOX: &str = "/bin/busybox";

/// Everything is done in a second here; a loaded machine takes its time.
const TIMEOUT: Duration = Duration::from_secs(60);

const INITTAB: &str = "::sysinit:/bin/echo hello from busybox\nconsole::respawn:/bin/sh\n";
const APPLETS: [&str; 9] = ["sh", "echo", "sleep", "true", "init", "poweroff", "cat", "ls", "kill"];

/// The directory.
pub(crate) struct Host {
    directory: TempDir,
    yado: PathBuf,
}

/// The directory and the init on it.
pub(crate) struct Running {
    host: Host,
    init: Child,
    is_over: bool,
}

/// What init holds of the machine.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) pss_kib: u64,
    pub(crate) resident_kib: u64,
    pub(crate) descriptors: usize,
    pub(crate) mounts: usize,
    pub(crate) groups: usize,
}

impl Host {
    /// Instances by name, each with the rest of its file after `image = …`. `None`: it cannot be done here, and why was
    /// printed.
    pub(crate) fn with(instances: &[(&str, &str)]) -> Option<Host> {
        if let Some(reason) = missing() {
            println!("SKIPPED: {reason}");
            return None;
        }
        let directory = TempDir::new().unwrap();
        // As on a host: others can reach what is below.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let host = Host { directory, yado: init_program().with_file_name("yado") };
        for directory in ["system/appliance", "system/trust", "system/images/aliases", "data", "run"] {
            fs::create_dir_all(host.path(directory)).unwrap();
        }
        fs::write(host.path("system/verify"), "start\n").unwrap();
        host.lay_out_root();
        host.yado(&["key", "new", "key"]);
        fs::copy(host.path("key.pub"), host.path("system/trust/key.pub")).unwrap();
        host.build_image("busybox", &[]);
        for (name, rest) in instances {
            host.write_instance(name, "busybox", rest);
        }
        Some(host)
    }

    /// Gives an instance an image of which one payload byte was flipped.
    pub(crate) fn use_tampered_image(&self, instance: &str) {
        let image = self.build_image(instance, &["--version", "tampered"]);
        let file = File::options().read(true).write(true).open(image).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 9000).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 9000).unwrap();
        self.change_image(instance);
    }

    /// Gives an instance an image with another init, which is asked to power off as busybox's is.
    pub(crate) fn use_image_with_init(&self, instance: &str, init: &[&str]) {
        let mut options = vec!["--version", instance, "--halt-signal", "SIGUSR2"];
        for word in init {
            options.extend(["--init", word]);
        }
        self.use_image(instance, &options);
    }

    /// Gives an instance an image of its own.
    pub(crate) fn use_image(&self, instance: &str, options: &[&str]) {
        self.build_image(instance, options);
        self.change_image(instance);
    }

    /// A file below the directory.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A program in the root of images that are built from now on.
    pub(crate) fn write_program(&self, path: &str, script: &str) {
        let path = self.path("root").join(path);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// One more instance.
    pub(crate) fn add_instance(&self, name: &str, rest: &str) {
        self.write_instance(name, "busybox", rest);
    }

    /// Lets a start take no longer than this.
    pub(crate) fn say_start_timeout(&self, seconds: u32) {
        fs::write(self.path("system/start-timeout"), format!("{seconds}\n")).unwrap();
    }

    /// A network of the system's.
    pub(crate) fn write_network(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path("system/appliance/networks")).unwrap();
        fs::write(self.path(&format!("system/appliance/networks/{name}.toml")), text).unwrap();
    }

    /// A service of the system's.
    pub(crate) fn write_service(&self, name: &str, script: &str) {
        let path = self.path("system/system.d").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Compiles what the system has, as whoever builds its image does.
    pub(crate) fn compile_system(&self) {
        self.yado(&["compile", "--system", "system", "--out", "system/specs"]);
    }

    /// Says when images are verified.
    pub(crate) fn say_verify(&self, word: &str) {
        fs::write(self.path("system/verify"), word).unwrap();
    }

    /// Starts init, in network and mount namespaces of its own.
    pub(crate) fn start(self) -> Running {
        self.start_on("")
    }

    /// The same on a host whose `/run` is a tmpfs, as on most. Others do not see what init makes there.
    pub(crate) fn start_with_tmpfs(self) -> Running {
        self.start_on("mount -t tmpfs run /run")
    }

    /// The same on a host that has the list of FUSE connections mounted. They are the whole machine's, and other tests'
    /// instances have the same ids.
    pub(crate) fn start_with_fusectl(self) -> Running {
        self.start_on("mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null")
    }

    /// The same on a host whose users have these ids: `/etc/subuid` and `/etc/subgid`.
    pub(crate) fn start_with_users(self, subuid: &str, subgid: &str) -> Running {
        let mounts = [("subuid", subuid), ("subgid", subgid)].map(|(name, text)| {
            self.write(name, text);
            format!("mount --bind {} /etc/{name}", self.path(name).display())
        });
        self.start_on(&mounts.join(" && "))
    }

    /// Starts it with a netd that does nothing until a file of this name is there.
    pub(crate) fn start_with_netd_after(self, file: &str) -> Running {
        let (real, bin, file) = (self.yado.display(), self.path("bin"), self.path(file));
        let (bin, file) = (bin.display(), file.display());
        let text = format!(
            "#!/bin/sh\ncase $1 in\n--run) while [ ! -e {file} ]; do sleep 0.1; done; exec {bin}/yado-netd \"$@\" ;;\n\
             compile) exec {real} \"$@\" ;;\n*) exec {bin}/yado-container \"$@\" ;;\nesac\n"
        );
        self.start_with_yado(&text)
    }

    /// Starts it with a shell script in front of the launcher, in which `$launcher` is the real one.
    pub(crate) fn start_with_launcher(self, script: &str) -> Running {
        let (real, launcher) = (self.yado.display(), self.path("bin/yado-container"));
        let text = format!(
            "#!/bin/sh\nlauncher={}\ncase $1 in run) ;; *) exec {real} \"$@\" ;; esac\n{script}\n",
            launcher.display()
        );
        self.start_with_yado(&text)
    }

    /// Starts it with a shell script in place of the updater; only that knows where the data partition is.
    pub(crate) fn start_with_updater(self, script: &str) -> Running {
        let (real, bin) = (self.yado.display(), self.path("bin"));
        let text = format!(
            "#!/bin/sh\nif [ -z \"$YADO_DATA\" ]; then case $1 in\n--run) exec {bin}/yado-netd \"$@\" ;;\n\
             compile) exec {real} \"$@\" ;;\n*) exec {bin}/yado-container \"$@\" ;;\nesac; fi\n{script}",
            bin = bin.display()
        );
        self.start_with_yado(&text)
    }

    /// Starts it with a shell script in place of `yado`, which has the real one beside it by the names of its parts.
    fn start_with_yado(self, script: &str) -> Running {
        // Init takes the `yado` beside it.
        let init = self.path("bin/yado-init");
        fs::create_dir(self.path("bin")).unwrap();
        assert!(Command::new("cp").arg(init_program()).arg(&init).status().unwrap().success());
        for name in ["yado-container", "yado-netd"] {
            symlink(&self.yado, self.path("bin").join(name)).unwrap();
        }
        fs::write(self.path("bin/script"), script).unwrap();
        // Children write what is executed: a descriptor of ours that writes, inherited by what another test starts, would
        // keep it from being so.
        let mut install = Command::new("install");
        install.args(["-m", "755"]).arg(self.path("bin/script")).arg(self.path("bin/yado"));
        assert!(install.status().unwrap().success());
        let init = spawn(&init, self.directory.path(), "");
        self.with_init(init)
    }

    fn start_on(self, mounting: &str) -> Running {
        let init = spawn(&init_program(), self.directory.path(), mounting);
        self.with_init(init)
    }

    fn with_init(self, init: Child) -> Running {
        let running = Running { host: self, init, is_over: false };
        running.wait_until_up();
        running
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn write_instance(&self, name: &str, image: &str, rest: &str) {
        let path = self.path(&format!("system/appliance/{name}.toml"));
        fs::write(path, format!("image = \"{image}\"\n{rest}")).unwrap();
    }

    fn change_image(&self, instance: &str) {
        let path = self.path(&format!("system/appliance/{instance}.toml"));
        let text = fs::read_to_string(&path).unwrap();
        let (_, rest) = text.split_once('\n').unwrap();
        fs::write(path, format!("image = \"{instance}\"\n{rest}")).unwrap();
    }

    fn lay_out_root(&self) {
        for directory in ["bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "run", "root"] {
            fs::create_dir_all(self.path("root").join(directory)).unwrap();
        }
        let busybox = self.path("root/bin/busybox");
        fs::copy(BUSYBOX, &busybox).unwrap();
        fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755)).unwrap();
        for applet in APPLETS {
            symlink("busybox", self.path("root/bin").join(applet)).unwrap();
        }
        symlink("../bin/busybox", self.path("root/sbin/init")).unwrap();
        fs::write(self.path("root/etc/inittab"), INITTAB).unwrap();
    }

    /// Gives an instance an image of another root, with the stop method that its builder finds.
    pub(crate) fn add_instance_of(&self, root: &Path, name: &str, rest: &str) {
        self.build_image_of(root.to_str().unwrap(), name, &[]);
        self.write_instance(name, name, rest);
    }

    /// Builds an image from the root and installs it under an alias.
    fn build_image(&self, alias: &str, options: &[&str]) -> PathBuf {
        self.build_image_of("root", alias, options)
    }

    fn build_image_of(&self, root: &str, alias: &str, options: &[&str]) -> PathBuf {
        let architecture = std::env::consts::ARCH;
        let mut words = vec!["image", "build", "--name", "busybox", "--arch", architecture, "--key", "key.key"];
        words.extend(["--compression", "none"]);
        words.extend(options);
        let file = format!("{alias}.img");
        words.extend([root, &file]);
        let printed = self.yado(&words);
        let fingerprint = printed.split(' ').next().unwrap();
        let directory = self.path("system/images").join(fingerprint);
        fs::create_dir_all(&directory).unwrap();
        fs::rename(self.path(&file), directory.join("image")).unwrap();
        symlink(format!("../{fingerprint}"), self.path("system/images/aliases").join(alias)).unwrap();
        directory.join("image")
    }

    /// A container image of the root in a file of the host's directory, for which these options replace what is said here.
    pub(crate) fn build_file(&self, file: &str, options: &[&str]) {
        let mut said = vec![("--name", "busybox"), ("--arch", std::env::consts::ARCH), ("--key", "key.key")];
        said.push(("--compression", "none"));
        for pair in options.chunks(2) {
            match pair {
                ["--unsigned"] => said.retain(|(option, _)| *option != "--key"),
                [option, value] => {
                    said.retain(|(other, _)| other != option);
                    said.push((option, value));
                }
                _ => panic!("{options:?}"),
            }
        }
        let words: Vec<&str> = said.iter().flat_map(|&(option, value)| [option, value]).collect();
        self.yado(&[&["image", "build"], &words[..], &["root", file]].concat());
    }

    fn yado(&self, words: &[&str]) -> String {
        let output = Command::new(&self.yado).args(words).current_dir(self.directory.path()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Running {
    /// All replies to a request that needs no descriptors.
    pub(crate) fn ask(&self, request: &Request) -> Vec<Reply> {
        replies(&self.connect(request, &[]), TIMEOUT)
    }

    /// A connection on which a request was made.
    pub(crate) fn connect(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> OwnedFd {
        let socket = self.raw();
        packet::send(&socket, &yado_wire::encode(request).unwrap(), descriptors).unwrap().unwrap();
        socket
    }

    /// A connection.
    pub(crate) fn raw(&self) -> OwnedFd {
        packet::connect(&self.host.path("run/init.sock")).unwrap()
    }

    /// An instance's status.
    pub(crate) fn status(&self, name: &str) -> InstanceStatus {
        let replies = self.ask(&Request::Status);
        let found = replies.into_iter().find_map(|reply| match reply {
            Reply::Instance(status) if status.name.as_str() == name => Some(status),
            _ => None,
        });
        found.unwrap()
    }

    /// An instance's state.
    pub(crate) fn state(&self, name: &str) -> InstanceState {
        self.status(name).state
    }

    /// Waits until an instance is in a state.
    pub(crate) fn wait_for(&self, name: &str, state: InstanceState) {
        self.wait_until(&format!("{name} is {}", state.name()), |running| running.state(name) == state);
    }

    /// Waits until something is true; on failure init's own words are shown.
    pub(crate) fn wait_until(&self, what: &str, is_true: impl Fn(&Running) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !is_true(self) {
            let log = || fs::read_to_string(self.host.path("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "not in time: {what}; init said:\n{}", log());
            // There is no event for everything that is asked here.
            let mut set = yado_sys::poll::PollSet::default();
            set.wait(Some(Duration::from_millis(20))).unwrap();
        }
    }

    /// A connection on which a command was asked for, with these as standard input, output and error.
    pub(crate) fn ask_for_command(&self, instance: &str, words: &[&str], standard: [BorrowedFd<'_>; 3]) -> OwnedFd {
        let argv = words.iter().map(|word| (*word).to_owned()).collect();
        let user = CommandUser::Ids { uid: 0, gid: 0 };
        let command = CommandFile { argv, environment: Vec::new(), cwd: None, user };
        let file = memfd::sealed("command", &command.encode().unwrap()).unwrap();
        let [stdin, stdout, stderr] = standard;
        let request = Request::Exec { instance: InstanceName::parse(instance).unwrap() };
        self.connect(&request, &[stdin, stdout, stderr, file.as_fd()])
    }

    /// Runs a command.
    pub(crate) fn exec(&self, instance: &str, words: &[&str]) -> Result<ExitStatus, Box<Failure>> {
        let null = File::open("/dev/null").unwrap();
        let socket = self.ask_for_command(instance, words, [null.as_fd(), null.as_fd(), null.as_fd()]);
        match replies(&socket, TIMEOUT).pop() {
            Some(Reply::Exited(status)) => Ok(status),
            Some(Reply::Refused(failure)) => Err(Box::new(failure)),
            other => panic!("{other:?}"),
        }
    }

    /// Says something on an instance's `$NOTIFY_SOCKET`, as its root.
    pub(crate) fn notify(&self, instance: &str, text: &str) {
        self.notify_as(self.first_host_id(instance), instance, text);
    }

    /// The same as somebody else.
    pub(crate) fn notify_as(&self, uid: u32, instance: &str, text: &str) {
        let (_open, socket) = self.notify_socket(instance);
        self.wait_until("the socket takes it", |_| send_as(uid, &socket, text, None).unwrap().is_some());
    }

    /// The same as its root, with a descriptor. Who has sent some before may be refused.
    pub(crate) fn notify_with(&self, instance: &str, text: &str, descriptor: OwnedFd) {
        let (_open, socket) = self.notify_socket(instance);
        match send_as(self.first_host_id(instance), &socket, text, Some(descriptor)) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            sent => assert_eq!(sent.unwrap(), Some(()), "the socket is full"),
        }
    }

    /// Whether its `$NOTIFY_SOCKET` is nobody's any more.
    pub(crate) fn is_not_heard(&self, instance: &str) -> bool {
        let (_open, socket) = self.notify_socket(instance);
        let sent = send_as(self.first_host_id(instance), &socket, "STATUS=hello", None);
        sent.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// The same as its root, with as many descriptors as a message takes at most, or fewer.
    pub(crate) fn notify_with_many(&self, instance: &str, descriptors: Vec<OwnedFd>) {
        let uid = self.first_host_id(instance);
        let (_open, path) = self.notify_socket(instance);
        let sender = std::thread::spawn(move || {
            identity::become_user(uid, uid, &[]).unwrap();
            send_many(&datagram::unbound().unwrap(), Some(&path), &descriptors);
        });
        sender.join().unwrap();
    }

    /// What the kernel answers to somebody else on the machine who says something on an instance's `$NOTIFY_SOCKET`.
    pub(crate) fn notify_from_outside(&self, uid: u32, instance: &str, text: &str) -> io::Result<Option<()>> {
        send_as(uid, &self.notify_path(instance), text, None)
    }

    fn notify_path(&self, instance: &str) -> PathBuf {
        directory_of(&self.host.path("run/instances"), instance).unwrap().join("notify")
    }

    /// The socket as an instance has it, whose way to it is a mount: past the directory that only root may enter.
    fn notify_socket(&self, instance: &str) -> (OwnedFd, PathBuf) {
        let open =
            rustix::fs::open(self.notify_path(instance), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        (open, path)
    }

    /// Says it again and again, as often as the socket takes it, for so long.
    pub(crate) fn flood(&self, instance: &str, text: &'static str, window: Duration) -> JoinHandle<()> {
        let ((open, socket), uid) = (self.notify_socket(instance), self.first_host_id(instance));
        std::thread::spawn(move || {
            let _open = open;
            identity::become_user(uid, uid, &[]).unwrap();
            let (sender, end) = (datagram::unbound().unwrap(), Instant::now() + window);
            while Instant::now() < end {
                if datagram::send(&sender, &socket, text.as_bytes(), None).unwrap().is_none() {
                    std::thread::yield_now();
                }
            }
        })
    }

    /// init's datagram reader.
    pub(crate) fn reader(&self) -> Option<i32> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.init_pid())).unwrap();
        let is_reader = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("--datagram-reader"))
        };
        children.split_whitespace().map(|pid| pid.parse().unwrap()).find(is_reader)
    }

    /// A child of init's whose command line begins with these words; an empty one is any.
    pub(crate) fn child_with(&self, words: &[&str]) -> Option<i32> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.init_pid())).unwrap();
        let has_words = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut of_it = line.split(|byte| *byte == 0);
            words.iter().all(|word| of_it.next().is_some_and(|is| word.is_empty() || is == word.as_bytes()))
        };
        children.split_whitespace().map(|pid| pid.parse().unwrap()).find(has_words)
    }

    /// init's children that close sockets for it. One that exits has no command line any more, only its name.
    pub(crate) fn closers(&self) -> usize {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.init_pid())).unwrap();
        let reader = self.reader();
        let is_closer = |pid: &i32| {
            Some(*pid) != reader && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "exe\n")
        };
        children.split_whitespace().map(|pid| pid.parse().unwrap()).filter(is_closer).count()
    }

    /// Sends SIGKILL to a process.
    pub(crate) fn kill_process(&self, pid: i32) {
        signal(pid, 9);
    }

    /// Sends SIGSEGV to a process of ours, whose handler (std's) then sets the signal back to what it does by default.
    pub(crate) fn disturb_process(&self, pid: i32) {
        signal(pid, 11);
    }

    /// The log, up to a line with this text.
    pub(crate) fn logs_until(&self, instance: Option<&str>, text: &str) -> Vec<String> {
        let instance = instance.map(|name| InstanceName::parse(name).unwrap());
        let socket = self.connect(&Request::Logs { instance, follow: true }, &[]);
        packet::set_timeout(&socket, TIMEOUT).unwrap();
        let mut lines = Vec::new();
        while let Some(Reply::Log(record)) = next_reply(&socket) {
            lines.push(record.message.to_string());
            if record.message.contains(text) {
                break;
            }
        }
        lines
    }

    /// How the first runs of an instance ended, so many.
    pub(crate) fn ends(&self, instance: &str, count: usize) -> Vec<RunEnd> {
        let socket = self.connect(&Request::Events, &[]);
        packet::set_timeout(&socket, TIMEOUT).unwrap();
        let mut ends = Vec::new();
        while ends.len() < count {
            let Some(Reply::Event(event)) = next_reply(&socket) else { panic!("only {ends:?}") };
            if let (Some(about), Some(EventKind::Exited(end))) = (event.instance, event.kind) {
                ends.extend((about.name.as_str() == instance).then_some(end));
            }
        }
        ends
    }

    /// Changes of state, up to the one that is asked for.
    pub(crate) fn states_until(
        &self,
        is_last: impl Fn((&str, InstanceState)) -> bool,
    ) -> Vec<(String, InstanceState)> {
        let socket = self.connect(&Request::Events, &[]);
        packet::set_timeout(&socket, TIMEOUT).unwrap();
        let mut states = Vec::new();
        while let Some(Reply::Event(event)) = next_reply(&socket) {
            let (Some(AboutInstance { name, .. }), Some(EventKind::State(state))) = (event.instance, event.kind)
            else {
                continue;
            };
            states.push((name.to_string(), state));
            if is_last((name.as_str(), state)) {
                break;
            }
        }
        states
    }

    /// The stream of a console.
    pub(crate) fn console(&self, request: &Request) -> Result<UnixStream, Box<Failure>> {
        let socket = self.connect(request, &[]);
        packet::set_timeout(&socket, TIMEOUT).unwrap();
        let mut buffer = vec![0; MAX_FRAME_BYTES];
        let received = packet::recv(&socket, &mut buffer).unwrap().unwrap();
        match yado_wire::decode(&buffer[..received.len]).unwrap() {
            Reply::Console => Ok(UnixStream::from(received.descriptors.into_iter().next().unwrap())),
            Reply::Refused(failure) => Err(Box::new(failure)),
            other => panic!("{other:?}"),
        }
    }

    /// Makes groups below an instance's: `depth` of them each below the one before, with names of 250 letters, and one beside
    /// them that is frozen with this process in it.
    pub(crate) fn nest_groups(&self, instance: &str, depth: usize, frozen: u32) {
        let group = directory_of(&self.group().unwrap(), instance).unwrap();
        let mut current = File::open(&group).unwrap();
        for _ in 0..depth {
            // Its path would be too long.
            let below = format!("/proc/self/fd/{}/{}", current.as_raw_fd(), "n".repeat(255));
            fs::create_dir(&below).unwrap();
            current = File::open(&below).unwrap();
        }
        let below = group.join("frozen");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("cgroup.procs"), frozen.to_string()).unwrap();
        fs::write(below.join("cgroup.freeze"), "1").unwrap();
    }

    /// Freezes all instances, as the guard of a board's memory does, or lets them go on.
    pub(crate) fn freeze_all(&self, is_frozen: bool) {
        fs::write(self.group().unwrap().join("cgroup.freeze"), if is_frozen { "1" } else { "0" }).unwrap();
    }

    /// Whether there are processes of an instance, and all of them stand still.
    pub(crate) fn stands_still(&self, instance: &str) -> bool {
        let Some(group) = self.group().and_then(|group| directory_of(&group, instance)) else { return false };
        let events = fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
        ["populated 1", "frozen 1"].iter().all(|line| events.lines().any(|seen| seen == *line))
    }

    /// The share of one processor that init itself takes for so long.
    pub(crate) fn share_of_processor(&self, window: Duration) -> f64 {
        let ticks = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.init_pid())).unwrap();
            let after_name = stat.rsplit_once(')').unwrap().1.to_owned();
            // proc_pid_stat(5): utime and stime are fields 14 and 15, in ticks of a hundredth of a second.
            after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum::<u64>()
        };
        let (before, began) = (ticks(), Instant::now());
        let mut set = yado_sys::poll::PollSet::default();
        set.wait(Some(window)).unwrap();
        (ticks() - before) as f64 / 100.0 / began.elapsed().as_secs_f64()
    }

    /// How many processes of this host have this command line.
    pub(crate) fn processes_named(&self, words: &str) -> usize {
        let wanted = format!("{}\0", words.replace(' ', "\0"));
        let is_it =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(&wanted));
        self.processes().iter().filter(|pid| is_it(pid)).count()
    }

    /// SIGSTOP to init's launchers for this job.
    pub(crate) fn stop_launchers(&self, job: &str) {
        let init = self.init_pid();
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
        let is_launcher = |pid: &i32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words == format!("yado-container\0{job}\0").into_bytes()
        };
        for pid in children.split_whitespace().map(|pid| pid.parse().unwrap()).filter(is_launcher) {
            signal(pid, 19);
        }
    }

    /// Whether a process is in one of this host's groups.
    pub(crate) fn is_process_of_ours(&self, pid: i32) -> bool {
        self.processes().contains(&pid)
    }

    /// Compiles what is configured now, as whoever asks init to apply it does.
    pub(crate) fn compile(&self) {
        let [system, data, out] = ["system", "data", "run/specs"].map(|path| self.host.path(path));
        let mut command = Command::new(&self.host.yado);
        command.arg("compile").arg("--system").arg(system).arg("--data").arg(data).arg("--out").arg(out);
        let output = command.output().unwrap();
        // 3: something is wrong with some, and stands beside the specs of the others.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    }

    /// The command.
    pub(crate) fn path_of_yado(&self) -> &Path {
        &self.host.yado
    }

    /// What the command answers: its exit code, and what it printed.
    pub(crate) fn yado(&self, words: &[&str], input: &str) -> (i32, String, String) {
        let mut child = Command::new(&self.host.yado)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Begins `yado apply` on this host with these arguments, and with a pipe as its standard input. What it prints is in the log.
    pub(crate) fn begin_apply<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Child {
        let log = || File::options().append(true).open(self.host.path("log")).unwrap();
        let mut yado = Command::new(&self.host.yado);
        yado.arg("apply").arg("--socket").arg(self.host.path("run/init.sock")).args(arguments);
        yado.stdin(Stdio::piped()).stdout(log()).stderr(log()).spawn().unwrap()
    }

    /// Has what is configured now applied, and says what became of whom.
    pub(crate) fn apply(&self) -> Vec<(String, ApplyOutcome)> {
        self.compile();
        let mut replies = self.ask(&Request::Apply { forget: false });
        assert_eq!(replies.pop(), Some(Reply::Done), "{replies:?}");
        let applied = replies.into_iter().map(|reply| match reply {
            Reply::Applied(Applied { instance, outcome }) => (instance.name.to_string(), outcome),
            other => panic!("{other:?}"),
        });
        applied.collect()
    }

    /// As [`Host::add_instance`].
    pub(crate) fn add_instance(&self, name: &str, rest: &str) {
        self.host.add_instance(name, rest);
    }

    /// Takes an instance's configuration away; what it has left stays.
    pub(crate) fn remove_instance(&self, name: &str) {
        fs::remove_file(self.host.path(&format!("system/appliance/{name}.toml"))).unwrap();
    }

    /// A path below the host's directory.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.host.path(relative)
    }

    /// The first host id of an instance that runs, as the kernel maps it.
    pub(crate) fn first_host_id(&self, name: &str) -> u32 {
        let pid = self.status(name).pid.unwrap();
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        map.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// As [`Host::write_network`].
    pub(crate) fn write_network(&self, name: &str, text: &str) {
        self.host.write_network(name, text);
    }

    /// Lets instances be privileged, from the next start on.
    pub(crate) fn allow_privileged(&self) {
        fs::write(self.host.path("system/privileged"), "allow\n").unwrap();
    }

    /// Whether an interface in init's network namespace has this address.
    pub(crate) fn has_address(&self, address: &str) -> bool {
        let routes = fs::read_to_string(format!("/proc/{}/net/fib_trie", self.init_pid())).unwrap();
        routes.lines().any(|line| line.ends_with(&format!("|-- {address}")))
    }

    /// How many files init may have open. It was started with 256.
    pub(crate) fn open_files_limit(&self) -> u64 {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.init_pid())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The way to what init has at this path.
    pub(crate) fn seen_by_init(&self, path: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.init_pid())).join(path.strip_prefix("/").unwrap())
    }

    /// What init holds of the machine, as the kernel counts it.
    pub(crate) fn held(&self) -> Held {
        let of_init = |file: &str| format!("/proc/{}/{file}", self.init_pid());
        let status = fs::read_to_string(of_init("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let rollup = fs::read_to_string(of_init("smaps_rollup")).unwrap();
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        let groups = fs::read_dir(self.group().unwrap()).unwrap().flatten();
        Held {
            pss_kib: pss.trim().trim_end_matches(" kB").parse().unwrap(),
            resident_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
            descriptors: fs::read_dir(of_init("fd")).unwrap().count(),
            mounts: fs::read_to_string(of_init("mountinfo")).unwrap().lines().count(),
            groups: groups.filter(|entry| entry.file_type().unwrap().is_dir()).count(),
        }
    }

    /// The names of instances' groups.
    pub(crate) fn groups(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.group().unwrap()).unwrap().flatten();
        let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        groups.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    /// The control group of an instance.
    pub(crate) fn group_of(&self, instance: &str) -> PathBuf {
        directory_of(&self.group().unwrap(), instance).unwrap()
    }

    /// The interfaces in init's network namespace.
    pub(crate) fn links(&self) -> Vec<String> {
        let list = fs::read_to_string(format!("/proc/{}/net/dev", self.init_pid())).unwrap();
        list.lines().filter_map(|line| line.split_once(':')).map(|(link, _)| link.trim().to_owned()).collect()
    }

    /// How many files init has the kernel watch.
    pub(crate) fn watched_files(&self) -> usize {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.init_pid())).unwrap().flatten();
        let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        targets.filter(|target| target.as_os_str() == "anon_inode:inotify").count()
    }

    /// How many children init has now.
    pub(crate) fn children(&self) -> usize {
        let pid = self.init_pid();
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().split_whitespace().count()
    }

    /// How many pages were given to children of init's that have ended: a larger number means that there was one more.
    pub(crate) fn faults_of_ended_children(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.init_pid())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        // cminflt of proc_pid_stat(5), the eleventh, where the first behind the name is the third.
        fields.split_whitespace().nth(11 - 3).unwrap().parse().unwrap()
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn end(&mut self) -> ProcessStatus {
        self.is_over = true;
        signal(self.init_pid(), 15);
        self.init.wait().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        signal(self.init_pid(), 9);
        self.init.wait().unwrap();
    }

    /// Init once more, on the same directory.
    pub(crate) fn start_again(mut self) -> Running {
        // Who was killed left it.
        let _ = fs::remove_file(self.host.path("run/init.sock"));
        self.is_over = false;
        self.init = spawn(&init_program(), self.host.directory.path(), "");
        self.wait_until_up();
        self
    }

    fn wait_until_up(&self) {
        self.wait_until("init listens", |running| packet::connect(&running.host.path("run/init.sock")).is_ok());
        self.wait_until("init is up", |running| {
            !matches!(running.ask(&Request::Status).as_slice(), [Reply::System(_), Reply::Done])
        });
    }

    /// Groups, mounts and runtime directories that are still there.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let runtime = self.host.path("run/instances");
        let mut left = Vec::new();
        left.extend(fs::symlink_metadata(&runtime).is_ok().then(|| runtime.display().to_string()));
        let updater = self.group_path().map(|group| group.with_extension("updater")).filter(|group| group.exists());
        let groups = self.group().into_iter().chain(self.service_groups()).chain(updater);
        left.extend(groups.map(|group| group.display().to_string()));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let directory = self.host.directory.path().display().to_string();
        left.extend(mounts.lines().filter(|line| line.contains(&directory)).map(str::to_owned));
        left
    }

    /// init is the child of `sh` and `unshare`, which it replaced: the same process.
    pub(crate) fn init_pid(&self) -> i32 {
        self.init.id() as i32
    }

    /// The group of a service, below which are those of its own.
    pub(crate) fn service_group(&self, name: &str) -> Option<PathBuf> {
        Some(self.service_groups()?.join(name)).filter(|group| group.exists())
    }

    /// The group of the updater.
    pub(crate) fn group_of_updater(&self) -> PathBuf {
        self.group_path().unwrap().with_extension("updater")
    }

    fn service_groups(&self) -> Option<PathBuf> {
        Some(self.group_path()?.with_extension("services")).filter(|group| group.exists())
    }

    fn group(&self) -> Option<PathBuf> {
        self.group_path().filter(|group| group.exists())
    }

    /// Whether instances' groups have this controller.
    pub(crate) fn has_controller(&self, name: &str) -> bool {
        let controllers = fs::read_to_string(self.group().unwrap().join("cgroup.subtree_control")).unwrap();
        controllers.split_whitespace().any(|controller| controller == name)
    }

    fn group_path(&self) -> Option<PathBuf> {
        // As init names it.
        let hash = self.host.directory.path().canonicalize().unwrap();
        let hash = yado_wire::hash::fnv32(hash.as_os_str().as_encoded_bytes().iter().copied());
        Some(cgroup2()?.join(format!("yado-{hash:08x}")))
    }

    fn processes(&self) -> Vec<i32> {
        self.group().as_deref().map(processes_in).unwrap_or_default()
    }

    /// The processes of an instance.
    pub(crate) fn processes_of(&self, instance: &str) -> Vec<i32> {
        processes_in(&self.group_of(instance))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            signal(self.init_pid(), 15);
            let _ = self.init.wait();
        }
    }
}

/// All processes of a control group and of those below it.
fn processes_in(group: &Path) -> Vec<i32> {
    let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = list.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(processes_in(&entry.path()));
        }
    }
    pids
}

/// What the kernel itself takes on the whole machine: objects, stacks, page tables, and what each processor has its own of.
pub(crate) fn kernel_memory_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let kib = |name: &str| -> u64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    };
    ["Slab", "KernelStack", "PageTables", "Percpu"].into_iter().map(kib).sum()
}

/// How many processes of this machine have this command line.
pub(crate) fn count_everywhere(words: &str) -> usize {
    let wanted = format!("{}\0", words.replace(' ', "\0"));
    let lines =
        fs::read_dir("/proc").unwrap().flatten().map(|entry| fs::read_to_string(entry.path().join("cmdline")));
    lines.filter(|line| line.as_ref().is_ok_and(|line| *line == wanted)).count()
}

/// Answers for the FUSE server whose file system this process sees at `target`, if it has one there.
pub(crate) fn abort_fuse(pid: i32, target: &str) {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let line = mounts.lines().find(|line| line.contains(&format!(" {target} ")) && line.contains(" - fuse "));
    let Some((_, minor)) = line.and_then(|line| line.split(' ').nth(2)?.split_once(':')) else { return };
    let list = "/sys/fs/fuse/connections";
    let script = format!("mount -t fusectl none {list} 2>/dev/null; echo 1 >{list}/{minor}/abort");
    assert!(Command::new("unshare").args(["--mount", "sh", "-c", &script]).status().unwrap().success());
}

/// The control group that this test runs in.
pub(crate) fn own_group() -> String {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    cgroup2().unwrap().join(own).display().to_string()
}

/// A device in sysfs for which a driver could be looked for.
pub(crate) fn device_with_alias() -> Option<PathBuf> {
    let buses = fs::read_dir("/sys/bus").ok()?.flatten();
    let devices = buses.filter_map(|bus| fs::read_dir(bus.path().join("devices")).ok()).flatten().flatten();
    devices.map(|device| device.path()).find(|device| {
        fs::read_to_string(device.join("uevent"))
            .is_ok_and(|text| text.lines().any(|line| line.starts_with("MODALIAS=")))
    })
}

/// A thread has ids of its own: that of another user.
/// A connection to a socket of packets, made by this user.
pub(crate) fn connect_as(uid: u32, socket: &Path) -> OwnedFd {
    // Past directories that only root may enter.
    let open = rustix::fs::open(socket, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let client = std::thread::spawn(move || {
        identity::become_user(uid, uid, &[]).unwrap();
        packet::connect(Path::new(&format!("/proc/self/fd/{}", open.as_raw_fd()))).unwrap()
    });
    client.join().unwrap()
}

/// A file opened by this user.
pub(crate) fn open_as(uid: u32, path: &Path) -> io::Result<File> {
    let path = path.to_owned();
    let opener = std::thread::spawn(move || {
        identity::become_user(uid, uid, &[]).unwrap();
        File::open(path)
    });
    opener.join().unwrap()
}

fn send_as(uid: u32, socket: &Path, text: &str, descriptor: Option<OwnedFd>) -> io::Result<Option<()>> {
    let (socket, text) = (socket.to_owned(), text.to_owned());
    let sender = std::thread::spawn(move || {
        identity::become_user(uid, uid, &[]).unwrap();
        let descriptor = descriptor.as_ref().map(|descriptor| descriptor.as_fd());
        datagram::send(&datagram::unbound().unwrap(), &socket, text.as_bytes(), descriptor)
    });
    sender.join().unwrap()
}

/// Packet sockets: the last close of each waits for all processors in turn, and no signal ends that.
pub(crate) fn packet_sockets(count: usize) -> Vec<OwnedFd> {
    let (family, kind) = (rustix::net::AddressFamily::PACKET, rustix::net::SocketType::RAW);
    // With a protocol: without one they are on no list, and their end waits for nobody.
    let all = Some(rustix::net::Protocol::from_raw(std::num::NonZeroU32::new(u32::from(3u16.to_be())).unwrap()));
    (0..count).map(|_| rustix::net::socket(family, kind, all).unwrap()).collect()
}

/// A pipe, whose reader does not block, and ends when nobody holds the other end.
pub(crate) fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = yado_sys::children::output_pipe().unwrap();
    (File::from(reader), writer)
}

/// A Unix socket with these in its queue.
pub(crate) fn socket_holding(descriptors: &[OwnedFd]) -> OwnedFd {
    let (ours, holding) = UnixDatagram::pair().unwrap();
    send_many(&ours, None, descriptors);
    holding.into()
}

/// Sends these with a few bytes, to this path or to who is connected.
pub(crate) fn send_many(socket: &impl AsFd, path: Option<&Path>, descriptors: &[OwnedFd]) {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let bytes = [IoSlice::new(b"READY=1")];
    let sent = match path {
        Some(path) => {
            let address = SocketAddrUnix::new(path).unwrap();
            rustix::net::sendmsg_addr(socket, &address, &bytes, &mut control, SendFlags::empty())
        }
        None => rustix::net::sendmsg(socket, &bytes, &mut control, SendFlags::empty()),
    };
    sent.unwrap();
}

/// A TCP socket whose last close waits for so many seconds, because its peer, the second, takes nothing any more.
pub(crate) fn lingering_socket(seconds: u64) -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    client.set_nonblocking(true).unwrap();
    while client.write(&[0; 65_536]).is_ok() {}
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::from_secs(seconds))).unwrap();
    (client.into(), peer)
}

/// What an instance has in a directory, where init names it by name and id.
fn directory_of(directory: &Path, instance: &str) -> Option<PathBuf> {
    let mut entries = fs::read_dir(directory).ok()?.map(|entry| entry.unwrap());
    let is_its = |name: &str| name.rsplit_once('.').is_some_and(|(name, _)| name == instance);
    entries.find(|entry| entry.file_name().to_str().is_some_and(is_its)).map(|entry| entry.path())
}

/// Replies up to the one that ends the exchange, or until the peer hangs up.
pub(crate) fn replies(socket: &OwnedFd, timeout: Duration) -> Vec<Reply> {
    packet::set_timeout(socket, timeout).unwrap();
    let mut replies = Vec::new();
    while let Some(reply) = next_reply(socket) {
        let is_last = matches!(reply, Reply::Done | Reply::Refused(_) | Reply::Exited(_));
        replies.push(reply);
        if is_last {
            break;
        }
    }
    replies
}

/// Reads a console until a text has come.
pub(crate) fn read_until(stream: &mut UnixStream, seen: &mut String, text: &str) {
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut buffer = [0; 4096];
    while !seen.contains(text) {
        let len = stream.read(&mut buffer).unwrap_or_else(|error| panic!("{error}: {seen:?}"));
        assert_ne!(len, 0, "{seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
}

pub(crate) fn next_reply(socket: &OwnedFd) -> Option<Reply> {
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    let received = packet::recv(socket, &mut buffer).unwrap()?;
    (!received.is_end()).then(|| yado_wire::decode(&buffer[..received.len]).unwrap())
}

fn spawn(init: &Path, directory: &Path, mounting: &str) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    // As somebody's shell would start it with `&`, and with `nohup`, and after it lowered a limit.
    let ignoring = "trap '' INT QUIT HUP; ulimit -S -n 256; exec unshare --net --mount sh -c \"$0\" \"$@\"";
    let executing = format!("{mounting}\nexec \"$0\" \"$@\"");
    Command::new("sh")
        .args(["-c", ignoring, &executing])
        .arg(init)
        .arg("--hosted")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// What a hosted init of somebody who is not root says before it gives up.
pub(crate) fn words_without_root() -> String {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where it was built, nobody else may have a look. A child copies it: a descriptor of ours that writes, inherited by what
    // another test starts meanwhile, would keep it from being executed.
    let init = directory.path().join("yado-init");
    assert!(Command::new("cp").arg(init_program()).arg(&init).status().unwrap().success());
    let mut command = Command::new(init);
    command.arg("--hosted").arg(directory.path());
    if is_root() {
        const NOBODY: u32 = 65_534;
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn signal(pid: i32, number: u8) {
    if let Ok(process) = yado_sys::pidfd::open(pid) {
        yado_sys::children::send_signal(process.as_fd(), number).unwrap();
    }
}

fn missing() -> Option<String> {
    if !is_root() {
        return Some("needs root".to_owned());
    }
    if cgroup2().is_none() {
        return Some("needs a cgroup2 mount".to_owned());
    }
    if !fs::read(BUSYBOX).is_ok_and(|program| program.windows(6).all(|part| part != b"/ld-li" && part != b"/ld-mu")) {
        return Some("needs a static busybox in /bin (package busybox-static)".to_owned());
    }
    let init = init_program();
    if !init.exists() {
        return Some(format!("needs {} (cargo build -p yado-init)", init.display()));
    }
    let yado = init.with_file_name("yado");
    let parts = Command::new(&yado).args(["container", "--help"]).output();
    if !parts.is_ok_and(|output| !String::from_utf8_lossy(&output.stderr).contains("built without")) {
        return Some(format!("needs {} with its part `container` (cargo build -p yado)", yado.display()));
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap();
    let absent = ["erofs", "overlay"].into_iter().find(|name| !filesystems.contains(*name));
    absent.map(|name| format!("this kernel has no {name} (or its module is not loaded)"))
}

/// The init that is built, whoever's tests these are: cargo puts them into a folder beside it.
fn init_program() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().with_file_name("yado-init")
}

/// Where cgroup2 is mounted.
pub(crate) fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}
