//! Core programs through the interpreter.

use optimist_flowgraph::flowgraph::program::VarId;
use optimist_flowgraph::vm::{Collected, Vm, VmConfig};
use optimist_flowgraph::{Literal, Source, compile};

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

/// What a core program prints from `start` with these variables, or its error with the place.
fn run(text: &str, start: &str, environment: &[(&str, &str)]) -> String {
    let source = Source::new("test.flow", text);
    let program = compile(&source).unwrap_or_else(|errors| panic!("{errors:?}"));
    let function = program.core().expect("a core program");
    let start = function.block(start).expect("the start");
    let environment: Vec<(VarId, Literal)> = environment
        .iter()
        .filter_map(|(name, value)| Some((function.variable(name)?, Literal::parse(value).expect("a literal"))))
        .collect();
    let vm = Vm::new(program, VmConfig::default()).expect("a small program");
    let mut context = Collected::default();
    match vm.run_core(&mut vm.worker(), start, &environment, &mut context) {
        Ok(()) => context.output,
        Err(error) => format!("{}{}: {error} [{}]\n", context.output, source.place(error.span), error.block),
    }
}

#[test]
fn power_of_the_table() {
    assert_eq!(run(POWER, "power", &[("x", "10"), ("y", "10")]), "10000000000\n");
    assert_eq!(run(POWER, "power_rec", &[("res", "1"), ("x", "10"), ("y", "20")]), "100000000000000000000\n");
    assert_eq!(run(POWER, "power", &[("x", "1.5"), ("y", "2")]), "2.25\n");
}

#[test]
fn promote_only_jumps() {
    let text = "l: c = i >= 0
        if c goto b else goto l_done
l_done: print_and_stop(i)
b:      promote(x) goto b2
b2:     x2 = x * 2
        x3 = x2 + 1
        i = i - x3
        goto l
";
    assert_eq!(run(text, "b", &[("i", "100"), ("x", "5")]), "-10\n");
}

#[test]
fn errors_name_variable_block_and_place() {
    assert_eq!(
        run(POWER, "power_rec", &[("x", "1"), ("y", "1")]),
        "test.flow:6:11: the variable `res` is read, but was never set [power_rec]\n"
    );
    assert_eq!(
        run(POWER, "power", &[("x", "'a'"), ("y", "1")]),
        "test.flow:6:11: `*` needs a number, but got a symbol [power_rec]\n"
    );
    assert_eq!(
        run("a: b = l[i]\n print_and_stop(b)", "a", &[("l", "[1, 2]"), ("i", "2")]),
        "test.flow:1:8: the index 2 is out of range for a length of 2 [a]\n"
    );
    assert_eq!(run("a: b = 1 % i\n print_and_stop(b)", "a", &[("i", "0")]), "test.flow:1:8: `%` divides by zero [a]\n");
}

#[test]
fn integers_go_over_to_big_ones_and_back() {
    let text =
        "a: b = x + 1\n c = b - 1\n d = c == x\n e = x * x\n f = e // x\n g = f == x\n l = b > x\n print_and_stop(l)";
    for x in ["1152921504606846975", "9223372036854775807", "100000000000000000000000"] {
        assert_eq!(run(text, "a", &[("x", x)]), "1\n");
    }
    let text = "a: e = x * x\n f = e // x\n g = f == x\n if g goto y else goto n\ny: print_and_stop(e)\nn: print_and_stop('no')";
    assert_eq!(run(text, "a", &[("x", "1152921504606846975")]), format!("{}\n", 1152921504606846975_i128.pow(2)));
}
