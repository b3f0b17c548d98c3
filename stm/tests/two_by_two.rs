//! Two threads with two transactions each over two objects, under loom: every schedule with up to two preemptions. The class is too large to
//! enumerate, so these are the programs that hold the known phenomena.

use optimist_stm::check::replay;
use optimist_stm::protocol::shipped;

/// Lost update, write skew, a reader between two writers, writes in opposite orders, and a transaction that fails half-way.
const PROGRAMS: &[&str] = &[
    "rx wx; rx wx | rx wx; rx wx",
    "rx wy; rx wy | ry wx; ry wx",
    "wx wy; rx ry | rx ry; wy wx",
    "wx; wy | rx ry; ry rx",
    "wx!; rx | rx wy; ry",
];

#[test]
fn both_protocols_are_clean() {
    for program in PROGRAMS {
        for bound in [1, 2] {
            for (name, outcome) in [
                ("eager", replay::<shipped::Eager>(program, Some(bound))),
                ("global-lock", replay::<shipped::GlobalLock>(program, Some(bound))),
            ] {
                match outcome {
                    Ok(executions) => println!("{name} {program}: bound {bound}, {executions} executions"),
                    Err(counterexample) => panic!("{name}: {counterexample}"),
                }
            }
        }
    }
}
