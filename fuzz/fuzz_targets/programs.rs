//! Any program of functions: the machine survives it within its limits, and a formatted program does the same.
#![no_main]

#[path = "../../flowgraph-vm/tests/common/within_limits.rs"]
mod within_limits;

libfuzzer_sys::fuzz_target!(|text: &str| {
    within_limits::run_within_limits(text);
});
