//! The command `optimist`.

mod commands;

use std::process::ExitCode;

// For `check-protocol`, which explores several times as fast with it.
optimist::stm::keep_model_stacks!();

fn main() -> ExitCode {
    commands::main()
}
