//! Stores all ids and id ranges in one file on the data partition. The layer of an instance is a directory named by its id; its
//! group is the first host id, and a link in it holds the name. If the file is lost, it is restored from these.

use super::{Claim, FIRST_HOST_ID, Identities, MAX_FILE_BYTES, ParseError, RangeChange, Witness, users_of_host};
use crate::log::{Log, Priority};
use crate::paths::Paths;
use crate::specs::Configured;
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown, symlink};
use std::path::Path;
use std::process::ExitCode;
use yado_spec::directory_name::OWNER;
use yado_sys::{regular_file, replace_file};
use yado_wire::formats::Standing;
use yado_wire::rescue::Mode;
use yado_wire::{InstanceId, InstanceName};

/// Layers that are looked at. Far more than there are; a bound for one call.
const MAX_DIRECTORIES: usize = 4096;

/// How long what is written to the data partition is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// It lies on a disk.
    ForGood,
    /// Something in memory stands in for the partition.
    UntilReboot,
}

/// Whether the file says who is who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentitiesFile {
    /// It is not ours to write.
    NotOurs,
    /// It does, or is being written.
    Written,
    /// Writing it has failed. Until it is written, layers say it.
    Behind,
}

/// Gives each instance its id and its range, and writes down what is new. Nothing is written where nothing changed.
pub(crate) fn assign(
    paths: &Paths,
    persistence: Persistence,
    standing: Standing,
    configured: &[Configured],
    log: &mut Log,
) -> (Identities, IdentitiesFile) {
    let path = paths.identities();
    let (stored, may_write) = match read(&path) {
        Ok(None) => (None, true),
        Ok(Some(Ok(identities))) => (Some(identities), true),
        Ok(Some(Err(error))) => {
            let why = match error {
                ParseError::Damaged => "is damaged: who has which ids is taken from the instances' layers",
                ParseError::LaterVersion => "is of a later version: it is left as it is",
            };
            log.say(Priority::Error, format_args!("{} {why}", path.display()));
            (None, error == ParseError::Damaged)
        }
        Err(error) => {
            log.say(Priority::Error, format_args!("read {}: {error}", path.display()));
            (None, false)
        }
    };
    let layers = layers(paths);
    let last = layers.iter().map(|layer| layer.witness.id).max().unwrap_or(InstanceId(0));
    let claims = claims(configured, layers);
    let users = match paths.mode {
        Mode::Hosted => users_of_host::read(log),
        Mode::System => Vec::new(),
    };
    let identities = Identities { users, ..Identities::of(stored.clone(), standing) };
    let identities = match persistence {
        Persistence::ForGood => identities.settle(&claims, last),
        Persistence::UntilReboot => identities.settle_apart(&claims, last),
    };
    for claim in &claims {
        let stored = stored.as_ref().filter(|stored| stored.id(&claim.name).is_some());
        let before = match stored {
            Some(stored) => stored.first_host_id(&claim.name, 1),
            None => claim.witness.and_then(|witness| witness.first),
        };
        say_change(log, before, &identities, claim);
    }
    if !may_write {
        return (identities, IdentitiesFile::NotOurs);
    }
    if stored.map(|stored| stored.text()) != Some(identities.text()) {
        if let Err(error) = write(&path, &identities.text()) {
            log.say(Priority::Error, format_args!("write {}: {error}", path.display()));
            return (identities, IdentitiesFile::Behind);
        }
    }
    (identities, IdentitiesFile::Written)
}

/// Says what its administrator must know of an instance's range. `before`: the first id that it had.
pub(crate) fn say_change(log: &mut Log, before: Option<u32>, identities: &Identities, claim: &Claim) {
    let name = &claim.name;
    match identities.change(before, claim) {
        None => {}
        Some(change @ RangeChange::Moved { .. }) => log.say(Priority::Warning, format_args!("{name}: {change}")),
        Some(change @ RangeChange::TooSmall { .. }) => log.say(Priority::Error, format_args!("{name}: {change}")),
    }
    if claim.count.is_some() && identities.is_shared_with_users(name) {
        let words = "a user of this machine has some of its ids too, by /etc/subuid or /etc/subgid, and is root of its files and \
                     processes: give that user others (usermod --del-subuids, --add-subuids)";
        log.say(Priority::Warning, format_args!("{name}: {words}"));
    }
}

/// Marks a layer as that of the instance of this name, with the range that begins here.
pub(crate) fn leave_witness(layer: &Path, name: &InstanceName, first: Option<u32>) -> io::Result<()> {
    let owner = layer.join(OWNER);
    if fs::read_link(&owner).ok().is_none_or(|known| known.as_os_str() != name.as_str()) {
        match fs::remove_file(&owner) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => symlink(name.as_str(), &owner)?,
        }
    }
    match first {
        Some(first) if FIRST_HOST_ID <= first && fs::metadata(layer)?.gid() != first => {
            chown(layer, None, Some(first))
        }
        Some(_) | None => Ok(()),
    }
}

/// What an instance that is configured needs.
pub(crate) fn claim(Configured { name, spec, .. }: &Configured) -> Claim {
    let count = spec.as_ref().ok().and_then(|spec| spec.security.id_count());
    Claim { name: name.clone(), count, witness: None }
}

/// A layer on the data partition.
#[derive(Debug)]
struct Layer {
    witness: Witness,
    /// The instance that the layer's link names; `None`: there is no such link.
    owner: Option<InstanceName>,
}

fn layers(paths: &Paths) -> Vec<Layer> {
    let entries = fs::read_dir(paths.layers()).into_iter().flatten().flatten().take(MAX_DIRECTORIES);
    entries
        .filter_map(|entry| {
            let id = InstanceId(entry.file_name().to_str()?.parse().ok()?);
            let path = entry.path();
            let first = fs::symlink_metadata(&path).ok().map(|found| found.gid()).filter(|gid| FIRST_HOST_ID <= *gid);
            let owner = fs::read_link(path.join(OWNER)).ok();
            let owner = owner.and_then(|owner| InstanceName::parse(owner.to_str()?).ok());
            Some(Layer { witness: Witness { id, first }, owner })
        })
        .collect()
}

/// Those of all that are configured, then of all that have left a layer, in the order of their names: what is given without the
/// file is given alike each time.
fn claims(configured: &[Configured], mut layers: Vec<Layer>) -> Vec<Claim> {
    // Of two layers of one name the later one is its own.
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.witness.id));
    let witness = |name: &InstanceName| {
        layers.iter().find(|layer| layer.owner.as_ref() == Some(name)).map(|layer| layer.witness)
    };
    let mut claims: Vec<Claim> =
        configured.iter().map(|one| Claim { witness: witness(&one.name), ..claim(one) }).collect();
    for layer in &layers {
        let Some(name) = &layer.owner else { continue };
        if !claims.iter().any(|claim| claim.name == *name) {
            claims.push(Claim { name: name.clone(), count: None, witness: Some(layer.witness) });
        }
    }
    claims.sort_by(|one, other| one.name.cmp(&other.name));
    claims
}

/// `None`: there is none.
fn read(path: &Path) -> io::Result<Option<Result<Identities, ParseError>>> {
    let mut bytes = Vec::new();
    let file = match regular_file::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(Identities::parse(&bytes)))
}

/// The helper: writes the file for an init that runs, which must not wait for a disk.
pub(crate) fn run_save(path: &Path, text: &str) -> ExitCode {
    match write(path, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("write {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    replace_file::replace(path, 0o644, text.as_bytes())
}
