//! The updater with a real init, real launchers and busybox containers, on the running kernel. What is needed, and how a host is laid
//! out, is as in the hosted tests of init; `cargo build -p yado -p yado-init` first.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "init's own tests use the rest")]
#[path = "../../../runtime/init/tests/hosted/host.rs"]
mod host;
mod instance_updates;
mod timed_checks;
