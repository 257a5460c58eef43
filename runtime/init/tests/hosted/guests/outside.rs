//! The network outside of a hosted init: a name server that knows one name, and a server that writes down who came and what they
//! said. All of it in a network namespace, to which netd's uplink leads.

use crate::host::Running;
use std::io::Read;
use std::net::{IpAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use yado_sys::pidfd::{self, NamespacesOf};

/// What the name server outside knows, and nobody else.
pub(super) const NAME: &str = "server.outside.test";
/// Its address, which is on no network of netd's.
pub(super) const SERVER: &str = "203.0.113.9";
/// The port of the server there.
pub(super) const PORT: u16 = 4000;
/// The uplink's own address, which whoever comes from inside must have got.
const UPLINK: &str = "192.0.2.2";

/// The networks of the host: an uplink, and a bridge behind it.
pub(super) const NETWORKS: [(&str, &str); 2] = [
    (
        "up",
        "type = \"physical\"\n[config]\nparent = \"up0\"\nipv4.dhcp = false\nipv4.address = \"192.0.2.2/24\"\n\
         ipv4.gateway = \"192.0.2.1\"\ndns.nameservers = \"192.0.2.1\"\n",
    ),
    ("lan0", "[config]\nipv4.address = \"10.211.1.1/24\"\nipv4.nat = true\n"),
];

/// The network.
pub(super) struct Outside {
    processes: Vec<Child>,
    visitors: Receiver<(IpAddr, String)>,
}

impl Outside {
    /// Plugs the host's uplink in.
    pub(super) fn of(host: &Running) -> Outside {
        let mut namespace = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up; echo; exec sleep 1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The line says that it is inside.
        namespace.stdout.take().unwrap().read_exact(&mut [0; 1]).unwrap();
        let pid = namespace.id() as i32;
        let run = |of: i32, line: &str| {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/proc/{of}/ns/net")).args(["sh", "-ec", line]);
            assert!(command.status().unwrap().success(), "{line}");
        };
        run(host.init_pid(), &format!("ip link add up0 type veth peer name out0 netns {pid}"));
        run(pid, &format!("ip addr add 192.0.2.1/24 dev out0; ip addr add {SERVER}/32 dev lo; ip link set out0 up"));
        let names = Command::new("nsenter")
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .args(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--no-resolv"])
            .args(["--no-hosts", "--listen-address=192.0.2.1", "--bind-interfaces", "--pid-file="])
            .arg(format!("--address=/{NAME}/{SERVER}"))
            .spawn()
            .unwrap();
        Outside { visitors: serve(pid), processes: vec![names, namespace] }
    }

    /// Waits for who says this, and checks that it came by the uplink.
    pub(super) fn expect(&self, word: &str) {
        let (from, said) = self.visitors.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!((from.to_string().as_str(), said.trim()), (UPLINK, word));
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A thread has namespaces of its own. It ends with the test program.
fn serve(pid: i32) -> Receiver<(IpAddr, String)> {
    let (sender, visitors) = channel();
    let namespace = pidfd::open(pid).unwrap();
    std::thread::spawn(move || {
        pidfd::enter_namespaces(&namespace.as_fd(), NamespacesOf::NETWORK).unwrap();
        let listener = TcpListener::bind((SERVER, PORT)).unwrap();
        for visitor in listener.incoming() {
            let mut visitor = visitor.unwrap();
            let mut said = String::new();
            visitor.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let _ = visitor.read_to_string(&mut said);
            if sender.send((visitor.peer_addr().unwrap().ip(), said)).is_err() {
                return;
            }
        }
    });
    visitors
}
