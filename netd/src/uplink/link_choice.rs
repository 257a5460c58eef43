//! Chooses the link of an uplink. Pure.

use crate::link::observed::{Link, Observed};
use std::net::IpAddr;
use yado_spec::network::LinkSelector;

/// The choice of a link, as it is now.
#[derive(Debug, Clone, Default)]
pub struct LinkChoice {
    /// The link, if there is one.
    pub link: Option<ChosenLink>,
    /// Somebody else configured it before us: it is only looked at.
    pub is_left_alone: bool,
}

/// The link that an uplink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenLink {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub hwaddr: [u8; 6],
}

/// What a look has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// It is the link that it was, or there is none still.
    Same,
    /// It is another one than before, or none.
    Another,
}

impl LinkChoice {
    /// Takes the link that `selector` means now. `taken` are others' links, by their names.
    pub fn look(&mut self, selector: &LinkSelector, observed: &Observed, taken: &[String]) -> LinkChange {
        let found = select(selector, self.link.as_ref().map(|link| link.index), observed, taken);
        let chosen = found
            .and_then(|link| Some(ChosenLink { index: link.index, name: link.name.clone(), hwaddr: link.hwaddr? }));
        let look = match (&self.link, &chosen) {
            (Some(old), Some(new)) if old.index == new.index && old.hwaddr == new.hwaddr => LinkChange::Same,
            (None, None) => LinkChange::Same,
            (Some(_), Some(_) | None) | (None, Some(_)) => LinkChange::Another,
        };
        self.link = chosen;
        look
    }

    /// Decides whether a link that is new to us is left alone: one that nobody named, and that has an address which is neither
    /// ours nor among `own`.
    pub fn respect_others(&mut self, selector: &LinkSelector, own: &[IpAddr], observed: &Observed) {
        let is_named = *selector != LinkSelector::FirstEthernet;
        let link = self.link.as_ref().filter(|_| !is_named);
        self.is_left_alone = link.is_some_and(|link| is_configured_by_others(link.index, own, observed));
    }

    /// The link, if it is ours to configure.
    pub fn ours(&self) -> Option<&ChosenLink> {
        self.link.as_ref().filter(|_| !self.is_left_alone)
    }

    /// Whether it is the link with this index.
    pub fn is(&self, index: u32) -> bool {
        self.link.as_ref().is_some_and(|link| link.index == index)
    }
}

/// The link that `selector` means now. A link that was chosen stays chosen as long as it is there.
fn select<'a>(
    selector: &LinkSelector,
    current: Option<u32>,
    observed: &'a Observed,
    taken: &[String],
) -> Option<&'a Link> {
    match selector {
        LinkSelector::Name(name) => observed.link(name),
        LinkSelector::Address(hwaddr) => observed
            .links
            .iter()
            .find(|link| link.is_hardware() && link.permanent_hwaddr().or(link.hwaddr) == Some(*hwaddr)),
        LinkSelector::FirstEthernet => {
            let is_candidate =
                |link: &&Link| link.is_hardware() && link.port.is_none() && !taken.contains(&link.name);
            let candidates = || observed.links.iter().filter(is_candidate);
            let current = candidates().find(|link| Some(link.index) == current);
            current.or_else(|| candidates().min_by_key(|link| link.index))
        }
    }
}

/// It has an address that we did not give it: a network daemon of the host did, or the kernel's `ip=`. `own` is what our
/// predecessor gave it, should the kernel not say so.
fn is_configured_by_others(link: u32, own: &[IpAddr], observed: &Observed) -> bool {
    observed.addresses_of(link).any(|address| !address.is_ours && !own.contains(&address.prefix.address()))
}

#[cfg(test)]
#[path = "link_choice_tests.rs"]
mod tests;
