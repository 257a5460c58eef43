//! The ranges in one file on the data partition. The first id of each range is also the group of its instance's directory
//! there: if the file is lost, the ranges are restored from these groups.

use super::{Claim, FIRST_ID, IdRanges, ParseError};
use crate::instance::Instance;
use crate::log::{Log, Priority};
use crate::places::Places;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::Path;
use yado_sys::replace_file;
use yado_wire::InstanceName;

/// Longer than what as many ranges as there can be take.
const MAX_FILE_BYTES: u64 = 128 * 1024;

/// Instances' directories that are looked at. Far more than there are; a bound for one call.
const MOST_DIRECTORIES: usize = 4096;

/// How long what is written to the data partition is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It lies on a disk.
    ForGood,
    /// Something in memory stands in for the partition.
    UntilReboot,
}

/// Gives each instance its range, and writes down what is new. Nothing is written where nothing changed.
pub(crate) fn assign(places: &Places, kept: Kept, instances: &mut [Instance], log: &mut Log) {
    let path = places.id_ranges();
    let (stored, may_write) = match read(&path) {
        Ok(None) => (None, true),
        Ok(Some(Ok(ranges))) => (Some(ranges), true),
        Ok(Some(Err(error))) => {
            let why = match error {
                ParseError::Damaged => "is damaged: host ids are taken from the instances' directories",
                ParseError::OtherVersion => "is of another version: it is left as it is",
            };
            log.say(Priority::Error, format_args!("{} {why}", path.display()));
            (None, error == ParseError::Damaged)
        }
        Err(error) => {
            log.say(Priority::Error, format_args!("read {}: {error}", path.display()));
            (None, false)
        }
    };
    let claims = claims(places, instances);
    let ranges = stored.clone().unwrap_or_default();
    let ranges = match kept {
        Kept::ForGood => ranges.settle(&claims),
        Kept::UntilReboot => ranges.settle_apart(&claims),
    };
    for instance in instances {
        let had = stored.as_ref().and_then(|stored| stored.first_id(&instance.name));
        // Without one it does not start, and says so.
        instance.idmap_base = ranges.first_id(&instance.name);
        if had.is_some() && had != instance.idmap_base {
            let name = &instance.name;
            let words = "needs more host ids than there were in its place: files of its on disks without shift have the old ones";
            log.say(Priority::Warning, format_args!("{name}: {words}"));
        }
    }
    if may_write && stored.as_ref() != Some(&ranges) {
        if let Err(error) = write(&path, &ranges) {
            log.say(Priority::Error, format_args!("write {}: {error}", path.display()));
        }
    }
}

/// Marks an instance's directory on the data partition as that of who has the range which begins here.
pub(crate) fn leave_witness(places: &Places, name: &InstanceName, first: u32) -> io::Result<()> {
    let directory = places.instance(name);
    if first < FIRST_ID || fs::metadata(&directory)?.gid() == first {
        return Ok(());
    }
    chown(&directory, None, Some(first))
}

/// Those of all that are configured, then of all that have left something, in the order of their names: what is given
/// without the file is given alike each time.
fn claims(places: &Places, instances: &[Instance]) -> Vec<Claim> {
    let mut claims: Vec<Claim> = instances
        .iter()
        .map(|instance| {
            let spec = instance.spec.as_ref().ok().filter(|spec| !spec.security.privileged);
            let count = spec.map(|spec| spec.security.idmap_size);
            Claim { name: instance.name.clone(), count, witness: witness(&places.instance(&instance.name)) }
        })
        .collect();
    let entries = fs::read_dir(places.instances()).into_iter().flatten().flatten().take(MOST_DIRECTORIES);
    for entry in entries {
        let Ok(name) = InstanceName::parse(&entry.file_name().to_string_lossy()) else { continue };
        if !claims.iter().any(|claim| claim.name == name) {
            claims.push(Claim { name, count: None, witness: witness(&entry.path()) });
        }
    }
    claims.sort_by(|one, other| one.name.cmp(&other.name));
    claims
}

fn witness(directory: &Path) -> Option<u32> {
    fs::symlink_metadata(directory).ok().map(|found| found.gid()).filter(|gid| FIRST_ID <= *gid)
}

/// `None`: there is none.
fn read(path: &Path) -> io::Result<Option<Result<IdRanges, ParseError>>> {
    let mut bytes = Vec::new();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(IdRanges::parse(&bytes)))
}

fn write(path: &Path, ranges: &IdRanges) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    replace_file::replace(path, 0o644, ranges.text().as_bytes())
}
