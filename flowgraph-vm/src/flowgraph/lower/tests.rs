//! Text in, flowgraph out.

use expect_test::{Expect, expect};

use crate::flowgraph::print;
use crate::flowgraph::verify::well_formed;
use crate::source::Source;
use crate::{check, compile};

/// The flowgraph as text; it must parse again to the same text.
fn lowered(text: &str, expected: Expect) {
    let source = Source::new("test.flow", text);
    let program = compile(&source).unwrap_or_else(|diagnostics| {
        let messages: Vec<_> = diagnostics.iter().map(|d| d.render(&source, false)).collect();
        panic!("{}", messages.join("\n"))
    });
    well_formed(&program).expect("the lowering keeps the rules");
    let printed = print::program(&program, |_, _| None);
    expected.assert_eq(&printed);
    let again = compile(&Source::new("again.flow", printed.clone())).expect("what was printed parses");
    assert_eq!(print::program(&again, |_, _| None), printed);
}

/// All that is said against a program.
fn mistakes(text: &str, expected: Expect) {
    let source = Source::new("test.flow", text);
    let all: Vec<_> = check(&source, &[]).iter().map(|d| d.render(&source, false)).collect();
    expected.assert_eq(&all.join("\n"));
}

#[test]
fn core_blocks() {
    lowered(
        "power:\n  res = 1; if y goto rec else goto done\nrec: res = res * x\n y = y - -1\n z = l[0]\n w = -z\n promote(y) goto done\ndone: print_and_stop(['a', [1]])",
        expect![[r#"
            power:
                res = 1
                if y goto rec else goto done

            rec:
                res = res * x
                y = y - -1
                z = l[0]
                w = -z
                promote(y) goto done

            done:
                print_and_stop(['a', [1]])
        "#]],
    );
}

#[test]
fn any_word_can_name_a_variable_of_a_core_program() {
    lowered(
        "if: while = not + none\n goto = true\n if while goto goto else goto if\ngoto: print_and_stop(fn)",
        expect![[r#"
            if:
                while = not + none
                goto = true
                if while goto goto else goto if

            goto:
                print_and_stop(fn)
        "#]],
    );
}

#[test]
fn structured_statements() {
    lowered(
        "fn f(n) {\n s = 0\n while n > 0 and not (s >= 10) {\n if n % 2 == 0 { s += n } else if n == 7 { break } else { n -= 1; continue }\n n = n - 1\n }\n return s\n}",
        expect![[r#"
            fn f(n) {
            entry:
                s = 0
                goto while1

            while1:
                _1 = n > 0
                if _1 goto and1 else goto done1

            body1:
                _4 = n % 2
                _3 = _4 == 0
                if _3 goto then1 else goto else1

            done1:
                return s

            and1:
                _2 = s >= 10
                if _2 goto done1 else goto body1

            endif1:
                n = n - 1
                goto while1

            then1:
                s = s + n
                goto endif1

            else1:
                _5 = n == 7
                if _5 goto then2 else goto else2

            then2:
                goto done1

            else2:
                n = n - 1
                goto while1
            }
        "#]],
    );
}

#[test]
fn loops_over_ranges_and_elements() {
    lowered(
        "fn f(l, n) {\n for i in 0..n { print(i) }\n for x in l { print(x, l[0]) }\n}",
        expect![[r#"
            fn f(l, n) {
            entry:
                _1 = n
                i = 0
                goto for1

            for1:
                _2 = i < _1
                if _2 goto body1 else goto done1

            body1:
                print(i)
                goto next1

            next1:
                i = i + 1
                goto for1

            done1:
                _3 = iterate(l)
                _4 = len(_3)
                _5 = 0
                goto for2

            for2:
                _6 = _5 < _4
                if _6 goto body2 else goto done2

            body2:
                x = _3[_5]
                _7 = l[0]
                print(x, _7)
                goto next2

            next2:
                _5 = _5 + 1
                goto for2

            done2:
                return none
            }
        "#]],
    );
}

#[test]
fn objects_shared_variables_and_events() {
    lowered(
        "const RATE = 2 * 5\nobject Account { owner, balance }\nshared bank = map()\nshared count = 0\nfn main() {\n a = Account(\"x\", RATE)\n a.balance += 3\n bank[a.owner] = a\n bank['n'] += 1\n count += 1\n add pay(a, 1)\n add pay(a, 2) after 100\n promote(count)\n}\nfn pay(a, n) { a.balance -= n }\n",
        expect![[r#"
            object Account { owner, balance }
            shared bank
            shared count

            fn main() {
            entry:
                a = Account("x", 10)
                _1 = a.balance
                _2 = _1 + 3
                a.balance = _2
                _3 = bank
                _4 = a.owner
                _3[_4] = a
                _5 = bank
                _6 = _5['n']
                _7 = _6 + 1
                _5['n'] = _7
                _8 = count
                _9 = _8 + 1
                count = _9
                add pay(a, 1)
                add pay(a, 2) after 100
                _10 = count
                promote(_10)
                return none
            }

            fn pay(a, n) {
            entry:
                _1 = a.balance
                _2 = _1 - n
                a.balance = _2
                return none
            }

            fn _init() {
            entry:
                _1 = map()
                bank = _1
                count = 0
                return none
            }
        "#]],
    );
}

#[test]
fn guarded_regions_are_left_on_every_way_out() {
    lowered(
        "fn f(q) {\n while true {\n try {\n if q { break }\n either { x = pop(q)\n if x == none { retry }\n return x } or { raise 'empty' }\n } catch e { print(e.message) }\n }\n}",
        expect![[r#"
            fn f(q) {
            entry:
                goto while1

            while1:
                goto body1

            body1:
                try goto try1 catch e goto catch1

            done1:
                return none

            try1:
                if q goto then1 else goto endif1

            catch1:
                _2 = e.message
                print(_2)
                goto done2

            done2:
                goto while1

            endif1:
                either goto either1 or goto or1

            then1:
                leave goto leave1

            leave1:
                goto done1

            either1:
                x = pop(q)
                _1 = x == none
                if _1 goto then2 else goto endif2

            or1:
                raise 'empty'

            endif2:
                leave goto leave2

            then2:
                retry

            leave2:
                leave goto leave3

            leave3:
                return x
            }
        "#]],
    );
}

#[test]
fn labels_in_functions() {
    lowered(
        "fn f(n) {\n loop:\n n -= 1\n if n > 0 goto loop else goto done\n done:\n try { goto out } catch { print(1) }\n out: print_and_stop(n)\n}",
        expect![[r#"
            fn f(n) {
            loop:
                n = n - 1
                _1 = n > 0
                if _1 goto loop else goto done

            done:
                try goto try1 catch goto catch1

            out:
                print_and_stop(n)

            try1:
                leave goto leave1

            catch1:
                print(1)
                goto done1

            done1:
                goto out

            leave1:
                goto out
            }
        "#]],
    );
}

#[test]
fn core_mistakes() {
    mistakes(
        "x = 1\nstart:\n  x = y + z * 2\n  goto strat\n  x = 2\nstart:\n  l = [1, a]\n  c = f(x)\nend:\n print_and_stop(x.y)",
        expect![[r#"
            error: this stands before the first label
             --> test.flow:1:1
              |
            1 | x = 1
              | ^^^^^ belongs to no block
              |
            help: start with a label, as in `start:`, or put statements into a function, as in `fn main() { … }`

            error: one operation at a time in a program of labelled blocks
             --> test.flow:3:11
              |
            3 |   x = y + z * 2
              |           ^^^^^
              |
            help: give the inner operation a variable of its own, or put the code into `fn main() { … }`

            error: there is no label `strat`
             --> test.flow:4:8
              |
            4 |   goto strat
              |        ^^^^^ jumps to nowhere
              |
            help: did you mean `start`?

            error: this comes after the end of its block
             --> test.flow:5:3
              |
            5 |   x = 2
              |   ^^^^^ never reached
              |
            help: a block ends with its first `goto`, `if`, `print_and_stop` or `promote`; give the next one a label

            error: the label `start` is there twice
             --> test.flow:6:1
              |
            2 | start:
              | ----- first here
            ...
            6 | start:
              | ^^^^^

            error: the block `start` does not say where to go on
             --> test.flow:6:1
              |
            6 | start:
              | ^^^^^ there is no falling through to the next block
              |
            help: end it with `goto L`, `if v goto L1 else goto L2`, `print_and_stop(v)` or `promote(v) goto L`

            error: a list literal holds constants only
             --> test.flow:7:11
              |
            7 |   l = [1, a]
              |           ^ not a constant

            error: a program of labelled blocks cannot call functions
             --> test.flow:8:7
              |
            8 |   c = f(x)
              |       ^^^^
              |
            help: put the code into `fn main() { … }` to call functions

            error: a program of labelled blocks has no objects
              --> test.flow:10:17
               |
            10 |  print_and_stop(x.y)
               |                 ^^^
               |
            help: put the code into `fn main() { … }` to use objects
        "#]],
    );
}

#[test]
fn function_mistakes() {
    mistakes(
        "const N = M + 1\nconst K = 1 // 0\nshared total = 0\nobject P { x, y, x }\nfn f(a, a) { return b }\nfn g(total) {\n  lenght(1)\n  f(1)\n  P(1)\n  len()\n  x = lst\n  print(total.zz)\n  break\n  goto nowhere\n  return f\n}\nfn main(x) {\n  N = 3\n  for i in 0..3 { i = 2 }\n  add h(1)\n  y = [1, x]\n}\npure fn p() { print(1) }\n",
        expect![[r#"
            error: `M` is not a constant
             --> test.flow:1:11
              |
            1 | const N = M + 1
              |           ^ must be known before the program runs

            error: this constant cannot be computed: `//` divides by zero
             --> test.flow:2:11
              |
            2 | const K = 1 // 0
              |           ^^^^^^

            error: the field `x` is there twice
             --> test.flow:4:18
              |
            4 | object P { x, y, x }
              |                  ^

            error: the parameter `a` is there twice
             --> test.flow:5:9
              |
            5 | fn f(a, a) { return b }
              |         ^

            error: there is no variable `b`
             --> test.flow:5:21
              |
            5 | fn f(a, a) { return b }
              |                     ^ never set in this function

            error: the parameter `total` has the name of a shared variable
             --> test.flow:6:6
              |
            3 | shared total = 0
              |        ----- the shared variable
            ...
            6 | fn g(total) {
              |      ^^^^^

            error: there is no function `lenght`
             --> test.flow:7:3
              |
            7 |   lenght(1)
              |   ^^^^^^
              |
            help: did you mean `len`?

            error: `f` takes 2 arguments, but got 1
             --> test.flow:8:3
              |
            5 | fn f(a, a) { return b }
              | ---------- declared here
            ...
            8 |   f(1)
              |   ^^^^

            error: `P` has 2 fields, but got 1 value
             --> test.flow:9:3
              |
            4 | object P { x, y, x }
              | -------------------- declared here
            ...
            9 |   P(1)
              |   ^^^^

            error: `len` takes 1 argument, but got 0
              --> test.flow:10:3
               |
            10 |   len()
               |   ^^^^^
               |
            help: How many elements, characters, bytes, entries or waiting values.

            error: there is no variable `lst`
              --> test.flow:11:7
               |
            11 |   x = lst
               |       ^^^ never set in this function

            error: no object type has a field `zz`
              --> test.flow:12:15
               |
            12 |   print(total.zz)
               |               ^^

            error: `break` stands outside a loop
              --> test.flow:13:3
               |
            13 |   break
               |   ^^^^^

            error: there is no label `nowhere` in this function
              --> test.flow:14:8
               |
            14 |   goto nowhere
               |        ^^^^^^^ jumps to nowhere

            error: there is no variable `f`
              --> test.flow:15:10
               |
            15 |   return f
               |          ^ a function, not a value
               |
            help: call it: `f(…)`

            error: `main` must have 0 parameters, but has 1
              --> test.flow:17:1
               |
            17 | fn main(x) {
               | ^^^^^^^^^^
               |
            help: `main` is the first event and takes no arguments

            error: `N` is a constant and cannot be assigned
              --> test.flow:18:3
               |
             1 | const N = M + 1
               |       - declared here
            ...
            18 |   N = 3
               |   ^

            error: `i` counts a loop and cannot be assigned in it
              --> test.flow:19:19
               |
            19 |   for i in 0..3 { i = 2 }
               |       -           ^
               |       |
               |       the loop's variable

            error: there is no function `h` to add as an event
              --> test.flow:20:7
               |
            20 |   add h(1)
               |       ^

            error: the function `p` is declared pure, but is not
              --> test.flow:23:15
               |
            23 | pure fn p() { print(1) }
               | -----------   ^^^^^^^^ `print` is no pure operation
               | |
               | declared here
        "#]],
    );
}

#[test]
fn graph_mistakes() {
    mistakes(
        "fn f(c) {\n  if c { x = y } else { print(x) }\n  y = 1\n  len(c)\n  return x\n  print(2)\n}\nfn g() { a: goto a; b: leave goto b }\nfn h() { a: leave goto b; b: return 1 }\nfn i(c) { try goto b catch e goto d\nb: return e\nd: if c goto x else goto b\nx: return e }\n",
        expect![[r#"
            error: the variable `y` is read here before it is set
             --> test.flow:2:14
              |
            2 |   if c { x = y } else { print(x) }
              |              ^ no way leads here on which it was set

            error: the variable `x` is read here before it is set
             --> test.flow:2:25
              |
            2 |   if c { x = y } else { print(x) }
              |                         ^^^^^^^^ no way leads here on which it was set

            warning: the result of `len` is thrown away
             --> test.flow:4:3
              |
            4 |   len(c)
              |   ^^^^^^
              |
            help: How many elements, characters, bytes, entries or waiting values.

            warning: this is never reached
             --> test.flow:6:3
              |
            6 |   print(2)
              |   ^^^^^^^^ comes after a jump

            warning: the block `b` is never reached
             --> test.flow:8:21
              |
            8 | fn g() { a: goto a; b: leave goto b }
              |                     ^ nothing jumps here

            error: `leave` stands outside a guarded part
             --> test.flow:9:13
              |
            9 | fn h() { a: leave goto b; b: return 1 }
              |             ^^^^^^^^^^^^

            error: the block `b` is reached with different guarded parts around it
              --> test.flow:11:1
               |
            11 | b: return e
               | ^
        "#]],
    );
}

#[test]
fn syntax_mistakes() {
    mistakes(
        "fn f( {\n}\nfn g() {\n  x = = 1\n  whlie x { }\n  y = (1 + \n  a < b < c\n  print 3\n  z = \"abc\n}\nfn h() {\n  x = 1\n  x\n  if x { \nfn i() { f() = 2; else = 1 }\nprint(1)\n",
        expect![[r#"
            error: expected the name of a parameter or `)`, found `{`
             --> test.flow:1:7
              |
            1 | fn f( {
              |       ^ expected the name of a parameter or `)`

            error: expected a value, found `=`
             --> test.flow:4:7
              |
            4 |   x = = 1
              |       ^ expected a value

            error: expected `=` or `(`, found `x`
             --> test.flow:5:9
              |
            5 |   whlie x { }
              |         ^ not expected here
              |
            help: did you mean `while`?

            error: comparisons cannot be chained
             --> test.flow:7:9
              |
            7 |   a < b < c
              |     -   ^
              |     |
              |     the first comparison
              |
            help: join them: `a < b and b < c`

            error: expected `=` or `(`, found `3`
             --> test.flow:8:9
              |
            8 |   print 3
              |         ^ not expected here
              |
            help: a call has brackets: `print(…)`

            error: this string is not closed
             --> test.flow:9:7
              |
            9 |   z = "abc
              |       ^^^^ expected `"` before the end of the line

            error: this value goes nowhere
              --> test.flow:13:3
               |
            13 |   x
               |   ^ only a call can stand alone
               |
            help: assign it to a variable, or give it back with `return`

            error: this `{` is not closed
              --> test.flow:14:8
               |
            14 |   if x { 
               |        ^ opened here
            15 | fn i() { f() = 2; else = 1 }
               | - expected `}` before this

            error: this cannot be assigned to
              --> test.flow:15:10
               |
            15 | fn i() { f() = 2; else = 1 }
               |          ^^^ not a variable, field or element

            error: expected a value, found the keyword `else`
              --> test.flow:15:19
               |
            15 | fn i() { f() = 2; else = 1 }
               |                   ^^^^ expected a value

            error: expected a declaration, found `print`
              --> test.flow:16:1
               |
            16 | print(1)
               | ^^^^^ statements stand inside functions
               |
            help: a file consists of `fn`, `pure fn`, `shared`, `const` and `object`, or else of labelled blocks alone
        "#]],
    );
}

#[test]
fn a_variable_set_on_some_way_is_no_mistake() {
    mistakes(
        "fn f(c) { while c { x = 1; c = 0 }\n return x }\nfn g(c) { a: if c goto b else goto d\nb: x = 1\n goto a\nd: return x }\n",
        expect![[""]],
    );
}
