//! The name server of the bridges: instances by their names, everything else from the uplink's name servers.

pub mod answer;
pub mod forward;
mod forwarded_queries;
mod query_limit;
pub mod serve;
pub mod zone;
