//! DHCP for IPv4, both sides, without a socket: messages, the server's leases, the client's life.

pub mod client;
pub mod datagram;
pub mod lease;
pub mod message;
pub mod server;
