//! Moves finished trees of mounts from the launcher's mount namespace into the payload's.
//!
//! Root inside can unmount what it has mounted. But mounts that come from a mount namespace of a parent user namespace are locked
//! by the kernel: below its top, such a tree cannot be unmounted, moved or made writable again, nor copied without what covers it
//! (mount_namespaces(7), "Restrictions on mount namespaces"). So the launcher builds the trees outside and moves them onto the
//! stage: a mount that was shared before the payload got its mount namespace. The kernel then makes the same mounts, locked, on
//! the payload's copy of the stage.

use crate::layer::make_directory;
use crate::report::at;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::CWD;
use yado_sys::mount::{self, Depth};
use yado_wire::{Failure, Step};

/// The stage's directory in the instance's runtime directory.
const STAGE: &str = "stage";

/// A place on the stage: a directory of this name, also in the runtime directory, where the tree is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StagedTree {
    /// The instance's root with its disks.
    Root,
    /// Its `/proc`.
    Proc,
    /// Its `/sys` with the cgroup tree.
    Sys,
    /// Its `/run`, with what is said there of the host.
    Run,
}

impl StagedTree {
    const ALL: [StagedTree; 4] = [StagedTree::Root, StagedTree::Proc, StagedTree::Sys, StagedTree::Run];

    pub(crate) fn name(self) -> &'static str {
        match self {
            StagedTree::Root => "root",
            StagedTree::Proc => "proc",
            StagedTree::Sys => "sys",
            StagedTree::Run => "run",
        }
    }
}

/// The stage as the launcher has it: a shared mount.
#[derive(Debug)]
pub(crate) struct MountStaging(OwnedFd);

impl MountStaging {
    /// Makes the stage in the working directory, and makes it the working directory: the payload is born there, and finds
    /// itself on its own copy when it has its own mount namespace.
    pub(crate) fn enter() -> Result<MountStaging, Failure> {
        // Whoever the payload is to the system, it must be able to look a name up here.
        const MODE: u32 = 0o755;
        make_directory(CWD, STAGE, MODE).map_err(at(Step::Mount, STAGE))?;
        let stage = mount::clone_tree(CWD, STAGE, Depth::One).map_err(at(Step::Mount, STAGE))?;
        for tree in StagedTree::ALL {
            make_directory(CWD, tree.name(), MODE).map_err(at(Step::Mount, tree.name()))?;
            make_directory(stage.as_fd(), tree.name(), MODE).map_err(at(Step::Mount, tree.name()))?;
        }
        mount::attach_at(&stage, STAGE).map_err(at(Step::Mount, STAGE))?;
        mount::make_shared(&stage).map_err(at(Step::Mount, STAGE))?;
        rustix::process::fchdir(&stage).map_err(at(Step::Mount, STAGE))?;
        Ok(MountStaging(stage))
    }

    /// Moves the tree whose top is `mount`, which is attached in our own namespace, into both.
    pub(crate) fn put(&self, mount: &OwnedFd, tree: StagedTree) -> Result<(), Failure> {
        mount::attach_below(mount, &self.0, tree.name()).map_err(at(Step::Mount, tree.name()))
    }
}
