//! Step 3, what a container's root is made of: an overlay, below it the image's erofs on a dm-verity device of its own, above
//! it a directory of the data partition, both with their owners mapped. Asked of the kernel and of dmsetup, not of us.

use super::start::{output, read};
use super::{Demo, StepError, id_of};
use crate::report::{Observer, Witness};
use std::time::Duration;

const EXEC_TIMEOUT: Duration = Duration::from_secs(60);
/// A file that root inside makes.
const MADE_INSIDE: &str = "/etc/made-by-root";
const OWNER: [&str; 3] = ["/bin/stat", "-c", "%u:%g"];

/// `base` is who root inside is outside.
pub(super) fn look(
    demo: &Demo<'_>,
    observer: &mut Observer,
    name: &str,
    pid: &str,
    base: &str,
) -> Result<(), StepError> {
    let mounts = read(demo, &format!("/proc/{pid}/mountinfo"))?;
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
    observer.check(
        Witness::Kernel,
        &format!("{name}: its root is an overlay"),
        root,
        root.contains(" - overlay "),
    )?;
    let program = output(demo, &["/bin/readlink", &format!("/proc/{pid}/exe")])?;
    below(demo, observer, name, pid, program.trim())?;
    owners(demo, observer, name, pid, program.trim(), base)
}

/// The mounts that the overlay lies on are in no namespace, and so in no list. But what is mapped from an overlay, the kernel
/// tells by the file system that the bytes come from.
fn below(demo: &Demo<'_>, observer: &mut Observer, name: &str, pid: &str, program: &str) -> Result<(), StepError> {
    let image = format!("/usr/lib/yado/images/aliases/{name}/image");
    let header = format!("tail -c 4096 {image}");
    let fingerprint = output(demo, &["/bin/sh", "-c", &format!("{header} | sha256sum | cut -d ' ' -f 1")])?;
    let root_hash = format!("{header} | head -c 64 | tail -c 32 | od -A n -v -t x1 | tr -d ' \\n'");
    let root_hash = output(demo, &["/bin/sh", "-c", &root_hash])?;

    let maps = read(demo, &format!("/proc/{pid}/maps"))?;
    let number = mapped_from(&maps, program).unwrap_or_default();
    let device = format!("/sys/dev/block/{number}");
    let uuid = read(demo, &format!("{device}/dm/uuid"))?;
    observer.check(
        Witness::Kernel,
        &format!("{name}: its program is read from the device of its image"),
        format!("{program} from {number}, which is {}", uuid.trim()),
        uuid.starts_with(&format!("YADO-{}-", fingerprint.trim())),
    )?;
    let kernel_name = output(demo, &["/bin/readlink", &device])?;
    let kernel_name = kernel_name.trim().rsplit('/').next().unwrap_or_default();
    let mounted = output(demo, &["/bin/ls", "/sys/fs/erofs"])?;
    observer.check(
        Witness::Kernel,
        &format!("{name}: the file system on it is erofs"),
        format!("{kernel_name} among {}", mounted.trim().replace('\n', " ")),
        mounted.lines().any(|mounted| mounted == kernel_name),
    )?;
    let mapped = read(demo, &format!("{device}/dm/name"))?;
    let table = output(demo, &["/sbin/dmsetup", "table", mapped.trim()])?;
    let is_verity = table.contains(" verity 1 ") && table.contains(root_hash.trim()) && root_hash.len() == 64;
    observer.check(
        Witness::Kernel,
        &format!("{name}: dmsetup says verity, with the image's root hash"),
        &table,
        is_verity,
    )?;
    let status = output(demo, &["/sbin/dmsetup", "status", mapped.trim()])?;
    observer.check(
        Witness::Kernel,
        &format!("{name}: every block read so far was verified"),
        &status,
        status.trim().ends_with(" V"),
    )?;
    Ok(())
}

/// The same file has root's number inside and on the disk, and a stranger's for those who look in from outside.
fn owners(
    demo: &Demo<'_>,
    observer: &mut Observer,
    name: &str,
    pid: &str,
    program: &str,
    base: &str,
) -> Result<(), StepError> {
    demo.board.exec_output(name, &["touch", MADE_INSIDE], EXEC_TIMEOUT)?;
    let id = id_of(&demo.board.status()?, name);
    let on_disk = format!("/data/layers/{id}/upper{MADE_INSIDE}");
    let on_disk = output(demo, &[&OWNER[..], &[&on_disk]].concat())?;
    for (path, what) in [(program, "its image's files are"), (MADE_INSIDE, "what its root makes is")] {
        let inside = demo.board.exec_output(name, &["stat", "-c", "%u:%g", path], EXEC_TIMEOUT)?;
        let from_outside = output(demo, &[&OWNER[..], &[&format!("/proc/{pid}/root{path}")]].concat())?;
        observer.check(
            Witness::Kernel,
            &format!("{name}: {what} root's inside and nobody's outside"),
            format!("{path}: {} inside, {} from outside", inside.trim(), from_outside.trim()),
            inside.trim() == "0:0" && from_outside.trim() == format!("{base}:{base}"),
        )?;
    }
    observer.check(
        Witness::Kernel,
        &format!("{name}: on the data partition it is root's, by the id-mapped mount"),
        format!("{MADE_INSIDE}: {}", on_disk.trim()),
        on_disk.trim() == "0:0",
    )?;
    Ok(())
}

/// Major and minor number of the device that a program is mapped from, by `/proc/PID/maps`: `… fe:01 36 /bin/busybox`, in
/// hexadecimal.
fn mapped_from(maps: &str, program: &str) -> Option<String> {
    let line = maps.lines().find(|line| line.split_whitespace().nth(5) == Some(program))?;
    let (major, minor) = line.split_whitespace().nth(3)?.split_once(':')?;
    let number = |hexadecimal| u32::from_str_radix(hexadecimal, 16).ok();
    Some(format!("{}:{}", number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::mapped_from;

    #[test]
    fn the_device_of_a_mapping_is_found_by_the_programs_path() {
        let maps = "7f00-7f10 r-xp 00000000 fe:02 71 /usr/lib/libc.so.6\n\
            aaaa-aaab r-xp 00000000 fe:1f 36                         /bin/busybox\n\
            bbbb-bbbc rw-p 00000000 00:00 0                          [heap]\n";
        assert_eq!(mapped_from(maps, "/bin/busybox").as_deref(), Some("254:31"));
        assert_eq!(mapped_from(maps, "/sbin/init"), None);
    }
}
