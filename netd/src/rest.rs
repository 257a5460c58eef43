//! Memory that only work needs, given back when there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use yado_sys::code_pages;

/// A wish to give back the pages of our program. It is granted by the runtime's thread as the last thing before it sleeps:
/// any earlier, what it runs on its way to sleep would be mapped again, sixteen pages around each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rest(Arc<AtomicBool>);

impl Rest {
    /// Wishes it.
    pub(crate) fn wish(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Grants it.
    pub(crate) fn before_sleep(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            if let Err(error) = code_pages::unmap_unused() {
                tracing::warn!("give back memory: {error}");
            }
        }
    }
}
