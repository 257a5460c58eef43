//! The name server of the bridges: instances by their names, everything else from the uplink's name servers.

pub mod answer;
pub mod forward;
pub mod serve;
mod slots;
mod waiting;
pub mod zone;
