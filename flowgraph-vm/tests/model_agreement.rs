//! The parts of the model agree with each other on random programs: running a program, running its residual program (before and after
//! clean-up) with some variables known, and running it through a trace give the same result, or the same failure at the same place. And
//! the interpreter does what the model does.
//!
//! `OPTIMIST_PROGRAMS=100000 cargo test --release -p optimist-flowgraph --test model_agreement` tries so many programs.

#[path = "common/core_program.rs"]
mod core_program;

use std::collections::BTreeMap;

use core_program::{compiled, model_and_interpreter_agree, parts_of_the_model_agree, text};
use optimist_flowgraph::model::random::{self, Random};
use optimist_flowgraph::{Source, compile, fmt};

fn programs() -> u64 {
    let count = std::env::var("OPTIMIST_PROGRAMS").ok().map(|count| count.parse().expect("a number"));
    count.unwrap_or(if cfg!(debug_assertions) { 2000 } else { 5000 })
}

#[test]
fn specialised_and_traced_programs_do_the_same() {
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..programs() {
        let mut choice = Random::new(seed ^ 0x5eed);
        for outcome in parts_of_the_model_agree(&random::core_program(Random::new(seed)), &mut choice) {
            *outcomes.entry(outcome).or_default() += 1;
        }
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
fn model_and_interpreter_do_the_same() {
    let programs = programs();
    let printed = (0..programs)
        .filter(|seed| model_and_interpreter_agree(&random::core_program(Random::new(*seed))))
        .count() as u64;
    println!("{printed} printed, {} failed, all alike", programs - printed);
    assert!(
        printed > programs / 10 && printed < programs * 9 / 10,
        "the programs are too much alike: {printed} printed"
    );
}

#[test]
fn printed_and_formatted_programs_are_the_same_programs() {
    for seed in 0..programs() {
        let random = random::core_program(Random::new(seed));
        let printed = text(&compiled(&random));
        let again = compile(&Source::new("printed.flow", printed.clone())).expect("parses");
        assert_eq!(text(&again), printed, "seed {seed}");
        let formatted = fmt(&Source::new("random.flow", random.text.clone())).expect("parses");
        assert_eq!(fmt(&Source::new("random.flow", formatted.clone())).expect("parses"), formatted, "seed {seed}");
        let formatted = compile(&Source::new("formatted.flow", formatted)).expect("parses");
        assert_eq!(text(&formatted), printed, "seed {seed}");
    }
}
