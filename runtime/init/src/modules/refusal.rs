//! Why the kernel refused a module, as far as a person can do something about it. Pure.

use std::io;
use yado_sys::module::Stored;

/// What the kernel answers for a module on its blacklist.
const EPERM: i32 = 1;
/// What it answers for a compressed file if it was built without `CONFIG_MODULE_DECOMPRESS`.
const EOPNOTSUPP: i32 = 95;

/// The kernel's answer, and its cause if the kernel's command line or the file tells it. `module` has no dashes.
pub(super) fn reason(module: &str, stored: Stored, error: &io::Error, command_line: &str) -> String {
    match (error.raw_os_error(), stored) {
        (Some(EPERM), _) => match keeping_out(module, command_line) {
            Some(parameter) => format!("{error}: the kernel was booted with {parameter}: remove it"),
            None => error.to_string(),
        },
        (Some(EOPNOTSUPP), Stored::Compressed) => {
            format!("{error}: the file is compressed, and the kernel was built without MODULE_DECOMPRESS")
        }
        (_, Stored::Plain | Stored::Compressed) => error.to_string(),
    }
}

/// The parameter that keeps a module out. The kernel reads the last `module_blacklist=`, and takes its names as they stand.
fn keeping_out<'a>(module: &str, command_line: &'a str) -> Option<&'a str> {
    let mut words = command_line.split_whitespace();
    let last = words.rfind(|word| word.starts_with("module_blacklist="))?;
    let (_, list) = last.split_once('=')?;
    list.split(',').any(|name| name == module).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_that_keeps_a_module_out_is_named() {
        let told = |errno: i32, command_line: &str| {
            reason("dm_verity", Stored::Plain, &io::Error::from_raw_os_error(errno), command_line)
        };
        let plain = "Operation not permitted (os error 1)";
        let cases = [
            ("quiet module_blacklist=veth,dm_verity", "module_blacklist=veth,dm_verity"),
            ("module_blacklist=veth module_blacklist=dm_verity", "module_blacklist=dm_verity"),
            ("module_blacklist=dm_verity module_blacklist=veth", ""),
            ("module_blacklist=dm-verity", ""),
            ("quiet", ""),
        ];
        for (command_line, parameter) in cases {
            let wanted = match parameter {
                "" => plain.to_owned(),
                _ => format!("{plain}: the kernel was booted with {parameter}: remove it"),
            };
            assert_eq!(told(EPERM, command_line), wanted, "{command_line}");
        }
        // ENODEV: its device is not there, whatever the list says.
        assert_eq!(told(19, "module_blacklist=dm_verity"), "No such device (os error 19)");
    }

    #[test]
    fn a_kernel_that_does_not_decompress_is_told_from_other_refusals() {
        let told = |stored| reason("x", stored, &io::Error::from_raw_os_error(EOPNOTSUPP), "");
        assert!(told(Stored::Compressed).ends_with("built without MODULE_DECOMPRESS"));
        assert_eq!(told(Stored::Plain), "Operation not supported (os error 95)");
    }
}
