//! The parts of the model agree with each other on random programs: running a program, running its residual program (before and after
//! clean-up) with some variables known, and running it through a trace give the same result, or the same failure at the same place.
//!
//! `OPTIMIST_PROGRAMS=N` sets how many programs are tried.

use std::collections::BTreeMap;

use optimist_flowgraph::flowgraph::print;
use optimist_flowgraph::flowgraph::program::Program;
use optimist_flowgraph::flowgraph::verify::well_formed;
use optimist_flowgraph::model::cleanup::cleanup;
use optimist_flowgraph::model::random::{Random, RandomProgram, core_program};
use optimist_flowgraph::model::{Limits, ModelError, run, specialize, trace};
use optimist_flowgraph::{Literal, Source, compile, fmt};

fn programs() -> u64 {
    std::env::var("OPTIMIST_PROGRAMS").ok().and_then(|count| count.parse().ok()).unwrap_or(2000)
}

/// What can be seen of a run: what it prints, or the failure with its place (but not its block, which specialising renames).
fn seen(result: Result<Literal, ModelError>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(ModelError::Runtime(error)) => format!("{} at {:?}", error.fault, error.span),
        Err(other) => other.to_string(),
    }
}

fn compiled(random: &RandomProgram) -> Program {
    let source = Source::new("random.flow", random.text.clone());
    let program = compile(&source).unwrap_or_else(|diagnostics| {
        panic!("{}{}", random.text, diagnostics.iter().map(|d| d.render(&source, false)).collect::<String>())
    });
    well_formed(&program).expect("keeps the rules");
    program
}

fn text(program: &Program) -> String {
    print::program(program, |_, _| None)
}

#[test]
fn specialised_and_traced_programs_do_the_same() {
    let limits = Limits { steps: 10_000, blocks: 300, trace: 2000 };
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..programs() {
        let random = core_program(seed);
        let program = compiled(&random);
        let direct = run(&program, random.start, &random.given, limits);
        let outcome = match &direct {
            Ok(_) => "printed",
            Err(ModelError::Runtime(error)) => error.fault.kind(),
            Err(_) => "limit",
        };
        *outcomes.entry(outcome).or_default() += 1;
        let direct = seen(direct);

        let mut choice = Random::new(seed ^ 0x5eed);
        let (known, rest): (Vec<_>, Vec<_>) = random.given.iter().cloned().partition(|_| choice.percent(60));
        match specialize(&program, random.start, &known, limits) {
            Ok(raw) => {
                well_formed(&raw.program).expect("keeps the rules");
                let residual = seen(run(&raw.program, raw.entry(), &rest, limits));
                assert_eq!(residual, direct, "seed {seed}: residual program of\n{}\nis\n{}", random.text, raw.print());
                let again = compile(&Source::new("residual.flow", raw.print())).expect("a residual program parses");
                assert_eq!(text(&again), text(&raw.program), "seed {seed}");
                let clean = cleanup(raw);
                well_formed(&clean.program).expect("keeps the rules");
                let cleaned = seen(run(&clean.program, clean.entry(), &rest, limits));
                assert_eq!(
                    cleaned,
                    direct,
                    "seed {seed}: cleaned-up residual program of\n{}\nis\n{}",
                    random.text,
                    clean.print()
                );
                // Cleaning up what is clean changes nothing.
                let printed = clean.print();
                assert_eq!(cleanup(clean).print(), printed, "seed {seed}");
            }
            Err(ModelError::Limit(..)) => *outcomes.entry("not specialised").or_default() += 1,
            Err(other) => panic!("seed {seed}: {other}"),
        }
        let through_trace = trace(&program, random.start, &random.given, limits).and_then(|traced| traced.output);
        assert_eq!(seen(through_trace), direct, "seed {seed}: traced\n{}", random.text);
    }
    // The programs are worth running: many print, and there are failures of every kind.
    println!("{outcomes:?}");
    let kinds =
        ["unset_variable", "not_a_number", "index_out_of_range", "division_by_zero", "not_indexable", "not_comparable"];
    for kind in kinds {
        assert!(outcomes.get(kind).is_some_and(|&count| count * 400 > programs()), "{kind}: {outcomes:?}");
    }
    assert!(outcomes["printed"] * 4 > programs(), "{outcomes:?}");
}

#[test]
fn printed_and_formatted_programs_are_the_same_programs() {
    for seed in 0..programs() {
        let random = core_program(seed);
        let printed = text(&compiled(&random));
        let again = compile(&Source::new("printed.flow", printed.clone())).expect("parses");
        assert_eq!(text(&again), printed, "seed {seed}");
        let formatted = fmt(&Source::new("random.flow", random.text.clone())).expect("parses");
        assert_eq!(fmt(&Source::new("random.flow", formatted.clone())).expect("parses"), formatted, "seed {seed}");
        let formatted = compile(&Source::new("formatted.flow", formatted)).expect("parses");
        assert_eq!(text(&formatted), printed, "seed {seed}");
    }
}
