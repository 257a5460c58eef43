//! Which places of the program inputs have reached, and how often, in orders of magnitude: that an input is the first to come
//! somewhere so often makes it worth keeping. Only a build of `cargo accept fuzz` can tell.

#[derive(Default)]
pub(super) struct Paths {
    /// For each place, a bit for each order of magnitude.
    #[cfg(yado_coverage)]
    seen: Vec<u8>,
}

#[cfg(yado_coverage)]
impl Paths {
    /// Before an input.
    pub(super) fn begin(&mut self) {
        yado_sys::coverage::reset();
    }

    /// After it: whether it took a new path.
    pub(super) fn end(&mut self) -> bool {
        let mut is_new = false;
        yado_sys::coverage::tell(|place, count| {
            if self.seen.len() <= place {
                self.seen.resize(place + 1, 0);
            }
            let magnitude = 1 << count.ilog2().min(7);
            is_new |= self.seen[place] & magnitude == 0;
            self.seen[place] |= magnitude;
        });
        is_new
    }

    /// How many places were reached.
    pub(super) fn count(&self) -> Option<usize> {
        Some(self.seen.iter().filter(|seen| **seen != 0).count())
    }
}

#[cfg(not(yado_coverage))]
impl Paths {
    pub(super) fn begin(&mut self) {}

    pub(super) fn end(&mut self) -> bool {
        false
    }

    pub(super) fn count(&self) -> Option<usize> {
        None
    }
}
