
cat > "$root/etc/systemd/network/80-container.network" <<'NETWORK'
[Match]
Name=eth0

[Network]
DHCP=ipv4
NETWORK
chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service
ln -sfn ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
