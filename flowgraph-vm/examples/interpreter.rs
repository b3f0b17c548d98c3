//! How fast the interpreter is: nanoseconds for each unit of a few programs, each under every protocol that is in force for one thread.
//!
//! `cargo run --release -p optimist-flowgraph --example interpreter [protocol [program]]`

use std::time::Instant;

use optimist_flowgraph::flowgraph::program::VarId;
use optimist_flowgraph::vm::{Collected, Interruption, Vm, VmConfig};
use optimist_flowgraph::{Literal, Source, compile};
use optimist_stm::attempt::Mode;
use optimist_stm::protocol::{Kind, Shipped};
use optimist_stm::run::Interrupt;
use optimist_stm::runtime::execute_with;
use optimist_stm::with_protocol;

const POWER: &str = "power:
    res = 1
    if y goto power_rec else goto power_done
power_rec:
    res = res * x
    y = y - 1
    if y goto power_rec else goto power_done
power_done:
    print_and_stop(res)
";

const SQUARE: &str = "square:
    r0 = a
    r1 = a
    goto loop
loop:
    a = a - 1
    r0 = a
    a = r2
    a = a + r1
    r2 = a
    a = r0
    if a goto loop else goto done
done:
    print_and_stop(r2)
";

const COLLATZ: &str = "fn main() {
    steps = 0
    for start in 1..30000 {
        n = start
        while n != 1 {
            if n % 2 == 0 { n = n // 2 } else { n = 3 * n + 1 }
            steps += 1
        }
    }
    return steps
}
";

const LAPLACE: &str = "fn sweep(u, n) {
    for i in 1..n - 1 {
        row = u[i]
        above = u[i - 1]
        below = u[i + 1]
        for j in 1..n - 1 {
            row[j] = (row[j - 1] + row[j + 1] + above[j] + below[j]) * 0.25
        }
    }
}
fn main() {
    n = 100
    u = array(n)
    for i in 0..n { u[i] = f64_array(n) }
    for j in 0..n { u[0][j] = 1.0 }
    for k in 0..200 { sweep(u, n) }
    return u[50][50]
}
";

/// As `LAPLACE`, with the plate made by an earlier event.
const LAPLACE_SHARED: &str = "shared u = array(100)
fn sweep(n) {
    for i in 1..n - 1 {
        row = u[i]
        above = u[i - 1]
        below = u[i + 1]
        for j in 1..n - 1 {
            row[j] = (row[j - 1] + row[j + 1] + above[j] + below[j]) * 0.25
        }
    }
}
fn prepare() {
    for i in 0..100 { u[i] = f64_array(100) }
    for j in 0..100 { u[0][j] = 1.0 }
}
fn main() {
    for k in 0..200 { sweep(100) }
    return u[50][50]
}
";

/// As `LAPLACE_SHARED`, one sweep over a large plate to an event.
const LAPLACE_ONCE: &str = "shared u = array(1000)
fn prepare() {
    for i in 0..1000 { u[i] = f64_array(1000) }
    for j in 0..1000 { u[0][j] = 1.0 }
}
fn main() {
    n = 1000
    for i in 1..n - 1 {
        row = u[i]
        above = u[i - 1]
        below = u[i + 1]
        for j in 1..n - 1 {
            row[j] = (row[j - 1] + row[j + 1] + above[j] + below[j]) * 0.25
        }
    }
    return u[50][50]
}
";

const FIELDS: &str = "object Account { owner, balance }
fn main() {
    a = Account('a', 1000000)
    b = Account('b', 0)
    i = 1000000
    while i {
        a.balance -= 1
        b.balance += 1
        i -= 1
    }
    return b.balance
}
";

const CALLS: &str = "fn fib(n) {
    if n < 2 { return n }
    return fib(n - 1) + fib(n - 2)
}
fn main() { return fib(27) }
";

const GARBAGE: &str = "fn main() {
    l = none
    for i in 0..3000000 { l = list(i, i) }
    return l
}
";

/// A core program: its time for one run.
fn core(text: &str, start: &str, environment: &[(&str, &str)]) -> f64 {
    let program = compile(&Source::new("bench.flow", text)).expect("a right program");
    let function = program.core().expect("a core program");
    let start = function.block(start).expect("the start");
    let environment: Vec<(VarId, Literal)> = environment
        .iter()
        .map(|(name, value)| (function.variable(name).expect("a variable"), Literal::parse(value).expect("a literal")))
        .collect();
    let vm = Vm::new(program, VmConfig::default()).expect("a small program");
    let mut worker = vm.worker();
    best(|| vm.run_core(&mut worker, start, &environment, &mut Collected::default()).expect("no failure"))
}

/// A program of functions: the time of its `main`, compiled for the protocol `P`.
fn functions<P: Shipped>(text: &str) -> f64 {
    let program = compile(&Source::new("bench.flow", text)).expect("a right program");
    let vm = Vm::new(program, VmConfig::default()).expect("a small program");
    let main = vm.function("main").expect("a main function");
    let mut worker = vm.worker();
    vm.initialise(&mut worker, &mut Collected::default()).expect("no failure");
    if let Some(prepare) = vm.function("prepare") {
        vm.run_event(&mut worker, prepare, &[], &mut Collected::default()).expect("no failure");
    }
    best(|| {
        let done: Result<(), Interruption> = execute_with::<P, _, _>(Mode::Update, |tx| {
            worker.begin();
            vm.call::<P>(tx, &mut worker, main, &[], &mut Collected::default()).map(|_| ()).map_err(Interrupt::Error)
        });
        done.expect("no failure and nobody to conflict with");
        worker.end(true);
    })
}

/// The shortest of several runs, in nanoseconds.
fn best(mut run: impl FnMut()) -> f64 {
    let times = (0..5).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_nanos() as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("listing") {
        let program = compile(&Source::new("bench.flow", LAPLACE)).expect("a right program");
        let vm = Vm::new(program, VmConfig::default()).expect("a small program");
        println!("{}", vm.listing(vm.function("sweep").expect("declared above")));
        return;
    }
    let wanted = std::env::args().nth(1).unwrap_or_else(|| "eager".to_owned());
    let kind: Kind = wanted.parse().unwrap_or_else(|error| panic!("{error}"));
    let _lease = optimist_stm::lease(kind);
    println!("protocol {wanted}");
    with_protocol!(kind, P => measure::<P>());
}

/// One line of the table: what, the time of one run in nanoseconds, how many units that is.
type Line = (&'static str, &'static str, fn(&str) -> f64, f64);

fn measure<P: Shipped>() {
    let wanted = std::env::args().nth(2);
    let lines: [Line; 10] = [
        ("power", "a multiplication", |_| core(POWER, "power", &[("x", "1"), ("y", "10000000")]), 1e7),
        ("square", "an iteration", |_| core(SQUARE, "square", &[("a", "3000000"), ("r2", "0")]), 3e6),
        ("bytecode", "a loop", |text| core(text, "square", &[("a", "300000")]), 3e5),
        ("collatz", "a step", |_| functions::<P>(COLLATZ), 2_864_133.0),
        ("laplace", "a point", |_| functions::<P>(LAPLACE), 200.0 * 98.0 * 98.0),
        ("laplace-s", "a point", |_| functions::<P>(LAPLACE_SHARED), 200.0 * 98.0 * 98.0),
        ("laplace-1", "a point", |_| functions::<P>(LAPLACE_ONCE), 998.0 * 998.0),
        ("fields", "an iteration", |_| functions::<P>(FIELDS), 1e6),
        ("calls", "a call", |_| functions::<P>(CALLS), 832_040.0),
        ("garbage", "a list", |_| functions::<P>(GARBAGE), 3e6),
    ];
    let bytecode = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/bytecode.flow");
    let bytecode = std::fs::read_to_string(bytecode).expect("the example");
    for (name, unit, run, units) in lines {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            println!("{name:10} {:7.2} ns {unit}", run(&bytecode) / units);
        }
    }
}
