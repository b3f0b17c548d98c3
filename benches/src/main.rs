//! Workloads and the harness that measures them.
fn main() {}
