//! The name of the directories that init makes for an instance, and of the link in its layer: others find them on any system.

use yado_wire::{InstanceId, InstanceName};

/// The link in an instance's layer to its name. If init's own file is lost, it says whose the layer is.
pub const OWNER: &str = "owner";

/// The name of an instance's control group, and of its runtime directory: nobody else's, and one that a person finds.
pub fn directory_name(name: &InstanceName, id: InstanceId) -> String {
    format!("{name}.{id}")
}
