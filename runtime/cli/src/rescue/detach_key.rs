//! The keys that leave a console: ctrl-a q, as LXD and lxc-console have it; ctrl-a ctrl-a is one ctrl-a for the console.
//! Pure: bytes in, bytes out.

const CTRL_A: u8 = 0x01;

/// Looks for ctrl-a q in what is typed, however it is cut into reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum DetachKey {
    /// Nothing special was typed.
    #[default]
    Idle,
    /// The last byte was a ctrl-a that was not passed on.
    Armed,
    /// ctrl-a q was typed; what follows is dropped.
    Detached,
}

impl DetachKey {
    /// What of `typed` goes to the console.
    pub(super) fn filter(&mut self, typed: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(typed.len());
        for &byte in typed {
            match (&*self, byte) {
                (DetachKey::Detached, _) => break,
                (DetachKey::Idle, CTRL_A) => *self = DetachKey::Armed,
                (DetachKey::Idle, _) => passed.push(byte),
                (DetachKey::Armed, b'q') => *self = DetachKey::Detached,
                (DetachKey::Armed, CTRL_A) => {
                    passed.push(CTRL_A);
                    *self = DetachKey::Idle;
                }
                (DetachKey::Armed, _) => {
                    passed.extend([CTRL_A, byte]);
                    *self = DetachKey::Idle;
                }
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ctrl_a_q_leaves_and_nothing_else_is_lost() {
        // `|` stands between two reads.
        let cases = [
            ("ls\r", "ls\r", DetachKey::Idle),
            ("a\x01q|b", "a", DetachKey::Detached),
            ("a\x01|q", "a", DetachKey::Detached),
            ("\x01\x01q", "\x01q", DetachKey::Idle),
            ("\x01x", "\x01x", DetachKey::Idle),
            ("\x01", "", DetachKey::Armed),
        ];
        for (typed, passed, state) in cases {
            let mut key = DetachKey::default();
            let all: Vec<u8> = typed.split('|').flat_map(|part| key.filter(part.as_bytes())).collect();
            assert_eq!((all.as_slice(), &key), (passed.as_bytes(), &state), "{typed:?}");
        }
    }
}
