//! The board's serial line at this terminal, for somebody who wants to look around. Ctrl-] leaves, as with telnet.

use super::{Demo, StepError};
use crate::board::Board;
use crate::report::{Observer, Witness};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const LEAVE: u8 = 0x1d;

/// For a shell to start and to answer, on a machine that has other things to do.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a person would do: gets the console, has a prompt, types, reads, and leaves.
pub(super) fn answers(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let serial = UnixStream::connect(demo.board.serial_socket()).map_err(StepError::Console)?;
    let (mut person, terminal) = UnixStream::pair().map_err(StepError::Console)?;
    let keyboard = terminal.try_clone().map_err(StepError::Console)?;
    person.set_read_timeout(Some(Duration::from_millis(100))).map_err(StepError::Console)?;
    let relaying = std::thread::spawn(move || relay(serial, keyboard, terminal));
    let prompt = read_until(&mut person, "# ").map_err(StepError::Console)?;
    observer.check(Witness::Peer, "a shell waits there", &prompt, prompt.contains("# "))?;
    person.write_all(b"echo $((6 * 7)) of $$\r").map_err(StepError::Console)?;
    let answer = read_until(&mut person, "42 of ").map_err(StepError::Console)?;
    observer.check(Witness::Peer, "it answers what is typed", &answer, answer.contains("42 of "))?;
    person.write_all(&[LEAVE]).map_err(StepError::Console)?;
    let left = relaying.join().is_ok_and(|relayed| relayed.is_ok());
    observer.check(Witness::OtherEnd, "Ctrl-] leaves", left, left)?;
    Ok(())
}

/// What was said until these words came, or until the time was over.
fn read_until(person: &mut UnixStream, words: &str) -> io::Result<String> {
    let deadline = Instant::now() + TIMEOUT;
    let mut said = String::new();
    let mut bytes = [0; 1024];
    while !said.contains(words) && Instant::now() < deadline {
        match person.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => said.push_str(&String::from_utf8_lossy(&bytes[..count])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(said)
}

/// Returns when the visitor leaves or the board is off.
pub(super) fn until_detached(board: &Board) {
    println!("\nthe board's console: try `yado rescue status`. Ctrl-] leaves, and then the board is powered off\n");
    let serial = match UnixStream::connect(board.serial_socket()) {
        Ok(serial) => serial,
        Err(error) => return eprintln!("connect to the serial line: {error}"),
    };
    let _raw = RawTerminal::enter();
    if let Err(error) = relay(serial, io::stdin(), io::stdout()) {
        eprintln!("\r\nthe serial line: {error}\r");
    }
}

fn relay(serial: UnixStream, mut keyboard: impl Read + Send + 'static, mut screen: impl Write) -> io::Result<()> {
    let mut from_board = serial.try_clone()?;
    let mut to_board = serial.try_clone()?;
    // A prompt that was printed before we came is asked for again.
    to_board.write_all(b"\r")?;
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(count @ 1..) = keyboard.read(&mut bytes) {
            if bytes[..count].contains(&LEAVE) || to_board.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        // Ends the other direction too.
        let _ = serial.shutdown(std::net::Shutdown::Both);
    });
    let mut bytes = [0; 4096];
    loop {
        match from_board.read(&mut bytes)? {
            0 => return Ok(()),
            count => {
                screen.write_all(&bytes[..count])?;
                screen.flush()?;
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
