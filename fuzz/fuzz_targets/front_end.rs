//! Any text: lexer, parser, verifier, formatter and messages survive it, and formatting keeps what it means.
#![no_main]

#[path = "../../flowgraph-vm/tests/common/front_end.rs"]
mod front_end;

libfuzzer_sys::fuzz_target!(|text: &str| front_end::try_everything(text));
