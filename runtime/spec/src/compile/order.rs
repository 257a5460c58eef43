//! `after` among all instances: unknown names, cycles, and instances that wait for one that will never start.

use crate::instance::InstanceSpec;
use crate::layer::Located;
use crate::nearest::nearest;
use crate::parsed_file::ParsedFile;
use crate::problem::{Fault, Problem};
use std::collections::{BTreeMap, BTreeSet};
use yado_wire::InstanceName;

type Instances = BTreeMap<InstanceName, (ParsedFile, Result<InstanceSpec, Vec<Problem>>)>;
type Edges = BTreeMap<InstanceName, Vec<(InstanceName, Located)>>;

/// Fills in `boot.after` of every spec; those that cannot start get their problems instead.
pub(super) fn check(instances: &mut Instances) {
    let edges = edges(instances);
    for (name, cycle) in cycles(&edges) {
        let mut after = edges.get(&name).into_iter().flatten();
        let Some((_, located)) = after.find(|(next, _)| Some(next) == cycle.get(1)) else { continue };
        let path = cycle.iter().map(InstanceName::as_str).collect::<Vec<_>>().join(" after ");
        add(instances, &name, located.problem("after", Fault::Cycle { path }));
    }
    spread(instances, &edges);
    for (name, after) in edges {
        if let Some((_, Ok(spec))) = instances.get_mut(&name) {
            let unique: BTreeSet<InstanceName> = after.into_iter().map(|(other, _)| other).collect();
            spec.boot.after = unique.into_iter().collect();
        }
    }
}

/// The instances that each one names and that exist; the others are problems.
fn edges(instances: &mut Instances) -> Edges {
    let mut edges = Edges::new();
    let mut unknown = Vec::new();
    for (name, (parsed, _)) in instances.iter() {
        let mut known = Vec::new();
        for located in &parsed.after {
            match name.beside(&located.text).ok().filter(|other| instances.contains_key(other)) {
                Some(other) => known.push((other, located.clone())),
                None => {
                    let names = instances.keys().filter(|other| *other != name).map(InstanceName::as_str);
                    let nearest = nearest(&located.text, names).map(str::to_owned);
                    let fault = Fault::Unknown { what: "instance", nearest };
                    unknown.push((name.clone(), located.problem("after", fault)));
                }
            }
        }
        edges.insert(name.clone(), known);
    }
    for (name, problem) in unknown {
        add(instances, &name, problem);
    }
    edges
}

/// Each instance that comes after itself, with a shortest way back to it: `[a, b, a]`.
fn cycles(edges: &Edges) -> Vec<(InstanceName, Vec<InstanceName>)> {
    edges.keys().filter_map(|name| way_back(name, edges).map(|way| (name.clone(), way))).collect()
}

fn way_back(from: &InstanceName, edges: &Edges) -> Option<Vec<InstanceName>> {
    let mut came_from: BTreeMap<&InstanceName, &InstanceName> = BTreeMap::new();
    let mut round: Vec<&InstanceName> = vec![from];
    while !round.is_empty() {
        let mut next_round = Vec::new();
        for here in round {
            for (next, _) in edges.get(here).into_iter().flatten() {
                if next == from {
                    let mut way = vec![from.clone(), here.clone()];
                    while way.last() != Some(from) {
                        let before = came_from.get(way.last()?)?;
                        way.push((*before).clone());
                    }
                    if here == from {
                        way = vec![from.clone(), from.clone()];
                    }
                    way.reverse();
                    return Some(way);
                }
                if !came_from.contains_key(next) {
                    came_from.insert(next, here);
                    next_round.push(next);
                }
            }
        }
        round = next_round;
    }
    None
}

/// Who comes after an instance with problems cannot start either, and so on.
fn spread(instances: &mut Instances, edges: &Edges) {
    loop {
        let is_bad = |name: &InstanceName| matches!(instances.get(name), Some((_, Err(_))));
        let next = edges.iter().find_map(|(name, after)| {
            let (bad, located) = after.iter().find(|(other, _)| is_bad(other))?;
            (!is_bad(name)).then(|| (name.clone(), bad.clone(), located.clone()))
        });
        let Some((name, bad, located)) = next else { return };
        let fault = Fault::Dependency { instance: bad.to_string() };
        add(instances, &name, located.problem("after", fault));
    }
}

fn add(instances: &mut Instances, name: &InstanceName, problem: Problem) {
    let Some((_, spec)) = instances.get_mut(name) else { return };
    match spec {
        Ok(_) => *spec = Err(vec![problem]),
        Err(problems) => problems.push(problem),
    }
}
