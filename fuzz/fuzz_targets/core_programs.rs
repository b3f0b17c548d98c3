//! Core programs put together as the bytes say: model, interpreter, residual programs and traces agree.
#![no_main]

#[path = "../../flowgraph-vm/tests/common/core_program.rs"]
mod core_program;

use optimist_flowgraph::model::random::{self, Random};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let program = random::core_program(Random::steered(bytes));
    core_program::model_and_interpreter_agree(&program);
    core_program::parts_of_the_model_agree(&program, &mut Random::new(bytes.len() as u64));
});
