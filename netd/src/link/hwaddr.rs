//! Hardware addresses and link names that are computed, so that they are the same at every start. Pure.

/// What tells this machine from others, where an address is seen outside of it: a hardware address of its own. Zeros where
/// it is not seen outside.
pub type Seed = [u8; 6];

/// The hardware address of an instance's interface: in the range that LXD and Xen use.
pub fn instance_hwaddr(instance: &str, nic: &str, seed: Seed) -> [u8; 6] {
    let [a, b, c, ..] = hash(&[b"nic", instance.as_bytes(), nic.as_bytes(), &seed]).to_be_bytes();
    [0x00, 0x16, 0x3e, a, b, c]
}

/// The hardware address of a bridge.
pub fn bridge_hwaddr(name: &str, seed: Seed) -> [u8; 6] {
    let [a, b, c, ..] = hash(&[b"bridge", name.as_bytes(), &seed]).to_be_bytes();
    [0x00, 0x16, 0x3e, a, b, c]
}

/// The hardware address of the host's end of an instance's interface. It starts with 0xfe, as libvirt's do: a bridge whose
/// address is not fixed takes the lowest of its ports, and that must never be a passing one.
pub fn host_hwaddr(instance: &str, nic: &str) -> [u8; 6] {
    let [a, b, c, ..] = hash(&[b"host", instance.as_bytes(), nic.as_bytes()]).to_be_bytes();
    [0xfe, 0x16, 0x3e, a, b, c]
}

/// The name of the host's end, in LXD's form.
pub fn host_name(instance: &str, nic: &str) -> String {
    format!("veth{:08x}", hash(&[b"host", instance.as_bytes(), nic.as_bytes()]) >> 32)
}

/// FNV-1a with murmur's finish; each part is ended by a byte that no name has. Never changes.
fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = yado_wire::hash::fnv64(parts.iter().flat_map(|part| part.iter().chain(&[0])).copied());
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_never_change_and_differ_by_instance_interface_and_machine() {
        let one = instance_hwaddr("busybox", "eth0", [0; 6]);
        assert_eq!(one, instance_hwaddr("busybox", "eth0", [0; 6]));
        assert_eq!(one[..3], [0x00, 0x16, 0x3e]);
        assert_ne!(one, instance_hwaddr("busybox", "eth1", [0; 6]));
        assert_ne!(one, instance_hwaddr("busyboxe", "th0", [0; 6]));
        assert_ne!(one, instance_hwaddr("busybox", "eth0", [2, 0, 0, 0, 0, 1]));
        assert_ne!(one, bridge_hwaddr("yado0", [0; 6]));
        assert_eq!(host_hwaddr("busybox", "eth0")[0], 0xfe);
    }

    #[test]
    fn the_host_end_has_a_name_that_the_kernel_takes() {
        let name = host_name("busybox", "eth0");
        assert!(name.len() <= 15 && name.starts_with("veth"), "{name}");
    }
}
