//! All instances by their ids. An instance that comes or goes changes no other's id.

use crate::boot_order::start_order;
use crate::instance::{Instance, Run};
use std::rc::Rc;
use yado_wire::{InstanceId, InstanceName};

/// All instances.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    /// By id.
    list: Vec<Instance>,
    /// In the order in which they start.
    order: Rc<[InstanceId]>,
}

impl Instances {
    /// These, each of which has an id of its own.
    pub(crate) fn new(mut list: Vec<Instance>) -> Instances {
        list.sort_by_key(|instance| instance.id);
        let order = in_boot_order(&list);
        Instances { list, order }
    }

    /// The one with this id.
    pub(crate) fn get(&self, id: InstanceId) -> Option<&Instance> {
        self.list.get(self.position(id)?)
    }

    /// The one with this id.
    pub(crate) fn get_mut(&mut self, id: InstanceId) -> Option<&mut Instance> {
        let at = self.position(id)?;
        self.list.get_mut(at)
    }

    /// The run of the one with this id; `None`: nothing of it runs.
    pub(crate) fn run_mut(&mut self, id: InstanceId) -> Option<&mut Run> {
        self.get_mut(id)?.run.as_mut()
    }

    /// The one with this name.
    pub(crate) fn named(&self, name: &InstanceName) -> Option<&Instance> {
        self.list.iter().find(|instance| instance.name == *name)
    }

    /// The ids, in boot order, as they are now, whatever becomes of the instances meanwhile.
    pub(crate) fn ids(&self) -> Rc<[InstanceId]> {
        self.order.clone()
    }

    /// All, in boot order.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Instance> {
        self.order.iter().filter_map(|id| self.get(*id))
    }

    /// All, by id: each turn of the loop asks several times.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Instance> {
        self.list.iter()
    }

    /// All, by id.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Instance> {
        self.list.iter_mut()
    }

    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// Adds one whose id is no other's. Before it starts in its turn, [`set_order`](Instances::set_order).
    pub(crate) fn insert(&mut self, instance: Instance) {
        let at = self.list.iter().take_while(|known| known.id < instance.id).count();
        self.list.insert(at, instance);
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, id: InstanceId) {
        self.list.retain(|known| known.id != id);
    }

    /// Puts all in boot order anew.
    pub(crate) fn set_order(&mut self) {
        self.order = in_boot_order(&self.list);
    }

    fn position(&self, id: InstanceId) -> Option<usize> {
        self.list.binary_search_by_key(&id, |instance| instance.id).ok()
    }
}

/// Those without a spec come last: nobody waits for them.
fn in_boot_order(list: &[Instance]) -> Rc<[InstanceId]> {
    let good: Vec<(InstanceId, &Instance)> =
        list.iter().filter(|instance| instance.spec.is_ok()).map(|instance| (instance.id, instance)).collect();
    let rules: Vec<_> = good.iter().filter_map(|(_, one)| Some((&one.name, &one.spec.as_ref().ok()?.boot))).collect();
    let good = start_order(&rules).into_iter().filter_map(|at| Some(good.get(at)?.0));
    let bad = list.iter().filter(|instance| instance.spec.is_err()).map(|instance| instance.id);
    good.chain(bad).collect()
}
