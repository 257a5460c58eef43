//! The networks that netd keeps: those in `networks.bin`, and earlier ones that instances still use. They are saved as
//! `networks.kept`, in the format of `networks.bin`: a netd that is restarted, or cannot read `networks.bin`, has the same networks
//! as before.
//!
//! A network that is no longer configured but still used stays as it is, also for further runs of its instances, which could not
//! be started again after a crash without it. It is removed when the networks are read again and nobody uses it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use yado_spec::NetworksSpec;
use yado_spec::network::{BridgeSpec, NetworksError};
use yado_wire::{Failure, InstanceName, Step, Text};

/// Why there are no networks from a file.
#[derive(Debug)]
pub enum ReadNetworksError {
    /// The kernel does not give it.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not one, or longer than one can be.
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NetworksError,
    },
}

/// A network that cannot be as it is wanted now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is to go, and instances use it.
    InUse {
        /// Which network.
        network: Text<15>,
        /// Who uses it; never empty.
        users: Vec<InstanceName>,
    },
    /// It is in the way of one that stays because it is used.
    Collides {
        /// Which network.
        network: Text<15>,
        /// What they would share.
        reason: String,
    },
}

/// 24 networks with every key set take a tenth of this.
const MAX_BYTES: u64 = 64 * 1024;
/// So many users are named.
const MAX_NAMED: usize = 4;

/// Reads the first of the files that is there; the error that none is, is about the first.
pub fn read_networks(paths: &[PathBuf]) -> Result<NetworksSpec, ReadNetworksError> {
    let mut absent = None;
    for path in paths {
        match read_file(path) {
            Err(error) if error.is_absent() => absent = absent.or(Some(error)),
            answer => return answer,
        }
    }
    let no_file = || ReadNetworksError::Read { path: PathBuf::new(), source: io::ErrorKind::NotFound.into() };
    Err(absent.unwrap_or_else(no_file))
}

fn read_file(path: &Path) -> Result<NetworksSpec, ReadNetworksError> {
    let failed = |source| ReadNetworksError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
    let refused = |source| ReadNetworksError::Decode { path: path.to_owned(), source };
    if MAX_BYTES < bytes.len() as u64 {
        return Err(refused(NetworksError::Body));
    }
    NetworksSpec::decode(&bytes).map_err(refused)
}

/// The networks after a change from `current` to `wanted`. `users` are the instances that use a network now.
pub fn change_networks(
    current: &NetworksSpec,
    wanted: NetworksSpec,
    users: impl Fn(&BridgeSpec) -> Vec<InstanceName>,
) -> (NetworksSpec, Vec<Refused>) {
    let NetworksSpec { uplinks, bridges } = wanted;
    let mut refused = Vec::new();
    let mut bridges: Vec<KeptBridge> =
        bridges.into_iter().map(|bridge| KeptBridge { bridge, is_old: false }).collect();
    for old in &current.bridges {
        if bridges.iter().any(|kept| kept.bridge.name == old.name) {
            continue;
        }
        let users = users(old);
        if users.is_empty() {
            continue;
        }
        refused.push(Refused::InUse { network: old.name.clone(), users });
        bridges.push(KeptBridge { bridge: old.clone(), is_old: true });
    }
    // One that is put back as it was may be in the way of another new one: each round ends one new one, so there is an end.
    while let Some((index, reason)) = first_in_the_way(&bridges) {
        let KeptBridge { bridge, is_old: _ } = bridges.remove(index);
        // As it was, if it was.
        let before = current.bridges.iter().find(|before| before.name == bridge.name);
        refused.push(Refused::Collides { network: bridge.name, reason });
        let is_free = |before: &&BridgeSpec| clash_with_old(before, &bridges).is_none();
        if let Some(before) = before.filter(is_free) {
            bridges.insert(index, KeptBridge { bridge: before.clone(), is_old: true });
        }
    }
    let mut bridges: Vec<BridgeSpec> = bridges.into_iter().map(|kept| kept.bridge).collect();
    // The last ones, which are those that stay because they are used, are not left out.
    let too_many = bridges.len().saturating_sub(NetworksSpec::MAX_BRIDGES);
    for bridge in bridges.drain(..too_many) {
        let reason = format!("with those that are still used there are more than {}", NetworksSpec::MAX_BRIDGES);
        refused.push(Refused::Collides { network: bridge.name, reason });
    }
    (NetworksSpec { uplinks, bridges }, refused)
}

/// A network that there will be.
struct KeptBridge {
    bridge: BridgeSpec,
    /// It is as it was, and not as it is wanted.
    is_old: bool,
}

/// The first of the new ones that an old one has no room for, by its place, and what they would share.
fn first_in_the_way(bridges: &[KeptBridge]) -> Option<(usize, String)> {
    let mut new = bridges.iter().enumerate().filter(|(_, kept)| !kept.is_old);
    new.find_map(|(index, kept)| Some((index, clash_with_old(&kept.bridge, bridges)?)))
}

fn clash_with_old(bridge: &BridgeSpec, bridges: &[KeptBridge]) -> Option<String> {
    bridges.iter().filter(|kept| kept.is_old).find_map(|old| bridge.clash(&old.bridge))
}

impl Refused {
    /// Which network.
    pub fn network(&self) -> &Text<15> {
        match self {
            Refused::InUse { network, users: _ } | Refused::Collides { network, reason: _ } => network,
        }
    }

    /// As it travels to whoever asked.
    pub fn failure(&self) -> Failure {
        let reason = match self {
            Refused::InUse { network: _, users } => {
                let named: Vec<&str> = users.iter().take(MAX_NAMED).map(InstanceName::as_str).collect();
                let more = match users.len().saturating_sub(MAX_NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("still used by {}{more}; it stays as it is", named.join(", "))
            }
            Refused::Collides { network: _, reason } => reason.clone(),
        };
        Failure::refused(Step::Network, self.network(), &reason)
    }
}

impl ReadNetworksError {
    /// Whether no file is there at all.
    pub fn is_absent(&self) -> bool {
        matches!(self, ReadNetworksError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// As it travels to whoever asked.
    pub fn failure(&self) -> Failure {
        match self {
            ReadNetworksError::Read { path, source } => {
                Failure::from_io(Step::Network, &path.display().to_string(), source)
            }
            ReadNetworksError::Decode { path, source } => {
                Failure::refused(Step::Network, &path.display().to_string(), &source.to_string()).in_vain()
            }
        }
    }
}

impl fmt::Display for ReadNetworksError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadNetworksError::Read { path, source } => write!(out, "read {}: {source}", path.display()),
            ReadNetworksError::Decode { path, source } => write!(out, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for ReadNetworksError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use yado_spec::network::Ipv4Prefix;
    use yado_wire::names::clipped;

    fn bridge(name: &str, address: &str) -> BridgeSpec {
        let mut bridge = BridgeSpec::named(clipped(name));
        bridge.ipv4.as_mut().unwrap().address = Ipv4Prefix::parse(address).unwrap();
        bridge
    }

    fn networks(bridges: &[(&str, &str)]) -> NetworksSpec {
        let bridges = bridges.iter().map(|(name, address)| bridge(name, address)).collect();
        NetworksSpec { uplinks: Vec::new(), bridges }
    }

    /// What is kept and what is refused when `used` is used by one instance.
    fn changed(
        current: &[(&str, &str)],
        wanted: &[(&str, &str)],
        used: &str,
    ) -> (Vec<(String, String)>, Vec<String>) {
        let one = InstanceName::parse("one").unwrap();
        let users = |bridge: &BridgeSpec| if bridge.name == used { vec![one.clone()] } else { Vec::new() };
        let (spec, refused) = change_networks(&networks(current), networks(wanted), users);
        let address = |bridge: &BridgeSpec| bridge.ipv4.as_ref().unwrap().address.to_string();
        let kept = spec.bridges.iter().map(|bridge| (bridge.name.to_string(), address(bridge)));
        (kept.collect(), refused.iter().map(|refused| refused.failure().to_string()).collect())
    }

    #[test]
    fn a_network_goes_when_nobody_uses_it_and_stays_as_it_is_otherwise() {
        let (a, b) = (("a", "10.1.0.1/24"), ("b", "10.2.0.1/24"));
        let owned = |bridges: &[(&str, &str)]| -> Vec<(String, String)> {
            bridges.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned())).collect()
        };
        assert_eq!(changed(&[a, b], &[a], ""), (owned(&[a]), vec![]));
        assert_eq!(changed(&[a, b], &[("a", "10.3.0.1/24"), b], "a"), (owned(&[("a", "10.3.0.1/24"), b]), vec![]));
        let stays = "network: b: still used by one; it stays as it is".to_owned();
        assert_eq!(changed(&[a, b], &[a], "b"), (owned(&[a, b]), vec![stays.clone()]));
        // One that takes the place of what stays waits for it, and one that moved there is as it was.
        let in_the_way =
            |name| format!("network: {name}: ipv4.address 10.2.0.9/24 is in the network of b (10.2.0.1/24)");
        assert_eq!(
            changed(&[a, b], &[a, ("c", "10.2.0.9/24")], "b"),
            (owned(&[a, b]), vec![stays.clone(), in_the_way("c")])
        );
        assert_eq!(
            changed(&[a, b], &[("a", "10.2.0.9/24")], "b"),
            (owned(&[a, b]), vec![stays.clone(), in_the_way("a")])
        );
        // So is one that took the place of that which is as it was.
        let of_a = "network: c: ipv4.address 10.1.0.5/24 is in the network of a (10.1.0.1/24)".to_owned();
        for wanted in [[("a", "10.2.0.9/24"), ("c", "10.1.0.5/24")], [("c", "10.1.0.5/24"), ("a", "10.2.0.9/24")]] {
            assert_eq!(
                changed(&[a, b], &wanted, "b"),
                (owned(&[a, b]), vec![stays.clone(), in_the_way("a"), of_a.clone()])
            );
        }
    }

    #[test]
    fn what_is_used_is_among_the_most_that_there_can_be() {
        let names: Vec<(String, String)> =
            (0..NetworksSpec::MAX_BRIDGES).map(|n| (format!("n{n}"), format!("10.{n}.0.1/24"))).collect();
        let wanted: Vec<(&str, &str)> = names.iter().map(|(name, address)| (&**name, &**address)).collect();
        let (kept, refused) = changed(&[("old", "10.99.0.1/24")], &wanted, "old");
        assert_eq!((kept.len(), kept.last().unwrap().0.as_str()), (NetworksSpec::MAX_BRIDGES, "old"));
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert!(refused[1].starts_with("network: n0: "), "{refused:?}");
    }

    #[test]
    fn the_first_file_that_is_there_counts_and_a_bad_one_is_not_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
        let paths = [first.clone(), second.clone()];
        let error = read_networks(&paths).unwrap_err();
        assert!(error.is_absent() && error.to_string().contains("first: No such file"), "{error}");
        std::fs::write(&second, networks(&[("b", "10.2.0.1/24")]).encode()).unwrap();
        assert_eq!(read_networks(&paths).unwrap(), networks(&[("b", "10.2.0.1/24")]));
        std::fs::write(&first, networks(&[("a", "10.1.0.1/24")]).encode()).unwrap();
        assert_eq!(read_networks(&paths).unwrap(), networks(&[("a", "10.1.0.1/24")]));
        std::fs::write(&first, b"YNET").unwrap();
        assert!(read_networks(&paths).unwrap_err().to_string().ends_with("first: networks: not of this version"));
        File::create(&first).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(read_networks(&paths), Err(ReadNetworksError::Decode { .. })));
    }
}
