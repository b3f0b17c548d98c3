//! The published results, to the letter, and the edges around them.

use std::path::Path;
use std::sync::Arc;

use expect_test::{Expect, expect};

use super::cleanup::cleanup;
use super::{Limits, ModelError, Residual, run, specialize, trace};
use crate::compile;
use crate::flowgraph::print;
use crate::flowgraph::program::{Program, Terminator};
use crate::flowgraph::verify::well_formed;
use crate::literal::Literal;
use crate::source::Source;

const SQUARE: &str = "bytecode=['mov_a_r0', 'mov_a_r1', 'mov_r0_a', 'decr_a', 'mov_a_r0', 'mov_r2_a', 'add_r1_to_a', 'mov_a_r2', 'mov_r0_a', 'jump_if_a', 2, 'mov_r2_a', 'return_a']";

fn example(name: &str) -> Program {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    program(&std::fs::read_to_string(path).expect("the example is there"))
}

fn program(text: &str) -> Program {
    let source = Source::new("test.flow", text);
    compile(&source).unwrap_or_else(|diagnostics| {
        panic!("{}", diagnostics.iter().map(|d| d.render(&source, false)).collect::<String>())
    })
}

fn given(settings: &[&str]) -> Vec<(Arc<str>, Literal)> {
    settings
        .iter()
        .map(|setting| {
            let (name, value) = setting.split_once('=').expect("NAME=LITERAL");
            (name.into(), Literal::parse(value).expect("a literal"))
        })
        .collect()
}

fn prints(program: &Program, start: &str, settings: &[&str]) -> String {
    shown(&run(program, start, &given(settings), Limits::default()))
}

fn shown(result: &Result<Literal, ModelError>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => format!("error: {error}"),
    }
}

fn residual(program: &Program, start: &str, settings: &[&str]) -> Residual {
    let residual = specialize(program, start, &given(settings), Limits::default()).expect("specialises");
    well_formed(&residual.program).expect("keeps the rules");
    // The text form parses again to the same text.
    let again = self::program(&residual.print());
    let plain = |program: &Program| print::program(program, |_, _| None);
    assert_eq!(plain(&again), plain(&residual.program));
    residual
}

fn traced(program: &Program, anchor: &str, settings: &[&str], expected: Expect) {
    let traced = trace(program, anchor, &given(settings), Limits::default()).expect("traces");
    expected.assert_eq(&format!("{}\n{}\n", traced.print(), shown(&traced.output)));
    assert_eq!(shown(&traced.output), prints(program, anchor, settings));
}

#[test]
fn p1_power() {
    let power = example("power.flow");
    assert_eq!(prints(&power, "power", &["x=10", "y=10"]), "10000000000");
    assert_eq!(prints(&power, "power_rec", &["res=1", "x=10", "y=20"]), "100000000000000000000");
}

#[test]
fn p2_power_specialised() {
    let power = example("power.flow");
    let raw = residual(&power, "power", &["y=5"]);
    expect![[r#"
        power1:  # power {y=5}
            goto power_rec1

        power_rec1:  # power_rec {y=5,res=1}
            res = 1 * x
            goto power_rec2

        power_rec2:  # power_rec {y=4}
            res = res * x
            goto power_rec3

        power_rec3:  # power_rec {y=3}
            res = res * x
            goto power_rec4

        power_rec4:  # power_rec {y=2}
            res = res * x
            goto power_rec5

        power_rec5:  # power_rec {y=1}
            res = res * x
            goto power_done1

        power_done1:  # power_done {y=0}
            print_and_stop(res)
    "#]]
    .assert_eq(&raw.print());
    assert_eq!(prints(&raw.program, raw.entry(), &["x=10"]), "100000");
    let clean = cleanup(raw);
    expect![[r#"
        power1:  # power {y=5}
            res = 1 * x
            res = res * x
            res = res * x
            res = res * x
            res = res * x
            print_and_stop(res)
    "#]]
    .assert_eq(&clean.print());
    assert_eq!(prints(&clean.program, clean.entry(), &["x=10"]), "100000");
}

#[test]
fn p3_power_traced() {
    traced(
        &example("power.flow"),
        "power_rec",
        &["res=1", "x=10", "y=20"],
        expect![[r#"
        trace power_rec:
            res = res * x
            y = y - 1
            guard_true y else power_done
            loop

        optimized power_rec:
            res = res * x
            y = y - 1
            guard_true y else power_done
            loop

        100000000000000000000
    "#]],
    );
}

#[test]
fn p4_promote_traced() {
    let promote = example("promote.flow");
    assert_eq!(prints(&promote, "b", &["i=100", "x=5"]), "-10");
    traced(
        &promote,
        "b",
        &["i=100", "x=5"],
        expect![[r#"
        trace b:
            guard_value x 5 else b2
            x2 = x * 2
            x3 = x2 + 1
            i = i - x3
            c = i >= 0
            guard_true c else l_done
            loop

        optimized b:
            guard_value x 5 else b2
            i = i - 11
            c = i >= 0
            guard_true c else l_done with x=5, x2=10, x3=11
            x = 5
            x2 = 10
            x3 = 11
            loop

        -10
    "#]],
    );
}

#[test]
fn p5_bytecode_interpreted() {
    let bytecode = example("bytecode.flow");
    assert_eq!(prints(&bytecode, "square", &["a=16"]), "256");
    let given = [SQUARE, "pc=0", "a=16", "r0=0", "r1=0", "r2=0"];
    assert_eq!(prints(&bytecode, "bytecode_loop", &given), "256");
    assert_eq!(prints(&bytecode, "bytecode_loop", &["bytecode=['hop']", "pc=0"]), "'hop'");
    assert_eq!(prints(&example("bytecode-promote.flow"), "square", &["a=16"]), "256");
}

#[test]
fn p6_bytecode_specialised() {
    let bytecode = example("bytecode.flow");
    let raw = residual(&bytecode, "bytecode_loop", &[SQUARE, "pc=0"]);
    assert_eq!(raw.function().blocks.len(), 133);
    assert_eq!(raw.entry(), "bytecode_loop1");
    let registers = ["a=16", "r0=0", "r1=0", "r2=0"];
    assert_eq!(prints(&raw.program, raw.entry(), &registers), "256");
    let clean = cleanup(raw);
    well_formed(&clean.program).expect("keeps the rules");
    assert_eq!(prints(&clean.program, clean.entry(), &registers), "256");
    let tests =
        clean.function().blocks.iter().filter(|block| matches!(block.end.terminator, Terminator::If { .. })).count();
    assert_eq!(tests, 1);
    expect![[r#"
        bytecode_loop1:
            r0 = a
            r1 = a
            goto op_mov_r0_a1

        op_mov_r0_a1:
            a = r0
            a = a - 1
            r0 = a
            a = r2
            a = a + r1
            r2 = a
            a = r0
            c = a == 0
            if c goto op_mov_r2_a2 else goto op_mov_r0_a1

        op_mov_r2_a2:
            a = r2
            print_and_stop(a)
    "#]]
    .assert_eq(&print::program(&clean.program, |_, _| None));
}

#[test]
fn p7_bytecode_traced() {
    let settings = [SQUARE, "pc=11", "a=16", "r0=16", "r1=16", "r2=0", "target=2"];
    let bytecode = example("bytecode-promote.flow");
    let traced = trace(&bytecode, "op_jump_if_a_jump", &given(&settings), Limits::default()).expect("traces");
    let (_, list) = SQUARE.split_once('=').expect("an equals sign");
    let optimized = format!("optimized:\n{}", traced.steps(&traced.optimized));
    expect![[r#"
        optimized:
            pc = target
            guard_value bytecode SQUARE else bytecode_loop_promote_pc
            guard_value pc 2 else bytecode_loop_dispatch with bytecode=SQUARE
            a = r0
            a = a - 1
            r0 = a
            a = r2
            a = a + r1
            r2 = a
            a = r0
            c = a == 0
            guard_false c else bytecode_loop with bytecode=SQUARE, pc=11, opcode='jump_if_a', target=2
            bytecode = SQUARE
            pc = 11
            opcode = 'jump_if_a'
            target = 2
            c = 0
            loop
    "#]]
    .assert_eq(&optimized.replace(list, "SQUARE"));
    assert_eq!(shown(&traced.output), "256");
    assert_eq!(prints(&bytecode, "op_jump_if_a_jump", &settings), "256");
}

#[test]
fn failures_have_a_place() {
    let power = example("power.flow");
    assert_eq!(prints(&power, "power", &["x=10"]), "error: the variable `y` is read, but was never set");
    let source = Source::new("p.flow", "start:\n  x = l[i]\n  print_and_stop(x)\n");
    let program = compile(&source).expect("compiles");
    let error = run(&program, "start", &given(&["l=[1]", "i=1"]), Limits::default()).expect_err("out of range");
    expect![[r#"
        error: the index 1 is out of range for a length of 1
         --> p.flow:2:7
          |
        2 |   x = l[i]
          |       ^^^^ in block `start`
    "#]]
    .assert_eq(&error.to_diagnostic(&source).expect("has a place").render(&source, false));
    let error = run(&program, "start", &given(&["l=[1]"]), Limits::default()).expect_err("unset");
    expect![[r#"
        error: the variable `i` is read in block `start` (line 2), but was never set
         --> p.flow:2:7
          |
        2 |   x = l[i]
          |       ^^^^ in block `start`
    "#]]
    .assert_eq(&error.to_diagnostic(&source).expect("has a place").render(&source, false));
    assert_eq!(prints(&program, "strat", &[]), "error: there is no label `strat`; did you mean `start`?");
}

#[test]
fn a_failing_operation_stays_and_fails_when_it_is_reached() {
    let program = program(
        "s: c = x // 0\n if y goto a else goto b\na: d = c + 1\n print_and_stop(d)\nb: e = 5[0]\n print_and_stop(e)",
    );
    let raw = residual(&program, "s", &["x=1"]);
    expect![[r#"
        s1:  # s {x=1}
            c = 1 // 0
            if y goto a1 else goto b1

        a1:  # a {x=1}
            d = c + 1
            print_and_stop(d)

        b1:  # b {x=1}
            e = 5[0]
            print_and_stop(e)
    "#]]
    .assert_eq(&raw.print());
    let direct = run(&program, "s", &given(&["x=1", "y=1"]), Limits::default()).expect_err("fails");
    let later = run(&raw.program, raw.entry(), &given(&["y=1"]), Limits::default()).expect_err("fails");
    let (ModelError::Runtime(direct), ModelError::Runtime(later)) = (direct, later) else {
        panic!("both fail while running")
    };
    assert_eq!((direct.fault, direct.span), (later.fault, later.span));
}

#[test]
fn what_cannot_be_written_down_is_not_folded() {
    let program = program("s: b = a * a\n c = b - b\n print_and_stop(c)");
    let raw = residual(&program, "s", &["a=1e200"]);
    expect![[r#"
        s1:  # s {a=1e200}
            b = 1e200 * 1e200
            c = b - b
            print_and_stop(c)
    "#]]
    .assert_eq(&raw.print());
    assert_eq!(prints(&raw.program, raw.entry(), &[]), prints(&program, "s", &["a=1e200"]));
}

#[test]
fn residual_labels_never_clash() {
    let program = program("a: i = i + 1\n c = i >= 12\n if c goto a1 else goto a\na1: print_and_stop(x)");
    let raw = residual(&program, "a", &["i=0"]);
    let labels: Vec<_> = raw.function().blocks.iter().map(|block| &*block.label).collect();
    assert_eq!(labels.join(" "), "a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 a1_1");
}

#[test]
fn the_order_in_which_variables_became_known_does_not_matter() {
    let program = program(
        "s: if x goto l else goto r\nl: a = 1\n b = 2\n goto e\nr: b = 2\n a = 1\n goto e\ne: print_and_stop(a)",
    );
    let raw = residual(&program, "s", &[]);
    assert_eq!(raw.function().blocks.iter().filter(|block| block.label.starts_with('e')).count(), 1);
}

#[test]
fn limits_end_everything() {
    let limits = Limits { steps: 100, blocks: 100, trace: 100 };
    let program = program("s: i = i + 1\n goto s\nt: i = i + 1\n goto s");
    let one = given(&["i=0"]);
    assert_eq!(shown(&run(&program, "s", &one, limits)), "error: still running after 100 blocks");
    let error = specialize(&program, "s", &one, limits).expect_err("explodes");
    assert_eq!(error.to_string(), "specialising has not ended after 100 residual blocks: `s` has 101 versions");
    let error = trace(&program, "t", &one, Limits { trace: 50, ..limits }).expect_err("never comes back");
    assert_eq!(error.to_string(), "the trace has not come back to `t` after 50 steps");
    let place =
        error.to_diagnostic(&Source::new("t.flow", "s: i = i + 1\n goto s\nt: i = i + 1\n goto s")).map(|d| d.primary);
    assert_eq!(place.map(|label| (label.span.start, label.text)), Some((0, "in block `s`".to_owned())));
}

#[test]
fn a_trace_that_stops_says_so() {
    let program = program("s: b = 2\n c = b * a\n if c goto t else goto s\nt: d = b + c\n print_and_stop(b)");
    traced(
        &program,
        "s",
        &["a=1"],
        expect![[r#"
        trace s:
            b = 2
            c = b * a
            guard_true c else s
            d = b + c
            print_and_stop(b)

        optimized s:
            c = 2 * a
            guard_true c else s with b=2
            d = 2 + c
            print_and_stop(2)

        2
    "#]],
    );
}

#[test]
fn empty_loops_survive_cleaning_up() {
    let program = program("s: if x goto a else goto b\na: goto b\nb: goto a");
    let clean = cleanup(residual(&program, "s", &[]));
    expect![[r#"
        s1:  # s {}
            if x goto a1 else goto a1

        a1:  # a {}
            goto a1
    "#]]
    .assert_eq(&clean.print());
}

#[test]
fn blocks_that_differ_in_what_they_do_are_not_merged() {
    // The two versions of `a` stand for the same place in the source, but one of them knows x.
    let program = program("s: if c goto k else goto a\nk: x = 1\n goto a\na: y = x + z\n print_and_stop(y)");
    let clean = cleanup(residual(&program, "s", &[]));
    expect![[r#"
        s1:  # s {}
            if c goto a2 else goto a1

        a2:  # a {x=1}
            y = 1 + z
            print_and_stop(y)

        a1:  # a {}
            y = x + z
            print_and_stop(y)
    "#]]
    .assert_eq(&clean.print());
}

#[test]
fn the_entry_is_not_swallowed_by_a_block_that_jumps_to_it() {
    let program = program("s: i = i - 1\n if i goto a else goto b\na: x = x * 2\n goto s\nb: print_and_stop(x)");
    let clean = cleanup(residual(&program, "s", &[]));
    expect![[r#"
        s1:  # s {}
            i = i - 1
            if i goto a1 else goto b1

        a1:  # a {}
            x = x * 2
            goto s1

        b1:  # b {}
            print_and_stop(x)
    "#]]
    .assert_eq(&clean.print());
}
