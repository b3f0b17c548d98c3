//! What must hold of any core program: all the ways to run it agree, failures with their places included. Shared by the tests and the fuzz
//! targets.

use optimist_flowgraph::flowgraph::print;
use optimist_flowgraph::flowgraph::program::{Program, VarId};
use optimist_flowgraph::flowgraph::verify::well_formed;
use optimist_flowgraph::model::cleanup::cleanup;
use optimist_flowgraph::model::random::{Random, RandomProgram};
use optimist_flowgraph::model::{Limits, ModelError, run, specialize, trace};
use optimist_flowgraph::vm::{Collected, Vm, VmConfig};
use optimist_flowgraph::{Literal, Source, compile};

/// Compiles a random program, which has no mistakes.
pub(crate) fn compiled(random: &RandomProgram) -> Program {
    let source = Source::new("random.flow", random.text.clone());
    let program = compile(&source).unwrap_or_else(|diagnostics| {
        panic!("{}{}", random.text, diagnostics.iter().map(|d| d.render(&source, false)).collect::<String>())
    });
    well_formed(&program).expect("keeps the rules");
    program
}

/// A program's text.
pub(crate) fn text(program: &Program) -> String {
    print::program(program, |_, _| None)
}

/// What can be seen of a run: what it prints, or the failure with its place (but not its block, which specialising renames).
fn seen(result: Result<Literal, ModelError>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(ModelError::Runtime(error)) => format!("{} at {:?}", error.fault, error.span),
        Err(other) => other.to_string(),
    }
}

/// The interpreter does what the model does. Says whether that was to print.
pub(crate) fn model_and_interpreter_agree(random: &RandomProgram) -> bool {
    let program = compiled(random);
    let expected = match run(&program, random.start, &random.given, Limits::default()) {
        Ok(value) => Ok(format!("{value}\n")),
        Err(ModelError::Runtime(error)) => Err(error),
        Err(other) => panic!("{other}\n{}", random.text),
    };
    let function = program.core().expect("a core program");
    let start = function.block(random.start).expect("the start");
    let environment: Vec<(VarId, Literal)> =
        random.given.iter().filter_map(|(name, value)| Some((function.variable(name)?, value.clone()))).collect();
    let vm = Vm::new(program, VmConfig::default()).expect("a small program");
    let mut context = Collected::default();
    let result = vm.run_core(&mut vm.worker(), start, &environment, &mut context);
    let result = result.map(|()| context.output);
    assert_eq!(result, expected, "with {:?}:\n{}", random.given, random.text);
    expected.is_ok()
}

/// Residual programs, before and after clean-up, and traces do what the program does. Says what that was, by a word for each.
pub(crate) fn parts_of_the_model_agree(random: &RandomProgram, choice: &mut Random) -> Vec<&'static str> {
    let limits = Limits { steps: 10_000, blocks: 300, trace: 2000 };
    let program = compiled(random);
    let direct = run(&program, random.start, &random.given, limits);
    let mut outcomes = vec![match &direct {
        Ok(_) => "printed",
        Err(ModelError::Runtime(error)) => error.fault.kind(),
        Err(_) => "limit",
    }];
    let direct = seen(direct);
    let (known, rest): (Vec<_>, Vec<_>) = random.given.iter().cloned().partition(|_| choice.percent(60));
    match specialize(&program, random.start, &known, limits) {
        Ok(raw) => {
            well_formed(&raw.program).expect("keeps the rules");
            let residual = seen(run(&raw.program, raw.entry(), &rest, limits));
            assert_eq!(residual, direct, "residual program of\n{}\nis\n{}", random.text, raw.print());
            let again = compile(&Source::new("residual.flow", raw.print())).expect("a residual program parses");
            assert_eq!(text(&again), text(&raw.program), "{}", random.text);
            let clean = cleanup(raw);
            well_formed(&clean.program).expect("keeps the rules");
            let cleaned = seen(run(&clean.program, clean.entry(), &rest, limits));
            assert_eq!(cleaned, direct, "cleaned-up residual program of\n{}\nis\n{}", random.text, clean.print());
            // Cleaning up what is clean changes nothing.
            let printed = clean.print();
            assert_eq!(cleanup(clean).print(), printed, "{}", random.text);
        }
        Err(ModelError::Limit { .. }) => outcomes.push("not specialised"),
        Err(other) => panic!("{other}\n{}", random.text),
    }
    let through_trace = trace(&program, random.start, &random.given, limits).and_then(|traced| traced.output);
    assert_eq!(seen(through_trace), direct, "traced\n{}", random.text);
    outcomes
}
