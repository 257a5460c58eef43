//! Which threads share a table of descriptors.

use std::cmp::Ordering;
use std::io;

/// `KCMP_FILES` of linux/kcmp.h.
const KCMP_FILES: libc::c_int = 2;

/// Compares the tables of descriptors of two threads, in an order that the kernel keeps until the machine is booted again:
/// equal if they share one. `ESRCH`: one of them is gone; `ENOSYS`: a kernel without `CONFIG_KCMP` (kcmp(2)).
pub fn compare(one: i32, other: i32) -> io::Result<Ordering> {
    // SAFETY: five numbers, and nothing is written.
    match unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, 0usize, 0usize) } {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        // 3: they differ, and no order is known.
        3 => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::mpsc;

    #[test]
    fn threads_share_a_table_and_processes_have_their_own() {
        let own = std::process::id() as i32;
        if compare(own, own).is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS)) {
            println!("SKIPPED: needs a kernel with CONFIG_KCMP");
            return;
        }
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = ended.recv();
        });
        assert_eq!(compare(own, told.recv().unwrap()).unwrap(), Ordering::Equal);
        drop(end);
        thread.join().unwrap();

        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let other = child.id() as i32;
        let order = compare(own, other).unwrap();
        assert_ne!(order, Ordering::Equal);
        assert_eq!(compare(other, own).unwrap(), order.reverse());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(compare(own, other).is_err());
    }
}
