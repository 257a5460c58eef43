//! The sockets of one bridge: those of its DHCP server and of its name server. They are bound to the link itself, so that nobody
//! outside is heard, and are opened again when the bridge is a new link.

use crate::daemon::Event;
use crate::dhcp::message::{MAX_BYTES, Message, parse_message};
use crate::dns;
use crate::dns::zone::Zones;
use crate::owned_task::Task;
use crate::readiness::{Watched, read_from, take_one, watch};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch as latest};
use yado_sys::raw_socket;
use yado_wire::Budget;
use yado_wire::Text;

/// What a bridge serves.
#[derive(Debug)]
pub(crate) struct BridgeSockets {
    /// Which bridge.
    pub(crate) bridge: Text<15>,
    /// The link it was when the sockets were opened.
    pub(crate) index: u32,
    /// The address the sockets answer from.
    pub(crate) address: Ipv4Addr,
    dhcp: Option<DhcpSocket>,
    _dns: Vec<Task>,
}

#[derive(Debug)]
struct DhcpSocket {
    socket: Arc<Watched>,
    _reader: Task,
}

/// What all clients of a network may ask together, should the kernel not limit each of them: the start of 64 at once.
const DHCP_BURST: u32 = 256;
const DHCP_PAUSE: Duration = Duration::from_millis(20);
const SERVER_PORT: u16 = 67;

impl BridgeSockets {
    /// Opens the name server's sockets and serves.
    pub(crate) fn start(
        bridge: &Text<15>,
        index: u32,
        address: Ipv4Addr,
        zones: &latest::Receiver<Arc<Zones>>,
    ) -> io::Result<BridgeSockets> {
        let dns = dns::serve::start(bridge, address, zones)?;
        Ok(BridgeSockets { bridge: bridge.clone(), index, address, dhcp: None, _dns: dns })
    }

    /// Has a DHCP server from now on, or none: `ipv4.dhcp`. The name server goes on.
    pub(crate) fn serve_dhcp(&mut self, is_wanted: bool, events: &mpsc::Sender<Event>) -> io::Result<()> {
        match (is_wanted, &self.dhcp) {
            (true, None) => {
                let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, SERVER_PORT);
                let socket = Arc::new(watch(raw_socket::udp_socket_on(&self.bridge, any)?.into())?);
                let reader = Task::spawn(hear(socket.clone(), self.bridge.clone(), events.clone()));
                self.dhcp = Some(DhcpSocket { socket, _reader: reader });
            }
            (false, Some(_)) => self.dhcp = None,
            (true, Some(_)) | (false, None) => {}
        }
        Ok(())
    }

    /// Sends a DHCP reply. One that finds no room is lost; the client asks again.
    pub(crate) fn send(&self, message: &Message, to: SocketAddrV4) -> io::Result<()> {
        match &self.dhcp {
            Some(dhcp) => raw_socket::send_datagram(dhcp.socket.get_ref(), &message.encode(), to).map(drop),
            None => Ok(()),
        }
    }
}

async fn hear(socket: Arc<Watched>, bridge: Text<15>, events: mpsc::Sender<Event>) {
    let mut budget = Budget::each(DHCP_BURST, DHCP_PAUSE);
    loop {
        let read = read_from(&socket, |socket| {
            let mut buffer = [0; MAX_BYTES];
            let Some(len) = raw_socket::recv_packet(socket, &mut buffer)? else { return Ok(None) };
            Ok(Some(parse_message(&buffer[..len]).ok()))
        });
        match read.await {
            // A container can send anything: what is no DHCP message is not even worth a line.
            Ok(None) => {}
            Ok(Some(message)) => {
                let message = Box::new(message);
                if events.send(Event::Asked { bridge: bridge.clone(), message }).await.is_err() {
                    return;
                }
            }
            // ENETDOWN: the bridge went down or away, which the monitor reports.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
        take_one(&mut budget).await;
    }
}
