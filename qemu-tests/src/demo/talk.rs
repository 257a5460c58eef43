//! The board's serial line at this terminal, for somebody who wants to look around. Ctrl-] leaves, as with telnet.

use crate::board::Board;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

const LEAVE: u8 = 0x1d;

/// Returns when the visitor leaves or the board is off.
pub(super) fn until_detached(board: &Board) {
    println!("\nthe board's console: try `yado rescue status`. Ctrl-] leaves, and then the board is powered off\n");
    let serial = match UnixStream::connect(board.serial_socket()) {
        Ok(serial) => serial,
        Err(error) => return eprintln!("connect to the serial line: {error}"),
    };
    let _raw = RawTerminal::enter();
    if let Err(error) = relay(serial) {
        eprintln!("\r\nthe serial line: {error}\r");
    }
}

fn relay(serial: UnixStream) -> io::Result<()> {
    let mut from_board = serial.try_clone()?;
    let mut to_board = serial.try_clone()?;
    // A prompt that was printed before we came is asked for again.
    to_board.write_all(b"\r")?;
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        let mut stdin = io::stdin().lock();
        while let Ok(count @ 1..) = stdin.read(&mut bytes) {
            if bytes[..count].contains(&LEAVE) || to_board.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        // Ends the other direction too.
        let _ = serial.shutdown(std::net::Shutdown::Both);
    });
    let mut stdout = io::stdout().lock();
    let mut bytes = [0; 4096];
    loop {
        match from_board.read(&mut bytes)? {
            0 => return Ok(()),
            count => {
                stdout.write_all(&bytes[..count])?;
                stdout.flush()?;
            }
        }
    }
}

/// Every key goes to the board; the terminal is itself again when this is dropped.
struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
    fn enter() -> RawTerminal {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &raw);
        }
        RawTerminal { before }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
