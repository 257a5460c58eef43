//! QEMU's machine protocol: one JSON object a line, over the socket of `-qmp`. Commands wait for their answer with a
//! deadline; events that come in between are kept for whoever waits for one.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// QEMU answers at once; what takes longer (a device leaving) is told by an event.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that is past its greeting.
#[derive(Debug)]
pub struct Qmp {
    lines: BufReader<UnixStream>,
    /// A line of which the end has not come yet.
    partial: Vec<u8>,
    events: VecDeque<Value>,
}

/// Why QEMU did not do it.
#[derive(Debug)]
pub enum QmpError {
    /// The socket failed or was closed: QEMU is gone.
    Io(io::Error),
    /// Nothing came in time.
    Deadline {
        /// What we waited for.
        waited_for: String,
    },
    /// QEMU refused the command.
    Refused {
        /// Which command.
        command: String,
        /// Its words.
        reason: String,
    },
}

impl Qmp {
    /// Connects and ends the negotiation. The socket must exist already.
    pub fn connect(socket: &Path) -> Result<Qmp, QmpError> {
        let stream = UnixStream::connect(socket).map_err(QmpError::Io)?;
        let mut qmp = Qmp { lines: BufReader::new(stream), partial: Vec::new(), events: VecDeque::new() };
        // The first line is the greeting; it has neither `return` nor `event`, and is dropped with the answer's wait.
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and gives back what it returned.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.lines.get_mut().write_all(line.as_bytes()).map_err(QmpError::Io)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let mut message = self.message(deadline, command)?;
            if let Some(returned) = message.get_mut("return") {
                return Ok(returned.take());
            }
            if let Some(error) = message.get("error") {
                let reason = error["desc"].as_str().unwrap_or("no reason given").to_owned();
                return Err(QmpError::Refused { command: command.to_owned(), reason });
            }
            if message.get("event").is_some() {
                self.events.push_back(message);
            }
        }
    }

    /// Waits for an event of this name and gives back its data. Older events of other names are kept.
    pub fn wait_event(&mut self, name: &str, timeout: Duration) -> Result<Value, QmpError> {
        self.wait_event_of(name, timeout, |_| true)
    }

    /// The same, of those whose data is so.
    fn wait_event_of(
        &mut self,
        name: &str,
        timeout: Duration,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value, QmpError> {
        let deadline = Instant::now() + timeout;
        loop {
            let is_it = |event: &Value| event["event"] == name && is_so(&event["data"]);
            if let Some(at) = self.events.iter().position(is_it) {
                return Ok(self.events.remove(at).map_or(Value::Null, |mut event| event["data"].take()));
            }
            let message = self.message(deadline, name)?;
            if message.get("event").is_some() {
                self.events.push_back(message);
            }
        }
    }

    fn message(&mut self, deadline: Instant, waited_for: &str) -> Result<Value, QmpError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(QmpError::Deadline { waited_for: waited_for.to_owned() });
            }
            self.lines.get_ref().set_read_timeout(Some(left)).map_err(QmpError::Io)?;
            match self.lines.read_until(b'\n', &mut self.partial) {
                Ok(0) => return Err(QmpError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {
                    let line = std::mem::take(&mut self.partial);
                    return serde_json::from_slice(&line).map_err(|error| QmpError::Io(error.into()));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(QmpError::Io(error)),
            }
        }
    }
}

/// A USB stick: an image file on the host, plugged into the board's xHCI controller.
#[derive(Debug, Clone)]
pub struct UsbStick {
    /// Its name in QEMU, a plain word.
    pub id: String,
    /// The file that is its content.
    pub content: std::path::PathBuf,
    /// The serial number it tells.
    pub serial: String,
}

impl Qmp {
    /// Plugs the stick in.
    pub fn plug(&mut self, stick: &UsbStick) -> Result<(), QmpError> {
        let UsbStick { id, content, serial } = stick;
        self.execute(
            "blockdev-add",
            json!({ "node-name": format!("{id}-content"), "driver": "raw",
                    "file": { "driver": "file", "filename": content } }),
        )?;
        let device = json!({ "driver": "usb-storage", "id": id, "bus": "xhci.0", "drive": format!("{id}-content"),
                             "serial": serial, "removable": true });
        self.execute("device_add", device)?;
        Ok(())
    }

    /// Pulls the stick out, and returns when it is gone.
    pub fn unplug(&mut self, stick: &UsbStick) -> Result<(), QmpError> {
        self.execute("device_del", json!({ "id": stick.id }))?;
        // The disk inside it goes with an event of its own, which names no device.
        self.wait_event_of("DEVICE_DELETED", ANSWER_TIMEOUT, |data| data["device"] == *stick.id)?;
        self.execute("blockdev-del", json!({ "node-name": format!("{}-content", stick.id) }))?;
        Ok(())
    }
}

impl fmt::Display for QmpError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QmpError::Io(source) => write!(out, "qmp: {source}"),
            QmpError::Deadline { waited_for } => write!(out, "qmp: no {waited_for} in time"),
            QmpError::Refused { command, reason } => write!(out, "qmp: {command}: {reason}"),
        }
    }
}

impl std::error::Error for QmpError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A QEMU that says these lines, whatever it is asked.
    fn connected_to(script: &'static str) -> Qmp {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(script.as_bytes()).unwrap();
        std::mem::forget(theirs);
        Qmp { lines: BufReader::new(ours), partial: Vec::new(), events: VecDeque::new() }
    }

    #[test]
    fn an_event_before_the_answer_is_kept_for_its_reader() {
        let mut qmp = connected_to(
            "{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"stick\"}}\n{\"return\":{\"status\":\"running\"}}\n",
        );
        assert_eq!(qmp.execute("query-status", json!({})).unwrap()["status"], "running");
        let event = qmp.wait_event("DEVICE_DELETED", Duration::from_millis(1)).unwrap();
        assert_eq!(event["device"], "stick");
    }

    #[test]
    fn a_refusal_carries_qemus_words_and_silence_ends_at_the_deadline() {
        let mut qmp = connected_to("{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such bus\"}}\n");
        let refused = qmp.execute("device_add", json!({})).unwrap_err();
        assert_eq!(refused.to_string(), "qmp: device_add: no such bus");
        let silence = qmp.wait_event("SHUTDOWN", Duration::from_millis(5)).unwrap_err();
        assert!(matches!(silence, QmpError::Deadline { .. }), "{silence}");
    }
}
