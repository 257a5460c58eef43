//! The one dm-verity device of an image file, shared by all instances that use the file: the first start makes it, and the kernel
//! removes it with its last mount. Another file with the same fingerprint gets its own device: its blocks must be verified, too,
//! since either file may have been tampered with.

use crate::report::{Stopwatch, at};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::time::Duration;
use yado_image::{TrustedImage, hex};
use yado_sys::device_mapper::DeviceMapper;
use yado_sys::{file_lock, loop_device};
use yado_wire::{Failure, Step, names::clipped};

/// A verity device that is held open.
#[derive(Debug)]
pub(crate) struct VerityDevice {
    /// Holds it until it is mounted.
    _file: File,
    /// Its node.
    pub(crate) path: String,
}

/// The verity device of `image`; made if there is none.
pub(crate) fn open(path: &str, image: &TrustedImage, stopwatch: &mut Stopwatch) -> Result<VerityDevice, Failure> {
    let fingerprint = hex::encode(&image.fingerprint);
    // The number of a file that is in use is not given to another.
    let stat = rustix::fs::fstat(&image.file).map_err(at(Step::Verity, path))?;
    let name = format!("yado-{}-{:x}-{:x}", &fingerprint[..16], stat.st_dev, stat.st_ino);
    let uuid = format!("YADO-{fingerprint}-{:x}-{:x}", stat.st_dev, stat.st_ino);
    let failed = |error| Failure::from_io(Step::Verity, &name, &error);
    let mapper = stopwatch.step(Step::Verity, || {
        // Two starts of one image must not both make it. The lock goes with the descriptor, so a dead launcher holds none.
        lock(&image.file, LOCK_TIMEOUT, path)?;
        DeviceMapper::open().map_err(no_device_mapper)
    })?;
    match mapper.find(&name).map_err(failed)? {
        Some(device) if device.uuid != uuid => {
            return Err(Failure::refused(Step::Verity, &name, "a device of this name exists and is not ours"));
        }
        Some(device) if device.is_active => {
            // Its last user may just have gone, and the device with it: then a new one is made.
            if let Ok((file, path)) = device.open() {
                // Its maker may have died before it said so.
                mapper.remove_when_unused(&name).map_err(failed)?;
                release(image)?;
                return Ok(VerityDevice { _file: file, path });
            }
        }
        // Its maker died halfway. We hold the lock, so nobody is at work on it.
        Some(_) => mapper.remove_when_unused(&name).map_err(failed)?,
        None => {}
    }
    let backing =
        stopwatch.step(Step::Loop, || loop_device::attach_read_only(&image.file).map_err(at(Step::Loop, path)))?;
    let device = stopwatch.step(Step::Verity, || {
        let parameters = yado_image::verity::table_parameters(&image.header, &backing.path);
        let sectors = image.header.layout.payload_bytes() / 512;
        let device = mapper.create_read_only(&name, &uuid, "verity", sectors, &parameters).map_err(failed)?;
        let opened = device.open();
        // From here on the kernel removes it with its last user, or now if it could not even be opened.
        mapper.remove_when_unused(&name).map_err(failed)?;
        opened.map_err(failed)
    })?;
    release(image)?;
    Ok(VerityDevice { _file: device.0, path: device.1 })
}

/// Without device-mapper an image can only be hashed as a whole, and only somebody else's Linux may do with that.
fn no_device_mapper(error: io::Error) -> Failure {
    let failure = Failure::from_io(Step::Verity, "/dev/mapper/control", &error);
    match Errno::from_io_error(&error) {
        Some(Errno::NXIO | Errno::NODEV | Errno::NOENT) => {
            let advice = "this kernel has no device-mapper (BLK_DEV_DM, module dm-mod); hosted, write `start` into \
                          DIR/system/verify and restart yado-init: images are then verified before they are mounted";
            Failure { reason: clipped(&format!("{error}; {advice}")), ..failure }
        }
        Some(_) | None => failure,
    }
}

/// Another start of this image holds the lock for as long as it makes the device: milliseconds, on a slow card a second.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

fn lock(image: &File, timeout: Duration, path: &str) -> Result<(), Failure> {
    file_lock::lock_within(image, timeout).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            Failure::refused(Step::Verity, path, "another start holds the lock of the image")
        }
        _ => at(Step::Verity, path)(error),
    })
}

fn release(image: &TrustedImage) -> Result<(), Failure> {
    file_lock::unlock(&image.file).map_err(at(Step::Verity, "lock of the image"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_another_start_does_not_release_is_waited_for_with_a_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        lock(file.as_file(), Duration::ZERO, "image").unwrap();
        let second = file.reopen().unwrap();
        let failure = lock(&second, Duration::from_millis(20), "image").unwrap_err();
        assert_eq!(failure.reason.as_str(), "another start holds the lock of the image");
        drop(file);
        lock(&second, Duration::from_secs(10), "image").unwrap();
    }

    #[test]
    fn a_kernel_without_device_mapper_is_told_from_one_that_refuses_it() {
        for (errno, is_absent) in
            [(Errno::NODEV, true), (Errno::NXIO, true), (Errno::NOENT, true), (Errno::ACCESS, false)]
        {
            let failure = no_device_mapper(errno.into());
            assert_eq!(failure.errno, errno.raw_os_error());
            assert_eq!(failure.reason.ends_with("verified before they are mounted"), is_absent, "{failure}");
        }
    }
}
