#!/bin/sh
# mmdebstrap runs this with the new root as its argument, before it packs it: what makes a Debian with systemd, RAUC and SWUpdate the
# system of a board on which updaters are measured: read-only, and nothing runs on it that could take time from who is measured.
set -eu
root=$1
system=$root/etc/systemd/system

echo board > "$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
rm -f "$root/var/lib/dbus/machine-id"
: > "$root/etc/machine-id"

# The root is read-only; the data partition has what each run makes anew: keys, configuration and updates.
install -d "$root/data"
cat > "$root/etc/fstab" <<'FSTAB'
PARTLABEL=data /data ext4 nosuid,nodev 0 0
tmpfs /var tmpfs mode=0755 0 0
tmpfs /tmp tmpfs mode=1777 0 0
FSTAB
ln -sfn /data/rauc "$root/etc/rauc"
# SWUpdate's daemon looks for a server and for sticks; its command does without it.
rm -f "$root/etc/init.d/swupdate"

chroot "$root" systemctl --quiet set-default multi-user.target

for unit in swupdate.service swupdate.socket swupdate-progress.service getty@tty1.service getty-static.service \
    serial-getty@ttyAMA0.service sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount \
    systemd-binfmt.service systemd-pstore.service systemd-firstboot.service systemd-remount-fs.service \
    systemd-update-utmp.service systemd-random-seed.service systemd-machine-id-commit.service systemd-timesyncd.service \
    e2scrub_reap.service e2scrub_all.timer fstrim.timer \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer; do
    ln -sfn /dev/null "$system/$unit"
done

rm -rf "$root/var/cache/apt" "$root/var/lib/apt/lists" "$root/var/log"/*
