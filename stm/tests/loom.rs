//! The shipped protocols under loom, and the proof that it would have noticed.
//!
//! Class 1+1 without a bound for every protocol, and 2+1 with a bound of one preemption for `eager` under each of its clocks. `OPTIMIST_CHECK=full`
//! explores 2+1 under every protocol, which takes a quarter of an hour on two cores (`cargo xtask models`); `OPTIMIST_CHECK=long` is the overnight
//! form: 2+1 with a bound of two, 1+1+1, and faults that are argued to be of no consequence; `OPTIMIST_CHECK=quick` leaves 2+1 out.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Mutex;

use optimist_stm::check::plan::{Depth, Stage, explore_stage};
use optimist_stm::check::platform::{Change, Fault};
use optimist_stm::check::program::{Class, Kind as Runs};
use optimist_stm::check::proof::{self, Fate, Planted};
use optimist_stm::check::{self, Loom};
use optimist_stm::protocol::{Protocol, shipped};
use optimist_stm::{Kind, with_protocol};

fn depth(kind: Kind) -> Depth {
    match std::env::var("OPTIMIST_CHECK").as_deref() {
        Ok("long") => Depth::Long,
        Ok("full") => Depth::Ci,
        Ok("quick") => Depth::Quick,
        Ok(other) => panic!("OPTIMIST_CHECK is `quick`, `full` or `long`, not `{other}`"),
        Err(_) if kind.name().starts_with("eager") => Depth::Ci,
        Err(_) => Depth::Quick,
    }
}

fn explore<P: Protocol<Loom>>(kind: Kind) -> BTreeSet<Fault> {
    let mut sites = BTreeSet::new();
    for stage in depth(kind).stages() {
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

/// Each protocol is explored by a process of its own: for each execution the model checker maps stacks, for which the threads of one process
/// wait for each other.
#[test]
fn every_protocol_is_clean() {
    let left = Mutex::new(Kind::ALL.iter().rev().collect::<Vec<_>>());
    let next = || left.lock().expect("nobody panics with it").pop();
    let work = || {
        while let Some(kind) = next() {
            let mut command = Command::new(std::env::current_exe().expect("this test's own path"));
            command.args(["--exact", "a_protocol_is_clean", "--nocapture"]);
            let output = command.env("OPTIMIST_PROTOCOL", kind.name()).env("OPTIMIST_WORKERS", "1").output();
            let output = output.expect("this test starts once more");
            println!("{}", String::from_utf8_lossy(&output.stdout));
            assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

/// The part of one process.
#[test]
fn a_protocol_is_clean() {
    let Ok(name) = std::env::var("OPTIMIST_PROTOCOL") else { return };
    let kind: Kind = name.parse().expect("a protocol's name");
    let sites = with_protocol!(kind, P => explore::<P>(kind));
    assert!(sites.iter().any(Fault::is_ordering), "{kind} has orderings that were noted");
}

/// Every mutant and every weakened ordering of every protocol is found, or argued to be of no consequence in the source.
///
/// What several protocols have in common (a clock, reclamation, `eager` with its clocks) needs to be found under one of them: the place in the
/// source is necessary then. `cargo xtask prove` runs it: `OPTIMIST_PROVE` is `all`, or names separated by commas.
#[test]
fn every_fault_is_killed_or_argued() {
    let Ok(which) = std::env::var("OPTIMIST_PROVE") else { return };
    let chosen = |kind: &&Kind| which == "all" || which.split(',').any(|name| name == kind.name());
    let mut fates: BTreeMap<Fault, Fate> = BTreeMap::new();
    for &kind in Kind::ALL.iter().filter(chosen) {
        for fault in with_protocol!(kind, P => sites::<P>()) {
            if matches!(fates.get(&fault), None | Some(Fate::Survived)) {
                let planted =
                    with_protocol!(kind, P => Planted { fault, fate: proof::fate::<P>(fault, depth(kind), None) });
                println!("{kind} {planted}");
                fates.insert(fault, planted.fate);
            }
        }
    }
    let count = |is: fn(&Fault, &Fate) -> bool| fates.iter().filter(|(fault, fate)| is(fault, fate)).count();
    let orderings = count(|fault, _| fault.is_ordering());
    let mutant = |fault: &Fault| if let Change::Mutant(id) = fault.change { Some(id) } else { None };
    let mutants = fates.keys().filter_map(mutant).collect::<BTreeSet<_>>().len();
    let killed = count(|_, fate| matches!(fate, Fate::Killed { .. }));
    let argued = count(|_, fate| matches!(fate, Fate::Equivalent(_)));
    println!("{mutants} mutants, {orderings} weakened orderings: {killed} killed, {argued} argued");
    let survivors: Vec<String> =
        fates.iter().filter(|(_, fate)| **fate == Fate::Survived).map(|(fault, _)| fault.to_string()).collect();
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
    assert!(which != "all" || mutants >= 40, "{mutants} mutants");
}

/// Where faults can be planted in `P`.
fn sites<P: Protocol<Loom>>() -> BTreeSet<Fault> {
    let kinds = [Runs::Update, Runs::Fails, Runs::ReadOnly, Runs::Irrevocable];
    let mut stages: Vec<Stage> =
        kinds.iter().map(|kind| Stage::Class(Class::ONE_ONE.with_one(*kind), Some(1))).collect();
    stages.push(Stage::Scenarios(Some(1)));
    stages.iter().flat_map(|stage| explore_stage::<P>(stage, None, None, 0).sites).collect()
}

/// Explores `P` with a mutant planted until it is found.
fn kill<P: Protocol<Loom>>(id: &str) -> String {
    let mut sites = BTreeSet::new();
    for stage in [Stage::Class(Class::ONE_ONE, None), Stage::Class(Class::ONE_ONE.with_one(Runs::Fails), None)] {
        sites.extend(explore_stage::<P>(&stage, None, None, 0).sites);
    }
    let is_it = |fault: &&Fault| matches!(fault.change, Change::Mutant(name) if name == id);
    let fault = *sites.iter().find(is_it).unwrap_or_else(|| panic!("nothing executed has a mutant `{id}`"));
    match proof::fate::<P>(fault, Depth::Quick, None) {
        Fate::Killed { stage, program, .. } => format!("{stage}: {program}"),
        fate => panic!("{id}: {fate:?}"),
    }
}

#[test]
fn three_planted_bugs_are_found() {
    println!("{}", kill::<shipped::Eager>("no-commit-validation"));
    println!("{}", kill::<shipped::Eager>("unlock-before-undo"));
    println!("{}", kill::<shipped::Eager>("version-reused-after-abort"));
    println!("{}", kill::<shipped::GlobalLock>("lock-released-before-undo"));
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
