//! The clock that all deadlines and tables of this process go by.

use std::time::Duration;

/// Time since the kernel started, as [`yado_sys::clock::since_boot`] reads it.
pub(crate) type Moment = Duration;
