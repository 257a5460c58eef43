//! The values that keys can have, from text to type. An error is what would have been accepted. Pure.

mod sizes;

pub use sizes::{MIN_MEMORY_BYTES, Memory, parse_memory, parse_size, parse_swap, show_memory, show_size, show_swap};

use crate::instance::{CpuAllowance, Cpus, KernelLimit, StopMethod};
use std::net::Ipv4Addr;
use std::time::Duration;
use yado_wire::{Text, signal_name};

/// IPv4 needs 68 bytes (RFC 791); jumbo frames end at 9000 and loopback at 65536.
pub const MIN_MTU: i64 = 68;
/// See [`MIN_MTU`].
pub const MAX_MTU: i64 = 65_535;

/// What would have been accepted, to be read after "must be".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected(pub String);

fn expected<T>(text: impl Into<String>) -> Result<T, Expected> {
    Err(Expected(text.into()))
}

/// LXD's words for yes and no, in any case.
pub fn parse_bool(text: &str) -> Result<bool, Expected> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => expected("true or false"),
    }
}

/// A command line is short; it goes to the launcher with each stop.
const MAX_STOP_BYTES: usize = 1024;

/// `SIGRTMIN+3`, or `/sbin/init 0`.
pub fn parse_stop_method(text: &str) -> Result<StopMethod, Expected> {
    if let Some(number) = signal_name::parse(text) {
        return Ok(StopMethod::Signal(number));
    }
    if !text.starts_with('/') || text.contains(char::is_control) || MAX_STOP_BYTES < text.len() {
        return expected("a signal such as SIGRTMIN+3, or a command that begins with its path such as /sbin/init 0");
    }
    Ok(StopMethod::Command(text.split_ascii_whitespace().map(str::to_owned).collect()))
}

/// A whole number, also in TOML's `0x` and `0o` forms.
pub fn parse_integer(text: &str, min: i64, max: i64) -> Result<i64, Expected> {
    let number = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(digits), _) => i64::from_str_radix(digits, 16),
        (_, Some(digits)) => i64::from_str_radix(digits, 8),
        (None, None) => text.parse(),
    };
    match number {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Ok(_) | Err(_) => expected(format!("a whole number from {min} to {max}")),
    }
}

/// A number of seconds as LXD has it, or numbers with units: `500ms`, `90s`, `1m30s`, `2h`.
pub fn parse_duration(text: &str, min: Duration, max: Duration) -> Result<Duration, Expected> {
    match sum_of_units(text) {
        Some(duration) if (min..=max).contains(&duration) => Ok(duration),
        Some(_) | None => expected(format!(
            "a time from {} to {}: seconds, or with units such as 500ms, 90s, 1m30s, 2h",
            show_duration(min),
            show_duration(max)
        )),
    }
}

fn sum_of_units(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let mut rest = text;
    let mut sum_ms = 0_u64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (unit, after) = after.split_at(after.bytes().take_while(u8::is_ascii_lowercase).count());
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum_ms = sum_ms.checked_add(number.parse::<u64>().ok()?.checked_mul(unit_ms)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(Duration::from_millis(sum_ms))
}

/// As [`parse_duration`] reads it, in the largest unit that is whole.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let unit = [("d", 86_400_000_u128), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
        .into_iter()
        .find(|(_, unit_ms)| ms != 0 && ms.checked_rem(*unit_ms) == Some(0));
    match unit {
        Some((name, unit_ms)) => format!("{}{name}", ms.checked_div(unit_ms).unwrap_or(ms)),
        None if ms == 0 => "0".to_owned(),
        None => format!("{ms}ms"),
    }
}

/// `limits.cpu.allowance`. The kernel takes periods of 1 ms to 1 s and quotas of 1 ms and more.
pub fn parse_allowance(text: &str) -> Result<CpuAllowance, Expected> {
    let what = "a share such as 50%, or a time such as 25ms/100ms (quota from 1ms, period 1ms to 1000ms)";
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.parse() {
            Ok(percent @ 1..=100) => Ok(CpuAllowance::Share(percent)),
            Ok(_) | Err(_) => expected(what),
        };
    }
    let milliseconds = |text: &str| text.trim().strip_suffix("ms").and_then(|number| number.parse::<u32>().ok());
    match text.split_once('/').map(|(quota, period)| (milliseconds(quota), milliseconds(period))) {
        Some((Some(quota @ 1..=1_000_000), Some(period @ 1..=1000))) => {
            Ok(CpuAllowance::Quota { quota_us: quota.saturating_mul(1000), period_us: period.saturating_mul(1000) })
        }
        Some(_) | None => expected(what),
    }
}

/// As [`parse_allowance`] reads it.
pub fn show_allowance(allowance: CpuAllowance) -> String {
    match allowance {
        CpuAllowance::Share(percent) => format!("{percent}%"),
        CpuAllowance::Quota { quota_us, period_us } => format!("{}ms/{}ms", quota_us / 1000, period_us / 1000),
    }
}

/// The kernel's own bound on CPU numbers is `CONFIG_NR_CPUS`, at most 8192.
const MAX_CPUS: u16 = 8192;

/// `limits.cpu`: `2` is a number of CPUs, `0-1,3` are CPUs, and `3-3` is CPU 3.
pub fn parse_cpus(text: &str) -> Result<Cpus, Expected> {
    let what = "a number of CPUs such as 2, or CPUs such as 0-1,3 (CPU 3 alone is 3-3)";
    if let Ok(count) = text.parse() {
        return match count {
            1..=MAX_CPUS => Ok(Cpus::Count(count)),
            _ => expected(what),
        };
    }
    let mut ranges = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) if first <= last && last < MAX_CPUS => ranges.push((first, last)),
            _ => return expected(what),
        }
    }
    ranges.sort_unstable();
    if ranges.windows(2).any(|pair| matches!(pair, [(_, last), (first, _)] if first <= last)) {
        return expected("CPUs that are each named once");
    }
    let shown =
        |&(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    Ok(Cpus::Set(ranges.iter().map(shown).collect::<Vec<_>>().join(",")))
}

/// As [`parse_cpus`] reads it.
pub fn show_cpus(cpus: &Cpus) -> String {
    match cpus {
        Cpus::Count(count) => count.to_string(),
        // One CPU alone would be read as a number of CPUs.
        Cpus::Set(set) if set.bytes().all(|byte| byte.is_ascii_digit()) => format!("{set}-{set}"),
        Cpus::Set(set) => set.clone(),
    }
}

/// The resources of setrlimit(2), without `RLIMIT_`, in lower case.
pub const RESOURCES: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `limits.kernel.RESOURCE`: `unlimited`, one number for both limits, or `SOFT:HARD`.
pub fn parse_kernel_limit(resource: &str, text: &str) -> Result<KernelLimit, Expected> {
    let what = "a number, unlimited, or SOFT:HARD such as 1024:4096 with SOFT not above HARD";
    let one = |text: &str| match text.trim() {
        "unlimited" => Ok(None),
        number => number.parse().map(Some).or_else(|_| expected(what)),
    };
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let (soft, hard) = (one(soft)?, one(hard)?);
    if hard.is_some_and(|hard| soft.is_none_or(|soft| hard < soft)) {
        return expected(what);
    }
    Ok(KernelLimit { resource: resource.to_owned(), soft, hard })
}

/// As [`parse_kernel_limit`] reads it.
pub fn show_kernel_limit(limit: &KernelLimit) -> String {
    let one = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |number| number.to_string());
    match limit.soft == limit.hard {
        true => one(limit.soft),
        false => format!("{}:{}", one(limit.soft), one(limit.hard)),
    }
}

/// Absolute, no `.` or `..`, no control characters; comes back without doubled or trailing slashes. Not `/` itself.
pub fn parse_path(text: &str) -> Result<String, Expected> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let is_plain = |part: &&str| *part != "." && *part != ".." && !part.chars().any(char::is_control);
    if !text.starts_with('/') || parts.is_empty() || !parts.iter().all(is_plain) || MAX_PATH_BYTES < text.len() {
        return expected("an absolute path below /, without . and ..");
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Well below `PATH_MAX`, so that it still fits below a mount point of ours.
const MAX_PATH_BYTES: usize = 1024;

/// A path of a device node.
pub fn parse_node_path(text: &str) -> Result<String, Expected> {
    match parse_path(text) {
        Ok(path) if path.starts_with("/dev/") => Ok(path),
        Ok(_) | Err(_) => expected("a path below /dev/, without . and .."),
    }
}

/// Permission bits in octal, as LXD has them: `0660`, `660`; TOML's `0o660` too.
pub fn parse_mode(text: &str) -> Result<u16, Expected> {
    match u16::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8) {
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        Ok(_) | Err(_) => expected("permission bits in octal, such as 0660"),
    }
}

/// As LXD writes it.
pub fn show_mode(mode: u16) -> String {
    format!("{mode:04o}")
}

/// A vendor's or product's id of USB: four hex digits, with or without `0x`.
pub fn parse_usb_id(text: &str) -> Result<u16, Expected> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match u16::from_str_radix(digits, 16) {
        Ok(id) if digits.len() == 4 && !digits.starts_with('+') => Ok(id),
        Ok(_) | Err(_) => expected("four hex digits, such as 0951"),
    }
}

/// As [`parse_usb_id`] reads it.
pub fn show_usb_id(id: u16) -> String {
    format!("{id:04x}")
}

/// A security module's label: an AppArmor profile's name, an SELinux context.
pub fn parse_label(text: &str) -> Result<String, Expected> {
    const MAX_BYTES: usize = 255;
    if text.is_empty() || MAX_BYTES < text.len() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return expected("a profile's name or a context, without spaces");
    }
    Ok(text.to_owned())
}

/// A name the kernel would take for a network interface.
pub fn parse_interface(text: &str) -> Result<Text<15>, Expected> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%'));
    match Text::try_from(text) {
        Ok(name) if is_plain && !matches!(text, "" | "." | "..") => Ok(name),
        Ok(_) | Err(()) => expected("an interface's name: 1 to 15 letters, digits, dashes, dots"),
    }
}

/// The address of one station: not a group's, not all zero.
pub fn parse_hwaddr(text: &str) -> Result<[u8; 6], Expected> {
    let what = "a MAC address such as 02:00:5e:10:00:01, the lowest bit of its first byte 0";
    let mut address = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut address {
        let Some(part) = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+')) else {
            return expected(what);
        };
        *byte = u8::from_str_radix(part, 16).or_else(|_| expected(what))?;
    }
    if parts.next().is_some() || address == [0; 6] || address[0] & 1 != 0 {
        return expected(what);
    }
    Ok(address)
}

/// As [`parse_hwaddr`] reads it.
pub fn show_hwaddr(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// An IPv4 address that one host can have.
pub fn parse_ipv4(text: &str) -> Result<Ipv4Addr, Expected> {
    match text.parse::<Ipv4Addr>() {
        Ok(address) if !address.is_multicast() && !address.is_broadcast() && address.octets()[0] != 0 => Ok(address),
        Ok(_) | Err(_) => expected("an IPv4 address such as 10.158.0.20"),
    }
}

/// The name of an environment variable.
pub fn check_variable(name: &str, value: &str) -> Result<(), Expected> {
    if name.is_empty() || name.contains('=') || name.chars().any(char::is_control) {
        return expected("environment.NAME with a NAME without = and control characters");
    }
    if value.contains('\0') { expected("text without NUL") } else { Ok(()) }
}

/// LXD's expiry: numbers with units `M` (minutes), `H`, `d`, `w`, `m` (months), `y`.
pub fn check_expiry(text: &str) -> Result<(), Expected> {
    let is_one = |part: &str| {
        part.strip_suffix(['S', 'M', 'H', 'd', 'w', 'm', 'y']).is_some_and(|number| number.parse::<u32>().is_ok())
    };
    if text.is_empty() || text.split_whitespace().all(is_one) {
        return Ok(());
    }
    expected("a time such as 30M, 6H, 2d, 4w, 3m or 1y, or several of them")
}

/// LXD's schedule: a cron expression, or `@daily` and its like, comma separated.
pub fn check_schedule(text: &str) -> Result<(), Expected> {
    const NAMES: &[&str] =
        &["@never", "@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@annually", "@yearly", "@startup"];
    let is_cron = text.split_whitespace().count() == 5;
    if text.is_empty() || is_cron || text.split(',').all(|part| NAMES.contains(&part.trim())) {
        return Ok(());
    }
    expected(
        "five fields of cron, or @hourly, @daily, @midnight, @weekly, @monthly, @annually, @yearly, @startup, @never",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, or what would have been accepted.
    fn shown<T: std::fmt::Debug>(result: Result<T, Expected>) -> String {
        result.map_or_else(|Expected(expected)| expected, |value| format!("{value:?}"))
    }

    pub(super) fn check<T: std::fmt::Debug>(parse: impl Fn(&str) -> Result<T, Expected>, cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let found = shown(parse(text));
            assert!(found.starts_with(expected), "{text:?}: {found:?}, not {expected:?}");
        }
    }

    #[test]
    fn truth_in_lxds_spellings() {
        check(
            parse_bool,
            &[
                ("true", "true"),
                ("True", "true"),
                ("1", "true"),
                ("yes", "true"),
                ("on", "true"),
                ("false", "false"),
                ("0", "false"),
                ("NO", "false"),
                ("off", "false"),
                ("", "true or false"),
                ("enabled", "true or false"),
                ("truetrue", "true or false"),
            ],
        );
    }

    #[test]
    fn whole_numbers_within_their_range() {
        let range = "a whole number from -5 to 100";
        check(
            |text| parse_integer(text, -5, 100),
            &[
                ("0", "0"),
                ("-5", "-5"),
                ("100", "100"),
                ("0x10", "16"),
                ("0o17", "15"),
                ("-6", range),
                ("101", range),
                ("", range),
                ("1.5", range),
                ("ten", range),
                (" 1", range),
                ("99999999999999999999", range),
            ],
        );
    }

    #[test]
    fn times_with_and_without_units() {
        let range = "a time from 0 to 1d";
        check(
            |text| parse_duration(text, Duration::ZERO, Duration::from_secs(86_400)),
            &[
                ("0", "0ns"),
                ("90", "90s"),
                ("500ms", "500ms"),
                ("90s", "90s"),
                ("1m30s", "90s"),
                ("2h", "7200s"),
                ("1d", "86400s"),
                ("1d1s", range),
                ("", range),
                ("s", range),
                ("1.5s", range),
                ("-1", range),
                ("1w", range),
                ("1m30", range),
                ("99999999999d", range),
                ("99999999999999999999s", range),
            ],
        );
        for (ms, text) in
            [(0, "0"), (500, "500ms"), (1500, "1500ms"), (90_000, "90s"), (60_000, "1m"), (7_200_000, "2h")]
        {
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn shares_and_times_of_cpus() {
        check(
            parse_allowance,
            &[
                ("50%", "Share(50)"),
                ("100%", "Share(100)"),
                ("25ms/100ms", "Quota { quota_us: 25000, period_us: 100000 }"),
                ("200ms/100ms", "Quota { quota_us: 200000, period_us: 100000 }"),
                ("0%", "a share"),
                ("101%", "a share"),
                ("25/100", "a share"),
                ("0ms/100ms", "a share"),
                ("25ms/0ms", "a share"),
                ("25ms/1001ms", "a share"),
                ("9999999ms/100ms", "a share"),
                ("half", "a share"),
            ],
        );
        check(
            parse_cpus,
            &[
                ("2", "Count(2)"),
                ("3-3", "Set(\"3\")"),
                ("0-1,3", "Set(\"0-1,3\")"),
                ("3, 0-1", "Set(\"0-1,3\")"),
                ("0", "a number of CPUs"),
                ("3-1", "a number of CPUs"),
                ("0,", "a number of CPUs"),
                ("-1", "a number of CPUs"),
                ("0-9999", "a number of CPUs"),
                ("0-2,2", "CPUs that are each named once"),
            ],
        );
    }

    #[test]
    fn limits_of_the_kernel_soft_not_above_hard() {
        check(
            |text| parse_kernel_limit("nofile", text).map(|limit| (limit.soft, limit.hard)),
            &[
                ("1024", "(Some(1024), Some(1024))"),
                ("1024:4096", "(Some(1024), Some(4096))"),
                ("1024:unlimited", "(Some(1024), None)"),
                ("unlimited", "(None, None)"),
                ("4096:1024", "a number, unlimited"),
                ("unlimited:1024", "a number, unlimited"),
                ("1:2:3", "a number, unlimited"),
                ("", "a number, unlimited"),
                ("-1", "a number, unlimited"),
            ],
        );
    }

    #[test]
    fn paths_do_not_climb() {
        let below = "an absolute path below /";
        check(
            parse_path,
            &[
                ("/srv/data", "\"/srv/data\""),
                ("/srv//data/", "\"/srv/data\""),
                ("/", below),
                ("", below),
                ("srv", below),
                ("/srv/../etc", below),
                ("/..", below),
                ("/srv/./x", below),
                ("/a\0b", below),
                ("/a\nb", below),
            ],
        );
        assert!(parse_path(&format!("/{}", "x".repeat(1024))).is_err());
        let node = "a path below /dev/";
        check(
            parse_node_path,
            &[("/dev/ttyS0", "\"/dev/ttyS0\""), ("/dev", node), ("/etc/passwd", node), ("/dev/../x", node)],
        );
    }

    #[test]
    fn identifiers_of_hardware() {
        check(
            parse_usb_id,
            &[
                ("0951", "2385"),
                ("0xfFfF", "65535"),
                ("951", "four hex"),
                ("09510", "four hex"),
                ("+951", "four hex"),
                ("gggg", "four hex"),
            ],
        );
        check(
            parse_mode,
            &[
                ("0660", "432"),
                ("660", "432"),
                ("0o660", "432"),
                ("0", "0"),
                ("0888", "permission"),
                ("4755", "permission"),
                ("+660", "permission"),
                ("", "permission"),
            ],
        );
        check(
            parse_hwaddr,
            &[
                ("02:00:5e:10:00:01", "[2, 0, 94, 16, 0, 1]"),
                ("02:00:5E:10:00:01", "[2, 0, 94, 16, 0, 1]"),
                ("00:00:00:00:00:00", "a MAC"),
                ("01:00:5e:10:00:01", "a MAC"),
                ("02:00:5e:10:00", "a MAC"),
                ("02:00:5e:10:00:01:02", "a MAC"),
                ("2:0:5e:10:0:1", "a MAC"),
                ("+2:00:5e:10:00:01", "a MAC"),
            ],
        );
    }

    #[test]
    fn names_and_addresses_of_the_network() {
        let name = "an interface's name";
        check(
            |text| parse_interface(text).map(|name| name.to_string()),
            &[
                ("eth0", "\"eth0\""),
                ("enp0s31f6", "\"enp0s31f6\""),
                ("", name),
                (".", name),
                ("..", name),
                ("a/b", name),
                ("a:b", name),
                ("a b", name),
                ("a%d", name),
                ("0123456789abcdef", name),
            ],
        );
        let ipv4 = "an IPv4 address";
        check(
            parse_ipv4,
            &[
                ("10.158.0.20", "10.158.0.20"),
                ("224.0.0.1", ipv4),
                ("255.255.255.255", ipv4),
                ("0.0.0.0", ipv4),
                ("10.1", ipv4),
                ("::1", ipv4),
            ],
        );
    }

    #[test]
    fn texts_for_others() {
        let expiry = "a time such as";
        check(
            check_expiry,
            &[("", "()"), ("30M", "()"), ("1d 6H", "()"), ("1x", expiry), ("d", expiry), ("soon", expiry)],
        );
        let schedule = "five fields";
        check(
            check_schedule,
            &[
                ("", "()"),
                ("0 4 * * *", "()"),
                ("@daily, @startup", "()"),
                ("daily", schedule),
                ("0 4 * *", schedule),
            ],
        );
        check(|text| check_variable("PATH", text), &[("/bin", "()"), ("", "()"), ("a\0b", "text without NUL")]);
        check(
            |name| check_variable(name, ""),
            &[("TZ", "()"), ("", "environment.NAME"), ("A=B", "environment.NAME"), ("A\nB", "environment.NAME")],
        );
    }
}
