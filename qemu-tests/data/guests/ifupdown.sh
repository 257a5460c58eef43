
printf 'auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n' > "$root/etc/network/interfaces"
# dhclient writes the name servers here.
: > "$root/etc/resolv.conf"
