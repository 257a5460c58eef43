//! The privileges that netd keeps while it runs: for links, raw sockets and low ports, and little more.

use std::io;
use yado_sys::capabilities::{self, Capabilities};

/// Gives up every capability that is not needed from here on.
pub(crate) fn drop_unneeded(is_hosted: bool) -> io::Result<()> {
    let mut kept = Capabilities::NET_ADMIN | Capabilities::NET_RAW | Capabilities::NET_BIND_SERVICE;
    // On an appliance the run directory is root's. Hosted it may lie below a directory that only its user may enter.
    if is_hosted {
        kept |= Capabilities::DAC_OVERRIDE;
    }
    capabilities::keep_only(kept)?;
    capabilities::set_no_new_privs()
}
