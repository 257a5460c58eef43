//! Device-mapper, as much of it as a verified image needs: make a read-only device from one line of table, find it again,
//! and have it removed once nobody uses it. No udev cookies: nobody would ever answer them.

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

// <linux/dm-ioctl.h>
const DM_REMOVE_ALL: u32 = 1;
const DM_DEV_CREATE: u32 = 3;
const DM_DEV_REMOVE: u32 = 4;
const DM_DEV_SUSPEND: u32 = 6;
const DM_DEV_STATUS: u32 = 7;
const DM_TABLE_LOAD: u32 = 9;
const DM_TABLE_STATUS: u32 = 12;
const DM_READONLY: u32 = 1;
const DM_ACTIVE_PRESENT: u32 = 1 << 5;
const DM_NOFLUSH: u32 = 1 << 11;
const DM_DEFERRED_REMOVE: u32 = 1 << 17;
/// The oldest interface that has all we use; the kernel accepts any minor up to its own.
const VERSION: [u32; 3] = [4, 0, 0];
/// `MAPPER_CTRL_MINOR` of the misc devices, major 10.
const CONTROL_MINOR: u32 = 236;
const CONTROL: &str = "/dev/mapper/control";
/// Room for the header, one target and its parameters: a verity line is about 250 bytes.
const BUFFER_BYTES: usize = 4096;
const HEADER_BYTES: usize = size_of::<Header>();
const TARGET_BYTES: usize = size_of::<Target>();

/// `struct dm_ioctl`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`; its parameters follow as a C string.
#[repr(C)]
#[derive(Clone, Copy)]
struct Target {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
}

/// The longest name of a device, without the NUL: `DM_NAME_LEN`.
pub const MAX_NAME_LEN: usize = 127;

/// A device as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its major and minor number.
    pub number: (u32, u32),
    /// What its maker wrote there: for us, the whole fingerprint of the image.
    pub uuid: String,
    /// It has a table and can be read.
    pub is_active: bool,
}

impl Device {
    /// Its node, made if devtmpfs has not made it.
    pub fn open(&self) -> io::Result<(File, String)> {
        let (major, minor) = self.number;
        let path = format!("/dev/dm-{minor}");
        ensure_node(&path, FileType::BlockDevice, major, minor)?;
        Ok((File::open(&path)?, path))
    }
}

/// The control device: with it open, everything else is a request.
#[derive(Debug)]
pub struct DeviceMapper {
    control: File,
}

impl DeviceMapper {
    /// `ENXIO`, `ENODEV` or `ENOENT`: this kernel has no device-mapper.
    pub fn open() -> io::Result<DeviceMapper> {
        match rustix::fs::mkdir("/dev/mapper", Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        const MISC_MAJOR: u32 = 10;
        ensure_node(CONTROL, FileType::CharacterDevice, MISC_MAJOR, CONTROL_MINOR)?;
        Ok(DeviceMapper { control: File::options().read(true).write(true).open(CONTROL)? })
    }

    /// The device of this name, if there is one.
    pub fn find(&self, name: &str) -> io::Result<Option<Device>> {
        let mut request = Request::new(name)?;
        match self.ask(DM_DEV_STATUS, &mut request) {
            Ok(()) => Ok(Some(request.device())),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether dm-verity read a block of the device of this name that is not what was signed, since the device was made: `C` in the
    /// target's status (verity.rst, "Status"). No device is none that is damaged.
    pub fn is_damaged(&self, name: &str) -> io::Result<bool> {
        let mut request = Request::new(name)?;
        request.header.flags = DM_NOFLUSH;
        match self.ask(DM_TABLE_STATUS, &mut request) {
            Ok(()) => Ok(request.first_status() == "C"),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a read-only device of one target over `sectors` of 512 bytes. `EBUSY`: there is one of this name or uuid.
    /// On failure there is none.
    pub fn create_read_only(
        &self,
        name: &str,
        uuid: &str,
        target: &str,
        sectors: u64,
        parameters: &str,
    ) -> io::Result<Device> {
        let mut request = Request::new(name)?;
        put_text(&mut request.header.uuid, uuid)?;
        self.ask(DM_DEV_CREATE, &mut request)?;
        let activated = self.activate(name, target, sectors, parameters);
        if activated.is_err() {
            // The error of the table is the one to tell.
            let _ = self.ask(DM_DEV_REMOVE, &mut Request::new(name)?);
        }
        activated
    }

    fn activate(&self, name: &str, target: &str, sectors: u64, parameters: &str) -> io::Result<Device> {
        let mut load = Request::new(name)?;
        load.header.flags = DM_READONLY;
        load.put_target(target, sectors, parameters)?;
        self.ask(DM_TABLE_LOAD, &mut load)?;
        // Without the suspend flag this request resumes: the loaded table becomes the active one.
        let mut resume = Request::new(name)?;
        self.ask(DM_DEV_SUSPEND, &mut resume)?;
        Ok(resume.device())
    }

    /// Removes the device now if nobody has it open, else when its last user is gone.
    pub fn remove_when_unused(&self, name: &str) -> io::Result<()> {
        let mut request = Request::new(name)?;
        request.header.flags = DM_DEFERRED_REMOVE;
        match self.ask(DM_DEV_REMOVE, &mut request) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            answer => answer,
        }
    }

    /// Removes every device that nobody has open, and each of the others when its last user is gone.
    pub fn remove_all_when_unused(&self) -> io::Result<()> {
        let mut request = Request::new("")?;
        request.header.flags = DM_DEFERRED_REMOVE;
        self.ask(DM_REMOVE_ALL, &mut request)
    }

    fn ask(&self, number: u32, request: &mut Request) -> io::Result<()> {
        // _IOWR(0xfd, number, struct dm_ioctl)
        let code = (3 << 30) | ((HEADER_BYTES as u32) << 16) | (0xfd << 8) | number;
        // SAFETY: the buffer is as long as `data_size` says, laid out as `struct dm_ioctl`, and live for the call.
        if unsafe { libc::ioctl(self.control.as_raw_fd(), code as _, std::ptr::from_mut(request)) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// One request and, afterwards, its answer.
#[repr(C, align(8))]
struct Request {
    header: Header,
    data: [u8; BUFFER_BYTES - HEADER_BYTES],
}

impl Request {
    fn new(name: &str) -> io::Result<Request> {
        let mut header = Header {
            version: VERSION,
            data_size: BUFFER_BYTES as u32,
            data_start: HEADER_BYTES as u32,
            target_count: 0,
            open_count: 0,
            flags: 0,
            event_nr: 0,
            padding: 0,
            dev: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        };
        put_text(&mut header.name, name)?;
        Ok(Request { header, data: [0; BUFFER_BYTES - HEADER_BYTES] })
    }

    fn put_target(&mut self, kind: &str, sectors: u64, parameters: &str) -> io::Result<()> {
        let mut target_type = [0; 16];
        put_text(&mut target_type, kind)?;
        put_text(&mut self.data[TARGET_BYTES..], parameters)?;
        self.header.target_count = 1;
        // `next`: where the next target would begin, eight-byte aligned; the kernel wants it inside the buffer.
        let next = parameters.len().saturating_add(TARGET_BYTES + 1).next_multiple_of(8) as u32;
        self.data[..8].copy_from_slice(&0u64.to_ne_bytes());
        self.data[8..16].copy_from_slice(&sectors.to_ne_bytes());
        self.data[16..20].copy_from_slice(&0i32.to_ne_bytes());
        self.data[20..24].copy_from_slice(&next.to_ne_bytes());
        self.data[24..40].copy_from_slice(&target_type);
        Ok(())
    }

    /// What the first target says of itself; of no target nothing.
    fn first_status(&self) -> String {
        if self.header.target_count == 0 {
            return String::new();
        }
        let start = (self.header.data_start as usize).saturating_sub(HEADER_BYTES).saturating_add(TARGET_BYTES);
        text_of(self.data.get(start..).unwrap_or_default())
    }

    fn device(&self) -> Device {
        Device {
            number: (rustix::fs::major(self.header.dev), rustix::fs::minor(self.header.dev)),
            uuid: text_of(&self.header.uuid),
            is_active: self.header.flags & DM_ACTIVE_PRESENT != 0,
        }
    }
}

/// Copies `text` and its closing NUL.
fn put_text(field: &mut [u8], text: &str) -> io::Result<()> {
    match field.split_at_mut_checked(text.len()) {
        Some((place, [end, ..])) if !text.contains('\0') => {
            place.copy_from_slice(text.as_bytes());
            *end = 0;
            Ok(())
        }
        Some((_, _)) | None => Err(Errno::INVAL.into()),
    }
}

fn text_of(field: &[u8]) -> String {
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// devtmpfs has a node for every device; a plain tmpfs on /dev has none.
fn ensure_node(path: &str, kind: FileType, major: u32, minor: u32) -> io::Result<()> {
    if rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok() {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, rustix::fs::makedev(major, minor)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_structs_are_as_long_as_the_kernels() {
        assert_eq!((HEADER_BYTES, TARGET_BYTES, size_of::<Request>()), (312, 40, BUFFER_BYTES));
    }

    #[test]
    fn a_target_stands_where_the_kernel_looks_for_it() {
        let mut request = Request::new("yado-0123").unwrap();
        request.put_target("verity", 2048, "1 /dev/loop0").unwrap();
        assert_eq!(&request.data[8..16], &2048u64.to_ne_bytes());
        assert_eq!(&request.data[20..24], &56u32.to_ne_bytes(), "40 + 13, rounded up to 8");
        assert_eq!(&request.data[24..31], b"verity\0");
        assert_eq!(text_of(&request.data[TARGET_BYTES..]), "1 /dev/loop0");
    }

    #[test]
    fn a_status_is_the_text_behind_the_first_target() {
        let mut request = Request::new("yado-0123").unwrap();
        assert_eq!(request.first_status(), "");
        request.put_target("verity", 2048, "C").unwrap();
        assert_eq!(request.first_status(), "C");
        request.header.data_start = u32::MAX;
        assert_eq!(request.first_status(), "");
    }

    #[test]
    fn a_name_or_table_that_does_not_fit_is_refused() {
        assert!(Request::new(&"x".repeat(MAX_NAME_LEN)).is_ok());
        assert!(Request::new(&"x".repeat(MAX_NAME_LEN + 1)).is_err());
        let mut request = Request::new("a").unwrap();
        assert!(request.put_target("verity", 1, &"x".repeat(BUFFER_BYTES)).is_err());
    }
}
