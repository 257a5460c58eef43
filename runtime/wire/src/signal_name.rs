//! Signals by name, as an image's `halt_signal` and the key `boot.stop.method` say them: `SIGPWR`, `SIGRTMIN+3`. Pure.

/// The numbers of ARM and x86 (signal(7)), of those that an init is asked to stop by.
const NAMED: [(&str, u8); 13] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGABRT", 6),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGWINCH", 28),
    ("SIGPWR", 30),
];

/// Of both glibc and musl as programs see it; the kernel's own is 32.
const SIGRTMIN: u8 = 34;
/// The last one.
const SIGRTMAX: u8 = 64;

/// The signal's number.
pub fn parse(name: &str) -> Option<u8> {
    if let Some((_, number)) = NAMED.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let number = match (name.strip_prefix("SIGRTMIN"), name.strip_prefix("SIGRTMAX")) {
        (Some(""), _) => SIGRTMIN,
        (_, Some("")) => SIGRTMAX,
        (Some(offset), _) => SIGRTMIN.checked_add(parse_offset(offset.strip_prefix('+')?)?)?,
        (_, Some(offset)) => SIGRTMAX.checked_sub(parse_offset(offset.strip_prefix('-')?)?)?,
        (None, None) => return None,
    };
    (SIGRTMIN..=SIGRTMAX).contains(&number).then_some(number)
}

/// As [`parse`] reads it; a number that has no name as that number.
pub fn show(number: u8) -> String {
    if let Some((name, _)) = NAMED.iter().find(|(_, known)| *known == number) {
        return (*name).to_owned();
    }
    match number.checked_sub(SIGRTMIN) {
        Some(0) => "SIGRTMIN".to_owned(),
        Some(offset) if number <= SIGRTMAX => format!("SIGRTMIN+{offset}"),
        Some(_) | None => number.to_string(),
    }
}

/// Digits only: `parse` would take a sign too.
fn parse_offset(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_systemd_and_lxc_write_them() {
        let cases = [
            ("SIGPWR", Some(30)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGRTMIN+31", None),
            ("SIGRTMIN++3", None),
            ("SIGRTMIN-1", None),
            ("TERM", None),
            ("", None),
        ];
        for (name, number) in cases {
            assert_eq!(parse(name), number, "{name}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        let all: Vec<u8> = NAMED.iter().map(|(_, number)| *number).chain(SIGRTMIN..=SIGRTMAX).collect();
        for number in all {
            assert_eq!(parse(&show(number)), Some(number), "{number}");
        }
        assert_eq!([show(30), show(37), show(64)], ["SIGPWR", "SIGRTMIN+3", "SIGRTMIN+30"]);
        assert_eq!([show(0), show(33), show(255)], ["0", "33", "255"]);
    }
}
