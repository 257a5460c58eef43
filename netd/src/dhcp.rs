//! DHCP for IPv4 without sockets: messages, the server with its leases, and the client.

pub mod client;
pub mod datagram;
pub mod lease;
pub mod message;
pub mod server;
