//! What others write is hostile until parsed: spec files, network files and TOML, from bytes.

#![allow(clippy::unwrap_used)]

mod fuzzing;
mod world;

use fuzzing::fuzz;
use sha2::{Digest as _, Sha256};
use world::{FULL, compile_one, sources_of};
use yado_spec::apply::split;
use yado_spec::changes::changes;
use yado_spec::compile::{FileKind, check, compile};
use yado_spec::file::{self, Digest};
use yado_spec::launch_request::{Command, CommandUser, LaunchPaths, LaunchRequest, LaunchTask, Verify};
use yado_spec::network::NetworksSpec;
use yado_spec::setting::Applies;
use yado_wire::{InstanceId, RunNumber};

fn spec_file() -> Vec<u8> {
    file::encode(&compile_one(FULL).unwrap(), Digest([7; 32])).unwrap()
}

#[test]
fn spec_files_of_any_bytes_are_read_or_refused() {
    let whole = spec_file();
    fuzz("spec file", &[whole.clone(), b"YADOSPEC".to_vec()], &[], |bytes| {
        assert!(file::decode(bytes).is_err() || bytes == whole, "a changed file passes its checksum");
    });
}

#[test]
fn bodies_with_a_right_checksum_are_read_or_refused_and_come_out_the_same_again() {
    let mut header = spec_file();
    let body = header.split_off(80);
    fuzz("spec body", &[body], &[], |body| {
        let mut bytes = header.clone();
        bytes[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
        let sum = Sha256::new().chain_update(&bytes[..48]).chain_update(body).finalize();
        bytes[48..80].copy_from_slice(&sum);
        bytes.extend_from_slice(body);
        if let Ok((spec, digest)) = file::decode(&bytes) {
            let again = file::encode(&spec, digest).unwrap();
            assert_eq!(file::decode(&again), Ok((spec, digest)));
        }
    });
}

#[test]
fn network_files_of_any_bytes_are_read_or_refused() {
    let seed = NetworksSpec::default_networks().encode();
    fuzz("networks file", &[seed], &[], |bytes| {
        if let Ok(spec) = NetworksSpec::decode(bytes) {
            assert_eq!(NetworksSpec::decode(&spec.encode()), Ok(spec));
        }
    });
}

#[test]
fn launch_requests_of_any_bytes_are_read_or_refused_and_come_out_the_same_again() {
    let paths = LaunchPaths {
        image: "/data/images/b0/image".to_owned(),
        trust: "/usr/lib/yado/trust".to_owned(),
        layer: "/data/instances/me/layer".to_owned(),
        runtime: "/run/yado/instances/me".to_owned(),
        cgroup: "/sys/fs/cgroup/instances/me".to_owned(),
        netd: Some("/run/yado/netd.sock".to_owned()),
    };
    let exec = LaunchTask::Exec(Command {
        argv: vec!["/bin/sh".to_owned(), "-c".to_owned()],
        environment: vec!["A=1".to_owned()],
        cwd: Some("/root".to_owned()),
        user: CommandUser::Name { name: "www-data".to_owned(), gid: None },
    });
    let seeds = [LaunchTask::Run, exec, LaunchTask::Devices, LaunchTask::Probe].map(|task| {
        let spec = compile_one(FULL).unwrap();
        let request = LaunchRequest {
            id: InstanceId(300),
            spec,
            paths: paths.clone(),
            idmap_base: 1 << 20,
            run: RunNumber(7_000_000),
            verify: Verify::Block,
            cached_image: None,
            task,
        };
        request.encode().unwrap()
    });
    fuzz("launch request", &seeds, &[], |bytes| {
        if let Some(request) = LaunchRequest::decode(bytes) {
            assert_eq!(LaunchRequest::decode(&request.encode().unwrap()), Some(request));
        }
    });
}

const WORDS: &[&str] = &[
    "[config]\n",
    "[devices.x]\n",
    "type = \"disk\"\n",
    "type = \"nic\"\n",
    "limits.",
    "security.",
    "environment.A = ",
    "\"\"\"",
    "'''",
    "= true\n",
    "= -1\n",
    "= 0x",
    "99999999999999999999",
    "[[",
    "{ a = 1 }",
    "1979-05-27",
    "MiB",
    "%",
    "\\u0000",
    "..",
    "after = [\"me\"]\n",
    "profiles = [\"default\"]\n",
    "path = \"/\"\n",
    "health.probe = \"http:[::1]:80/\"\n",
    "tcp:",
    "exec:",
];

#[test]
fn toml_of_any_bytes_is_compiled_or_told_line_by_line() {
    let network =
        b"type = 'bridge'\n[config]\nipv4.address = '10.1.2.1/24'\nipv4.dhcp.ranges = '10.1.2.5-10.1.2.9'\n";
    let uplink = b"type = 'physical'\n[config]\nparent = 'eth0'\nipv4.address = '10.1.2.3/24'\n";
    let full = compile_one(FULL).unwrap();
    fuzz("toml", &[FULL.as_bytes().to_vec(), network.to_vec(), uplink.to_vec()], WORDS, |bytes| {
        let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
        for kind in [FileKind::Instance, FileKind::Profile, FileKind::Network] {
            for problem in check(kind, "x.toml", bytes) {
                assert!(problem.location.line() <= lines, "{problem:?}");
                assert_eq!(problem.to_string().lines().count(), 1, "{problem:?}");
            }
        }
        let sources = sources_of(&[("me", bytes)], &[("default", bytes)], &[("net0", bytes)]);
        let compiled = compile(&sources, &world::facts);
        for (_, result) in compiled.instances {
            match result {
                Ok(spec) => {
                    let written = file::encode(&spec, Digest([0; 32])).unwrap();
                    assert_eq!(file::decode(&written), Ok((spec.clone(), Digest([0; 32]))));
                    let now = split(&full, &spec);
                    assert_eq!(changes(&full, &spec).is_empty(), full == spec);
                    assert!(changes(&full, &now).iter().all(|change| change.applies == Applies::AtOnce));
                    assert!(changes(&now, &spec).iter().all(|change| change.applies == Applies::AtRestart));
                }
                Err(problems) => assert!(!problems.is_empty()),
            }
        }
        assert_eq!(NetworksSpec::decode(&compiled.networks.encode()), Ok(compiled.networks));
    });
}
