#!/bin/sh
# Runs the hosted tests in user-mode Linux, which has device-mapper: with dm-verity, on a kernel of 6.1, without root.
#   in_uml.sh PROGRAM [ARGUMENT…]     PROGRAM: the hosted tests, built static (-C target-feature=+crt-static)
# Needs the packages user-mode-linux, busybox-static, cpio, e2fsprogs.
set -eu
program=$(realpath "$1"); shift
modules=$(echo /usr/lib/uml/modules/*/)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/bin" "$work/root/modules"
cp /bin/busybox "$work/root/bin/"; cp "$program" "$work/root/tests"
for name in lib/libcrc32c fs/erofs/erofs fs/overlayfs/overlay drivers/block/loop drivers/md/dm-mod drivers/md/dm-bufio \
    drivers/md/dm-verity drivers/net/tun; do
    cp "$modules/kernel/$name.ko" "$work/root/modules/"
done
cat >"$work/root/init" <<END
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /etc
export PATH=/bin; busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev 2>/dev/null
for name in libcrc32c erofs overlay loop dm-mod dm-bufio dm-verity tun; do insmod /modules/\$name.ko; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t ext4 /dev/ubda /tmp
YADO_TEST_VERIFY=block RUST_BACKTRACE=0 /tests $*
echo "tests: exit \$?"
poweroff -f
END
chmod 755 "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/initrd"
truncate -s 256M "$work/disk"; mkfs.ext4 -q "$work/disk"
# `init` must not be the process that plays init: tests that fail would be a panic. The root stays the initramfs.
linux.uml mem=512M initrd="$work/initrd" rdinit=/init ubd0="$work/disk" con=null con0=fd:0,fd:1 quiet panic=1 </dev/null \
    | tee "$work/log"
grep -q '^tests: exit 0' "$work/log"
