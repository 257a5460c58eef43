//! The list of services: netd, and what the image lists. It starts none.

use crate::instances::Instances;
use crate::log::{Log, Priority};
use crate::netd;
use crate::paths::Paths;
use crate::service::Service;
use crate::specs;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use yado_wire::rescue::Mode;

/// The most services of the image's own.
pub(crate) const MAX_SERVICES: usize = 16;

/// All of them, none running.
pub(crate) fn services(paths: &Paths, instances: &Instances, log: &mut Log) -> Vec<Service> {
    let mut services: Vec<Service> = netd(paths, instances).into_iter().collect();
    let Ok(entries) = fs::read_dir(paths.system.join("system.d")) else { return services };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().skip(MAX_SERVICES) {
        log.say(Priority::Error, format_args!("{}: not started: more than {MAX_SERVICES} services", path.display()));
    }
    for path in paths.into_iter().take(MAX_SERVICES) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let arguments = vec![path.as_os_str().to_owned()];
        services.push(Service::new(&name, path, arguments));
    }
    services
}

/// netd, if it is wanted.
pub(crate) fn netd(paths: &Paths, instances: &Instances) -> Option<Service> {
    let is_wanted = match paths.mode {
        Mode::System => true,
        // On somebody else's machine the network is left alone unless an instance asks for one.
        Mode::Hosted => {
            instances.iter().any(|instance| instance.spec.as_ref().is_ok_and(|spec| !spec.nics.is_empty()))
        }
    };
    is_wanted.then(|| Service::new(netd::SERVICE, paths.yado.clone(), netd_arguments(paths)))
}

fn netd_arguments(paths: &Paths) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("yado-netd"), OsString::from("--run")];
    arguments.push(paths.run.as_os_str().to_owned());
    if paths.mode == Mode::Hosted {
        arguments.extend(["--hosted", "--log", "stderr"].map(OsString::from));
    }
    for file in specs::networks_files(paths) {
        arguments.push(OsString::from("--networks"));
        arguments.push(file.into_os_string());
    }
    arguments
}
