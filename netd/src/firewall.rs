//! NAT and packet filter as nftables tables, `inet yado` and `bridge yado`: what rules there should be, and putting them
//! there.
//!
//! Each table is ours alone and is replaced whole, in one transaction: there is no moment without rules and none with half of
//! them. It stays when netd ends, as LXD's does, because containers run on without netd.

pub mod batch;
pub mod conntrack;
pub mod limits;
pub mod rules;
pub mod transaction;
