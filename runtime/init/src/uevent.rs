//! Parses a kernel uevent. Pure.

/// One event: `add@/devices/…` and then `NAME=value` strings, each ended by a NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uevent<'a> {
    /// `add`, `remove`, `change`, `bind`, …
    pub action: &'a str,
    /// The device's path below `/sys`.
    pub path: &'a str,
    /// `block`, `usb`, `gpio`, …
    pub subsystem: &'a str,
    /// What modules.alias knows a driver by.
    pub modalias: Option<&'a str>,
    /// The node below `/dev`, if it has one.
    pub node: Option<&'a str>,
    /// The partition's GPT name.
    pub partition_name: Option<&'a str>,
    /// dm-verity read this block of the device, and it is not what was signed.
    pub damaged_block: Option<u64>,
}

/// The longest event: the kernel's own buffer is 2 KiB, and the head comes on top.
pub const MAX_UEVENT_BYTES: usize = 4096;

/// Reads one event. `None`: it is none.
pub fn parse_uevent(bytes: &[u8]) -> Option<Uevent<'_>> {
    let mut strings = bytes.split(|&byte| byte == 0);
    let (action, path) = core::str::from_utf8(strings.next()?).ok()?.split_once('@')?;
    let mut event =
        Uevent { action, path, subsystem: "", modalias: None, node: None, partition_name: None, damaged_block: None };
    for string in strings {
        let Some((name, value)) = core::str::from_utf8(string).ok().and_then(|text| text.split_once('=')) else {
            continue;
        };
        match name {
            "SUBSYSTEM" => event.subsystem = value,
            "MODALIAS" => event.modalias = Some(value),
            "DEVNAME" => event.node = Some(value),
            "PARTNAME" => event.partition_name = Some(value),
            // `TYPE,BLOCK`; of hash blocks the kernel counts from the device's beginning too.
            "DM_VERITY_ERR_BLOCK_NR" => {
                event.damaged_block = value.split_once(',').and_then(|(_, block)| block.parse().ok());
            }
            _ => {}
        }
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_events_are_understood() {
        // A USB stick plugged in (arm64, 6.1, QEMU xhci).
        let usb = b"add@/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0/usb1/1-1/1-1:1.0\0ACTION=add\0\
            DEVPATH=/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0/usb1/1-1/1-1:1.0\0SUBSYSTEM=usb\0\
            DEVTYPE=usb_interface\0PRODUCT=46f4/1/0\0TYPE=0/0/0\0INTERFACE=8/6/80\0\
            MODALIAS=usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00\0SEQNUM=1029\0";
        let event = parse_uevent(usb);
        assert_eq!(
            event.map(|event| (event.action, event.subsystem, event.modalias, event.node)),
            Some(("add", "usb", Some("usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00"), None))
        );
        // A partition with a GPT name.
        let partition = b"add@/devices/virtual/block/vda/vda7\0ACTION=add\0DEVPATH=/devices/virtual/block/vda/vda7\0\
            SUBSYSTEM=block\0MAJOR=254\0MINOR=7\0DEVNAME=vda7\0DEVTYPE=partition\0DISKSEQ=1\0PARTN=7\0\
            PARTNAME=data\0SEQNUM=900\0";
        let event = parse_uevent(partition);
        assert_eq!(
            event.map(|event| (event.path, event.node, event.partition_name)),
            Some(("/devices/virtual/block/vda/vda7", Some("vda7"), Some("data")))
        );
    }

    #[test]
    fn a_block_that_does_not_verify_is_told_with_its_device() {
        // arm64, 6.12: verity_handle_err() in drivers/md/dm-verity-target.c.
        let event = b"change@/devices/virtual/block/dm-0\0ACTION=change\0DEVPATH=/devices/virtual/block/dm-0\0\
            SUBSYSTEM=block\0DM_VERITY_ERR_BLOCK_NR=0,4711\0MAJOR=253\0MINOR=0\0DEVNAME=dm-0\0DEVTYPE=disk\0SEQNUM=9\0";
        let event = parse_uevent(event);
        assert_eq!(
            event.map(|event| (event.path, event.damaged_block)),
            Some(("/devices/virtual/block/dm-0", Some(4711)))
        );
        for value in ["", "0", "0,", "0,x", ",", "1,-1"] {
            let text = format!("change@/x\0DM_VERITY_ERR_BLOCK_NR={value}\0");
            assert_eq!(parse_uevent(text.as_bytes()).map(|event| event.damaged_block), Some(None), "{value}");
        }
    }

    #[test]
    fn what_is_no_event_is_passed_over() {
        assert_eq!(parse_uevent(b""), None);
        assert_eq!(parse_uevent(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(parse_uevent(b"\xff@/x\0"), None);
        let torn = parse_uevent(b"add@/x\0SUBSYSTEM\0=\0\xff\0DEVNAME=a");
        assert_eq!(torn.map(|event| (event.subsystem, event.node)), Some(("", Some("a"))));
    }
}
