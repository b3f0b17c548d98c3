//! What is said about each way to get a construct wrong: line, column, message and advice, one mistake to a program.

use std::fmt::Write;

use expect_test::{Expect, expect};
use optimist_flowgraph::{Source, check};

/// All mistakes of each program, one to a line.
fn said(programs: &[&str], expected: Expect) {
    let mut out = String::new();
    for text in programs {
        let source = Source::new("m.flow", *text);
        let _ = writeln!(out, "{}", text.replace('\n', "⏎"));
        for mistake in check(&source, &[]) {
            let position = source.position(mistake.primary.span.start);
            let _ = write!(out, "    {}:{}: {}", position.line, position.column, mistake.message);
            mistake.help.iter().for_each(|help| {
                let _ = write!(out, " ({help})");
            });
            out.push('\n');
        }
    }
    expected.assert_eq(&out);
}

/// The same for statements inside a function.
fn said_inside(bodies: &[&str], expected: Expect) {
    let programs: Vec<String> = bodies.iter().map(|body| format!("fn f(x) {{ {body} }}")).collect();
    let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
    said(&programs, expected);
}

#[test]
fn files() {
    said(
        &[
            "",
            "# nothing",
            "const N = 1",
            "fn f() {}\nx = 1",
            "x = 1",
            "print(1)",
            "def f() { return 1 }",
            "fn f() {}\nfn f() {}",
            "fn f() {}\nobject f { x }",
            "shared a\nshared a\nfn f() {}",
            "}\nfn f() {}",
        ],
        expect![[r#"

                1:1: the program is empty (start with a label, as in `start:`, or put statements into a function, as in `fn main() { … }`)
            # nothing
                1:1: the program is empty (start with a label, as in `start:`, or put statements into a function, as in `fn main() { … }`)
            const N = 1
                1:1: the program has no functions (a program starts with `fn main() { … }`)
            fn f() {}⏎x = 1
                2:1: expected a declaration, found `x` (a file consists of `fn`, `pure fn`, `shared`, `const` and `object`, or else of labelled blocks alone)
            x = 1
                1:1: this stands before the first label (start with a label, as in `start:`, or put statements into a function, as in `fn main() { … }`)
            print(1)
                1:1: a program of labelled blocks cannot call functions (put the code into `fn main() { … }` to call functions)
            def f() { return 1 }
                1:5: expected `:` or `=`, found `f` (a function is declared with `fn`)
            fn f() {}⏎fn f() {}
                2:4: the name `f` is declared twice
            fn f() {}⏎object f { x }
                2:8: the name `f` is declared twice
            shared a⏎shared a⏎fn f() {}
                2:8: the name `a` is declared twice
            }⏎fn f() {}
                1:1: expected a declaration, found `}` (a file consists of `fn`, `pure fn`, `shared`, `const` and `object`, or else of labelled blocks alone)
        "#]],
    );
}

#[test]
fn declarations() {
    said(
        &[
            "fn () {}",
            "fn f {}",
            "fn f(a b) {}",
            "fn f(a,) {}",
            "fn f(1) {}",
            "fn f()",
            "fn f() {",
            "fn while() {}",
            "pure f() {}",
            "pure fn f() { return random() }",
            "pure fn f() { return g() }\nfn g() {}",
            "shared a\nfn s() { a = 1 }\npure fn f() { return a }",
            "shared = 1\nfn f() {}",
            "const N\nfn f() {}",
            "const N = f()\nfn f() {}",
            "const N = M\nconst M = 1\nfn f() {}",
            "const N = 'a' + 1\nfn f() {}",
            "const N = 1\nfn f(N) {}",
            "object P\nfn f() {}",
            "object P { x y }\nfn f() {}",
            "object P { x, 1 }\nfn f() {}",
            "object P { x, x }\nfn f() {}",
            "fn main(args) {}",
            "fn record() {}",
            "fn finish(a, b) {}",
        ],
        expect![[r#"
            fn () {}
                1:1: a program of labelled blocks cannot call functions (put the code into `fn main() { … }` to call functions)
            fn f {}
                1:6: expected `(` and the parameters, found `{`
            fn f(a b) {}
                1:8: expected `,` or `)`, found `b`
            fn f(a,) {}
            fn f(1) {}
                1:6: expected the name of a parameter or `)`, found `1`
            fn f()
                1:7: expected `{`, found the end of the file (a body stands between braces: `{ … }`)
            fn f() {
                1:8: this `{` is not closed
            fn while() {}
                1:4: expected the name of the function, found the keyword `while`
            pure f() {}
                1:1: expected a declaration, found `pure` (a file consists of `fn`, `pure fn`, `shared`, `const` and `object`, or else of labelled blocks alone)
            pure fn f() { return random() }
                1:22: the function `f` is declared pure, but is not
            pure fn f() { return g() }⏎fn g() {}
                1:22: the function `f` is declared pure, but is not
            shared a⏎fn s() { a = 1 }⏎pure fn f() { return a }
                3:22: the function `f` is declared pure, but is not
            shared = 1⏎fn f() {}
                1:1: expected a declaration, found `shared` (a file consists of `fn`, `pure fn`, `shared`, `const` and `object`, or else of labelled blocks alone)
            const N⏎fn f() {}
                1:8: expected `=` and the constant's value, found the end of the line
            const N = f()⏎fn f() {}
                1:11: this is not a constant (a constant is made of literals, other constants and arithmetic)
            const N = M⏎const M = 1⏎fn f() {}
                1:11: the constant `M` is declared only later
            const N = 'a' + 1⏎fn f() {}
                1:11: this constant cannot be computed: `+` needs a number, but got a symbol
            const N = 1⏎fn f(N) {}
                2:6: the parameter `N` has the name of a constant
            object P⏎fn f() {}
                1:9: expected `{` and the names of the fields, found the end of the line
            object P { x y }⏎fn f() {}
                1:14: expected `,` or `}`, found `y`
            object P { x, 1 }⏎fn f() {}
                1:15: expected the name of a field or `}`, found `1`
            object P { x, x }⏎fn f() {}
                1:15: the field `x` is there twice
            fn main(args) {}
                1:1: `main` must have 0 parameters, but has 1 (`main` is the first event and takes no arguments)
            fn record() {}
                1:1: `record` must have 1 parameter, but has 0 (`record` is called with each record of the input)
            fn finish(a, b) {}
                1:1: `finish` must have 0 parameters, but has 2 (`finish` runs after all events and takes no arguments)
        "#]],
    );
}

#[test]
fn expressions() {
    said_inside(
        &[
            "y = ",
            "y = (1 + 2",
            "y = [1, 2",
            "y = x[1",
            "y = g(1",
            "y = 1 +",
            "y = 1 2",
            "y = * 2",
            "y = a < b < c",
            "y = x == not x",
            "y = x && x",
            "y = x || x",
            "y = !x",
            "y = x ^ 2",
            "y = x.1",
            "y = x.",
            "y = 12ab",
            "y = 1.5.2",
            "y = 'abc",
            "y = \"abc",
            "y = \"\\q\"",
            "y = b\"\\u{zz}\"",
            "y = [x]",
            "y = [1, g()]",
            "y = (x)(1)",
            "y = 5(1)",
            "y = zz",
            "y = print",
            "y = pint(1)",
            "y = len(1, 2)",
            "y = x.nothing",
            "y = @",
            "y = null",
            "y = True",
            "y = if",
        ],
        expect![[r#"
            fn f(x) { y =  }
                1:16: expected a value, found `}`
            fn f(x) { y = (1 + 2 }
                1:22: expected `)`, found `}`
            fn f(x) { y = [1, 2 }
                1:21: expected `,` or `]`, found `}`
            fn f(x) { y = x[1 }
                1:19: expected `]`, found `}`
            fn f(x) { y = g(1 }
                1:19: expected `,` or `)`, found `}`
            fn f(x) { y = 1 + }
                1:19: expected a value, found `}`
            fn f(x) { y = 1 2 }
                1:17: expected the end of the statement, found `2`
            fn f(x) { y = * 2 }
                1:15: expected a value, found `*`
            fn f(x) { y = a < b < c }
                1:21: comparisons cannot be chained (join them: `a < b and b < c`)
            fn f(x) { y = x == not x }
                1:20: `not` needs brackets here (write `(not …)`)
            fn f(x) { y = x && x }
                1:17: `&&` means nothing here (write `and`)
            fn f(x) { y = x || x }
                1:17: `||` means nothing here (write `or`)
            fn f(x) { y = !x }
                1:15: `!` means nothing here (write `not`)
            fn f(x) { y = x ^ 2 }
                1:17: `^` means nothing here (write `pow(a, b)`)
            fn f(x) { y = x.1 }
                1:17: expected the name of a field, found `1`
            fn f(x) { y = x. }
                1:18: expected the name of a field, found `}`
            fn f(x) { y = 12ab }
                1:15: `12ab` is not a number (a name cannot start with a digit)
            fn f(x) { y = 1.5.2 }
                1:19: expected the name of a field, found `2`
            fn f(x) { y = 'abc }
                1:9: this `{` is not closed
                1:15: this symbol is not closed
            fn f(x) { y = "abc }
                1:9: this `{` is not closed
                1:15: this string is not closed
            fn f(x) { y = "\q" }
                1:16: `\q` is not an escape (escapes are \n \r \t \0 \\ \' \" \xNN and \u{N})
            fn f(x) { y = b"\u{zz}" }
                1:17: `\u` is not an escape (escapes are \n \r \t \0 \\ \' \" \xNN and \u{N})
            fn f(x) { y = [x] }
            fn f(x) { y = [1, g()] }
                1:19: there is no function `g`
            fn f(x) { y = (x)(1) }
                1:15: this is not the name of a function (functions are called by their names: `f(x)`)
            fn f(x) { y = 5(1) }
                1:15: this is not the name of a function (functions are called by their names: `f(x)`)
            fn f(x) { y = zz }
                1:15: there is no variable `zz`
            fn f(x) { y = print }
                1:15: there is no variable `print` (call it: `print(…)`)
            fn f(x) { y = pint(1) }
                1:15: there is no function `pint` (did you mean `int`?)
            fn f(x) { y = len(1, 2) }
                1:15: `len` takes 1 argument, but got 2 (How many elements, characters, bytes, entries or waiting values.)
            fn f(x) { y = x.nothing }
                1:17: no object type has a field `nothing`
            fn f(x) { y = @ }
                1:15: `@` means nothing here
            fn f(x) { y = null }
                1:15: there is no variable `null` (write `none`)
            fn f(x) { y = True }
                1:15: there is no variable `True` (write `true`)
            fn f(x) { y = if }
                1:15: expected a value, found the keyword `if`
        "#]],
    );
}

#[test]
fn statements() {
    said_inside(
        &[
            "x + 1",
            "x",
            "len(x)",
            "1 = x",
            "x() = 1",
            "f(x) += 1",
            "x == 1",
            "if x",
            "if { }",
            "if x { } else",
            "if x { } elseif x { }",
            "if x { } elif x { } else { }",
            "let y = 1",
            "throw x",
            "while { }",
            "while x",
            "for i in { }",
            "for in x { }",
            "for i x { }",
            "for i in 0..3 { i += 1 }",
            "for i in 0..3 { for i in 0..3 { } }",
            "break",
            "continue",
            "if x { break }",
            "return 1 2",
            "raise",
            "try { }",
            "try { } catch 1 { }",
            "try { } finally { }",
            "either { }",
            "either { } or x",
            "add x",
            "add g(1)",
            "add f()",
            "add f(1) after",
            "print 3",
            "retrun x",
            "goto a",
            "goto 5",
            "if x goto a",
            "a: goto a; a: goto a",
            "try { a: x = 1 } catch { } goto a",
            "promote x",
            "promote(x) goto",
            "print_and_stop()",
            "return 1; x = 2",
            "leave goto a; a: return 1",
            "f(1, 2)",
            "y = z; z = 1",
            "else { }",
            "catch { }",
        ],
        expect![[r#"
            fn f(x) { x + 1 }
                1:11: this value goes nowhere (assign it to a variable, or give it back with `return`)
            fn f(x) { x }
                1:11: this value goes nowhere (assign it to a variable, or give it back with `return`)
            fn f(x) { len(x) }
                1:11: the result of `len` is thrown away (How many elements, characters, bytes, entries or waiting values.)
            fn f(x) { 1 = x }
                1:11: this cannot be assigned to
            fn f(x) { x() = 1 }
                1:11: this cannot be assigned to
            fn f(x) { f(x) += 1 }
                1:11: this cannot be assigned to
            fn f(x) { x == 1 }
                1:11: this value goes nowhere (assign it to a variable, or give it back with `return`)
            fn f(x) { if x }
                1:16: expected `{`, found `}` (a body stands between braces: `{ … }`)
            fn f(x) { if { } }
                1:14: expected a value, found `{`
            fn f(x) { if x { } else }
                1:25: expected `{`, found `}` (a body stands between braces: `{ … }`)
            fn f(x) { if x { } elseif x { } }
                1:20: expected `else`, found `elseif` (write `else if`)
            fn f(x) { if x { } elif x { } else { } }
                1:20: expected `else`, found `elif` (write `else if`)
            fn f(x) { let y = 1 }
                1:15: expected `=` or `(`, found `y` (a variable needs no declaration: `x = 1`)
            fn f(x) { throw x }
                1:17: expected `=` or `(`, found `x` (write `raise`)
            fn f(x) { while { } }
                1:17: expected a value, found `{`
            fn f(x) { while x }
                1:19: expected `{`, found `}` (a body stands between braces: `{ … }`)
            fn f(x) { for i in { } }
                1:20: expected a value, found `{`
            fn f(x) { for in x { } }
                1:18: expected `in`, found `x`
            fn f(x) { for i x { } }
                1:17: expected `in`, found `x`
            fn f(x) { for i in 0..3 { i += 1 } }
                1:27: `i` counts a loop and cannot be assigned in it
            fn f(x) { for i in 0..3 { for i in 0..3 { } } }
                1:31: `i` counts a loop around this one
            fn f(x) { break }
                1:11: `break` stands outside a loop
            fn f(x) { continue }
                1:11: `continue` stands outside a loop
            fn f(x) { if x { break } }
                1:18: `break` stands outside a loop
            fn f(x) { return 1 2 }
                1:20: expected the end of the statement, found `2`
            fn f(x) { raise }
                1:17: expected a value, found `}`
            fn f(x) { try { } }
                1:19: expected `catch`, a variable for the error, and what to do then, found `}`
            fn f(x) { try { } catch 1 { } }
                1:25: expected the name of a variable for the error, found `1`
            fn f(x) { try { } finally { } }
                1:19: expected `catch`, a variable for the error, and what to do then, found `finally`
            fn f(x) { either { } }
                1:22: expected `or` and another alternative, found `}`
            fn f(x) { either { } or x }
                1:25: expected `{`, found `x` (a body stands between braces: `{ … }`)
            fn f(x) { add x }
                1:17: expected `(` and the arguments, found `}` (an event is a call: `add x(…)`)
            fn f(x) { add g(1) }
                1:15: there is no function `g` to add as an event
            fn f(x) { add f() }
                1:11: `f` takes 1 argument, but got 0
            fn f(x) { add f(1) after }
                1:26: expected a value, found `}`
            fn f(x) { print 3 }
                1:17: expected `=` or `(`, found `3` (a call has brackets: `print(…)`)
            fn f(x) { retrun x }
                1:18: expected `=` or `(`, found `x` (did you mean `return`?)
            fn f(x) { goto a }
                1:16: there is no label `a` in this function
            fn f(x) { goto 5 }
                1:16: expected a label, found `5`
            fn f(x) { if x goto a }
                1:23: expected `else goto` and a label, found `}`
            fn f(x) { a: goto a; a: goto a }
                1:22: the label `a` is there twice
                1:25: this is never reached
            fn f(x) { try { a: x = 1 } catch { } goto a }
                1:38: expected the end of the statement, found the keyword `goto`
            fn f(x) { promote x }
                1:19: expected `=` or `(`, found `x` (it has brackets: `promote(x)`)
            fn f(x) { promote(x) goto }
                1:27: expected a label, found `}`
            fn f(x) { print_and_stop() }
                1:26: expected a value, found `)`
            fn f(x) { return 1; x = 2 }
                1:21: this is never reached
            fn f(x) { leave goto a; a: return 1 }
                1:11: `leave` stands outside a guarded part
            fn f(x) { f(1, 2) }
                1:11: `f` takes 1 argument, but got 2
            fn f(x) { y = z; z = 1 }
                1:15: the variable `z` is read here before it is set
            fn f(x) { else { } }
                1:11: `else` does not belong to an `if`
            fn f(x) { catch { } }
                1:11: `catch` does not belong to a `try`
        "#]],
    );
}

#[test]
fn core_programs() {
    said(
        &[
            "l: x = 1",
            "l:",
            "l: goto m",
            "l: gotto l",
            "l: if x goto l",
            "l: if x goto l else m",
            "l: iff x goto l else goto l",
            "l: print_and_stop x",
            "l: print_and_stop()",
            "l: promote(x)",
            "l: promote(x) goto",
            "l: x = a + b + c\n goto l",
            "l: x = f(1)\n goto l",
            "l: x = a.b\n goto l",
            "l: x.y = 1\n goto l",
            "l: x[1] = 2\n goto l",
            "l: x = [y]\n goto l",
            "l: x = \n goto l",
            "l: x = 1 y = 2\n goto l",
            "l: goto l\n x = 1",
            "l: goto l\nl: goto l",
            "l goto l",
            "l: x = 'a\n goto l",
            "l: while x { }\n goto l",
        ],
        expect![[r#"
            l: x = 1
                1:1: the block `l` does not say where to go on (end it with `goto L`, `if v goto L1 else goto L2`, `print_and_stop(v)` or `promote(v) goto L`)
            l:
                1:1: the block `l` does not say where to go on (end it with `goto L`, `if v goto L1 else goto L2`, `print_and_stop(v)` or `promote(v) goto L`)
            l: goto m
                1:9: there is no label `m`
            l: gotto l
                1:10: expected `:` or `=`, found `l` (did you mean `goto`?)
            l: if x goto l
                1:15: expected `else goto` and a label, found the end of the file
            l: if x goto l else m
                1:21: expected `goto`, found `m`
            l: iff x goto l else goto l
                1:8: expected `:` or `=`, found `x` (did you mean `if`?)
            l: print_and_stop x
                1:19: expected `:` or `=`, found `x` (it has brackets: `print_and_stop(x)`)
            l: print_and_stop()
                1:19: expected a value, found `)`
            l: promote(x)
                1:14: expected `goto`, found the end of the file
            l: promote(x) goto
                1:19: expected a label, found the end of the file
            l: x = a + b + c⏎ goto l
                1:8: one operation at a time in a program of labelled blocks (give the inner operation a variable of its own, or put the code into `fn main() { … }`)
            l: x = f(1)⏎ goto l
                1:8: a program of labelled blocks cannot call functions (put the code into `fn main() { … }` to call functions)
            l: x = a.b⏎ goto l
                1:8: a program of labelled blocks has no objects (put the code into `fn main() { … }` to use objects)
            l: x.y = 1⏎ goto l
                1:5: expected `:` or `=`, found `.`
            l: x[1] = 2⏎ goto l
                1:5: expected `:` or `=`, found `[`
            l: x = [y]⏎ goto l
                1:9: a list literal holds constants only
            l: x = ⏎ goto l
                1:8: expected a value, found the end of the line
            l: x = 1 y = 2⏎ goto l
                1:10: expected the end of the statement, found `y`
            l: goto l⏎ x = 1
                2:2: this comes after the end of its block (a block ends with its first `goto`, `if`, `print_and_stop` or `promote`; give the next one a label)
            l: goto l⏎l: goto l
                2:1: the label `l` is there twice
            l goto l
                1:3: expected `:` or `=`, found `goto`
            l: x = 'a⏎ goto l
                1:8: this symbol is not closed
            l: while x { }⏎ goto l
                1:10: expected `:` or `=`, found `x`
        "#]],
    );
}

#[test]
fn sources_of_events() {
    said_inside(
        &[
            "for each line in lins(x) add g(line)",
            "for each line in lines(x) add g(x)",
            "for each line in lines(x) add f(line, line)",
            "for each line in lines(x) add f(str(line))",
            "for each line in lines(x) g(line)",
            "for each line in lines(x) add nobody(line)",
            "for each line in lines(x) add f(x, line)",
            "for each line in lines(y) add f(line)",
            "for each line in x add f(line)",
            "when closd(x) add f(x)",
            "when x add f(x)",
            "when closed(x) f(x)",
            "when closed(x) add f()",
        ],
        expect![[r#"
            fn f(x) { for each line in lins(x) add g(line) }
                1:28: `lins` is not a source of events (did you mean `lines`?) (expected one of `connections(…)`, `lines(…)`, `chunks(…)`)
            fn f(x) { for each line in lines(x) add g(x) }
                1:20: `line` is not handed to the event (it is known only when the event starts: write it as an argument by itself, as in `g(line)`)
            fn f(x) { for each line in lines(x) add f(line, line) }
                1:20: `line` is handed over more than once (it is known only when the event starts: write it as an argument by itself, as in `f(line)`)
            fn f(x) { for each line in lines(x) add f(str(line)) }
                1:20: `line` is not handed to the event (it is known only when the event starts: write it as an argument by itself, as in `f(line)`)
            fn f(x) { for each line in lines(x) g(line) }
                1:37: expected `add`, found `g`
            fn f(x) { for each line in lines(x) add nobody(line) }
                1:41: there is no function `nobody` to add as an event
            fn f(x) { for each line in lines(x) add f(x, line) }
                1:11: `f` takes 1 argument, but got 2
            fn f(x) { for each line in lines(y) add f(line) }
                1:34: there is no variable `y`
            fn f(x) { for each line in x add f(line) }
                1:28: `x` is not a source of events (expected one of `connections(…)`, `lines(…)`, `chunks(…)`)
            fn f(x) { when closd(x) add f(x) }
                1:16: `closd` is not a condition (did you mean `closed`?) (expected one of `readable(…)`, `closed(…)`)
            fn f(x) { when x add f(x) }
                1:16: `x` is not a condition (expected one of `readable(…)`, `closed(…)`)
            fn f(x) { when closed(x) f(x) }
                1:26: expected `add`, found `f`
            fn f(x) { when closed(x) add f() }
                1:11: `f` takes 1 argument, but got 0
        "#]],
    );
}

#[test]
fn habits_from_elsewhere() {
    said(
        &[
            "fn f(x) { if x = 5 { } }",
            "fn f() {\n    print(\"hello)\n}",
            "fn f()\n    print(1)\nend",
            "fn f(x) { let y = x }",
            "fn f() { for (i = 0; i < 10; i++) { print(i) } }",
            "fn f(names) { names.push(1) }",
            "fn f(names) { print(names.length) }",
            "fn f() { m = {\"a\": 1} }",
            "fn f(x) {\n    while x\n        x -= 1\n}",
            "shared count = 0\nfn f() { counter += 1 }",
            "fn f(x) { x++ }",
            "fn f(x) { x-- }",
            "fn f(name) { print(f\"hello {name}\") }",
            "fn f(a) { return a ** 2 }",
            "fn f(a) { return a ? 1 : 2 }",
            "fn f(a) { print(a && !a) }",
            "fn f() { // a comment\n}",
            "fn f() { def g(x) { return x } }",
            "fn f(x) { y = {}\n g({}) }",
            "object P { x, y }\nfn f() { p = P(x=1, y=2) }",
            "object P { x, y }\nfn f() { p = new P(1, 2) }",
            "fn f(x) { y = add f(x) }",
            "fn f() { add print(1) }",
            "fn f(x) { print(x = 3) }",
            "fn f(x) { print(x => 3, x =< 3) }",
            "fn f(x) { y = x =< 3 }",
            "fn f(x) { y = x <> 3 }",
            "fn f(x) { y = x === 3 }",
            "fn f() { for i in 0...3 { } }",
            "fn f() { for i in 0..=3 { } }",
            "fn f() { for i = 0..3 { } }",
            "fn f() { y = .5; z = 5. }",
            "fn f() { add f() after 10ms }",
            "fn f() { add f() after 2s }",
            "fn f(x) { switch x { } }",
            "fn f() { loop { } }",
            "fn f(x) {\n    print(f(x)\n}",
            "fn f() {\n    l = [1, 2,\n    print(l)\n}",
            "fn f() { while true { x = 1\n end }",
            "fn f() { const N = 1 }",
            "fn f() { x = input() }",
            "fn f() { lock(f) }",
            "function main() {\n    print(1)\n}",
            "end\n",
        ],
        expect![[r#"
            fn f(x) { if x = 5 { } }
                1:16: expected `{`, found `=` (`==` compares)
            fn f() {⏎    print("hello)⏎}
                2:11: this string is not closed
            fn f()⏎    print(1)⏎end
                1:7: expected `{`, found the end of the line (a body stands between braces: `{ … }`)
            fn f(x) { let y = x }
                1:15: expected `=` or `(`, found `y` (a variable needs no declaration: `x = 1`)
            fn f() { for (i = 0; i < 10; i++) { print(i) } }
                1:14: expected the name of a variable, found `(` (a loop over integers is written `for i in 0..10 { … }`)
            fn f(names) { names.push(1) }
                1:15: there are no methods here (functions stand before what they work on: `push(names, …)`)
            fn f(names) { print(names.length) }
                1:27: no object type has a field `length` (the length is `len(x)`)
            fn f() { m = {"a": 1} }
                1:14: expected a value, found `{` (a map is made with `map()` and filled with `m[key] = value`)
            fn f(x) {⏎    while x⏎        x -= 1⏎}
                2:12: expected `{`, found the end of the line (a body stands between braces: `{ … }`)
            shared count = 0⏎fn f() { counter += 1 }
                2:10: the variable `counter` is read here before it is set (did you mean `count`?)
            fn f(x) { x++ }
                1:13: expected a value, found `+` (write `x += 1`)
            fn f(x) { x-- }
                1:13: expected a value, found `-` (write `x -= 1`)
            fn f(name) { print(f"hello {name}") }
                1:21: expected `,` or `)`, found a string (text with values in it is made with `str("a = ", a)`)
            fn f(a) { return a ** 2 }
                1:21: expected a value, found `*` (write `pow(a, b)`)
            fn f(a) { return a ? 1 : 2 }
                1:20: `?` means nothing here (write `if a { … } else { … }`)
            fn f(a) { print(a && !a) }
                1:19: `&&` means nothing here (write `and`)
                1:22: `!` means nothing here (write `not`)
            fn f() { // a comment⏎}
                1:10: expected a value, found `//` (a comment starts with `#`)
            fn f() { def g(x) { return x } }
                1:14: expected `=` or `(`, found `g` (a function is declared with `fn`)
            fn f(x) { y = {}⏎ g({}) }
                1:15: expected a value, found `{` (a map is made with `map()` and filled with `m[key] = value`)
                2:4: expected a value, found `{` (a map is made with `map()` and filled with `m[key] = value`)
            object P { x, y }⏎fn f() { p = P(x=1, y=2) }
                2:17: expected `,` or `)`, found `=` (`==` compares; arguments are told by their order and have no names)
            object P { x, y }⏎fn f() { p = new P(1, 2) }
                2:18: expected the end of the statement, found `P` (an object is made by calling its type: `P(…)`)
            fn f(x) { y = add f(x) }
                1:19: expected the end of the statement, found `f` (`add` is a statement: an event gives nothing back to who adds it)
            fn f() { add print(1) }
                1:14: there is no function `print` to add as an event (an event is a call of a function of the program, which can call `print`)
            fn f(x) { print(x = 3) }
                1:19: expected `,` or `)`, found `=` (`==` compares; arguments are told by their order and have no names)
            fn f(x) { print(x => 3, x =< 3) }
                1:19: expected `,` or `)`, found `=` (write `>=`)
            fn f(x) { y = x =< 3 }
                1:17: this cannot be assigned to (`==` compares)
            fn f(x) { y = x <> 3 }
                1:18: expected a value, found `>` (write `a != b`)
            fn f(x) { y = x === 3 }
                1:19: expected a value, found `=` (`==` and `!=` compare kind and value)
            fn f() { for i in 0...3 { } }
                1:22: expected a value, found `.` (`a..b` goes from a to before b; write `a..b + 1` to include b)
            fn f() { for i in 0..=3 { } }
                1:22: expected a value, found `=` (`a..b` goes from a to before b; write `a..b + 1` to include b)
            fn f() { for i = 0..3 { } }
                1:16: expected `in`, found `=` (a loop over integers is written `for i in 0..10 { … }`)
            fn f() { y = .5; z = 5. }
                1:14: expected a value, found `.` (write `0.5`)
                1:25: expected digits after the point, found `}` (write `5.0`)
            fn f() { add f() after 10ms }
                1:24: `10ms` is not a number (times are numbers of milliseconds)
            fn f() { add f() after 2s }
                1:24: `2s` is not a number (times are numbers of milliseconds: 1.5 seconds are `1500`)
            fn f(x) { switch x { } }
                1:18: expected `=` or `(`, found `x` (write `if … { … } else if … { … }`)
            fn f() { loop { } }
                1:15: expected `=` or `(`, found `{` (write `while true { … }`)
            fn f(x) {⏎    print(f(x)⏎}
                3:1: expected `,` or `)`, found `}`
            fn f() {⏎    l = [1, 2,⏎    print(l)⏎}
                4:1: expected `,` or `]`, found `}`
            fn f() { while true { x = 1⏎ end }
                1:8: this `{` is not closed
                2:2: `end` is not a statement (a body ends with `}`)
            fn f() { const N = 1 }
                1:16: expected `=` or `(`, found `N` (constants are declared outside functions)
            fn f() { x = input() }
                1:14: there is no function `input` (each line of the input is an event: `for each line in lines("-") add f(line)`)
            fn f() { lock(f) }
                1:10: there is no function `lock` (no locks are needed: every event runs as if it were alone)
                1:15: there is no variable `f` (call it: `f(…)`)
            function main() {⏎    print(1)⏎}
                1:10: expected `:` or `=`, found `main` (a function is declared with `fn`)
            end⏎
                1:1: `end` is not a statement
        "#]],
    );
}
