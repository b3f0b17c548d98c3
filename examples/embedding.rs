//! A program of the flowgraph language inside a Rust program: what either does to its own data commits together, or not at all.
//!
//! The shop's rules are written in the language, its stock is a map there, its till a variable here. Rules call functions of the host, events of
//! the host call rules, and both queue further events.
//!
//! ```text
//! cargo run --example embedding
//! ```

use std::error::Error;
use std::sync::{Arc, Mutex};

use optimist::TVar;
use optimist::dispatcher::flowgraph::{Program, ProgramFailure};
use optimist::dispatcher::{Config, OnError, Output, TransactionQueue};
use optimist::flowgraph::vm::{Host, HostKind, Limits, Vm, VmConfig};
use optimist::flowgraph::{Literal, Source, compile_with};
use optimist::stm::Tx;

const RULES: &str = r#"
shared stock = map()

fn deliver(what, count) {
    stock[what] = get(stock, what, 0) + count
    return stock[what]
}

fn order(what, count, price) {
    left = get(stock, what, 0) - count
    if left < 0 { raise list('sold_out', what) }
    stock[what] = left
    pay(with_tax(count * price))
    add pack(what, count)
}

# An event of its own, which starts if the order commits.
fn pack(what, count) {
    label(str(count, " ", what))
}

fn endless() {
    while true { stock["tea"] = 0 }
}

fn bottomless(n) {
    return bottomless(n + 1)
}

fn deep() {
    bottomless(0)
}
"#;

/// What became of a day in the shop.
struct Day {
    till: i64,
    labels: Vec<String>,
    failures: Vec<String>,
    left: Literal,
}

fn day(threads: usize) -> Result<Day, Box<dyn Error>> {
    let till = TVar::new(0_i64);
    let labels = Arc::new(Mutex::new(Vec::new()));

    // A pure function may be carried out beforehand and as often as anybody likes.
    let with_tax = Host::new("with_tax", Some(1), HostKind::Pure, |call, arguments| {
        let amount = call.as_i64(arguments[0]).ok_or("an amount is an integer")?;
        Ok(call.int(amount + amount / 5))
    });
    // A transactional one works on the host's own variables, through the transaction of the event that calls it.
    let own = till.clone();
    let pay = Host::new("pay", Some(1), HostKind::Transactional, move |call, arguments| {
        let amount = call.as_i64(arguments[0]).ok_or("an amount is an integer")?;
        let tx: &mut Tx<'_> = &mut Tx::new(call.attempt());
        let sum = own.get(tx)? + amount;
        own.set(tx, sum)?;
        Ok(call.int(sum))
    });
    // An irrevocable one does what cannot be undone: its event cannot be rolled back any more.
    let printed = labels.clone();
    let label = Host::new("label", Some(1), HostKind::Irrevocable, move |call, arguments| {
        let text = call.as_text(arguments[0]).ok_or("a label is text")?;
        printed.lock().map_err(|_| "the printer is broken")?.push(text);
        Ok(call.int(0))
    });
    let hosts = vec![with_tax, pay, label];

    let source = Source::new("shop.flow", RULES);
    let signatures: Vec<_> = hosts.iter().map(Host::signature).collect();
    let rules = compile_with(&source, &signatures).map_err(|mistakes| mistakes[0].render(&source, false))?;
    let limits = Limits { steps: 1_000_000, memory: 16 << 20, ..Limits::default() };
    let vm = Vm::new(rules, VmConfig { hosts, limits, ..VmConfig::default() })?;
    let program = Program::new(vm, Output::stderr(), ".");
    program.initialise()?;
    let function = |name: &str| program.vm().function(name).ok_or_else(|| format!("there is no rule `{name}`"));
    let (deliver, order) = (function("deliver")?, function("order")?);

    let queue = TransactionQueue::new(Config { threads, on_error: OnError::Collect, ..Config::default() });
    let morning = program.clone();
    queue.add(move |ev| {
        morning.call_within(ev, deliver, &[Literal::string("tea"), Literal::int(10)])?;
        morning.call_within(ev, deliver, &[Literal::string("rum"), Literal::int(1)]).map(drop)
    });
    queue.run()?;
    for (what, count) in [("tea", 4), ("rum", 1), ("tea", 40), ("rum", 1), ("tea", 6)] {
        let (program, till) = (program.clone(), till.clone());
        queue.add(move |ev| {
            // The rule's event and this one are the same: if the order fails, the greeting is not paid for either.
            till.modify(ev, |sum| sum + 1)?;
            program.call_within(ev, order, &[Literal::string(what), Literal::int(count), Literal::int(10)]).map(drop)
        });
    }
    for name in ["endless", "deep"] {
        program.add(&queue, function(name)?, Vec::new());
    }
    let report = queue.run()?;
    let failures = report.errors.iter().filter_map(|error| error.failure()?.downcast_ref::<ProgramFailure>());
    let mut failures: Vec<String> =
        failures.map(|failure| format!("{}: {failure}", source.place(failure.0.span))).collect();
    failures.sort();

    let (evening, left) = (program.clone(), Arc::new(Mutex::new(Literal::None)));
    let result = left.clone();
    queue.add(move |ev| {
        let count = evening.call_within(ev, deliver, &[Literal::string("tea"), Literal::int(0)])?;
        let result = result.clone();
        ev.on_commit(move || *result.lock().expect("nobody panics with it") = count);
        Ok(())
    });
    queue.run()?;
    let mut labels = std::mem::take(&mut *labels.lock().map_err(|_| "the printer is broken")?);
    labels.sort();
    let left = left.lock().map_err(|_| "nobody panics with it")?.clone();
    Ok(Day { till: till.load(), labels, failures, left })
}

#[test]
fn a_day_ends_the_same_on_any_number_of_threads() {
    for threads in [1, 2, 4] {
        let Day { till, labels, failures, left } = day(threads).expect("a good day");
        // Ten teas and one rum at ten, a fifth of tax on top, and one for each of three greetings.
        assert_eq!((till, labels.join(", ").as_str(), left), (135, "1 rum, 4 tea, 6 tea", Literal::int(0)));
        let said: Vec<&str> = failures.iter().map(String::as_str).collect();
        assert_eq!(
            said,
            [
                "shop.flow:11:19: ['sold_out', \"rum\"]",
                "shop.flow:11:19: ['sold_out', \"tea\"]",
                "shop.flow:23:18: still running after 1000000 steps",
                "shop.flow:27:12: calls are nested more than 10000 deep",
            ]
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Day { till, labels, failures, left } = day(2)?;
    println!("in the till: {till}");
    println!("packed: {}", labels.join(", "));
    println!("left of tea: {left}");
    failures.iter().for_each(|failure| println!("failed: {failure}"));
    Ok(())
}
