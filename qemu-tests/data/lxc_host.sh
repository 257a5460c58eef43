#!/bin/sh
# mmdebstrap runs this with the new root as its argument, before it packs it: what makes a Debian with systemd and LXC a board's
# system, as small as its makers would have it: read-only, nothing on it that the board does not need.
set -eu
root=$1
system=$root/etc/systemd/system

echo board > "$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
rm -f "$root/var/lib/dbus/machine-id"
: > "$root/etc/machine-id"

# The root is read-only; the data partition is the same that our system has.
install -d "$root/data"
cat > "$root/etc/fstab" <<'FSTAB'
PARTLABEL=data /data ext4 nosuid,nodev 0 0
tmpfs /var tmpfs mode=0755 0 0
tmpfs /tmp tmpfs mode=1777 0 0
FSTAB
printf 'lxc.lxcpath = /data/lxc\n' > "$root/etc/lxc/lxc.conf"

printf 'USE_LXC_BRIDGE="false"\n' > "$root/etc/default/lxc-net"

chroot "$root" systemctl --quiet enable lxc.service
chroot "$root" systemctl --quiet set-default multi-user.target

# Containers without a network need no bridge, and nobody is to wait for one. Terminals, timers of the package archive, and file
# systems of the kernel's own that nobody here uses would only cost the time that is measured.
for unit in lxc-net.service getty@tty1.service getty-static.service serial-getty@ttyAMA0.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
    dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service \
    systemd-pstore.service systemd-firstboot.service systemd-remount-fs.service systemd-update-utmp.service \
    systemd-random-seed.service systemd-machine-id-commit.service systemd-timesyncd.service \
    e2scrub_reap.service e2scrub_all.timer fstrim.timer \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer; do
    ln -sfn /dev/null "$system/$unit"
done

rm -rf "$root/var/cache/apt" "$root/var/lib/apt/lists" "$root/var/log"/*
find "$root/usr" -name __pycache__ -prune -exec rm -rf {} +
