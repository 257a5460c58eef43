//! The order in which instances start and stop. Pure.

use yado_spec::instance::Boot;
use yado_wire::InstanceName;

/// The numbers of `instances` in the order in which they start: nobody before those it names in `after`; of those that
/// could be next, the higher priority first, then by name. A cycle, which the compiler refuses, would only put its
/// members last.
pub(crate) fn start_order(instances: &[(&InstanceName, &Boot)]) -> Vec<usize> {
    let mut left: Vec<usize> = (0..instances.len()).collect();
    left.sort_by_key(|&number| instances.get(number).map(|(name, boot)| (core::cmp::Reverse(boot.priority), *name)));
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let names_left: Vec<&InstanceName> =
            left.iter().filter_map(|&number| instances.get(number)).map(|(name, _)| *name).collect();
        let next = left
            .iter()
            .position(|&number| {
                instances
                    .get(number)
                    .is_none_or(|(_, boot)| !boot.after.iter().any(|name| names_left.contains(&name)))
            })
            .unwrap_or(0);
        order.push(left.remove(next));
    }
    order
}

/// Whether `this` may be stopped while `others` still run: those that come after it, and those with a higher stop
/// priority, go first.
pub(crate) fn may_stop<'a>(
    this: (&InstanceName, &Boot),
    mut others: impl Iterator<Item = (&'a InstanceName, &'a Boot)>,
) -> bool {
    others.all(|(_, other)| !other.after.contains(this.0) && other.stop_priority <= this.1.stop_priority)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn instance(name: &str, priority: i32, after: &[&str]) -> (InstanceName, Boot) {
        let parse = |name: &&str| InstanceName::parse(name).unwrap();
        let boot = Boot {
            autostart: true,
            delay: Duration::ZERO,
            priority,
            after: after.iter().map(parse).collect(),
            shutdown_timeout: Duration::ZERO,
            stop_priority: priority,
            stop_method: None,
        };
        (parse(&name), boot)
    }

    fn order(instances: &[(InstanceName, Boot)]) -> Vec<&str> {
        let list: Vec<_> = instances.iter().map(|(name, boot)| (name, boot)).collect();
        start_order(&list).into_iter().map(|number| instances[number].0.as_str()).collect()
    }

    #[test]
    fn after_comes_before_priority_and_priority_before_the_name() {
        let instances = [
            instance("web", 100, &["db", "cache"]),
            instance("b", 0, &[]),
            instance("a", 0, &["nobody"]),
            instance("db", -5, &[]),
            instance("cache", 7, &[]),
        ];
        assert_eq!(order(&instances), ["cache", "a", "b", "db", "web"]);
    }

    #[test]
    fn a_cycle_keeps_nobody_from_starting() {
        let instances = [instance("a", 0, &["b"]), instance("b", 0, &["a"]), instance("c", 0, &[])];
        assert_eq!(order(&instances), ["c", "a", "b"]);
    }

    #[test]
    fn dependents_and_higher_stop_priorities_stop_first() {
        let db = instance("db", 0, &[]);
        let web = instance("web", 0, &["db"]);
        let high = instance("high", 9, &[]);
        let may = |this: &(InstanceName, Boot), others: &[&(InstanceName, Boot)]| {
            may_stop((&this.0, &this.1), others.iter().map(|other| (&other.0, &other.1)))
        };
        assert!(!may(&db, &[&web]));
        assert!(may(&web, &[&db]));
        assert!(!may(&web, &[&db, &high]));
        assert!(may(&high, &[&db, &web]));
        assert!(may(&db, &[]));
    }
}
