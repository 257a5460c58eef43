#!/bin/sh
# A root whose whole user land is one static busybox, in the folder $1 from the program $2: what Buildroot makes, smaller.
set -eu
root=$1
install -d "$root/bin" "$root/sbin" "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/root" "$root/usr/share/udhcpc"
install -d -m 1777 "$root/tmp"
install -m 755 "$2" "$root/bin/busybox"
for applet in sh awk cat echo env grep head hostname id ip kill ls mount nc nslookup ps rm sleep touch udhcpc uname wget; do
    ln -s busybox "$root/bin/$applet"
done
for applet in init halt poweroff reboot ifconfig route; do
    ln -s ../bin/busybox "$root/sbin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\n' > "$root/etc/passwd"
printf 'root:x:0:\n' > "$root/etc/group"
cat > "$root/etc/inittab" <<'INITTAB'
::sysinit:/bin/hostname -F /etc/hostname
::respawn:/bin/udhcpc -f -i eth0 -s /usr/share/udhcpc/default.script
console::respawn:/bin/sh
::restart:/sbin/init
INITTAB
cat > "$root/usr/share/udhcpc/default.script" <<'SCRIPT'
#!/bin/sh
case $1 in
deconfig)
    ip addr flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    ip addr replace "$ip/$mask" dev "$interface"
    [ -z "${router:-}" ] || ip route replace default via "${router%% *}"
    : > /etc/resolv.conf
    for server in ${dns:-}; do echo "nameserver $server" >> /etc/resolv.conf; done
    ;;
esac
SCRIPT
chmod 755 "$root/usr/share/udhcpc/default.script"
