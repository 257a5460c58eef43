#!/bin/sh
# mmdebstrap runs this with the new root as its argument, before it packs it: what makes a Debian a container.
set -eu
root=$1
system=$root/etc/systemd/system

install -d "$root/etc/systemd/network" "$system"
cat > "$root/etc/systemd/network/80-container.network" <<'NETWORK'
[Match]
Name=eth0

[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no

[DHCPv4]
UseDomains=yes
NETWORK

# The launcher names the instance; the identity is made at the first start of each instance, not here for all.
rm -f "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
: > "$root/etc/machine-id"
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
rm -f "$root/etc/.resolv.conf.systemd-resolved.bak"
ln -sfn ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
: > "$root/etc/fstab"

chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service
chroot "$root" systemctl --quiet set-default multi-user.target

# What only a whole machine has: terminals, the kernel's own file systems, disks, and the package archive's timers
# (an image is replaced, not upgraded).
for unit in getty@tty1.service getty-static.service autovt@.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
    dev-hugepages.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service \
    systemd-modules-load.service systemd-remount-fs.service systemd-pstore.service \
    systemd-journald-audit.socket systemd-networkd-wait-online.service \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer; do
    ln -sfn /dev/null "$system/$unit"
done

# Caches and logs differ from build to build and are of no use in an image.
rm -rf "$root/var/cache/apt" "$root/var/lib/apt/lists" "$root/var/log" "$root/var/cache/ldconfig/aux-cache" \
    "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root/var/lib/dpkg/available"
install -d "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial" "$root/var/log"
find "$root/usr" -name __pycache__ -prune -exec rm -rf {} +
