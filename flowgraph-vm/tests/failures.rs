//! What is said of each way in which each construct can fail while running: place, kind, message and advice.

use std::collections::HashSet;
use std::fmt::Write;

use expect_test::{Expect, expect};
use optimist_flowgraph::flowgraph::fault::{Fault, RuntimeError};
use optimist_flowgraph::flowgraph::op::{Effect, Notation, Op};
use optimist_flowgraph::flowgraph::program::VarId;
use optimist_flowgraph::model::{self, ModelError};
use optimist_flowgraph::vm::{Collected, Limits, Vm, VmConfig};
use optimist_flowgraph::{Literal, Source, compile};

/// How a program's `main` fails.
fn failure(source: &std::sync::Arc<Source>) -> Box<RuntimeError> {
    let program = compile(source).unwrap_or_else(|mistakes| {
        panic!("{}", mistakes.iter().map(|mistake| mistake.render(source, false)).collect::<String>())
    });
    let limits = Limits { steps: 100_000, ..Limits::default() };
    let vm = Vm::new(program, VmConfig { limits, ..VmConfig::default() }).expect("a small program");
    let (mut worker, mut context) = (vm.worker(), Collected::default());
    let done = vm.initialise(&mut worker, &mut context).and_then(|()| {
        let main = vm.function("main").expect("a main function");
        vm.run_event(&mut worker, main, &[], &mut context)
    });
    match done {
        Ok(_) => panic!("this does not fail:\n{}", source.text()),
        Err(error) => error,
    }
}

/// The failure in one line.
fn line(source: &Source, error: &RuntimeError) -> String {
    let place = source.position(error.span.start);
    let diagnostic = error.to_diagnostic(source);
    let shown = diagnostic.render(source, false);
    let text = source.text().lines().nth(place.line - 1).expect("the line");
    assert!(
        shown.contains(&format!("--> {}:{}:{}\n", source.name(), place.line, place.column))
            && shown.contains(&format!("{} | {text}", place.line)),
        "{shown}"
    );
    let help: String = diagnostic.help.iter().map(|help| format!(" ({help})")).collect();
    format!("{}:{}: {}: {}{help}", place.line, place.column, error.fault.kind(), diagnostic.message)
}

/// Each of these statements fails in `main`.
fn fails(statements: &[&str], expected: Expect) {
    let mut out = String::new();
    for statement in statements {
        let text = format!(
            "object P {{ x, y }}\nobject Q {{ z }}\nfn main() {{\n    {statement}\n}}\n\nfn f(a) {{ return a }}\n"
        );
        let source = Source::new("f.flow", text);
        let _ = writeln!(out, "{statement}\n    {}", line(&source, &failure(&source)));
    }
    expected.assert_eq(&out);
}

/// Operators, by the ways they fail.
const OPERATORS: &[&str] = &[
    "x = 1 + 'a'",
    "x = \"a\" + 1",
    "x = 1 + \"a\"",
    "x = none + 1",
    "x = [1] + [2]",
    "x = 'a' - 1",
    "x = 1 - none",
    "x = \"a\" * 3",
    "x = map() * 2",
    "x = 1 // 0",
    "x = 1.5 // 0.0",
    "x = 1 // 'a'",
    "x = 1 % 0",
    "x = 1 % \"a\"",
    "x = 1 / 0",
    "x = 1.0 / 0.0",
    "x = none / 2",
    "x = -'a'",
    "x = -\"a\"",
    "x = 1 < 'a'",
    "x = \"a\" >= 1",
    "x = none > 1",
    "x = [1] <= [2]",
    "x = 1 in 5",
    "x = 1 in \"abc\"",
    "x = 1 in none",
];

/// Elements and fields.
const PLACES: &[&str] = &[
    "x = [1, 2][2]",
    "x = [1, 2][-1]",
    "x = [1, 2][1.0]",
    "x = [1, 2]['a']",
    "n = 5; x = n[0]",
    "x = none[0]",
    "x = \"abc\"[3]",
    "x = b\"abc\"[9]",
    "x = array(2)[2]",
    "x = f64_array(2)[2]",
    "x = i64_array(2)[-1]",
    "x = queue()[0]",
    "x = map()[\"k\"]",
    "x = map()[2 / 0.5 - 4.0]",
    "x = P(1, 2)[0]",
    "p = P(1, 2); x = p.z",
    "n = 5; x = n.z",
    "x = none; print(x.z)",
    "a = array(1); a[1] = 0",
    "a = array(1); a['x'] = 0",
    "a = array(1); a[0] += 1",
    "a = f64_array(1); a[0] = 'x'",
    "a = i64_array(1); a[0] = 1.5",
    "a = i64_array(1); a[0] = pow(2, 63)",
    "l = [1, 2]; l[0] = 5",
    "s = \"abc\"; s[0] = \"x\"",
    "q = queue(); q[0] = 1",
    "x = none; x[0] = 1",
    "m = map(); m[\"k\"] += 1",
    "m = map(); m[1e308 * 10.0 - 1e308 * 10.0] = 1",
    "p = P(1, 2); p.z = 1",
    "x = none; x.z = 1",
    "p = freeze(P(1, 2)); p.x = 3",
    "a = freeze(array(1)); a[0] = 3",
    "a = freeze(f64_array(1)); a[0] = 3.0",
    "m = freeze(map()); m[1] = 3",
    "q = freeze(queue()); push(q, 1)",
    "q = freeze(queue()); clear(q)",
    "m = map(); m[1] = 2; freeze(m); remove(m, 1)",
];

/// Statements.
const STATEMENTS: &[&str] = &[
    "for i in 10 { print(i) }",
    "for i in none { print(i) }",
    "for k, v in 7 { print(k) }",
    "for k, v in [1] { print(k) }",
    "for k, v in [[1]] { print(k) }",
    "for i in 0..\"x\" { print(i) }",
    "for i in 'a'..3 { print(i) }",
    "raise \"broken\"",
    "raise list('a', 1)",
    "try { raise 'inner' } catch e { raise e }",
    "assert(1 == 2)",
    "assert(0, \"must be\")",
    "assert(0, 'reason')",
    "add f(1) after \"x\"",
    "add f(1) after -1",
    "add f(1) after 1e308 * 10.0",
    "if random(2) < 5 { } else { x = 1 }; print(x)",
    "if random(2) < 5 { } else { x = 1 }; promote(x); print(x)",
    "while true { }",
    "for each c in connections(5) add f(c)",
    "for each c in connections(\"nowhere\") add f(c)",
    "for each l in lines(5) add f(l)",
    "for each l in lines(\"a\") add f(l)",
    "for each l in chunks(none) add f(l)",
    "when readable(5) add f(1)",
    "when closed('c') add f(1)",
];

/// Operations called by name.
const CALLS: &[&str] = &[
    "x = int(\"12a\")",
    "x = int('a')",
    "x = int(1e308 * 10.0)",
    "x = float(\"1.x\")",
    "x = float(none)",
    "x = symbol(1)",
    "x = bytes(1)",
    "x = bytes([256])",
    "x = bytes([-1])",
    "x = bytes(['a'])",
    "x = decode(\"abc\")",
    "x = decode(b\"\\xff\")",
    "x = abs('a')",
    "x = min([])",
    "x = min(1, 'a')",
    "x = min(5)",
    "x = max(queue())",
    "x = max(\"a\", 1)",
    "x = pow(2, 'a')",
    "x = pow(2, pow(10, 20))",
    "x = pow(0, -1)",
    "x = sqrt(\"4\")",
    "x = sqrt(-1)",
    "x = isqrt(-4)",
    "x = isqrt(2.5)",
    "x = exp(none)",
    "x = ln('a')",
    "x = ln(0)",
    "x = sin([])",
    "x = cos(map())",
    "x = tan(\"\")",
    "x = asin('a')",
    "x = asin(2)",
    "x = acos(none)",
    "x = acos(-2)",
    "x = atan(\"a\")",
    "x = atan2(1, 'a')",
    "x = floor('a')",
    "x = floor(1e308 * 10.0)",
    "x = ceil(none)",
    "x = round(\"1\")",
    "x = bit_and(1, 1.5)",
    "x = bit_or('a', 1)",
    "x = bit_xor(1, none)",
    "x = shift_left(1, -1)",
    "x = shift_left(1, pow(10, 9))",
    "x = shift_left(1.0, 1)",
    "x = shift_right(1, \"a\")",
    "x = shift_right(1, -1)",
    "x = concat([1], 2)",
    "x = concat(5, [1])",
    "x = len(5)",
    "x = len(none)",
    "x = slice(\"abc\", 'a')",
    "x = slice([1, 2], 0, 1.5)",
    "x = slice(5, 0)",
    "x = contains(5, 1)",
    "x = contains(\"a\", 1)",
    "x = find(5, 1)",
    "x = find(\"a\", 1)",
    "x = sort(5)",
    "x = sort(list(1, P(1, 2)))",
    "x = reverse(5)",
    "x = sum([1, 'a'])",
    "x = sum(5)",
    "x = split(5)",
    "x = split(\"a\", 1)",
    "x = join(5, \"\")",
    "x = join([\"a\"], 1)",
    "x = upper(5)",
    "x = lower('a')",
    "x = trim(none)",
    "x = replace(\"a\", 1, \"b\")",
    "x = replace(5, \"a\", \"b\")",
    "x = repeat(5, 2)",
    "x = repeat(\"a\", -1)",
    "x = repeat(\"abcdefgh\", pow(2, 40))",
    "x = starts_with(\"a\", 1)",
    "x = ends_with(5, \"a\")",
    "x = pad_left(1, 'a')",
    "x = pad_left(1, pow(2, 40))",
    "x = pad_right(1, -1)",
    "x = fixed('a', 2)",
    "x = fixed(1.5, -1)",
    "x = fixed(1.5, 1000000)",
    "x = ord(\"\")",
    "x = ord(5)",
    "x = chr('a')",
    "x = chr(-1)",
    "x = chr(1114112)",
    "x = array(-1)",
    "x = array('a')",
    "x = array(pow(2, 40))",
    "x = f64_array('a')",
    "x = f64_array(2, 'a')",
    "x = f64_array([1, 'a'])",
    "x = i64_array(2, 1.5)",
    "x = i64_array([pow(2, 63)])",
    "x = get(5, 1)",
    "x = has(none, 1)",
    "x = remove([1], 1)",
    "x = keys([1])",
    "x = values(5)",
    "x = items(5)",
    "x = iterate(5)",
    "push([1], 2)",
    "push(none, 2)",
    "x = pop([1])",
    "x = peek(map())",
    "clear([1])",
    "x = random(0)",
    "x = random('a')",
    "x = random(-5)",
    "write_file(5, \"a\")",
    "write_file(\"a\", 5)",
    "send(5, \"a\")",
    "send('c', 5)",
    "x = receive(5)",
    "close(\"c\")",
    "x = peer(none)",
];

#[test]
fn operators() {
    fails(
        OPERATORS,
        expect![[r#"
            x = 1 + 'a'
                4:9: not_a_number: `+` needs a number, but got a symbol
            x = "a" + 1
                4:9: not_a_number: `+` needs a number, but got a string (`str(a, b)` makes text of any values)
            x = 1 + "a"
                4:9: not_a_number: `+` needs a number, but got a string (`str(a, b)` makes text of any values)
            x = none + 1
                4:9: not_a_number: `+` needs a number, but got none (a function without `return`, an element never set, a key that is not in a map, and an empty queue give none)
            x = [1] + [2]
                4:9: not_a_number: `+` needs a number, but got a list
            x = 'a' - 1
                4:9: not_a_number: `-` needs a number, but got a symbol
            x = 1 - none
                4:9: not_a_number: `-` needs a number, but got none (a function without `return`, an element never set, a key that is not in a map, and an empty queue give none)
            x = "a" * 3
                4:9: not_a_number: `*` needs a number, but got a string (`repeat(text, n)` makes it so many times as long)
            x = map() * 2
                4:9: not_a_number: `*` needs a number, but got a map
            x = 1 // 0
                4:9: division_by_zero: `//` divides by zero
            x = 1.5 // 0.0
                4:9: division_by_zero: `//` divides by zero
            x = 1 // 'a'
                4:9: not_a_number: `//` needs a number, but got a symbol
            x = 1 % 0
                4:9: division_by_zero: `%` divides by zero
            x = 1 % "a"
                4:9: not_a_number: `%` needs a number, but got a string
            x = 1 / 0
                4:9: division_by_zero: `/` divides by zero
            x = 1.0 / 0.0
                4:9: division_by_zero: `/` divides by zero
            x = none / 2
                4:9: not_a_number: `/` needs a number, but got none (a function without `return`, an element never set, a key that is not in a map, and an empty queue give none)
            x = -'a'
                4:9: not_a_number: `-` needs a number, but got a symbol
            x = -"a"
                4:9: not_a_number: `-` needs a number, but got a string
            x = 1 < 'a'
                4:9: not_comparable: `<` cannot compare an integer with a symbol
            x = "a" >= 1
                4:9: not_comparable: `>=` cannot compare a string with an integer
            x = none > 1
                4:9: not_comparable: `>` cannot compare none with an integer (a function without `return`, an element never set, a key that is not in a map, and an empty queue give none)
            x = [1] <= [2]
                4:9: not_comparable: `<=` cannot compare a list with a list
            x = 1 in 5
                4:9: wrong_kind: looking for something needs a collection, string or byte string, but got an integer
            x = 1 in "abc"
                4:9: wrong_kind: looking in a string needs a string to look for, but got an integer
            x = 1 in none
                4:9: wrong_kind: looking for something needs a collection, string or byte string, but got none
        "#]],
    );
}

#[test]
fn elements_and_fields() {
    fails(
        PLACES,
        expect![[r#"
            x = [1, 2][2]
                4:9: index_out_of_range: the index 2 is out of range for a length of 2
            x = [1, 2][-1]
                4:9: index_out_of_range: the index -1 is out of range for a length of 2
            x = [1, 2][1.0]
                4:9: not_an_index: an index is an integer, but got a float (`//` divides without a fraction, and `int(x)` drops it)
            x = [1, 2]['a']
                4:9: not_an_index: an index is an integer, but got a symbol
            n = 5; x = n[0]
                4:16: not_indexable: an integer has no elements to index
            x = none[0]
                4:9: not_indexable: none has no elements to index (a key that is not in a map, an empty queue, and a function without `return` give none)
            x = "abc"[3]
                4:9: index_out_of_range: the index 3 is out of range for a length of 3
            x = b"abc"[9]
                4:9: index_out_of_range: the index 9 is out of range for a length of 3
            x = array(2)[2]
                4:9: index_out_of_range: the index 2 is out of range for a length of 2
            x = f64_array(2)[2]
                4:9: index_out_of_range: the index 2 is out of range for a length of 2
            x = i64_array(2)[-1]
                4:9: index_out_of_range: the index -1 is out of range for a length of 2
            x = queue()[0]
                4:9: not_indexable: a queue has no elements to index
            x = map()["k"]
                4:9: key_not_found: the map has no key "k" (`get(map, key, otherwise)` gives a value for a key that is not there)
            x = map()[2 / 0.5 - 4.0]
                4:9: key_not_found: the map has no key 0.0 (`get(map, key, otherwise)` gives a value for a key that is not there)
            x = P(1, 2)[0]
                4:9: not_indexable: an object has no elements to index
            p = P(1, 2); x = p.z
                4:22: no_field: an object of type `P` has no field `z`
            n = 5; x = n.z
                4:16: not_an_object: an integer has no field `z`
            x = none; print(x.z)
                4:21: not_an_object: none has no field `z` (a key that is not in a map, an empty queue, and a function without `return` give none)
            a = array(1); a[1] = 0
                4:19: index_out_of_range: the index 1 is out of range for a length of 1
            a = array(1); a['x'] = 0
                4:19: not_an_index: an index is an integer, but got a symbol
            a = array(1); a[0] += 1
                4:19: not_a_number: `+` needs a number, but got none (a function without `return`, an element never set, a key that is not in a map, and an empty queue give none)
            a = f64_array(1); a[0] = 'x'
                4:23: wrong_kind: an f64_array needs numbers, but got a symbol
            a = i64_array(1); a[0] = 1.5
                4:23: wrong_kind: an i64_array needs integers of 64 bits, but got a float
            a = i64_array(1); a[0] = pow(2, 63)
                4:23: wrong_kind: an i64_array needs integers of 64 bits, but got a longer one
            l = [1, 2]; l[0] = 5
                4:17: wrong_kind: an assignment to an element needs an array or a map, but got a list (a list cannot change; an array made of it with `array(list)` can)
            s = "abc"; s[0] = "x"
                4:16: wrong_kind: an assignment to an element needs an array or a map, but got a string (it cannot change; `replace`, `slice` and `+` make new ones)
            q = queue(); q[0] = 1
                4:18: not_indexable: a queue has no elements to index
            x = none; x[0] = 1
                4:15: not_indexable: none has no elements to index (a key that is not in a map, an empty queue, and a function without `return` give none)
            m = map(); m["k"] += 1
                4:16: key_not_found: the map has no key "k" (`get(map, key, otherwise)` gives a value for a key that is not there)
            m = map(); m[1e308 * 10.0 - 1e308 * 10.0] = 1
                4:16: not_a_key: not-a-number cannot be a key of a map
            p = P(1, 2); p.z = 1
                4:18: no_field: an object of type `P` has no field `z`
            x = none; x.z = 1
                4:15: not_an_object: none has no field `z` (a key that is not in a map, an empty queue, and a function without `return` give none)
            p = freeze(P(1, 2)); p.x = 3
                4:26: frozen: an object was frozen and cannot change any more
            a = freeze(array(1)); a[0] = 3
                4:27: frozen: an array was frozen and cannot change any more
            a = freeze(f64_array(1)); a[0] = 3.0
                4:31: frozen: an array was frozen and cannot change any more
            m = freeze(map()); m[1] = 3
                4:24: frozen: a map was frozen and cannot change any more
            q = freeze(queue()); push(q, 1)
                4:26: frozen: a queue was frozen and cannot change any more
            q = freeze(queue()); clear(q)
                4:26: frozen: a queue was frozen and cannot change any more
            m = map(); m[1] = 2; freeze(m); remove(m, 1)
                4:37: frozen: a map was frozen and cannot change any more
        "#]],
    );
}

#[test]
fn statements() {
    fails(
        STATEMENTS,
        expect![[r#"
            for i in 10 { print(i) }
                4:14: wrong_kind: for needs a list, array, map, queue or string, but got an integer (a loop over integers is written `for i in 0..n`)
            for i in none { print(i) }
                4:14: wrong_kind: for needs a list, array, map, queue or string, but got none
            for k, v in 7 { print(k) }
                4:17: wrong_kind: going over pairs needs a list, array, map or queue, but got an integer
            for k, v in [1] { print(k) }
                4:17: not_indexable: an integer has no elements to index
            for k, v in [[1]] { print(k) }
                4:17: index_out_of_range: the index 1 is out of range for a length of 1
            for i in 0.."x" { print(i) }
                4:14: not_comparable: `<` cannot compare an integer with a string
            for i in 'a'..3 { print(i) }
                4:14: not_comparable: `<` cannot compare a symbol with an integer
            raise "broken"
                4:5: raised: broken
            raise list('a', 1)
                4:5: raised: ['a', 1]
            try { raise 'inner' } catch e { raise e }
                4:37: raised: 'inner'
            assert(1 == 2)
                4:5: assertion: the assertion does not hold
            assert(0, "must be")
                4:5: assertion: must be
            assert(0, 'reason')
                4:5: assertion: 'reason'
            add f(1) after "x"
                4:5: wrong_kind: a delay needs a number, but got a string
            add f(1) after -1
                4:5: out_of_bounds: a delay: -1 is not 0 or more
            add f(1) after 1e308 * 10.0
                4:5: out_of_bounds: a delay: inf is not 0 or more
            if random(2) < 5 { } else { x = 1 }; print(x)
                4:42: unset_variable: the variable `x` is read here, but was not set on the way that led here
            if random(2) < 5 { } else { x = 1 }; promote(x); print(x)
                4:42: unset_variable: the variable `x` is read here, but was not set on the way that led here
            while true { }
                4:5: too_many_steps: still running after 100000 steps
            for each c in connections(5) add f(c)
                4:5: wrong_kind: connections needs an address such as "127.0.0.1:7000", but got an integer
            for each c in connections("nowhere") add f(c)
                4:5: other: there is nothing here that could give connections
            for each l in lines(5) add f(l)
                4:5: wrong_kind: lines needs a connection or the name of a file, but got an integer
            for each l in lines("a") add f(l)
                4:5: other: there is nothing here that could give lines
            for each l in chunks(none) add f(l)
                4:5: wrong_kind: chunks needs a connection or the name of a file, but got none
            when readable(5) add f(1)
                4:5: wrong_kind: readable needs a connection, but got an integer
            when closed('c') add f(1)
                4:5: wrong_kind: closed needs a connection, but got a symbol
        "#]],
    );
}

#[test]
fn operations() {
    fails(
        CALLS,
        expect![[r#"
            x = int("12a")
                4:9: not_a_number: "12a" is not written like a number
            x = int('a')
                4:9: wrong_kind: int needs a number or a string, but got a symbol
            x = int(1e308 * 10.0)
                4:9: out_of_bounds: an integer: inf is not a finite number
            x = float("1.x")
                4:9: not_a_number: "1.x" is not written like a number
            x = float(none)
                4:9: wrong_kind: float needs a number or a string, but got none
            x = symbol(1)
                4:9: wrong_kind: symbol needs a string, but got an integer
            x = bytes(1)
                4:9: wrong_kind: bytes needs a string or a list of integers, but got an integer
            x = bytes([256])
                4:9: out_of_bounds: a byte: 256 is not from 0 to 255
            x = bytes([-1])
                4:9: out_of_bounds: a byte: -1 is not from 0 to 255
            x = bytes(['a'])
                4:9: wrong_kind: bytes needs an integer, but got a symbol
            x = decode("abc")
                4:9: wrong_kind: decode needs a byte string, but got a string
            x = decode(b"\xff")
                4:9: out_of_bounds: decode: the byte at 0 is not valid UTF-8
            x = abs('a')
                4:9: not_a_number: `abs` needs a number, but got a symbol
            x = min([])
                4:9: out_of_bounds: min: an empty collection is not one with elements
            x = min(1, 'a')
                4:9: not_comparable: `<` cannot compare a symbol with an integer
            x = min(5)
                4:9: wrong_kind: min needs a list, array, map or queue, but got an integer
            x = max(queue())
                4:9: out_of_bounds: max: an empty collection is not one with elements
            x = max("a", 1)
                4:9: not_comparable: `>` cannot compare an integer with a string
            x = pow(2, 'a')
                4:9: not_a_number: `pow` needs a number, but got a symbol
            x = pow(2, pow(10, 20))
                4:9: integer_too_large: the result would have more than 16777216 bits
            x = pow(0, -1)
                4:9: division_by_zero: `pow` divides by zero
            x = sqrt("4")
                4:9: not_a_number: `sqrt` needs a number, but got a string
            x = sqrt(-1)
                4:9: out_of_bounds: sqrt: -1.0 is not 0 or more
            x = isqrt(-4)
                4:9: out_of_bounds: isqrt: -4 is not 0 or more
            x = isqrt(2.5)
                4:9: wrong_kind: isqrt needs an integer, but got a float
            x = exp(none)
                4:9: not_a_number: `exp` needs a number, but got none (a function without `return`, an element never set, a key that is not in a map, and an empty queue give none)
            x = ln('a')
                4:9: not_a_number: `ln` needs a number, but got a symbol
            x = ln(0)
                4:9: out_of_bounds: ln: 0.0 is not more than 0
            x = sin([])
                4:9: not_a_number: `sin` needs a number, but got a list
            x = cos(map())
                4:9: not_a_number: `cos` needs a number, but got a map
            x = tan("")
                4:9: not_a_number: `tan` needs a number, but got a string
            x = asin('a')
                4:9: not_a_number: `asin` needs a number, but got a symbol
            x = asin(2)
                4:9: out_of_bounds: asin: 2.0 is not from -1 to 1
            x = acos(none)
                4:9: not_a_number: `acos` needs a number, but got none (a function without `return`, an element never set, a key that is not in a map, and an empty queue give none)
            x = acos(-2)
                4:9: out_of_bounds: acos: -2.0 is not from -1 to 1
            x = atan("a")
                4:9: not_a_number: `atan` needs a number, but got a string
            x = atan2(1, 'a')
                4:9: not_a_number: `atan2` needs a number, but got a symbol
            x = floor('a')
                4:9: not_a_number: `floor` needs a number, but got a symbol
            x = floor(1e308 * 10.0)
                4:9: out_of_bounds: an integer: inf is not a finite number
            x = ceil(none)
                4:9: not_a_number: `ceil` needs a number, but got none (a function without `return`, an element never set, a key that is not in a map, and an empty queue give none)
            x = round("1")
                4:9: not_a_number: `round` needs a number, but got a string
            x = bit_and(1, 1.5)
                4:9: wrong_kind: bit_and needs an integer, but got a float
            x = bit_or('a', 1)
                4:9: wrong_kind: bit_or needs an integer, but got a symbol
            x = bit_xor(1, none)
                4:9: wrong_kind: bit_xor needs an integer, but got none
            x = shift_left(1, -1)
                4:9: out_of_bounds: a shift: -1 is not 0 or more
            x = shift_left(1, pow(10, 9))
                4:9: too_large: a shift has a size limit of 16777216
            x = shift_left(1.0, 1)
                4:9: wrong_kind: shift_left needs an integer, but got a float
            x = shift_right(1, "a")
                4:9: wrong_kind: a shift needs an integer, but got a string
            x = shift_right(1, -1)
                4:9: out_of_bounds: a shift: -1 is not 0 or more
            x = concat([1], 2)
                4:9: wrong_kind: concat needs a list, array, map or queue, but got an integer
            x = concat(5, [1])
                4:9: wrong_kind: concat needs a list, array, map or queue, but got an integer
            x = len(5)
                4:9: wrong_kind: len needs something with elements, but got an integer
            x = len(none)
                4:9: wrong_kind: len needs something with elements, but got none
            x = slice("abc", 'a')
                4:9: wrong_kind: the start of a slice needs an integer, but got a symbol
            x = slice([1, 2], 0, 1.5)
                4:9: wrong_kind: the end of a slice needs an integer, but got a float
            x = slice(5, 0)
                4:9: wrong_kind: slice needs a list, string or byte string, but got an integer
            x = contains(5, 1)
                4:9: wrong_kind: looking for something needs a collection, string or byte string, but got an integer
            x = contains("a", 1)
                4:9: wrong_kind: looking in a string needs a string to look for, but got an integer
            x = find(5, 1)
                4:9: wrong_kind: looking for something needs a collection, string or byte string, but got an integer
            x = find("a", 1)
                4:9: wrong_kind: looking in a string needs a string to look for, but got an integer
            x = sort(5)
                4:9: wrong_kind: sort needs a list, array, map or queue, but got an integer
            x = sort(list(1, P(1, 2)))
                4:9: not_comparable: `sort` cannot compare an object with an integer
            x = reverse(5)
                4:9: wrong_kind: reverse needs a list, array, map or queue, but got an integer
            x = sum([1, 'a'])
                4:9: not_a_number: `+` needs a number, but got a symbol
            x = sum(5)
                4:9: wrong_kind: sum needs a list, array, map or queue, but got an integer
            x = split(5)
                4:9: wrong_kind: split needs a string, but got an integer
            x = split("a", 1)
                4:9: wrong_kind: split needs a string, but got an integer
            x = join(5, "")
                4:9: wrong_kind: join needs a list, array, map or queue, but got an integer
            x = join(["a"], 1)
                4:9: wrong_kind: join needs a string, but got an integer
            x = upper(5)
                4:9: wrong_kind: upper needs a string, but got an integer
            x = lower('a')
                4:9: wrong_kind: lower needs a string, but got a symbol
            x = trim(none)
                4:9: wrong_kind: trim needs a string, but got none
            x = replace("a", 1, "b")
                4:9: wrong_kind: replace needs a string, but got an integer
            x = replace(5, "a", "b")
                4:9: wrong_kind: replace needs a string, but got an integer
            x = repeat(5, 2)
                4:9: wrong_kind: repeat needs a string or byte string, but got an integer
            x = repeat("a", -1)
                4:9: out_of_bounds: a number of times: -1 is not 0 or more
            x = repeat("abcdefgh", pow(2, 40))
                4:9: too_large: a number of times has a size limit of 134217728
            x = starts_with("a", 1)
                4:9: wrong_kind: starts_with needs a string or byte string, but got an integer
            x = ends_with(5, "a")
                4:9: wrong_kind: ends_with needs a string or byte string, but got an integer
            x = pad_left(1, 'a')
                4:9: wrong_kind: a width needs an integer, but got a symbol
            x = pad_left(1, pow(2, 40))
                4:9: too_large: a width has a size limit of 1048576
            x = pad_right(1, -1)
                4:9: out_of_bounds: a width: -1 is not 0 or more
            x = fixed('a', 2)
                4:9: not_a_number: `fixed` needs a number, but got a symbol
            x = fixed(1.5, -1)
                4:9: out_of_bounds: a number of digits: -1 is not 0 or more
            x = fixed(1.5, 1000000)
                4:9: too_large: a number of digits has a size limit of 1000
            x = ord("")
                4:9: out_of_bounds: ord: an empty string is not one with characters
            x = ord(5)
                4:9: wrong_kind: ord needs a string, but got an integer
            x = chr('a')
                4:9: wrong_kind: chr needs an integer, but got a symbol
            x = chr(-1)
                4:9: out_of_bounds: chr: -1 is not the code of a character
            x = chr(1114112)
                4:9: out_of_bounds: chr: 1114112 is not the code of a character
            x = array(-1)
                4:9: out_of_bounds: an array: -1 is not 0 or more
            x = array('a')
                4:9: wrong_kind: array needs a list, array, map or queue, but got a symbol
            x = array(pow(2, 40))
                4:9: too_large: an array has a size limit of 268435456
            x = f64_array('a')
                4:9: wrong_kind: f64_array needs a list, array, map or queue, but got a symbol
            x = f64_array(2, 'a')
                4:9: wrong_kind: an f64_array needs numbers, but got a symbol
            x = f64_array([1, 'a'])
                4:9: wrong_kind: an f64_array needs numbers, but got a symbol
            x = i64_array(2, 1.5)
                4:9: wrong_kind: an i64_array needs integers of 64 bits, but got a float
            x = i64_array([pow(2, 63)])
                4:9: wrong_kind: an i64_array needs integers of 64 bits, but got a longer one
            x = get(5, 1)
                4:9: wrong_kind: get needs a map, but got an integer
            x = has(none, 1)
                4:9: wrong_kind: has needs a map, but got none
            x = remove([1], 1)
                4:9: wrong_kind: remove needs a map, but got a list
            x = keys([1])
                4:9: wrong_kind: keys needs a map, but got a list
            x = values(5)
                4:9: wrong_kind: values needs a map, but got an integer
            x = items(5)
                4:9: wrong_kind: going over pairs needs a list, array, map or queue, but got an integer
            x = iterate(5)
                4:9: wrong_kind: for needs a list, array, map, queue or string, but got an integer (a loop over integers is written `for i in 0..n`)
            push([1], 2)
                4:5: wrong_kind: push needs a queue, but got a list
            push(none, 2)
                4:5: wrong_kind: push needs a queue, but got none
            x = pop([1])
                4:9: wrong_kind: pop needs a queue, but got a list
            x = peek(map())
                4:9: wrong_kind: peek needs a queue, but got a map
            clear([1])
                4:5: wrong_kind: clear needs a map or a queue, but got a list
            x = random(0)
                4:9: out_of_bounds: the bound of a random integer: 0 is not 1 or more
            x = random('a')
                4:9: wrong_kind: the bound of a random integer needs an integer, but got a symbol
            x = random(-5)
                4:9: out_of_bounds: the bound of a random integer: -5 is not 0 or more
            write_file(5, "a")
                4:5: wrong_kind: write_file needs a string, but got an integer
            write_file("a", 5)
                4:5: wrong_kind: write_file needs a string or byte string, but got an integer
            send(5, "a")
                4:5: wrong_kind: send needs a connection, but got an integer
            send('c', 5)
                4:5: wrong_kind: send needs a connection, but got a symbol
            x = receive(5)
                4:9: wrong_kind: receive needs a connection, but got an integer
            close("c")
                4:5: wrong_kind: close needs a connection, but got a string
            x = peer(none)
                4:9: wrong_kind: peer needs a connection, but got none
        "#]],
    );
}

/// Whoever adds an operation that can fail, or a kind of failure, is reminded of the lists above.
#[test]
fn everything_that_can_fail_is_among_them() {
    let all: Vec<&str> = [OPERATORS, PLACES, STATEMENTS, CALLS].concat();
    // What fails only for want of memory, or not by itself.
    let never =
        [Op::ToStr, Op::Repr, Op::List, Op::Map, Op::Queue, Op::Freeze, Op::Now, Op::EventNumber, Op::Print, Op::Log];
    let named = Op::ALL.iter().filter(|op| op.notation() == Notation::Call && op.effect() != Effect::Total);
    for op in named.filter(|op| !never.contains(op)) {
        let call = format!("{}(", op.name());
        let fails = |statement: &&str| statement.strip_prefix("x = ").unwrap_or(statement).starts_with(&call);
        assert!(all.iter().any(fails), "no failure of `{}` is pinned", op.name());
    }
    let mut kinds: HashSet<&str> = HashSet::new();
    for statement in all {
        let text = format!(
            "object P {{ x, y }}\nobject Q {{ z }}\nfn main() {{\n    {statement}\n}}\n\nfn f(a) {{ return a }}\n"
        );
        kinds.insert(failure(&Source::new("f.flow", text)).fault.kind());
    }
    // Pinned by tests of their own: limits, hosts, recursion, waiting.
    kinds.extend(["too_deep", "too_much_memory", "too_much_allocated", "too_much_output", "host", "retry"]);
    let missing: Vec<_> = Fault::KINDS.iter().filter(|(kind, _)| !kinds.contains(kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// How core programs fail, in the model and in the interpreter alike.
#[test]
fn core_programs() {
    let programs: &[(&str, &str)] = &[
        ("a = b", ""),
        ("a = b + 1", ""),
        ("a = 1 + b", "b='s'"),
        ("a = b + 1", "b=[1]"),
        ("a = b - 1", "b='s'"),
        ("a = b * c", "b=2 c=[]"),
        ("a = b // 0", "b=1"),
        ("a = b // c", "b=1.5 c=0.0"),
        ("a = b % 0", "b=1"),
        ("a = b / 0", "b=1"),
        ("a = -b", "b='s'"),
        ("a = b >= 1", "b='s'"),
        ("a = 1 < b", "b=[]"),
        ("a = b <= b", "b=[]"),
        ("a = b > 's'", "b=1"),
        ("a = b[0]", "b=5"),
        ("a = b[0]", "b='s'"),
        ("a = b[2]", "b=[1,2]"),
        ("a = b[-1]", "b=[1,2]"),
        ("a = b[c]", "b=[1] c='s'"),
        ("a = b[c]", "b=[1] c=0.0"),
        ("if b goto l2 else goto l2", ""),
    ];
    let mut out = String::new();
    for (statement, environment) in programs {
        let text = format!(
            "l:\n    {statement}\n{}l2:\n    print_and_stop(a)\n",
            if statement.starts_with("if") { "" } else { "    goto l2\n" }
        );
        let source = Source::new("c.flow", text);
        let program = compile(&source).expect("a program");
        let given: Vec<_> = environment
            .split_whitespace()
            .map(|setting| setting.split_once('=').expect("a setting"))
            .map(|(name, value)| (name.into(), Literal::parse(value).expect("a literal")))
            .collect();
        let by_model = match model::run(&program, "l", &given, model::Limits::default()) {
            Err(ModelError::Runtime(error)) => *error,
            other => panic!("{other:?}"),
        };
        let function = program.core().expect("a core program");
        let start = function.block("l").expect("the start");
        let values: Vec<(VarId, Literal)> =
            given.iter().map(|(name, value)| (function.variable(name).expect("a variable"), value.clone())).collect();
        let vm = Vm::new(program, VmConfig::default()).expect("a small program");
        let by_interpreter = vm.run_core(&mut vm.worker(), start, &values, &mut Collected::default());
        assert_eq!(by_interpreter.expect_err("it fails"), Box::new(by_model.clone()));
        let _ = writeln!(out, "{statement} with {environment}\n    {}", line(&source, &by_model));
    }
    expect![[r#"
        a = b with 
            2:9: unset_variable: the variable `b` is read in block `l` (line 2), but was never set
        a = b + 1 with 
            2:9: unset_variable: the variable `b` is read in block `l` (line 2), but was never set
        a = 1 + b with b='s'
            2:9: not_a_number: `+` needs a number, but got a symbol
        a = b + 1 with b=[1]
            2:9: not_a_number: `+` needs a number, but got a list
        a = b - 1 with b='s'
            2:9: not_a_number: `-` needs a number, but got a symbol
        a = b * c with b=2 c=[]
            2:9: not_a_number: `*` needs a number, but got a list
        a = b // 0 with b=1
            2:9: division_by_zero: `//` divides by zero
        a = b // c with b=1.5 c=0.0
            2:9: division_by_zero: `//` divides by zero
        a = b % 0 with b=1
            2:9: division_by_zero: `%` divides by zero
        a = b / 0 with b=1
            2:9: division_by_zero: `/` divides by zero
        a = -b with b='s'
            2:9: not_a_number: `-` needs a number, but got a symbol
        a = b >= 1 with b='s'
            2:9: not_comparable: `>=` cannot compare a symbol with an integer
        a = 1 < b with b=[]
            2:9: not_comparable: `<` cannot compare an integer with a list
        a = b <= b with b=[]
            2:9: not_comparable: `<=` cannot compare a list with a list
        a = b > 's' with b=1
            2:9: not_comparable: `>` cannot compare an integer with a symbol
        a = b[0] with b=5
            2:9: not_indexable: an integer has no elements to index
        a = b[0] with b='s'
            2:9: not_indexable: a symbol has no elements to index
        a = b[2] with b=[1,2]
            2:9: index_out_of_range: the index 2 is out of range for a length of 2
        a = b[-1] with b=[1,2]
            2:9: index_out_of_range: the index -1 is out of range for a length of 2
        a = b[c] with b=[1] c='s'
            2:9: not_an_index: an index is an integer, but got a symbol
        a = b[c] with b=[1] c=0.0
            2:9: not_an_index: an index is an integer, but got a float (`//` divides without a fraction, and `int(x)` drops it)
        if b goto l2 else goto l2 with 
            2:5: unset_variable: the variable `b` is read in block `l` (line 2), but was never set
    "#]].assert_eq(&out);
}

/// The whole message, with the calls that led there and the lines.
#[test]
fn messages_show_the_calls() {
    let text = "fn main() {\n    print(first([]))\n}\n\nfn first(list) {\n    return list[0]\n}\n";
    let source = Source::new("calls.flow", text);
    expect![[r#"
        error: the index 0 is out of range for a length of 0
         --> calls.flow:6:12
          |
        2 |     print(first([]))
          |           --------- called from `main`
        ...
        6 |     return list[0]
          |            ^^^^^^^ in function `first`
    "#]]
    .assert_eq(&failure(&source).to_diagnostic(&source).render(&source, false));
    let text = "fn main() {\n    fib(3)\n}\n\nfn fib(n) {\n    return fib(n - 1) + fib(n - 2)\n}\n";
    let source = Source::new("deep.flow", text);
    expect![[r#"
        error: calls are nested more than 10000 deep
         --> deep.flow:6:12
          |
        2 |     fib(3)
          |     ------ called from `main`
        ...
        6 |     return fib(n - 1) + fib(n - 2)
          |            ^^^^^^^^^^
          |            |
          |            in function `fib`
          |            called from `fib`, again and again
          |
        help: a function that calls itself needs a way to end
    "#]]
    .assert_eq(&failure(&source).to_diagnostic(&source).render(&source, false));
    let text = "shared rate = 100 // 0\n\nfn main() {\n    print(rate)\n}\n";
    let source = Source::new("shared.flow", text);
    expect![[r#"
        error: `//` divides by zero
         --> shared.flow:1:15
          |
        1 | shared rate = 100 // 0
          |               ^^^^^^^^ in function `_init`
    "#]]
    .assert_eq(&failure(&source).to_diagnostic(&source).render(&source, false));
}
