//! A server of our own, that answers each request by a function: it can do what no honest one does.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What was asked: the first line, and the headers as they came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    /// Counted from 0.
    pub(crate) number: usize,
}

impl Asked {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// `Range: bytes=A-B` as A and B+1.
    pub(crate) fn range(&self) -> (usize, usize) {
        let (first, last) = self.header("range").unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        (first.parse().unwrap(), last.parse::<usize>().unwrap() + 1)
    }
}

/// A server on a free port of loopback. Its threads end with the test.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) address: String,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// The function writes the answer; while it says so, the connection stays.
    pub(crate) fn start(answer: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&log));
        let count = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, seen, count) = (Arc::clone(&answer), Arc::clone(&seen), Arc::clone(&count));
                thread::spawn(move || serve(stream.unwrap(), &*answer, &seen, &count));
            }
        });
        Server { url: format!("http://{address}/r"), address, log }
    }

    /// All requests so far.
    pub(crate) fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &dyn Fn(&Asked, &mut TcpStream) -> bool,
    log: &Mutex<Vec<Asked>>,
    count: &AtomicUsize,
) {
    let mut input = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match input.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => lines.push(line.trim_end().to_owned()),
            }
        }
        let asked = Asked { line: lines.remove(0), headers: lines, number: count.fetch_add(1, Ordering::SeqCst) };
        log.lock().unwrap().push(asked.clone());
        if !answer(&asked, &mut stream) {
            return;
        }
    }
}

/// Writes this; the peer may have gone, which is what some tests are about.
pub(crate) fn send(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

/// An honest answer to a range of these bytes.
pub(crate) fn send_range(asked: &Asked, stream: &mut TcpStream, content: &[u8], more: &str) -> bool {
    let (first, end) = asked.range();
    let end = end.min(content.len());
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{}/{}\r\n{more}\r\n",
        end - first,
        end - 1,
        content.len()
    );
    send(stream, head.as_bytes()) && send(stream, &content[first..end])
}
