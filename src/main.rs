//! The command `optimist`.
fn main() {}
