//! The command line as a user meets it: what is printed where, and with which status.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use expect_test::{Expect, expect};
use optimist::flowgraph::model::{Limits, specialize};
use optimist::flowgraph::{Literal, Source, compile};

/// Runs the command with these words, in the project's folder.
fn optimist(words: &str) -> Output {
    command(words).output().expect("the command starts")
}

fn command(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_optimist"));
    command.args(words.split_whitespace()).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// What the command prints on standard output; it must succeed and say nothing else.
fn output(words: &str) -> String {
    let output = optimist(words);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && errors.is_empty(), "{words}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a program given as text, which must fail with status 1, and compares what it says on standard error.
fn fails(program: &str, words: &str, expected: &Expect) {
    let folder =
        std::env::temp_dir().join(format!("optimist-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&folder).expect("a folder for the program");
    std::fs::write(folder.join("program.flow"), program).expect("the program is written");
    let output = Command::new(env!("CARGO_BIN_EXE_optimist"))
        .args(words.split_whitespace())
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty(), "nothing belongs on standard output");
    expected.assert_eq(&said);
    std::fs::remove_dir_all(folder).expect("the folder is removed");
}

#[test]
fn powers_are_computed() {
    assert_eq!(output("run examples/power.flow --set x=10 --set y=10"), "10000000000\n");
    assert_eq!(output("run examples/power.flow --start power --set x=10 y=10"), "10000000000\n");
    assert_eq!(
        output("run examples/power.flow --start power_rec --set res=1 --set x=10 --set y=20"),
        "100000000000000000000\n"
    );
}

#[test]
fn a_program_of_the_model_checker_runs_again() {
    let replay = |program: &str| command("check-protocol eager --replay").arg(program).output().expect("it starts");
    let output = replay("rx wx | rx wx");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("eager `rx wx | rx wx`: ") && text.ends_with(" executions, clean\n"), "{text}");
    assert_eq!(replay("rx wq").status.code(), Some(2));
}

#[test]
fn a_bytecode_interpreter_squares() {
    let square = "bytecode=['mov_a_r0','mov_a_r1','mov_r0_a','decr_a','mov_a_r0','mov_r2_a','add_r1_to_a','mov_a_r2','mov_r0_a','jump_if_a',2,'mov_r2_a','return_a']";
    for tier in ["interp", "pe", "jit", "auto"] {
        let output = command("run examples/bytecode.flow --start bytecode_loop --tier")
            .args([tier, "--set", square, "pc=0", "a=16", "r0=0", "r1=0", "r2=0"])
            .output()
            .expect("the command starts");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "256\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_residual_program_is_printed_and_runs_again() {
    let residual = output("specialize examples/power.flow --start power --known y=5 --raw");
    let source = Source::new("power.flow", include_str!("../examples/power.flow"));
    let program = compile(&source).expect("the example compiles");
    let known = [("y".into(), Literal::int(5))];
    let expected = specialize(&program, "power", &known, Limits::default()).expect("it specialises");
    assert_eq!(residual, expected.print());
    let file = std::env::temp_dir().join(format!("residual-{}.flow", std::process::id()));
    for text in [residual, output("specialize examples/power.flow --start power --known y=5")] {
        std::fs::File::create(&file).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        let run = command("run")
            .arg(&file)
            .args(["--start", "power1", "--set", "x=10"])
            .output()
            .expect("the command starts");
        assert_eq!(String::from_utf8_lossy(&run.stdout), "100000\n", "{}", String::from_utf8_lossy(&run.stderr));
    }
    std::fs::remove_file(file).expect("removed");
}

#[test]
fn a_trace_is_printed_before_and_after_optimising() {
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
    "#]]
    .assert_eq(&output("trace examples/promote.flow --start b --set i=100 x=5"));
}

#[test]
fn an_undefined_variable_is_named_with_its_block_and_line() {
    fails(
        "start:\n    b = a + 1\n    print_and_stop(b)\n",
        "run program.flow",
        &expect![[r#"
            error: the variable `a` is read in block `start` (line 2), but was never set
             --> program.flow:2:9
              |
            2 |     b = a + 1
              |         ^^^^^ in block `start`
        "#]],
    );
}

#[test]
fn a_bad_index_shows_its_line() {
    fails(
        "start:\n    l = [1, 2]\n    b = l[i]\n    print_and_stop(b)\n",
        "run program.flow --set i=2",
        &expect![[r#"
            error: the index 2 is out of range for a length of 2
             --> program.flow:3:9
              |
            3 |     b = l[i]
              |         ^^^^ in block `start`
        "#]],
    );
}

#[test]
fn a_division_by_zero_shows_its_line() {
    fails(
        "start:\n    b = a // 0\n    print_and_stop(b)\n",
        "run program.flow --set a=2",
        &expect![[r#"
        error: `//` divides by zero
         --> program.flow:2:9
          |
        2 |     b = a // 0
          |         ^^^^^^ in block `start`
    "#]],
    );
}

#[test]
fn arithmetic_on_a_symbol_shows_its_line() {
    fails(
        "start:\n    b = a + 1\n    print_and_stop(b)\n",
        "run program.flow --set a='s'",
        &expect![[r#"
        error: `+` needs a number, but got a symbol
         --> program.flow:2:9
          |
        2 |     b = a + 1
          |         ^^^^^ in block `start`
    "#]],
    );
}

#[test]
fn an_unknown_label_is_an_error_before_anything_runs() {
    fails(
        "start:\n    goto strat\n",
        "run program.flow",
        &expect![[r#"
        error: there is no label `strat`
         --> program.flow:2:10
          |
        2 |     goto strat
          |          ^^^^^ jumps to nowhere
          |
        help: did you mean `start`?
    "#]],
    );
    fails(
        "start:\n    print_and_stop(1)\n",
        "run program.flow --start strat",
        &expect![[r#"
        error: program.flow: there is no label `strat`; did you mean `start`?
    "#]],
    );
}

#[test]
fn a_syntax_error_shows_its_line() {
    fails(
        "start:\n    a = = 1\n    print_and_stop(a\n",
        "run program.flow",
        &expect![[r#"
            error: expected a value, found `=`
             --> program.flow:2:9
              |
            2 |     a = = 1
              |         ^ expected a value
            error: expected `)`, found the end of the file
             --> program.flow:3:21
              |
            3 |     print_and_stop(a
              |                   - ^ expected `)`
              |                   |
              |                   opened here
        "#]],
    );
}

#[test]
fn a_missing_file_is_named() {
    fails(
        "",
        "run nowhere.flow",
        &expect![[r#"
        error: cannot read `nowhere.flow`: there is no such file
    "#]],
    );
}

#[test]
fn a_wrong_command_line_has_status_two() {
    for words in [
        "run",
        "run examples/power.flow --set x",
        "run examples/power.flow --tier warp",
        "run examples/power.flow --threads 0",
        "run examples/power.flow --protocol wish",
        "walk examples/power.flow",
    ] {
        assert_eq!(optimist(words).status.code(), Some(2), "{words}");
    }
}
