//! Faults at every step of a transaction, under every shipped protocol.
//!
//! `OPTIMIST_FAULTS` sets how many happen in all (ten thousand in CI); `OPTIMIST_CASE`, such as `eager:17/0/4/panic`, runs one again.

use optimist_stm::check::faults::{Case, inject, replay};
use optimist_stm::check::platform::{Change, Fault, Shuttle, plant};
use optimist_stm::protocol::{Protocol, shipped};
use optimist_stm::{Kind, with_protocol};

#[test]
fn nothing_is_left_behind_by_a_fault_at_any_step() {
    if let Ok(text) = std::env::var("OPTIMIST_CASE") {
        let (name, case) =
            text.split_once(':').expect("OPTIMIST_CASE is a protocol and a case, such as eager:17/0/4/panic");
        let (kind, case): (Kind, Case) = (name.parse().expect("a protocol"), case.parse().expect("a case"));
        assert_eq!(with_protocol!(kind, P => replay::<P>(case)), Ok(true), "{text}");
        return;
    }
    let total =
        std::env::var("OPTIMIST_FAULTS").map_or(10_000, |text| text.parse().expect("OPTIMIST_FAULTS is a number"));
    for &kind in Kind::ALL {
        let (happened, outcome) = with_protocol!(kind, P => inject::<P>(total / Kind::ALL.len() as u64, 0, None));
        println!("{kind}: {happened} faults");
        assert_eq!(outcome, Ok(()), "{kind}; replay with OPTIMIST_CASE={kind}:CASE");
    }
}

#[test]
fn a_case_is_read_as_it_is_written() {
    for text in ["17/0/4/panic", "0/1/0/no-memory"] {
        assert_eq!(text.parse::<Case>().map(|case| case.to_string()), Ok(text.to_owned()));
    }
    assert!("17/0/panic".parse::<Case>().is_err() && "1/0/4/nothing".parse::<Case>().is_err());
}

/// The checks after a fault can fail: bugs in what only a transaction that does not commit runs through.
#[test]
fn a_protocol_that_leaves_something_behind_is_found() {
    fn is_found<P: Protocol<Shuttle>>(id: &'static str) {
        let bug = Fault { file: "", line: 0, column: 0, change: Change::Mutant(id) };
        let (after, outcome) = plant(Some(bug), || inject::<P>(5_000, 0, None));
        let complaint = outcome.expect_err(id);
        println!("{id}: after {after} faults: {complaint}");
        // The case of the complaint repeats it.
        let case = complaint.rsplit_once("(case ").and_then(|(_, case)| case.strip_suffix(')'));
        if let Some(case) = case {
            let again = plant(Some(bug), || replay::<P>(case.parse().expect("a case")));
            assert!(again.is_err_and(|again| complaint.starts_with(&again)), "{id}: {complaint}");
        }
    }
    is_found::<shipped::Eager>("eager-not-undone");
    is_found::<shipped::Tl2>("born-not-dropped");
    is_found::<shipped::GlobalLock>("global-lock-not-undone");
}
