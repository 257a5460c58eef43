//! NAT and packet filter as two nftables tables, `inet yado` and `bridge yado`: computes the rules, and loads them.
//!
//! Each table is ours alone, and is replaced as a whole in one transaction: at no time there are no rules, or half of them. As
//! with LXD the tables stay when netd ends, because containers run on without it.

pub mod batch;
pub mod conntrack;
pub mod limits;
pub mod rules;
pub mod transaction;
