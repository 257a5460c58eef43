//! Signals by name, as a manifest's `halt_signal` says them: `SIGPWR`, `SIGRTMIN+3`. Pure.

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
}
