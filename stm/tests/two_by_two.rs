//! Two threads with two transactions each over two objects, under loom, every schedule and every value that the memory model allows: there is
//! no bound on preemptions.
//!
//! The whole class has 16,255 programs; `cargo xtask check-protocols` goes through it smallest first. Here it is the programs that hold the known
//! phenomena, and for the global lock all programs in which every transaction makes one access.

use optimist_stm::check::explore::{Limits, Outcome, explore};
use optimist_stm::check::plan::{Stage, explore_stage};
use optimist_stm::check::platform::{Change, note_sites, plant};
use optimist_stm::check::program::{Class, Program};
use optimist_stm::check::{Loom, replay};
use optimist_stm::protocol::{Protocol, shipped};

/// Lost update, write skew, a reader between two writers, writes in opposite orders, and a transaction that fails half-way.
const PROGRAMS: &[&str] = &[
    "rx wx; rx | wx; rx",
    "rx wx; ry | rx wx; ry",
    "wx; ry | wy; rx",
    "wx wy; rx | rx ry; rx",
    "wx wy; rx | rx ry; wy",
    "wx!; rx | rx wy; ry",
];

/// As above, with more accesses: to a bound of one preemption.
const LARGER_PROGRAMS: &[&str] = &[
    "rx wx; rx wx | rx wx; rx wx",
    "rx wy; rx wy | ry wx; ry wx",
    "wx wy; rx ry | rx ry; wy wx",
    "wx; wy | rx ry; ry rx",
];

fn is_clean<P: Protocol<Loom>>(text: &str, bound: Option<usize>) {
    let program: Program = text.parse().expect("the tables hold programs");
    let exploration = explore::<P>(&program, Limits::bound(bound));
    let (name, executions) = (P::INFO.name, exploration.executions);
    match exploration.outcome {
        Outcome::Clean => println!("{name} {text}: {executions} executions, bound {bound:?}, no cap"),
        Outcome::Broken(counterexample) => panic!("{name}: {counterexample}"),
        Outcome::Capped => unreachable!("there is no limit"),
    }
}

#[test]
fn both_protocols_are_clean() {
    for program in PROGRAMS {
        is_clean::<shipped::Eager>(program, None);
        is_clean::<shipped::GlobalLock>(program, None);
    }
    for program in LARGER_PROGRAMS {
        is_clean::<shipped::Eager>(program, Some(1));
        is_clean::<shipped::GlobalLock>(program, None);
    }
}

#[test]
fn the_global_lock_is_clean_for_all_programs_of_single_accesses() {
    let report = explore_stage::<shipped::GlobalLock>(&Stage::Class(Class::TWO_TWO.up_to(4), None), None, None, 0);
    println!("{report}");
    assert!(report.is_clean(), "{report}");
}

/// Plants a mutant and explores a program that is clean without it.
fn is_killed<P: Protocol<Loom>>(id: &str, text: &str) {
    let (clean, sites) = note_sites(|| replay::<P>(text, None));
    assert!(clean.is_ok(), "{text} is clean without a fault");
    let is_it = |change| matches!(change, Change::Mutant(name) if name == id);
    let fault =
        sites.into_iter().find(|fault| is_it(fault.change)).unwrap_or_else(|| panic!("`{text}` never meets `{id}`"));
    let counterexample = plant(Some(fault), || replay::<P>(text, None)).expect_err(id);
    println!("{} {id}: {counterexample}", P::INFO.name);
}

#[test]
fn three_planted_bugs_are_found() {
    is_killed::<shipped::Eager>("no-commit-validation", "ry wx; rx | rx wy; ry");
    is_killed::<shipped::Eager>("no-commit-validation", "rx wy; rx | wx; ry");
    is_killed::<shipped::Eager>("unlock-before-undo", "wx!; rx | rx wy; ry");
    is_killed::<shipped::Eager>("version-reused-after-abort", "wx!; rx | rx wy; ry");
    is_killed::<shipped::GlobalLock>("lock-released-before-undo", "wx!; rx | rx wy; ry");
}
