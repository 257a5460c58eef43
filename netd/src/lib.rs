//! netd: the uplinks and all container networks. Configuration, attachments and leases say what is wanted. netd looks at what the
//! kernel has, plans the difference, applies it, and looks again whenever something changes. Containers run on without netd, and
//! a restarted netd continues where the last one stopped.

// The process, from outside in.
pub mod arguments;
pub mod attach;
pub mod control;
pub mod daemon;
mod failures;
mod idle_memory;
pub mod log;
mod network_addresses;
pub mod networks;
pub mod nic;
pub mod notify;
mod privileges;
mod reconcile;
mod reload;
mod requests;
pub mod run_numbers;
pub mod saved;

// What it keeps.
mod bridge_sockets;
pub mod exhausted_pools;
pub mod firewall;
pub mod flap_damping;
pub mod link;
mod packet_filter;
pub mod subnet_move_limit;
pub mod subnets;
pub mod uplink;

// Protocols, without sockets as far as possible.
pub mod dhcp;
pub mod dns;

mod owned_task;
mod readiness;
mod wakeup_timer;

use idle_memory::IdleMemory;
use std::ffi::OsString;
use std::process::ExitCode;

/// `yado-netd`; `args` are those after the program's name.
pub fn main(args: &[OsString]) -> ExitCode {
    let arguments = match arguments::parse_arguments(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("yado-netd: {error}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    log::start(arguments.log);
    let idle_memory = IdleMemory::default();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_io().enable_time().on_thread_park({
        let idle_memory = idle_memory.clone();
        move || idle_memory.before_sleep()
    });
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    // As a task: to wake the future of `block_on` itself costs one more turn of the event loop.
    match runtime.block_on(async { tokio::spawn(daemon::run(arguments, idle_memory)).await }) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
#[path = "../../runtime/spec/tests/fuzzing/mod.rs"]
mod fuzzing;
