//! The interpreter against the model on random core programs: the same output, or the same failure in the same block at the same place.
//!
//! `OPTIMIST_PROGRAMS=N` sets how many programs are tried.

use optimist_flowgraph::flowgraph::program::VarId;
use optimist_flowgraph::model::random::core_program;
use optimist_flowgraph::model::{Limits, ModelError, run};
use optimist_flowgraph::vm::{Collected, Vm, VmConfig};
use optimist_flowgraph::{Literal, Source, compile};

#[test]
fn model_and_interpreter_agree() {
    let programs: u64 = std::env::var("OPTIMIST_PROGRAMS").ok().and_then(|count| count.parse().ok()).unwrap_or(3000);
    let limits = Limits { steps: 100_000, ..Limits::default() };
    let mut disagreements = Vec::new();
    for seed in 0..programs {
        let random = core_program(seed);
        let source = Source::new("random.flow", random.text.clone());
        let program = compile(&source).expect("random programs compile");
        let expected = match run(&program, random.start, &random.given, limits) {
            Ok(value) => format!("{value}\n"),
            Err(ModelError::Runtime(error)) => {
                format!("{}: {} [{}] {:?}\n", source.place(error.span), error.fault, error.block, error.span)
            }
            Err(other) => panic!("seed {seed}: {other}"),
        };
        let function = program.core().expect("a core program");
        let start = function.block(random.start).expect("the start");
        let environment: Vec<(VarId, Literal)> =
            random.given.iter().filter_map(|(name, value)| Some((function.variable(name)?, value.clone()))).collect();
        let vm = Vm::new(program.clone(), VmConfig::default()).expect("a small program");
        let mut context = Collected::default();
        let found = match vm.run_core(&mut vm.worker(), start, &environment, &mut context) {
            Ok(()) => context.output,
            Err(error) => {
                format!(
                    "{}{}: {} [{}] {:?}\n",
                    context.output,
                    source.place(error.span),
                    error.fault,
                    error.block,
                    error.span
                )
            }
        };
        if found != expected {
            disagreements.push(format!("seed {seed}\n  model:       {expected}  interpreter: {found}"));
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} of {programs}:\n{}",
        disagreements.len(),
        disagreements[..disagreements.len().min(12)].join("\n")
    );
}
