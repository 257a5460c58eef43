//! Images are written to files and loop devices, cut off, changed, and judged by `veritysetup` and by the launcher's own checks.

#![allow(clippy::unwrap_used)]

mod slot {
    pub(crate) mod images;
    pub(crate) mod sources;
    pub(crate) mod storages;

    mod boot_files;
    mod containers;
    mod cost;
    mod cuts;
    mod devices;
    mod lies;
    mod writes;
}
