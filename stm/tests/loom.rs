//! The shipped protocols under loom, and the proof that it would have noticed.
//!
//! Class 1+1 without a bound and 2+1 with a bound of one preemption, for every protocol. `OPTIMIST_CHECK=long` is the overnight form: 2+1 with
//! a bound of two, 1+1+1, and faults that are argued to be of no consequence; `OPTIMIST_CHECK=quick` leaves 2+1 out.

use std::collections::{BTreeMap, BTreeSet};

use optimist_stm::check::plan::{Depth, Stage, explore_stage};
use optimist_stm::check::platform::{Change, Fault};
use optimist_stm::check::program::Class;
use optimist_stm::check::proof::{self, Fate, Planted};
use optimist_stm::check::{self, Loom};
use optimist_stm::protocol::{Protocol, shipped};
use optimist_stm::{Kind, with_protocol};

// Half of the time would go into mapping them.
optimist_stm::keep_model_stacks!();

fn depth() -> Depth {
    match std::env::var("OPTIMIST_CHECK").as_deref() {
        Ok("long") => Depth::Long,
        Ok("quick") => Depth::Quick,
        Ok(other) => panic!("OPTIMIST_CHECK is `quick` or `long`, not `{other}`"),
        Err(_) => Depth::Ci,
    }
}

fn explore<P: Protocol<Loom>>(kind: Kind) -> BTreeSet<Fault> {
    let mut sites = BTreeSet::new();
    for stage in depth().stages() {
        let report = explore_stage::<P>(&stage, None, None, 0);
        println!("{kind} {report}");
        if let Some(counterexample) = &report.broken {
            panic!("{kind} {stage}: {counterexample}");
        }
        // What a limit has cut off is not clean.
        assert!(report.is_clean(), "{kind} {report}");
        sites.extend(report.sites);
    }
    sites
}

#[test]
fn every_protocol_is_clean() {
    for &kind in Kind::ALL {
        let sites = with_protocol!(kind, P => explore::<P>(kind));
        assert!(sites.iter().any(Fault::is_ordering), "{kind} has orderings that were noted");
    }
}

/// Every mutant and every weakened ordering of every protocol is found, or argued to be of no consequence in the source.
///
/// `OPTIMIST_PROVE` names protocols, separated by commas; without it all are tried.
#[test]
fn every_fault_is_killed_or_argued() {
    let which = std::env::var("OPTIMIST_PROVE").unwrap_or_else(|_| "all".to_owned());
    let chosen = |kind: &&Kind| which == "all" || which.split(',').any(|name| name == kind.name());
    // What is not found in seconds is not looked for any longer but in the long form.
    let depth = if depth() == Depth::Long { Depth::Long } else { Depth::Quick };
    let mut fates: BTreeMap<Fault, Fate> = BTreeMap::new();
    for &kind in Kind::ALL.iter().filter(chosen) {
        for fault in with_protocol!(kind, P => proof::sites::<P>()) {
            fates.entry(fault).or_insert_with(|| {
                let fate = with_protocol!(kind, P => proof::fate::<P>(fault, depth, None));
                println!("{kind} {}", Planted { fault, fate: fate.clone() });
                fate
            });
        }
    }
    let count = |is: fn(&Fault, &Fate) -> bool| fates.iter().filter(|(fault, fate)| is(fault, fate)).count();
    let orderings = count(|fault, _| fault.is_ordering());
    let mutant = |fault: &Fault| if let Change::Mutant(id) = fault.change { Some(id.to_owned()) } else { None };
    let mutants = fates.keys().filter_map(mutant).collect::<BTreeSet<_>>();
    let killed = count(|_, fate| matches!(fate, Fate::Killed { .. }));
    let argued = count(|_, fate| matches!(fate, Fate::Equivalent(_)));
    println!("{} mutants, {orderings} weakened orderings: {killed} killed, {argued} argued", mutants.len());
    let survivors: Vec<String> =
        fates.iter().filter(|(_, fate)| **fate == Fate::Survived).map(|(fault, _)| fault.to_string()).collect();
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
    if which == "all" {
        assert!(mutants.len() >= 40, "{} mutants", mutants.len());
        let missed: Vec<String> = mutants_in("src").difference(&mutants).cloned().collect();
        assert!(missed.is_empty(), "no model comes to the mutants {missed:?}");
    }
}

/// The mutants in the source files of a folder. Those of the bias towards a thread that is alone have a model of their own, beside it.
fn mutants_in(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(mutants_in(path.to_str().expect("our names are ASCII")));
        } else if !path.ends_with("alone.rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let calls = text.split("crate::mutant!(").skip(1);
            found.extend(calls.filter_map(|call| call.split('"').nth(1)).map(ToOwned::to_owned));
        }
    }
    found
}

#[test]
fn a_counterexample_is_shown_in_columns_and_can_be_replayed() {
    let sites = explore_stage::<shipped::Tl2>(&Stage::Class(Class::ONE_ONE, None), None, None, 0).sites;
    let is_it = |fault: &&Fault| fault.change == Change::Mutant("lazy-no-commit-validation");
    let fault = *sites.iter().find(is_it).expect("tl2 validates its reads");
    let report = explore_stage::<shipped::Tl2>(&Stage::Class(Class::ONE_ONE, None), None, Some(fault), 0);
    let counterexample = report.broken.expect("a commit without validation loses updates");
    let text = counterexample.to_string();
    assert!(text.contains("no serial order explains"), "{text}");
    assert!(text.contains("thread 1") && text.contains("thread 2") && text.contains("read  x = 0"), "{text}");
    let again = check::platform::plant(Some(fault), || {
        check::replay::<shipped::Tl2>(&counterexample.program, counterexample.bound)
    });
    assert_eq!(again.unwrap_err().to_string(), text);
    assert!(check::replay::<shipped::Tl2>(&counterexample.program, counterexample.bound).is_ok(), "clean without it");
}
