//! What the guests' board has of its own: a neighbour whom they ask, leave for privileged instances, and the kernel's
//! modules that others' containers want for networks of their own.

use crate::board::BuildError;
use crate::board::system_image::{Appliance, FirstStage, Workshop};
use crate::board::tree::Tree;

/// Whom the guests ask, and who stays when they come and go.
pub(super) const NEIGHBOUR: &str = "neighbour";

/// The instances of `qemu-tests/appliance-guests/`.
pub(super) const APPLIANCE: Appliance = Appliance {
    name: "guests",
    files: &[
        ("profiles/default.toml", include_str!("../../appliance-guests/profiles/default.toml")),
        ("neighbour.toml", include_str!("../../appliance-guests/neighbour.toml")),
    ],
    recipe: include_str!("appliance.rs"),
    release: 1,
    first_stage: FirstStage::Ours,
    fill,
};

/// What a system's builder lists for podman in an instance: no container makes the kernel load a module.
const FOR_NETWORKS_INSIDE: &[&str] = &[
    // iptables of Debian 12 speaks nftables, with the old matches and targets: these are what the CNI plugins bridge, portmap
    // and firewall say.
    "nft_compat",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_multiport",
    "xt_nat",
    "xt_tcpudp",
    // The network of a user's container is slirp4netns', behind a TAP interface.
    "tun",
];

fn fill(workshop: &Workshop<'_>, tree: &Tree) -> Result<(), BuildError> {
    // For the instance in which an init of ours runs.
    tree.file("usr/lib/yado/privileged", 0o644, "allow\n")?;
    workshop.add_modules(tree, "networks-inside", FOR_NETWORKS_INSIDE)?;
    workshop.add_image(tree, "busybox", &workshop.busybox_image()?)?;
    workshop.compile(tree)
}
