//! The workloads, one file each.

mod bank;
mod disjoint;
mod flights;
mod hot;
mod p2p;
mod read_many;

use crate::harness::Workload;

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Workload>> {
    let mut all: Vec<Box<dyn Workload>> = vec![
        Box::new(flights::Flights::new()),
        Box::new(bank::Bank::new()),
        Box::new(disjoint::Disjoint::new()),
        Box::new(hot::Hot::new()),
        Box::new(read_many::ReadManyWriteOne::new()),
    ];
    all.extend(p2p::P2p::all().into_iter().map(|workload| Box::new(workload) as Box<dyn Workload>));
    all
}

/// A number below `n` that depends on `seed` only: what operation `seed` does is the same on all sides and in all runs.
pub(crate) fn mix(seed: u64, n: usize) -> usize {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((u128::from(x ^ (x >> 31)) * n as u128) >> 64) as usize
}
