//! Lets the kernel run foreign programs through QEMU's user-mode emulator, where nothing has registered it yet: a
//! machine without systemd forgets it at every boot.

use std::fs;
use std::path::{Path, PathBuf};

use super::failure::ProvisionError;
use crate::arch::Arch;
use crate::command::Tool;

const REGISTRY: &str = "/proc/sys/fs/binfmt_misc";

/// Registers the emulator for `arch`, unless it is registered or not needed.
pub(crate) fn register(arch: Arch) -> Result<(), ProvisionError> {
    if arch == Arch::Amd64 || is_registered(arch) {
        return Ok(());
    }
    let rule = read_rule(arch)?;
    if !Path::new(REGISTRY).join("register").exists() {
        Tool::as_root("mount").args(["-t", "binfmt_misc", "none", REGISTRY]).run()?;
    }
    if is_registered(arch) {
        return Ok(());
    }
    // By a shell, as only root may open the file; the rule's backslashes must reach the kernel as they are.
    let script = format!("printf %s \"$1\" > {REGISTRY}/register");
    Tool::as_root("sh").args(["-c", &script, "register", &rule]).run()?;
    Ok(())
}

fn is_registered(arch: Arch) -> bool {
    Path::new(REGISTRY).join(arch.qemu_user()).exists()
}

/// The package ships the rule for systemd-binfmt: one line, already in the kernel's syntax.
fn read_rule(arch: Arch) -> Result<String, ProvisionError> {
    let file = format!("{}.conf", arch.qemu_user());
    let folders = ["/usr/lib/binfmt.d", "/lib/binfmt.d"];
    let found = folders.iter().map(|folder| PathBuf::from(folder).join(&file)).find(|path| path.exists());
    let Some(path) = found else {
        return Err(ProvisionError::Unexpected { wanted: file, place: PathBuf::from(folders[0]) });
    };
    let text = fs::read_to_string(&path).map_err(ProvisionError::io("read", &path))?;
    parse_rule(&text)
        .ok_or(ProvisionError::Unexpected { wanted: "line that begins with ':'".to_owned(), place: path })
}

fn parse_rule(text: &str) -> Option<String> {
    text.lines().map(str::trim).find(|line| line.starts_with(':')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::parse_rule;

    #[test]
    fn the_rule_is_the_line_that_is_no_comment() {
        let text = "# made by a package\n\n:qemu-arm:M::\\x7fELF:\\xff\\xff:/usr/libexec/qemu-binfmt/arm:OPF\n";
        assert_eq!(
            parse_rule(text).as_deref(),
            Some(r":qemu-arm:M::\x7fELF:\xff\xff:/usr/libexec/qemu-binfmt/arm:OPF")
        );
        assert_eq!(parse_rule("# nothing\n"), None);
    }
}
