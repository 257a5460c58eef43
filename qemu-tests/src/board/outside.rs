//! The world outside of the board: a page on this machine's loopback, which QEMU's user network shows the board as
//! 10.0.2.2. It remembers who asked.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The address by which the board reaches this machine.
pub const ADDRESS: &str = "10.0.2.2";
/// What the page says.
pub const PAGE: &str = "this is outside";

/// A server that lives as long as the process.
#[derive(Debug)]
pub struct Outside {
    port: u16,
    answered: Arc<AtomicUsize>,
}

impl Outside {
    /// Opens it on a free port.
    pub fn open() -> io::Result<Outside> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let answered = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answered);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stream.and_then(answer).is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Ok(Outside { port, answered })
    }

    /// Of loopback's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many requests were answered so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let _request_bytes = stream.read(&mut [0; 1024])?;
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{PAGE}", PAGE.len())
}
