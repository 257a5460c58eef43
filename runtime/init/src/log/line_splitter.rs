//! Splits the bytes of a console or a pipe into lines for the log: without line ends and terminal control, cut where they are too
//! long, and limited in number. Pure: the current time is an argument.

use std::time::Duration;
use yado_wire::printable::is_obeyed;

/// The longest line; what is longer is cut into several.
const MAX_LINE_BYTES: usize = 512;

/// One source may write this many lines at once, and then this many each [`REFILL`]: a container that prints in a loop
/// must not push everybody else out of the ring.
const BURST_LINES: u32 = 200;

/// See [`BURST_LINES`].
const REFILL: Duration = Duration::from_secs(10);

/// The splitter of one source.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    /// The line so far; its memory is given back when it is empty.
    line: Vec<u8>,
    escape: Escape,
    window_start: Duration,
    window_lines: u32,
    /// Lines left out in this window.
    left_out: u32,
}

/// Where we are in a terminal control sequence (ECMA-48).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// In a control sequence: until a byte from `@` to `~`.
    Control,
    /// In a string: until BEL or ESC `\`.
    String,
}

impl LineSplitter {
    /// Takes bytes, and gives each finished line to `log`.
    pub(crate) fn feed(&mut self, bytes: &[u8], now: Duration, log: &mut dyn FnMut(&str)) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.escape == Escape::None && is_text(byte) {
                // Most bytes are plain text: they are taken together, as far as the line has room.
                let room = MAX_LINE_BYTES.saturating_sub(self.line.len());
                let len = rest.iter().take(room).position(|&byte| !is_text(byte)).unwrap_or(rest.len().min(room));
                let (text, after) = rest.split_at(len);
                self.line.extend_from_slice(text);
                if MAX_LINE_BYTES <= self.line.len() {
                    self.finish(now, log);
                }
                rest = after;
                continue;
            }
            rest = after;
            self.escape = match (self.escape, byte) {
                (Escape::None, 0x1b) => Escape::Begun,
                (Escape::None, b'\n') => {
                    self.finish(now, log);
                    Escape::None
                }
                (Escape::None, _) => Escape::None,
                (Escape::Begun, b'[') => Escape::Control,
                (Escape::Begun, b']' | b'P' | b'X' | b'^' | b'_') => Escape::String,
                (Escape::Begun, _) => Escape::None,
                (Escape::Control, b'@'..=b'~') => Escape::None,
                (Escape::Control, _) => Escape::Control,
                (Escape::String, 0x07) => Escape::None,
                (Escape::String, 0x1b) => Escape::Begun,
                (Escape::String, _) => Escape::String,
            };
        }
    }

    /// The source has ended: what is left is a line, too.
    pub(crate) fn finish(&mut self, now: Duration, log: &mut dyn FnMut(&str)) {
        let line = core::mem::take(&mut self.line);
        if line.trim_ascii().is_empty() {
            return;
        }
        if now < self.window_start.saturating_add(REFILL) && BURST_LINES <= self.window_lines {
            // Nobody will see it: it is not even made text.
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let mut text = String::from_utf8_lossy(&line).into_owned();
        // ECMA-48 has control characters beyond ASCII too, U+0080 to U+009F; one of them begins a sequence without ESC.
        text.retain(|char| !is_obeyed(char));
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        if self.window_start.saturating_add(REFILL) <= now {
            if self.left_out != 0 {
                log(&format!("({} lines were left out)", self.left_out));
            }
            self.window_start = now;
            self.window_lines = 0;
            self.left_out = 0;
        }
        self.window_lines = self.window_lines.saturating_add(1);
        log(text);
    }
}

/// What stands in a line as it is; all else begins or ends something.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, Duration::ZERO, &mut |line| lines.push(line.to_owned()));
        }
        splitter.finish(Duration::ZERO, &mut |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_come_out_whole_and_without_terminal_control() {
        let chunks: &[&[u8]] =
            &[b"one\r\ntw", b"o\n\n  \n\x1b[0;32m[  OK  ]\x1b[0m Started\x1b]0;ti", b"tle\x07.\n", b"rest"];
        assert_eq!(lines(chunks), ["one", "two", "[  OK  ] Started.", "rest"]);
    }

    #[test]
    fn lines_of_any_bytes_are_text_that_no_terminal_obeys_however_the_bytes_arrive() {
        let seeds = [
            b"one\r\ntwo\n\n\x1b[0;32m[  OK  ]\x1b[0m Started\x1b]0;title\x07.\nrest \xc3\xa4".to_vec(),
            vec![b'x'; 1200],
        ];
        fuzz(
            "console",
            &seeds,
            &["\x1b[", "\x1b]", "\x1b\\", "\x07", "\u{9b}", "\u{85}", "\u{202e}", "\u{2066}", "\n"],
            |bytes| {
                let found = lines(&[bytes]);
                for line in &found {
                    assert!(!line.contains(is_obeyed), "{line:?}");
                    assert!(!line.trim().is_empty());
                    // What is no text becomes three bytes of one.
                    assert!(line.len() <= 3 * MAX_LINE_BYTES);
                }
                let (first, second) = bytes.split_at(bytes.len() / 2);
                assert_eq!(lines(&[first, second]), found);
            },
        );
    }

    #[test]
    fn control_sequences_that_begin_without_escape_begin_nothing() {
        assert_eq!(lines(&["a\u{9b}2Jb\u{85}c\n\u{9b}\n".as_bytes()]), ["a2Jbc"]);
    }

    #[test]
    fn what_turns_writing_around_or_hides_is_left_out() {
        assert_eq!(
            lines(&["gpj.\u{202e}exe\u{2066}\u{200b}\u{61c} \u{5e9}\n\u{feff}\u{2060}\n".as_bytes()]),
            ["gpj.exe \u{5e9}"]
        );
    }

    #[test]
    fn an_endless_line_is_cut() {
        assert_eq!(lines(&[&[b'x'; 1200]]).iter().map(String::len).collect::<Vec<_>>(), [512, 512, 176]);
    }

    #[test]
    fn a_flood_is_counted_and_not_passed_on() {
        let mut splitter = LineSplitter::default();
        let mut got = Vec::new();
        for _ in 0..1000 {
            splitter.feed(b"flood\n", Duration::from_secs(20), &mut |line| got.push(line.to_owned()));
        }
        assert_eq!(got.len(), 200);
        splitter.feed(b"later\n", Duration::from_secs(30), &mut |line| got.push(line.to_owned()));
        assert_eq!(got.split_off(200), ["(800 lines were left out)", "later"]);
    }
}
