#!/bin/sh
# mmdebstrap runs this with the new root as its argument, before it packs it; each guest's own lines follow. Nothing that a
# distribution starts is taken away: what fails inside is to be seen.
set -eu
root=$1

# The launcher names the instance; the identity is made at the first start of each instance, not here for all.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
: > "$root/etc/machine-id"
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"

# Caches and logs are of no use in an image.
rm -rf "$root/var/cache/apt" "$root/var/lib/apt/lists" "$root/var/log" "$root"/var/cache/debconf/*-old
install -d "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial" "$root/var/log"
