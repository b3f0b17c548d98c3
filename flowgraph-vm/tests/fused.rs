//! Fused instructions and chains of floats do what the plain ones do: random arithmetic on arrays of all kinds, with indices that are sometimes out of
//! range, numbers that do not fit in a word, divisors that are zero and operands that are no numbers, gives the same results and the same errors
//! at the same places.
//!
//! `OPTIMIST_PROGRAMS=N` sets how many programs are tried.

mod common;

use std::fmt::Write;

use common::machine;
use optimist_flowgraph::model::random::Random;
use optimist_flowgraph::vm::{Collected, VmConfig};
use optimist_stm::protocol::Kind;

fn programs() -> u64 {
    std::env::var("OPTIMIST_PROGRAMS").ok().and_then(|count| count.parse().ok()).unwrap_or(3000)
}

fn number(random: &mut Random) -> &'static str {
    const NUMBERS: [&str; 16] = [
        "0",
        "1",
        "-3",
        "7",
        "1152921504606846975",
        "0.0",
        "-0.0",
        "1.5",
        "-2.25",
        "0.25",
        "1e300",
        "-1e300",
        "1e-300",
        "1e308",
        "3.0",
        "'no_number'",
    ];
    // Most are plain floats, so that chains get far.
    if random.percent(60) { NUMBERS[7 + random.below(3)] } else { NUMBERS[random.below(NUMBERS.len())] }
}

fn place(random: &mut Random) -> String {
    let array = ["f", "f", "f", "g", "h", "row"][random.below(6)];
    let index = ["i", "i - 1", "i + 1", "k", "0", "x"][if random.percent(4) { 5 } else { random.below(5) }];
    format!("{array}[{index}]")
}

fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.percent(15) {
        return match random.below(5) {
            0 => number(random).to_owned(),
            1 => ["x", "y", "z", "i"][random.below(4)].to_owned(),
            _ => place(random),
        };
    }
    let operator = ["+", "-", "*", "+", "*", "-", "/"][random.below(7)];
    // Left-handed mostly, as people write sums.
    let right = if random.percent(70) { 0 } else { depth - 1 };
    format!("({} {operator} {})", expression(random, depth - 1), expression(random, right))
}

fn program(seed: u64) -> String {
    let random = &mut Random::new(seed);
    let mut text = String::from("shared row = f64_array([1.5, 2.5, -0.5, 4.0, 0.125])\nfn main() {\n");
    let numbers = |random: &mut Random| (0..5).map(|_| number(random)).collect::<Vec<_>>().join(", ");
    let floats = |random: &mut Random| {
        (0..5).map(|_| ["1.5", "-2.25", "0.25", "1e300", "3.0"][random.below(5)]).collect::<Vec<_>>().join(", ")
    };
    let _ = write!(
        text,
        "    f = f64_array([{}])\n    g = array([{}])\n    h = i64_array([1, -2, 3, 4, 1152921504606846976])\n    x = {}\n    y = {}\n    z = {}\n    k = {}\n",
        floats(random),
        numbers(random),
        number(random),
        number(random),
        number(random),
        random.below(5)
    );
    text += "    for i in 0..6 {\n        try {\n";
    for _ in 0..2 + random.below(4) {
        let target = if random.percent(50) { place(random) } else { ["x", "y", "z"][random.below(3)].to_owned() };
        let depth = 1 + random.below(5);
        let _ = writeln!(text, "            {target} = {}", expression(random, depth));
    }
    text +=
        "        } catch e { print(e.kind, e.message, e.place) }\n        print(i, x, y, z, f, g, h, row)\n    }\n}\n";
    text
}

fn output(text: &str, unfused: bool) -> String {
    let vm = machine(text, VmConfig { unfused, ..VmConfig::default() });
    let mut context = Collected::default();
    let main = vm.function("main").expect("written above");
    let result = vm.run_event(&mut vm.worker(), main, &[], &mut context);
    result.unwrap_or_else(|error| panic!("{error}\n{text}"));
    context.output
}

#[test]
fn fused_code_does_what_plain_code_does() {
    let (mut failures, mut fused) = (0, 0);
    for seed in 0..programs() {
        let text = program(seed);
        let plain = output(&text, true);
        let kind = [Kind::Eager, Kind::GlobalLock, Kind::Tl2, Kind::Norec][(seed % 4) as usize];
        let _lease = optimist_stm::lease(kind);
        assert_eq!(output(&text, false), plain, "under {kind}:\n{text}");
        failures += plain.lines().filter(|line| line.starts_with('\'')).count();
        let vm = machine(&text, VmConfig::default());
        let listing = vm.listing(vm.function("main").expect("written above"));
        fused += ["Through", "AddOn", "SetIndexOn", "IndexMulOn", "AddSmallIndex"]
            .iter()
            .filter(|name| listing.contains(**name))
            .count();
    }
    // The programs are of the kind that this is about: they fail often but not always, and there is much to fuse.
    let count = programs() as usize;
    assert!(failures > count / 2 && failures < 5 * count && fused > count, "{failures} failures, {fused} of {count}");
}
