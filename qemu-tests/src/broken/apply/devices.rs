//! Devices that an instance is given and loses again while it runs: nodes in its `/dev`, seen from outside.

use super::{Case, KNOWN, Looks, NAME, take_all};
use crate::board::qemu::QemuError;
use crate::board::qmp::{QmpError, UsbStick};
use crate::board::{BoardError, gpio_chip};
use crate::broken::bench::{Bench, TIMEOUT};
use crate::broken::failure::BrokenError;
use crate::report::{Observer, Witness};

/// What the kernel calls the chip of this board that is made here.
const CHIP: &str = "applied";
const STICK_BYTES: u64 = 1024 * 1024;
const SERIAL: &str = "E0D5";

/// What lines and scripts of the cases have to know: where the stick is, and which chip was made.
const LEARN: &str = "
for place in /sys/bus/usb/devices/*; do
    grep -qsx E0D5 $place/serial && stick=$place
done
[ -n \"$stick\" ] && disk=$(ls $stick/*/host*/target*/*/block 2> /dev/null) && [ -b /dev/$disk ] || exit 1
{
    echo vendor=$(cat $stick/idVendor) product=$(cat $stick/idProduct)
    echo bus=$(cat $stick/busnum) device=$(cat $stick/devnum) disk=$disk
    echo chip=$(basename $1)
    # Kept apart from a file's own lines, in which it would end the quotes.
    echo '
node() {
    [ -e $2 ] || { echo none; return; }
    # The kind and the number, and the owners as inside.
    base=$(awk \"{ print \\$2; exit }\" /proc/$1/uid_map)
    echo $(stat -c \"%t:%T\" $2) $(($(stat -c %u $2) - base)) $(($(stat -c %g $2) - base)) $(stat -c %a $2)
}'
} > /run/known";

const CASES: &[Case] = &[
    Case {
        shows: &["unix-char", "device.source", "device.path", "device.uid", "device.gid", "device.mode"],
        what: "a unix-char device with owners and a mode",
        lines: "[devices.mine]\ntype = 'unix-char'\nsource = '/dev/zero'\npath = '/dev/mine'\nuid = 12\ngid = 34\nmode = '0640'",
        reads: "node $pid /proc/$pid/root/dev/mine",
        then: "1:5 12 34 640",
        without: "none",
    },
    Case {
        shows: &["unix-block"],
        what: "a unix-block device",
        lines: "[devices.mine]\ntype = 'unix-block'\nsource = '/dev/$disk'\npath = '/dev/mine'",
        reads: "[ -b /proc/$pid/root/dev/mine ] && node $pid /proc/$pid/root/dev/mine || echo none",
        then: "8:0 0 0 660",
        without: "none",
    },
    Case {
        shows: &["usb", "device.vendorid", "device.productid"],
        what: "a usb device by its vendor and product",
        lines: "[devices.mine]\ntype = 'usb'\nvendorid = '$vendor'\nproductid = '$product'",
        reads: "ls /proc/$pid/root/dev/bus/usb/* | grep -cx $(printf %03d $device)",
        then: "1",
        without: "0",
    },
    Case {
        shows: &["device.serial"],
        what: "a usb device by its serial number",
        lines: "[devices.mine]\ntype = 'usb'\nserial = 'E0D5'",
        reads: "ls /proc/$pid/root/dev/bus/usb/* | grep -cx $(printf %03d $device)",
        then: "1",
        without: "0",
    },
    Case {
        shows: &["device.busnum", "device.devnum"],
        what: "a usb device by its place",
        lines: "[devices.mine]\ntype = 'usb'\nbusnum = $bus\ndevnum = $device",
        reads: "ls /proc/$pid/root/dev/bus/usb/$(printf %03d $bus) | grep -cx $(printf %03d $device)",
        then: "1",
        without: "0",
    },
    Case {
        shows: &["unix-hotplug", "device.subsystem"],
        what: "a unix-hotplug device",
        lines: "[devices.mine]\ntype = 'unix-hotplug'\nvendorid = '$vendor'\nsubsystem = 'block'",
        reads: "[ -b /proc/$pid/root/dev/$disk ] && echo there || echo none",
        then: "there",
        without: "none",
    },
    Case {
        shows: &["gpio", "device.chip"],
        what: "a gpio chip",
        lines: "[devices.mine]\ntype = 'gpio'\nchip = 'applied'",
        reads: "[ -c /proc/$pid/root/dev/$chip ] && echo there || echo none",
        then: "there",
        without: "none",
    },
];

pub(in crate::broken) fn come_and_go(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let content = bench.directory_of("applied")?.join("stick.img");
    std::fs::File::create(&content).and_then(|file| file.set_len(STICK_BYTES)).map_err(BrokenError::io(&content))?;
    let file = std::fs::canonicalize(&content).map_err(BrokenError::io(&content))?;
    let stick = UsbStick { id: CHIP.to_owned(), content: file, serial: SERIAL.to_owned() };
    bench.board_mut()?.qemu.qmp.plug(&stick).map_err(qmp)?;
    let done = with_stick(bench, observer);
    // Steps that come later look for what is not there.
    bench.board_mut()?.qemu.qmp.unplug(&stick).map_err(qmp)?;
    bench.shell(&format!(
        "rm -f /run/known
         cd /sys/kernel/config/gpio-sim && echo 0 > {CHIP}/live && rmdir {CHIP}/bank0 {CHIP}"
    ))?;
    done
}

fn with_stick(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let chip = gpio_chip::make(bench.board()?, CHIP, TIMEOUT)?;
    let learn = || {
        let ran = bench.shell_ran(&format!("set -- {chip}\n{LEARN}\nhead -n 3 /run/known"))?;
        Ok::<_, BrokenError>((ran.ended == qemu_guest::Ended::Code(0)).then_some(ran.stdout))
    };
    let known = bench.board()?.wait_for(
        "stick with its disk",
        TIMEOUT,
        || Ok(learn().ok().flatten().map_or(serde_json::Value::Null, serde_json::Value::String)),
        |known| known.as_str().map(str::to_owned),
    )?;
    let pid = bench.instance(NAME)?["pid"].clone();
    let inside = bench.shell(&format!(
        "{KNOWN}; for node in $disk $chip mine; do ls -d /proc/{pid}/root/dev/$node 2> /dev/null; done; true"
    ))?;
    let seen = format!("{}; inside: {inside:?}", known.trim().replace('\n', " "));
    let what = format!("a stick and a chip are there, and not in {NAME}");
    observer.check(Witness::Kernel, &what, seen, inside.is_empty())?;
    take_all(bench, observer, CASES, Looks::UntilSo)
}

fn qmp(error: QmpError) -> BrokenError {
    BrokenError::Board(BoardError::Qemu(QemuError::Qmp(error)))
}

#[cfg(test)]
pub(super) fn shown() -> impl Iterator<Item = &'static str> {
    CASES.iter().flat_map(|case| case.shows).copied()
}
