//! NAT and packet filter as one nftables table, `inet yado`: what rules there should be, and putting them there.
//!
//! The table is ours alone and is replaced whole, in one transaction: there is no moment without rules and none with half of
//! them. It stays when netd ends, as LXD's does, because containers run on without netd.

pub mod batch;
pub mod rules;
pub mod transaction;
