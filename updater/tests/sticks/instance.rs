//! An instance that has a device, as far as the updater asks for it.

use std::fs;
use std::path::Path;
use std::time::Duration;
use yado_spec::instance::{
    Boot, Device, DeviceSelect, Health, Limits, Readiness, Required, Restart, RestartPolicy, RootSpec, Security,
    StopMethod,
};
use yado_spec::{InstanceSpec, file};
use yado_wire::InstanceName;

/// Its spec, as the compiler writes it into this folder.
pub(crate) fn compiled(folder: &Path, name: &str, select: DeviceSelect) {
    let second = Duration::from_secs(1);
    let boot = Boot {
        autostart: false,
        delay: Duration::ZERO,
        priority: 0,
        after: Vec::new(),
        shutdown_timeout: second,
        stop_priority: 0,
        stop_method: None,
    };
    let restart = Restart { policy: RestartPolicy::Never, first_pause: second, longest_pause: second, attempts: 1 };
    let device = Device { name: "stick".to_owned(), select, required: Required::No, uid: 0, gid: 0, mode: 0o600 };
    let spec = InstanceSpec {
        name: InstanceName::parse(name).unwrap(),
        image: [0; 32],
        init: vec!["/sbin/init".to_owned()],
        image_stop_method: StopMethod::Signal(15),
        environment: Vec::new(),
        boot,
        health: Health { ready: Readiness::Alive { window: second }, probe: None, watchdog: None, required: true },
        restart,
        limits: Limits::default(),
        security: Security::default(),
        nics: Vec::new(),
        root: RootSpec::default(),
        disks: Vec::new(),
        devices: vec![device],
    };
    fs::create_dir_all(folder).unwrap();
    let bytes = file::encode(&spec, file::sources_digest([])).unwrap();
    fs::write(folder.join(format!("{name}.bin")), bytes).unwrap();
}
