//! What is run in an instance that nests, and what it must say. The hosted tests of init run it, and so do the boards'.

/// What the instance has besides: `/dev/fuse` is for fuse-overlayfs, as the kernel lays no overlay over one.
pub(crate) const FUSE: &str = "[devices.fuse]\ntype = \"unix-char\"\nsource = \"/dev/fuse\"\nmode = \"0666\"\n";

/// Makes the user, and of busybox an image without a registry.
pub(crate) const PREPARE: &str = "useradd -m user && mkdir -p /bundle/rootfs/bin && cp /bin/busybox /bundle/rootfs/bin \
    && cd /bundle/rootfs/bin && ln -s busybox cat && ln -s busybox sleep && ln -s busybox wget && cd / \
    && tar -C /bundle/rootfs -cf /image.tar . && podman import -q /image.tar box \
    && su - user -c 'podman import -q /image.tar box'";

/// Runs on with a limit of its own, of 32 MiB.
pub(crate) const LIMITED: &str = "podman run -d --network=none --memory=32m box sleep 1000";

/// One container inside.
#[derive(Debug)]
pub(crate) struct Nested {
    pub(crate) what: &'static str,
    /// Prints the map of the user namespace that the container's first process is in, in place of `MAP`.
    command: &'static str,
    /// How that begins: `BASE` and `IDS` are the instance's own.
    map: &'static str,
}

pub(crate) const CONTAINERS: &[Nested] = &[
    Nested { what: "bwrap", command: "bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all MAP", map: "0 0 1" },
    Nested {
        what: "bwrap of a user",
        command: "su user -c 'bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all MAP'",
        map: "1000 0 1",
    },
    Nested {
        what: "crun",
        command: "cd /bundle && crun spec && sed -i 's/\"terminal\": true/\"terminal\": false/; \
                  s#\"sh\"#\"cat\",\"/proc/self/uid_map\"#' config.json && crun run of-root",
        map: "0 BASE IDS",
    },
    Nested { what: "podman", command: "podman run --rm --pids-limit=0 box MAP", map: "0 BASE IDS" },
    Nested {
        what: "podman without a network",
        command: "podman run --rm --pids-limit=0 --network=none box MAP",
        map: "0 BASE IDS",
    },
    Nested {
        what: "podman of a user, without a network",
        command: "su - user -c 'podman run --rm --pids-limit=0 --network=none box MAP'",
        map: "0 1000 1\n1 100000 65536",
    },
    Nested {
        what: "podman of a user",
        command: "su - user -c 'podman run --rm --pids-limit=0 box MAP'",
        map: "0 1000 1\n1 100000 65536",
    },
];

impl Nested {
    pub(crate) fn command(&self) -> String {
        self.command.replace("MAP", "cat /proc/self/uid_map")
    }

    /// The map that it must print, of an instance whose ids begin at `base` outside.
    pub(crate) fn map(&self, base: &str) -> String {
        self.map.replace("BASE", base).replace("IDS", "1048576")
    }
}

/// A map as the kernel prints it, without the spaces that it puts around.
pub(crate) fn words_of_map(printed: &str) -> String {
    let lines = printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}
