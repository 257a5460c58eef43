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
for name in fs/erofs/erofs fs/overlayfs/overlay drivers/block/loop drivers/md/dm-mod drivers/md/dm-bufio \
    drivers/md/dm-verity drivers/net/tun; do
    cp "$modules/kernel/$name.ko" "$work/root/modules/"
done
# A sandbox cannot be made from the initramfs itself: pivot_root(2) wants a root that is mounted on something.
cat >"$work/root/init" <<'END'
#!/bin/busybox sh
/bin/busybox mkdir /new
/bin/busybox mount -t tmpfs root /new
/bin/busybox cp -r /bin /modules /tests /then /new
exec /bin/busybox switch_root /new /then
END
cat >"$work/root/then" <<END
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /etc
export PATH=/bin; /bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for name in erofs overlay loop dm-mod dm-bufio dm-verity tun; do insmod /modules/\$name.ko; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t ext4 /dev/ubda /tmp
YADO_TEST_VERIFY=block RUST_BACKTRACE=0 /tests $*
echo "tests: exit \$?"
poweroff -f
END
chmod 755 "$work/root/init" "$work/root/then"
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/initrd"
truncate -s 256M "$work/disk"; mkfs.ext4 -q "$work/disk"
linux.uml mem=512M initrd="$work/initrd" rdinit=/init ubd0="$work/disk" con=null con0=fd:0,fd:1 quiet panic=1 </dev/null \
    | tee "$work/log"
grep -q '^tests: exit 0' "$work/log"
