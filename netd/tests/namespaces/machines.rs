//! Machines for the tests, each a network namespace held open by a sleeping process: the board, the network outside, and
//! containers in user namespaces of their own. Nothing here touches the namespace the tests run in.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use yado_spec::NetworksSpec;
use yado_spec::network::{AddressSource, Ipv4Prefix, LinkSelector, StaticAddresses};
use yado_sys::packet;
use yado_wire::hash::fnv32;
use yado_wire::network::{LinkRole, LinkStatus, MAX_NICS, NetReply, NetRequest, NicKind, NicRequest};
use yado_wire::{AboutInstance, InstanceId, InstanceName, RunNumber, names::clipped};

/// How long anything may take before the test fails. Generous: the machines that run this are slow and shared.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A network namespace.
pub(crate) struct Machine {
    holder: Child,
}

impl Machine {
    /// A namespace of the tests' own user.
    pub(crate) fn new() -> Machine {
        Machine::hold(&["--net"])
    }

    /// A namespace that belongs to a user namespace of its own, as a container's does.
    pub(crate) fn container() -> Machine {
        Machine::hold(&["--user", "--map-root-user", "--net"])
    }

    fn hold(flags: &[&str]) -> Machine {
        let mut holder = Command::new("unshare")
            .args(flags)
            .args(["sh", "-c", "ip link set lo up; echo; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The line says that it is inside.
        let mut line = [0; 1];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
        Machine { holder }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    pub(crate) fn netns(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.pid())).unwrap()
    }

    /// A command inside.
    pub(crate) fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid()));
        let user = format!("/proc/{}/ns/user", self.pid());
        if std::fs::read_link(&user).unwrap() != std::fs::read_link("/proc/self/ns/user").unwrap() {
            command.arg(format!("--user={user}"));
        }
        command.arg("--").arg(program.into());
        command
    }

    /// RunNumbers a line of shell inside; it must succeed. Returns what it printed.
    pub(crate) fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{line}: {}\n{said}", output.status);
        text(&output.stdout)
    }

    pub(crate) fn try_sh(&self, line: &str) -> Output {
        self.command("sh").args(["-c", line]).output().unwrap()
    }

    /// RunNumbers the line until it succeeds.
    pub(crate) fn wait_for(&self, line: &str) -> String {
        wait_until(line, || {
            let output = self.try_sh(line);
            let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
            if output.status.success() { Ok(text(&output.stdout)) } else { Err(said) }
        })
    }

    /// The namespace is gone when this returns and no other process holds it.
    pub(crate) fn end(mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Tries until `attempt` is `Ok`; on failure the last error is shown.
pub(crate) fn wait_until<T>(what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
    wait_within(DEADLINE, what, attempt)
}

/// The same, for what takes its time.
pub(crate) fn wait_within<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(found) => return found,
            Err(last) if deadline < start.elapsed() => panic!("not within {deadline:?}: {what}\nlast: {last}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The board: netd in a namespace with an uplink `up0` whose other end is `out0` outside.
pub(crate) struct Board {
    pub(crate) machine: Machine,
    pub(crate) run: tempfile::TempDir,
    netd: Option<Child>,
    runs: AtomicU64,
}

impl Board {
    /// A board whose netd serves with `networks`; `None`: the default networks, without an uplink.
    pub(crate) fn start(networks: Option<NetworksSpec>) -> Board {
        let board =
            Board { machine: Machine::new(), run: tempfile::tempdir().unwrap(), netd: None, runs: AtomicU64::new(0) };
        let mut board = board;
        if let Some(networks) = networks {
            std::fs::write(board.run.path().join("networks.bin"), networks.encode()).unwrap();
        }
        board.start_netd();
        board
    }

    /// A board with these networks, whose uplink is plugged into the network outside.
    pub(crate) fn with_outside(networks: NetworksSpec) -> (Board, Outside) {
        let board = Board::start(Some(networks));
        let outside = Outside::new(&board.machine);
        (board, outside)
    }

    pub(crate) fn start_netd(&mut self) {
        let log = File::options().create(true).append(true).open(self.run.path().join("log")).unwrap();
        let notify = self.run.path().join("notify");
        let _ = std::fs::remove_file(&notify);
        let ready = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
        ready.set_read_timeout(Some(DEADLINE)).unwrap();
        let netd = self
            .machine
            .command(std::env::current_exe().unwrap())
            .args(["--exact", "netd_itself", "--ignored", "--nocapture"])
            .env("YADO_TEST_NETD", self.run.path())
            .env("NOTIFY_SOCKET", &notify)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.netd = Some(netd);
        let mut message = [0; 32];
        let received = loop {
            match ready.recv(&mut message) {
                // Where a time limit is set, whoever stops this process and lets it go on ends the wait (signal(7)).
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                received => break received,
            }
        };
        match received {
            Ok(len) => assert_eq!(&message[..len], b"READY=1"),
            Err(error) => panic!("netd does not tell ready: {error}\n{}", self.log()),
        }
        // It listens before its first look, and answers after it.
        drop(self.status());
    }

    /// Kills it as a crash would.
    pub(crate) fn kill_netd(&mut self) {
        let mut netd = self.netd.take().unwrap();
        netd.kill().unwrap();
        netd.wait().unwrap();
    }

    pub(crate) fn netd_pid(&self) -> u32 {
        self.netd.as_ref().unwrap().id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.run.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn call(&self, request: &NetRequest, netns: Option<&File>) -> Vec<NetReply> {
        let socket = packet::connect(&self.socket()).unwrap();
        packet::set_timeout(&socket, DEADLINE).unwrap();
        let descriptors: Vec<_> = netns.iter().map(|netns| netns.as_fd()).collect();
        packet::send(&socket, &yado_wire::encode(request).unwrap(), &descriptors).unwrap().unwrap();
        let mut replies = Vec::new();
        let mut buffer = vec![0; yado_wire::MAX_FRAME_BYTES];
        loop {
            let packet = packet::recv(&socket, &mut buffer).unwrap();
            let packet = packet.unwrap_or_else(|| panic!("no reply\n{}", self.log()));
            assert!(!packet.is_end(), "hung up\n{}", self.log());
            let reply = yado_wire::decode::<NetReply>(&buffer[..packet.len]).unwrap();
            let is_last = !matches!(reply, NetReply::Link(_) | NetReply::NetworkFailed { .. });
            replies.push(reply);
            if is_last {
                return replies;
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.run.path().join("netd.sock")
    }

    /// A new run of the instance asks for its interfaces and brings them up.
    pub(crate) fn attach(&self, instance: &str, machine: &Machine, nics: &[NicRequest]) -> NetReply {
        let run = RunNumber(self.runs.fetch_add(1, Ordering::Relaxed) + 1);
        self.attach_run(instance, run, machine, nics)
    }

    pub(crate) fn attach_run(
        &self,
        instance: &str,
        run: RunNumber,
        machine: &Machine,
        nics: &[NicRequest],
    ) -> NetReply {
        let request = NetRequest::Attach { instance: about(instance), run, nics: heapless_vec(nics) };
        let reply = self.call(&request, Some(&machine.netns())).remove(0);
        if reply == NetReply::Attached {
            // As the launcher does.
            nics.iter().for_each(|nic| drop(machine.sh(&format!("ip link set {} up", nic.name))));
        }
        reply
    }

    /// The instance's last run is over.
    pub(crate) fn detach(&self, instance: &str) -> NetReply {
        self.detach_run(instance, RunNumber(self.runs.load(Ordering::Relaxed)))
    }

    pub(crate) fn detach_run(&self, instance: &str, run: RunNumber) -> NetReply {
        self.call(&NetRequest::Detach { instance: about(instance).id, run }, None).remove(0)
    }

    /// Puts these networks into their file and has netd read it.
    pub(crate) fn reload(&self, networks: &NetworksSpec) -> Vec<NetReply> {
        std::fs::write(self.run.path().join("networks.bin"), networks.encode()).unwrap();
        self.call(&NetRequest::Reload, None)
    }

    pub(crate) fn status(&self) -> Vec<LinkStatus> {
        let replies = self.call(&NetRequest::Status, None).into_iter();
        let links = replies.filter_map(|reply| match reply {
            NetReply::Link(link) => Some(link),
            NetReply::Attached | NetReply::Failed(_) | NetReply::NetworkFailed { .. } | NetReply::Done => None,
        });
        links.collect()
    }

    pub(crate) fn uplink(&self) -> LinkStatus {
        self.status().into_iter().find(|link| link.role == LinkRole::Uplink).unwrap()
    }

    /// The status line of an instance's interface, once it has a lease.
    pub(crate) fn leased(&self, instance: &str) -> std::net::Ipv4Addr {
        wait_until("a lease", || {
            let status = self.status();
            let of_instance = status.iter().find(
                |link| matches!(&link.role, LinkRole::Nic { instance: of, .. } if of.name.as_str() == instance),
            );
            match of_instance.and_then(|link| link.addresses.first()) {
                Some((std::net::IpAddr::V4(address), _)) => Ok(*address),
                Some(_) | None => Err(format!("{status:?}\n{}", self.log())),
            }
        })
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(mut netd) = self.netd.take() {
            let _ = netd.kill();
            let _ = netd.wait();
        }
        if std::thread::panicking() {
            eprintln!("netd said:\n{}", self.log());
        }
    }
}

fn heapless_vec(nics: &[NicRequest]) -> heapless::Vec<NicRequest, MAX_NICS> {
    nics.iter().cloned().collect()
}

/// The default networks with `up0` as their uplink: one end of a pair, which is never chosen by itself.
pub(crate) fn networks_with_uplink() -> NetworksSpec {
    let mut networks = NetworksSpec::default_networks();
    networks.uplinks[0].link = LinkSelector::Name(clipped("up0"));
    networks
}

/// What is said of an uplink without DHCP.
pub(crate) fn said(address: &str, gateway: Option<&str>, nameservers: &[&str]) -> Vec<AddressSource> {
    let said = StaticAddresses {
        addresses: vec![Ipv4Prefix::parse(address).unwrap().into()],
        gateways: gateway.iter().map(|gateway| gateway.parse().unwrap()).collect(),
        nameservers: nameservers.iter().map(|server| server.parse().unwrap()).collect(),
    };
    vec![AddressSource::Static(said)]
}

/// A link's first address with its prefix length.
pub(crate) fn address_of(link: &LinkStatus) -> Option<String> {
    link.addresses.first().map(|(address, length)| format!("{address}/{length}"))
}

/// The router of a link.
pub(crate) fn gateway_of(link: &LinkStatus) -> Option<String> {
    link.gateways.first().map(ToString::to_string)
}

/// An uplink that leads everywhere.
pub(crate) fn has_route(uplink: &LinkStatus) -> bool {
    !uplink.addresses.is_empty() && !uplink.gateways.is_empty()
}

/// `eth0` on a network of netd's.
pub(crate) fn nic(network: &str) -> NicRequest {
    NicRequest {
        name: clipped("eth0"),
        kind: NicKind::Network { network: clipped(network) },
        hwaddr: None,
        mtu: None,
        host_name: None,
        ipv4_address: None,
    }
}

/// The network outside: 192.168.77.0/24 with dnsmasq as DHCP and name server, and the board's uplink plugged into it.
pub(crate) struct Outside {
    pub(crate) machine: Machine,
    server: Option<Running>,
    directory: tempfile::TempDir,
}

impl Outside {
    pub(crate) fn new(board: &Machine) -> Outside {
        let machine = Machine::new();
        board.sh(&format!("ip link add up0 type veth peer name out0 netns {}", machine.pid()));
        machine.sh("ip addr add 192.168.77.1/24 dev out0 && ip link set out0 up");
        let mut outside = Outside { machine, server: None, directory: tempfile::tempdir().unwrap() };
        outside.start_dnsmasq("192.168.77");
        outside
    }

    /// A DHCP and name server for the /24 that begins with `network`.
    pub(crate) fn start_dnsmasq(&mut self, network: &str) {
        self.server = None;
        let directory = self.directory.path();
        let child = self
            .machine
            .command("dnsmasq")
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--no-resolv", "--no-hosts"])
            .args(["--interface=out0", "--bind-interfaces", "--log-facility=-", "--log-dhcp"])
            // With the port that each question came from.
            .arg("--log-queries=extra")
            .arg(format!("--dhcp-range={network}.100,{network}.200,2m"))
            .arg("--dhcp-authoritative")
            .arg("--domain=outside.test")
            .arg(format!("--address=/server.outside.test/{network}.1"))
            .arg("--txt-record=long.outside.test,hello")
            .arg(format!("--address=/printer/{network}.8"))
            .arg("--txt-record=one,outside")
            // Nobody is there: who asks for it waits.
            .arg(format!("--server=/silent.test/{network}.250"))
            .arg(format!("--dhcp-leasefile={}", directory.join("leases").display()))
            .arg(format!("--pid-file={}", directory.join("pid").display()))
            .stdout(File::create(directory.join("log")).unwrap())
            .stderr(File::options().append(true).create(true).open(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        self.server = Some(Running(child));
    }

    /// Nobody answers any more.
    pub(crate) fn stop_server(&mut self) {
        self.server = None;
    }

    /// busybox's DHCP server instead, whose leases of two minutes are renewed after one.
    pub(crate) fn start_udhcpd(&mut self) {
        self.server = None;
        let directory = self.directory.path();
        let configuration = directory.join("udhcpd.conf");
        let lines = [
            "start 192.168.77.100".to_owned(),
            "end 192.168.77.200".to_owned(),
            "interface out0".to_owned(),
            "min_lease 10".to_owned(),
            format!("lease_file {}", directory.join("udhcpd.leases").display()),
            format!("pidfile {}", directory.join("udhcpd.pid").display()),
            "opt lease 120".to_owned(),
            "opt subnet 255.255.255.0".to_owned(),
            "opt router 192.168.77.1".to_owned(),
            "opt mtu 1400".to_owned(),
            "opt staticroutes 10.9.0.0/16 192.168.77.9, 10.158.0.0/24 192.168.77.9, 0.0.0.0/0 192.168.77.3"
                .to_owned(),
        ];
        std::fs::write(&configuration, lines.join("\n") + "\n").unwrap();
        let log = File::options().append(true).create(true).open(directory.join("log")).unwrap();
        let child = self
            .machine
            .command("busybox")
            .args(["udhcpd", "-f"])
            .arg(configuration)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(Running(child));
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// The uplink's status once it is as `is_wanted` says.
pub(crate) fn uplink_that(
    board: &Board,
    outside: &Outside,
    what: &str,
    is_wanted: impl Fn(&LinkStatus) -> bool,
) -> LinkStatus {
    wait_until(what, || {
        let uplink = board.uplink();
        if is_wanted(&uplink) { Ok(uplink) } else { Err(format!("{uplink:?}\n{}", outside.log())) }
    })
}

/// Asks for an address as busybox does and configures it; returns what the script was told.
pub(crate) fn udhcpc(machine: &Machine, directory: &Path) -> String {
    let script = directory.join("udhcpc.sh");
    let said = directory.join(format!("lease-{}", machine.pid()));
    std::fs::write(
        &script,
        format!(
            "#!/bin/sh\n[ \"$1\" = bound ] || [ \"$1\" = renew ] || exit 0\nip addr flush dev $interface\n\
             ip addr add $ip/$mask dev $interface\nip route replace default via $router\nenv > {}\n",
            said.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    machine.sh(&format!("busybox udhcpc -i eth0 -n -q -t 10 -T 1 -s {}", script.display()));
    std::fs::read_to_string(said).unwrap()
}

/// An instance of this name, whose id follows from it.
pub(crate) fn about(name: &str) -> AboutInstance {
    AboutInstance { id: InstanceId(fnv32(name.bytes())), name: InstanceName::parse(name).unwrap() }
}
