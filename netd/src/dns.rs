//! The name server of the bridges. It answers for the names of instances, and asks the uplink's name servers for all others.

pub mod answer;
pub mod forward;
mod forwarded_queries;
mod query_limit;
pub mod serve;
pub mod zone;
