//! The interpreter does what the model does: on random core programs, errors with their places included.
//!
//! `OPTIMIST_PROGRAMS=100000 cargo test --release -p optimist-flowgraph --test agreement` tries so many.

use optimist_flowgraph::flowgraph::program::VarId;
use optimist_flowgraph::model::{self, Limits, ModelError, random};
use optimist_flowgraph::vm::{Collected, Vm, VmConfig};
use optimist_flowgraph::{Literal, Source, compile};

#[test]
fn model_and_interpreter_agree() {
    let programs = std::env::var("OPTIMIST_PROGRAMS")
        .ok()
        .map_or(if cfg!(debug_assertions) { 1500 } else { 5000 }, |number| number.parse().expect("a number"));
    let (mut printed, mut failed) = (0, 0);
    for seed in 0..programs {
        let random = random::core_program(seed);
        let source = Source::new("random.flow", random.text.clone());
        let program = compile(&source).unwrap_or_else(|errors| panic!("seed {seed}: {errors:?}\n{}", random.text));
        let expected = match model::run(&program, random.start, &random.given, Limits::default()) {
            Ok(value) => Ok(format!("{value}\n")),
            Err(ModelError::Runtime(error)) => Err(error),
            Err(other) => panic!("seed {seed}: {other}"),
        };
        let function = program.core().expect("a core program");
        let start = function.block(random.start).expect("the start");
        let environment: Vec<(VarId, Literal)> =
            random.given.iter().filter_map(|(name, value)| Some((function.variable(name)?, value.clone()))).collect();
        let vm = Vm::new(program, VmConfig::default()).expect("a small program");
        let mut context = Collected::default();
        let result = vm.run_core(&mut vm.worker(), start, &environment, &mut context);
        match (&expected, &result) {
            (Ok(_), _) => printed += 1,
            (Err(_), _) => failed += 1,
        }
        let result = result.map(|()| context.output);
        assert_eq!(result, expected, "seed {seed}, with {:?}:\n{}", random.given, random.text);
    }
    println!("{printed} printed, {failed} failed, all alike");
    assert!(printed > programs / 10 && failed > programs / 10, "the programs are too much alike: {printed} {failed}");
}
