//! A netd that comes late: who was to start with the system does so then, whatever its restart policy.

use crate::host::Host;
use yado_wire::Step;
use yado_wire::rescue::InstanceState;

const NIC: &str = "[config]\nboot.autostart = true\nhealth.window = \"100ms\"\n[devices.eth0]\ntype = \"nic\"\n\
                   network = \"lan0\"\n";

#[test]
fn an_instance_that_failed_for_want_of_netd_is_started_when_netd_comes() {
    let Some(host) = Host::with(&[("one", NIC)]) else { return };
    host.write_network("lan0", "[config]\nipv4.address = \"10.205.7.1/24\"\n");
    let mut host = host.start_with_netd_after("go");
    host.wait_for("one", InstanceState::Failed);
    let failure = host.status("one").last_failure.unwrap();
    assert_eq!(failure.step, Step::Network, "{failure}");
    std::fs::write(host.path("go"), "").unwrap();
    host.wait_for("one", InstanceState::Ready);
    assert!(host.has_address("10.205.7.1"));
    assert!(host.end().success());
}
