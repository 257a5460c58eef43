//! The kernel's command line, on which the boot loader speaks to us.

/// What follows `name`, which ends with `=`, on it.
pub fn value<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    command_line.split_whitespace().find_map(|word| word.strip_prefix(name))
}
