//! Whether a release may be installed here, and what of it differs from what the device has.

use super::{Driver, line};
use crate::admission::{self, Board, KernelOptions, SlotRoom};
use crate::instances;
use crate::machine::{Event, Offer, Place};
use crate::record;
use crate::slot;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::Path;
use yado_image::release::{Manifest, Release};
use yado_image::{Architecture, Header, RuntimeVersion, Wanted, hex, manifest as image, open};
use yado_sys::volume;
use yado_wire::InstanceName;

/// Of the data partition, this stays free for logs and for what instances write.
const DATA_RESERVE_BYTES: u64 = 4 << 20;

impl Driver {
    /// What the machine is told of a verified release: that it may be installed, and what of it is new; or the one rule that refuses it.
    pub(super) fn offer(&mut self, release: &Release) -> Event {
        match self.judge(release, self.state.record.is_held) {
            Some((offer, words)) => {
                self.status.note(&words);
                Event::Admitted(offer)
            }
            None => Event::NotAdmitted,
        }
    }

    /// What of a verified release is new, and in words that it may be installed. `None`: the rule that refuses it is said.
    pub(super) fn judge(&mut self, release: &Release, is_held: bool) -> Option<(Offer, String)> {
        let running = self.images_of_instances();
        let board = Board { is_held, ..self.board(&release.manifest, &running) };
        let admitted = match admission::admit(release, &board) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.exit = refusal.exit_code();
                self.status.set_error(refusal.rule(), &refusal.to_string());
                return None;
            }
        };
        let manifest = &release.manifest;
        let words = format!(
            "release {} may be installed: {} files, {} bytes at most",
            release.header.release,
            admitted.parts.len(),
            admitted.bytes
        );
        let differs = |name: &InstanceName| {
            manifest.instances.get(name).map(|image| image.fingerprint) != running.get(name).copied().flatten()
        };
        let offer = Offer {
            release: record::Release {
                fingerprint: release.fingerprint,
                number: release.header.release,
                security_epoch: release.header.security_epoch,
                version: line(&manifest.version),
            },
            system: manifest.system.as_ref().map(|system| system.fingerprint),
            instances: manifest.instances.keys().filter(|name| differs(name)).cloned().collect(),
            needs_uplink: manifest.needs_uplink,
        };
        Some((offer, words))
    }

    fn board(&self, manifest: &Manifest, instances: &BTreeMap<InstanceName, Option<[u8; 32]>>) -> Board {
        let record = &self.state.record;
        let blocked = record.blocked.iter().flat_map(|blocked| [Some(blocked.release.fingerprint), blocked.system]);
        let other = self.state.place.slot.other();
        let found = slot::find(other, Some(self.state.place.slot)).inspect_err(|error| println!("{error}")).ok();
        let slot = found.and_then(|found| {
            let boot_bytes = found.boot.as_deref().and_then(length_of);
            Some(SlotRoom { bytes: length_of(&found.image)?, boot_bytes })
        });
        let usage = volume::usage(&self.places.data).ok();
        let running = self.running_system().inspect_err(|error| println!("what runs is not known: {error}")).ok();
        // Who wipes the data partition does not open what was closed before: the system that runs has numbers of its own.
        let factory = running.as_ref().filter(|_| record.current.is_none()).map(|(header, _)| header);
        Board {
            // The product is what the board runs already.
            product: running.as_ref().map(|(_, manifest)| manifest.name.clone()),
            compatible: self.policy.compatible.clone(),
            architecture: own_architecture().unwrap_or(manifest.architecture),
            runtime: RuntimeVersion::this(),
            accepted_release: record.floors.release,
            factory_release: factory.map_or(0, |header| header.release),
            accepted_epoch: record.floors.security_epoch.max(factory.map_or(0, |header| header.security_epoch)),
            current: record.current.as_ref().map(|release| release.fingerprint),
            is_held: record.is_held,
            blocked: blocked.flatten().collect(),
            slot,
            data_free_bytes: usage.map_or(0, |usage| usage.free_bytes),
            data_reserve_bytes: DATA_RESERVE_BYTES.saturating_add(self.layers_bytes(manifest)),
            images: self.images_here(),
            instances: instances.keys().cloned().collect(),
            memory_mib: memory_mib().unwrap_or(u32::MAX),
            // IKCONFIG_PROC's file is compressed, and most kernels have none.
            kernel: KernelOptions::Unknown,
        }
    }

    /// What the image that was booted says of itself.
    fn running_system(&self) -> Result<(Header, image::Manifest), String> {
        let Place { slot, fingerprint } = self.state.place;
        let path = self.slot_device(slot)?;
        let failed = |error: &dyn std::fmt::Display| format!("slot {slot}, {}: {error}", path.display());
        let wanted = Wanted { fingerprint, ..Wanted::system() };
        let trusted = open::open_trusted(&path, &self.keys()?, &wanted).map_err(|error| failed(&error))?;
        let text = open::read_manifest(&trusted.file, &trusted.header).map_err(|error| failed(&error))?;
        let manifest = image::Manifest::parse(&text).map_err(|error| failed(&error))?;
        Ok((trusted.header, manifest))
    }

    /// What the copies of the layers of the release's instances take.
    fn layers_bytes(&self, manifest: &Manifest) -> u64 {
        let names: Vec<InstanceName> = manifest.instances.keys().cloned().collect();
        match instances::layers_size(&self.instance_places(), &names) {
            Ok(size) => size.bytes,
            Err(error) => {
                println!("{error}");
                0
            }
        }
    }

    /// Fingerprints of the containers' images that lie on the data partition.
    fn images_here(&self) -> BTreeSet<[u8; 32]> {
        let entries = fs::read_dir(self.places.data.join("images"));
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| hex::parse_digest(name.to_str()?)).collect()
    }
}

/// The architecture that this program was built for.
fn own_architecture() -> Option<Architecture> {
    match std::env::consts::ARCH {
        "aarch64" => Some(Architecture::Arm64),
        "arm" => Some(Architecture::Armhf),
        "x86_64" => Some(Architecture::X86_64),
        _ => None,
    }
}

fn length_of(device: &Path) -> Option<u64> {
    File::open(device).and_then(|mut file| file.seek(SeekFrom::End(0))).ok()
}

/// `MemTotal` of proc(5), rounded up to what the board is sold with: the kernel keeps some for itself.
fn memory_mib() -> Option<u32> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse().ok()?;
    u32::try_from(kib.div_ceil(1024).next_multiple_of(16)).ok()
}
