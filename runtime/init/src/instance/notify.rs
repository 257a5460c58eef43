//! Parses what an instance sends to its `$NOTIFY_SOCKET`: `NAME=value` lines, as sd_notify(3) has them. Pure.

pub use crate::instance::health::Ping;

/// The longest status text that is kept; the event that carries it has no room for more.
pub const MAX_STATUS_BYTES: usize = 128;

/// The longest datagram that is looked at. systemd's own, with a status and an error text, stay far below.
pub const MAX_DATAGRAM_BYTES: usize = 4096;

/// One datagram.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notification<'a> {
    /// `READY=1`.
    pub ready: bool,
    /// `STATUS=`: cut to [`MAX_STATUS_BYTES`] by the one who keeps it.
    pub status: Option<&'a str>,
    /// `WATCHDOG=`.
    pub ping: Option<Ping>,
}

/// Reads a datagram. Names that concern somebody else, and lines that are not text, are passed over.
pub fn parse_notification(datagram: &[u8]) -> Notification<'_> {
    let mut notification = Notification::default();
    for line in datagram.split(|&byte| byte == b'\n') {
        match line.iter().position(|&byte| byte == b'=').map(|at| line.split_at(at)) {
            Some((b"READY", value)) => notification.ready |= value == b"=1",
            Some((b"STATUS", value)) => {
                notification.status = value.get(1..).and_then(|text| core::str::from_utf8(text).ok());
            }
            Some((b"WATCHDOG", b"=1")) => notification.ping = Some(Ping::Alive),
            Some((b"WATCHDOG", b"=trigger")) => notification.ping = Some(Ping::Trigger),
            Some(_) | None => {}
        }
    }
    notification
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Notification<'_> = Notification { ready: false, status: None, ping: None };

    #[test]
    fn systemds_datagrams_are_understood() {
        // As systemd 252 sent them from a container: first while it boots, then when it is up, then on its way down.
        let table: &[(&[u8], Notification<'_>)] = &[
            (b"STATUS=Starting...", Notification { status: Some("Starting..."), ..NOTHING }),
            (
                b"READY=1\nSTATUS=Startup finished in 1.2s.\n",
                Notification { ready: true, status: Some("Startup finished in 1.2s."), ping: None },
            ),
            (b"STOPPING=1\nSTATUS=Shutting down...", Notification { status: Some("Shutting down..."), ..NOTHING }),
            // As sd_watchdog_enabled(3) wants it said, and sd_notify(3) has it.
            (b"WATCHDOG=1", Notification { ping: Some(Ping::Alive), ..NOTHING }),
            (b"WATCHDOG=trigger", Notification { ping: Some(Ping::Trigger), ..NOTHING }),
            (b"WATCHDOG=0\nWATCHDOG_USEC=1", NOTHING),
            (b"X_SYSTEMD_UNIT_ACTIVE=basic.target", NOTHING),
            (b"", NOTHING),
            (b"READY", NOTHING),
            (b"READY=10", NOTHING),
            (b"\n=\n\0READY=1", NOTHING),
            (b"STATUS=\xff", NOTHING),
        ];
        for (datagram, expected) in table {
            assert_eq!(parse_notification(datagram), *expected, "{}", datagram.escape_ascii());
        }
    }
}
