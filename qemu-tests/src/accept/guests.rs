//! The roots of the matrix of guests, made or found in the cache, in one folder by their names: what the hosted tests of init look for.

use super::tally::Tally;
use crate::arch::Arch;
use crate::board::tree::Tree;
use crate::cache::Cache;
use crate::cross;
use crate::length::Length;
use crate::provision::{GUESTS, Guest, ProvisionError, Wanted, guest_root};
use std::path::PathBuf;
use std::sync::Mutex;

/// The folder. A guest that could not be made has failed and is not in it.
pub(super) fn make_ready(cache: &Cache, tally: &mut Tally) -> Option<PathBuf> {
    let arch: Arch = std::env::consts::ARCH.parse().ok()?;
    let is_wanted = |guest: &&Guest| guest.wanted == Wanted::Always || tally.length() == Length::Long;
    let guests: Vec<&Guest> = GUESTS.iter().filter(is_wanted).collect();
    let folder = cross::target_folder().join("guests");
    let tree = tally.check("a folder for the roots of guests", || Tree::create(&folder))?;
    for (guest, root) in all(cache, arch, &guests) {
        let name = format!("the root of the guest {} for {arch} is made, or kept", guest.name);
        tally.check(&name, || {
            let root = root.map_err(|error| error.to_string())?;
            tree.symlink(&format!("{}.tar", guest.name), &root).map_err(|error| error.to_string())
        });
    }
    Some(folder)
}

/// Two at a time: what a package does when it is installed keeps one processor busy.
fn all<'g>(cache: &Cache, arch: Arch, guests: &[&'g Guest]) -> Vec<(&'g Guest, Result<PathBuf, ProvisionError>)> {
    let (left, made) = (Mutex::new(guests.iter()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(guest) = left.lock().ok().and_then(|mut left| left.next().copied()) {
            let root = guest_root(cache, arch, guest);
            if let Ok(mut made) = made.lock() {
                made.push((guest, root));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let mut made = made.into_inner().unwrap_or_default();
    made.sort_by_key(|(guest, _)| guest.name);
    made
}
