//! Each boot loader, opened as a board's `update.toml` names it, from files in the place of devices: an update from denial to its
//! confirmation and back, with another reader of the same bytes as the witness; and what is said when it is not where it should be.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use yado_spec::update_policy::{Author, FILE, UpdatePolicy};
use yado_sys::named_partition::Disks;
use yado_updater::boot_loader::redundant_environment::{Texts, encode};
use yado_updater::boot_loader::{Board, BootLoader, BootLoaderError, Counting, open};
use yado_updater::boot_state::{BootState, COPY_OFFSETS, Mark, Order, Slot, Tries};
use yado_updater::state_partition;

const GUID: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// A board with nothing on it yet.
struct Devices {
    folder: tempfile::TempDir,
}

impl Devices {
    fn new() -> Devices {
        let folder = tempfile::tempdir().unwrap();
        for name in ["sys/class/block", "dev", "data/state"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        Devices { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A partition of the disk, as the kernel shows it, and a file in the place of its node.
    fn partition(&self, number: u8, name: &str, bytes: u64) -> PathBuf {
        let device = format!("mmcblk0p{number}");
        let shown = self.at("sys/devices/mmcblk0").join(&device);
        fs::create_dir_all(&shown).unwrap();
        fs::write(shown.join("uevent"), format!("DEVNAME={device}\nPARTN={number}\nPARTNAME={name}\n")).unwrap();
        fs::write(shown.join("partition"), format!("{number}\n")).unwrap();
        symlink(format!("../../devices/mmcblk0/{device}"), self.at("sys/class/block").join(&device)).unwrap();
        let node = self.at("dev").join(&device);
        File::create(&node).unwrap().set_len(bytes).unwrap();
        node
    }

    fn open(&self, update_toml: &str) -> Result<Box<dyn BootLoader>, BootLoaderError> {
        let mut policy = UpdatePolicy::usual();
        let problems = policy.add(FILE, Author::System, update_toml.as_bytes());
        assert!(problems.is_empty(), "{}", problems[0]);
        let disks = Disks::Only("devices/mmcblk0".to_owned());
        open(&policy, &Board { sysfs: self.at("sys"), nodes: self.at("dev"), disks, data: self.at("data") })
    }

    /// What is said of a board on which it cannot be opened, or read.
    fn refusal(&self, update_toml: &str) -> String {
        match self.open(update_toml).and_then(|mut loader| loader.read()) {
            Ok(boots) => panic!("{update_toml}: {boots:?}"),
            Err(error) => error.to_string(),
        }
    }
}

/// An update of slot B, and its end; `first` is another reader: which slot starts for good, and which one is on trial.
fn update(loader: &mut dyn BootLoader, first: impl Fn() -> (Slot, Option<Slot>)) {
    assert_eq!(loader.read().unwrap().order.slots()[0], Slot::A);
    let proof = loader.prove_write().unwrap();
    assert!(!proof.is_empty());
    loader.deny(Slot::B).unwrap();
    assert_eq!((first(), loader.read().unwrap().order), ((Slot::A, None), Order::A));
    loader.arm(Slot::B, Tries::FULL).unwrap();
    let armed = loader.read().unwrap();
    assert_eq!((first(), armed.trial, armed.next()), ((Slot::A, Some(Slot::B)), Some(Slot::B), Some(Slot::B)));
    loader.prove_write().unwrap();
    assert_eq!((first(), loader.read().unwrap()), ((Slot::A, Some(Slot::B)), armed));
    assert!(loader.deny(Slot::A).is_err(), "what the trial would fall back to");
    loader.confirm(Slot::B).unwrap();
    assert_eq!((first(), loader.read().unwrap().order), ((Slot::B, None), Order::BThenA));
    loader.fail(Slot::B, None).unwrap();
    assert_eq!((first(), loader.read().unwrap().order), ((Slot::A, None), Order::A));
}

fn slot(letter: &str) -> Slot {
    if letter == "A" { Slot::A } else { Slot::B }
}

/// As the boot scripts take it: the first of the order, or while one is on trial what is behind it.
fn started_by(order: &str, trial: Option<&str>) -> (Slot, Option<Slot>) {
    let good = order.split(' ').find(|letter| Some(*letter) != trial).unwrap();
    (slot(good), trial.map(slot))
}

/// The text of a copy of the state, from behind its checksum.
fn text_of(copy: &[u8]) -> Vec<(String, String)> {
    let texts = copy[4..].split(|byte| *byte == 0).take_while(|text| !text.is_empty());
    let pairs = texts.map(|text| String::from_utf8(text.to_vec()).unwrap());
    pairs.map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap()).collect()
}

#[test]
fn u_boot_with_our_boot_script_and_the_file_are_opened_where_the_policy_says() {
    let devices = Devices::new();
    let state = devices.partition(2, "state", 1 << 20);
    let file = File::options().read(true).write(true).open(&state).unwrap();
    state_partition::write(&file, &BootState::factory(Some(Mark::Empty))).unwrap();
    let named = devices.at("slots");
    let with_name = format!("boot.loader = \"file\"\nboot.file = \"{}\"", named.display());
    for (update_toml, place) in [
        ("", state.clone()),
        ("boot.loader = \"u-boot\"", state),
        ("boot.loader = \"file\"", devices.at("data/state/boot-state")),
        (&with_name, named),
    ] {
        let mut loader = devices.open(update_toml).unwrap();
        assert_eq!((loader.counting(), loader.restart_argument()), (Counting::Tries, None));
        let changes = loader.changes().unwrap().unwrap();
        update(loader.as_mut(), || {
            let bytes = fs::read(&place).unwrap();
            let pairs = text_of(&bytes[COPY_OFFSETS[0] as usize..]);
            let value = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
            started_by(value("BOOT_ORDER").unwrap(), value("BOOT_TRIAL"))
        });
        assert!(changes + 4 < loader.changes().unwrap().unwrap(), "{update_toml}");
        loader.confirm(Slot::A).unwrap();
    }
    let devices = Devices::new();
    let said = devices.refusal("boot.loader = \"u-boot\"");
    assert_eq!(said, "no partition is named `state` on the system's disk");
    let said = devices.refusal("boot.loader = \"file\"\nboot.file = \"/none/slots\"");
    assert!(said.starts_with("make /none/slots: "), "{said}");
}

#[test]
fn u_boots_environment_is_where_fw_env_config_says_and_its_own_tool_reads_each_step() {
    let devices = Devices::new();
    let (disk, config) = (devices.at("dev/disk"), devices.at("fw_env.config"));
    let mut texts = Texts::default();
    for (key, value) in [("bootcmd", "run yado"), ("BOOT_ORDER", "A"), ("BOOT_A_LEFT", "3"), ("BOOT_B_LEFT", "0")] {
        texts.set(key, Some(value));
    }
    File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let copy = encode(&texts, 7, 0x4000).unwrap();
    File::options().write(true).open(&disk).unwrap().write_all_at(&copy, 0x10000).unwrap();
    let line = |offset: u64| format!("{} {offset:#x} 0x4000\n", disk.display());
    let both = format!("# where they are\n{}{}", line(0x10000), line(0x20000));
    fs::write(&config, &both).unwrap();
    let update_toml = format!("boot.loader = \"u-boot-environment\"\nboot.environment = \"{}\"", config.display());

    if Path::new("/usr/bin/fw_printenv").exists() {
        let mut loader = devices.open(&update_toml).unwrap();
        assert_eq!((loader.counting(), loader.restart_argument()), (Counting::Tries, None));
        update(loader.as_mut(), || {
            let output = Command::new("fw_printenv").arg("-c").arg(&config).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let printed = String::from_utf8(output.stdout).unwrap();
            let value = |key: &str| {
                printed.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
            };
            assert_eq!(value("bootcmd").as_deref(), Some("run yado"));
            started_by(&value("BOOT_ORDER").unwrap(), value("BOOT_TRIAL").as_deref())
        });
    } else {
        println!("SKIPPED: no fw_printenv and fw_setenv (cargo accept packages installs libubootenv-tool)");
    }

    let shown = config.display().to_string();
    let one = "one copy is named, so the environment is not redundant: a power cut while it is written would lose it";
    let table = [
        (line(0x10000), one),
        (String::new(), "0 copies are named, and there must be two"),
        (format!("{both}{both}"), "4 copies are named, and there must be two"),
        (format!("{}{}", line(0x10000), line(0x12000)), "the two copies overlap"),
        (format!("{}/dev/null 0 0x4000\n", line(0x10000)), "names /dev/null: it is no file and no block device"),
        (format!("{}/none 0 0x4000\n", line(0x10000)), "names /none: No such file"),
        (format!("{both}rubbish\n"), "line 4: expected DEVICE OFFSET SIZE"),
        ("#".repeat(20_000), "it is longer than 16384 bytes"),
    ];
    for (text, expected) in table {
        fs::write(&config, &text).unwrap();
        let said = devices.refusal(&update_toml);
        assert!(said.starts_with(&shown) && said.contains(expected), "{text}: {said}");
    }
    // Nothing but the two copies is looked at: elsewhere there is no environment.
    fs::write(&config, format!("{}{}", line(0x30000), line(0x40000))).unwrap();
    let said = devices.refusal(&update_toml);
    let object = format!("U-Boot's environment on {}: no copy is good", disk.display());
    assert!(said.starts_with(&object), "{said}");
    for path in ["/none/fw_env.config", "/dev/null"] {
        let said = devices.refusal(&format!("boot.loader = \"u-boot-environment\"\nboot.environment = \"{path}\""));
        assert!(said.starts_with(path), "{said}");
    }
}

const PI: &str = "boot.loader = \"raspberry-pi\"\n";

/// Other readers and writers of FAT.
fn has_tools() -> bool {
    let is_there = |program: &str| Command::new(program).arg("--help").output().is_ok();
    let is_there = is_there("mcopy") && is_there("mkfs.fat");
    if !is_there {
        println!("SKIPPED: no mtools and dosfstools (cargo accept packages installs them)");
    }
    is_there
}

/// The file in the README, on a partition that mkfs.fat(8) and mcopy(1) make.
fn make_autoboot(devices: &Devices, partition: &Path) {
    let text = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=2\n";
    let file = devices.at("autoboot.txt");
    fs::write(&file, format!("{text}{}", "\n".repeat(512 - text.len()))).unwrap();
    let run = |command: &mut Command| assert!(command.output().unwrap().status.success(), "{command:?}");
    run(Command::new("mkfs.fat").arg(partition));
    run(Command::new("mcopy").arg("-i").arg(partition).arg(&file).arg("::autoboot.txt"));
}

#[test]
fn a_raspberry_pis_autoboot_txt_is_changed_on_its_partition_and_the_trial_is_asked_for_by_the_restart() {
    if !has_tools() {
        return;
    }
    let devices = Devices::new();
    let partition = devices.partition(1, "autoboot", 4 << 20);
    make_autoboot(&devices, &partition);
    devices.partition(2, "boot-a", 512);
    devices.partition(3, "boot-B", 512);
    let mut loader = devices.open(PI).unwrap();
    assert_eq!((loader.counting(), loader.restart_argument()), (Counting::Once, Some("0 tryboot")));
    update(loader.as_mut(), || {
        let read = Command::new("mtype").arg("-i").arg(&partition).arg("::autoboot.txt").output().unwrap();
        let text = String::from_utf8(read.stdout).unwrap();
        let numbers: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("boot_partition=")).collect();
        let slot = |number: &str| if number == "2" { Slot::A } else { Slot::B };
        let [all, tryboot] = numbers.try_into().unwrap();
        (slot(all), (tryboot != all).then(|| slot(tryboot)))
    });
    let said = devices.refusal(&format!("{PI}boot.autoboot = \"config\""));
    assert_eq!(said, "no partition is named `config` on the system's disk");
    let said = devices.refusal(&format!("{PI}boot.autoboot = \"boot-B\""));
    assert!(said.contains("partition `boot-B` is number 3") && said.contains("first FAT partition"), "{said}");
}

#[test]
fn a_raspberry_pi_without_its_partitions_or_its_file_is_told_what_is_missing() {
    if !has_tools() {
        return;
    }
    let devices = Devices::new();
    let partition = devices.partition(1, "autoboot", 4 << 20);
    assert_eq!(devices.refusal(PI), "no partition is named `boot-a` on the system's disk");
    devices.partition(2, "boot-a", 512);
    devices.partition(3, "boot-b", 512);
    let object = format!("autoboot.txt on {}: ", partition.display());
    assert_eq!(devices.refusal(PI), format!("{object}it is no FAT file system"));
    assert!(Command::new("mkfs.fat").arg(&partition).output().unwrap().status.success());
    assert_eq!(devices.refusal(PI), format!("{object}there is no such file in the root directory"));
}

/// `Boot####` of UEFI's specification, 3.1.3: active, a path that ends at once, and a description.
fn load_option(description: &str) -> Vec<u8> {
    let description = description.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
    [7, 0, 0, 0, 1, 0, 0, 0, 4, 0].into_iter().chain(description).chain([0x7f, 0xff, 4, 0]).collect()
}

#[test]
fn efi_options_are_known_by_the_descriptions_of_the_policy() {
    let devices = Devices::new();
    let folder = devices.at("sys/firmware/efi/efivars");
    let efi = "boot.loader = \"efi\"\n";
    let said = devices.refusal(efi);
    let shown = folder.display().to_string();
    assert!(said.starts_with(&shown) && said.contains("no EFI firmware"), "{said}");

    fs::create_dir_all(&folder).unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.join(format!("{name}-{GUID}")), bytes).unwrap();
    put("Boot0003", &load_option("Yadokari A"));
    put("Boot0004", &load_option("Yadokari B"));
    put("Boot0005", &load_option("Panel B"));
    put("BootOrder", &[7, 0, 0, 0, 3, 0]);
    let said = devices.refusal(&format!("{efi}boot.options = [\"Panel A\", \"Panel B\"]"));
    assert!(said.contains(&shown) && said.contains("no option is named `Panel A`"), "{said}");
    for (options, [a, b]) in [("", [3, 4]), ("boot.options = \"Yadokari A, Panel B\"", [3, 5])] {
        let mut loader = devices.open(&format!("{efi}{options}")).unwrap();
        assert_eq!((loader.counting(), loader.restart_argument()), (Counting::Once, None));
        update(loader.as_mut(), || {
            let numbers = |name: &str| fs::read(folder.join(format!("{name}-{GUID}"))).map(|bytes| bytes[4]);
            let slot = |number: u8| if number == a { Slot::A } else { Slot::B };
            assert!([a, b].contains(&numbers("BootOrder").unwrap()));
            (slot(numbers("BootOrder").unwrap()), numbers("BootNext").ok().map(slot))
        });
    }
}
