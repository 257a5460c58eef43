//! The bytes of a launch request are frozen: hosted, an init that runs since before an update starts the launcher of a newer release.

#![allow(clippy::unwrap_used)]

use yado_spec::file;
use yado_spec::file_identity::{FileIdentity, FileTime};
use yado_spec::launch_request::{Command, CommandUser, LaunchPaths, LaunchRequest, LaunchTask, VERSION, Verify};
use yado_wire::{InstanceId, RunNumber};

const HOW_TO_CHANGE: &str = "a launch request has other bytes now, and a launcher of this version would misread the old ones. If that \
     is meant: raise VERSION in src/launch_request.rs, and write the new bytes here";

/// The first file that is frozen.
fn spec_file() -> Vec<u8> {
    let line = include_str!("frozen/spec.hex").lines().next().unwrap().as_bytes();
    line.chunks(2).map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()).collect()
}

#[test]
fn the_bytes_of_a_request_are_version_schema_spec_and_these() {
    let least = LaunchRequest {
        id: InstanceId(300),
        spec: file::decode(&spec_file()).expect("frozen/spec.hex is written anew first, as spec_file tells").0,
        paths: LaunchPaths {
            image: "/i".into(),
            trust: "/t".into(),
            layer: "/l".into(),
            runtime: "/r".into(),
            cgroup: "/c".into(),
            netd: None,
        },
        idmap_base: 300,
        run: RunNumber(5),
        verify: Verify::Block,
        cached_image: None,
        task: LaunchTask::Run,
    };
    let identity = FileIdentity {
        device: 300,
        inode: 12,
        size_bytes: 1 << 20,
        modified: FileTime { seconds: -1, nanoseconds: 2 },
        changed: FileTime { seconds: 3, nanoseconds: 4 },
    };
    let command = Command {
        argv: vec!["id".into(), "-u".into()],
        environment: vec!["A=b".into()],
        cwd: Some("/".into()),
        user: CommandUser::Ids { uid: 1000, gid: 5 },
    };
    let shell = Command { user: CommandUser::Name { name: "www".into(), gid: Some(5) }, ..Command::default() };
    let most = LaunchRequest {
        paths: LaunchPaths { netd: Some("/n".into()), ..least.paths.clone() },
        verify: Verify::Start,
        cached_image: Some(identity),
        task: LaunchTask::Exec(command),
        ..least.clone()
    };
    let shell = LaunchRequest { task: LaunchTask::Exec(shell), ..least.clone() };
    let probe = LaunchRequest { task: LaunchTask::Probe, ..least.clone() };
    let devices = LaunchRequest { task: LaunchTask::Devices, ..least.clone() };
    let spec_bytes = postcard_of_spec();
    for (request, rest) in [
        (least, &b"\x02/i\x02/t\x02/l\x02/r\x02/c\x00\xac\x02\x05\x00\x00\x00"[..]),
        (
            most,
            b"\x02/i\x02/t\x02/l\x02/r\x02/c\x01\x02/n\xac\x02\x05\x01\
              \x01\xac\x02\x0c\x80\x80\x40\x01\x02\x06\x04\
              \x01\x02\x02id\x02-u\x01\x03A=b\x01\x01/\x00\xe8\x07\x05",
        ),
        (shell, b"\x02/i\x02/t\x02/l\x02/r\x02/c\x00\xac\x02\x05\x00\x00\x01\x00\x00\x00\x01\x03www\x01\x05"),
        (probe, b"\x02/i\x02/t\x02/l\x02/r\x02/c\x00\xac\x02\x05\x00\x00\x02"),
        (devices, b"\x02/i\x02/t\x02/l\x02/r\x02/c\x00\xac\x02\x05\x00\x00\x03"),
    ] {
        let header = [VERSION.to_le_bytes(), file::SCHEMA.to_le_bytes()].concat();
        let frozen = [&header, &b"\xac\x02"[..], &spec_bytes, rest].concat();
        assert_eq!(VERSION, 2, "{HOW_TO_CHANGE}");
        let found = request.encode().unwrap();
        assert_eq!(found.escape_ascii().to_string(), frozen.escape_ascii().to_string(), "{HOW_TO_CHANGE}");
        assert_eq!(LaunchRequest::decode(&frozen).as_ref(), Some(&request));
        for at in 0..header.len() {
            let mut other = frozen.clone();
            other[at] ^= 1;
            assert_eq!(LaunchRequest::decode(&other), None, "of another version or schema");
        }
    }
}

fn postcard_of_spec() -> Vec<u8> {
    const HEADER_BYTES: usize = 80;
    spec_file().split_off(HEADER_BYTES)
}
