//! Programs of functions through the interpreter, one construct at a time.

use optimist_flowgraph::vm::{Collected, Host, HostKind, Vm, VmConfig};
use optimist_flowgraph::{Source, compile_with};
use optimist_stm::protocol::Kind;

/// What the program's `main` prints; then, if it fails, the error with its place and its calls.
fn run_with(text: &str, config: VmConfig) -> String {
    let source = Source::new("test.flow", text);
    let signatures: Vec<_> = config.hosts.iter().map(Host::signature).collect();
    let program = compile_with(&source, &signatures).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(|error| error.render(&source, false)).collect::<Vec<_>>().join("\n"))
    });
    let vm = Vm::new(program, config).expect("all host functions are there");
    let mut worker = vm.worker();
    let mut context = Collected::default();
    let show = |error: Box<optimist_flowgraph::flowgraph::fault::RuntimeError>| {
        let calls: String = error
            .trace
            .iter()
            .map(|frame| format!("  called from {} at {}\n", frame.function, source.place(frame.span)))
            .collect();
        format!("{}: {error} [{} {}]\n{calls}", source.place(error.span), error.function, error.block)
    };
    let result = vm.initialise(&mut worker, &mut context);
    let main = vm.function("main").expect("a main function");
    let result = result.and_then(|()| vm.run_event(&mut worker, main, &[], &mut context));
    let end = result.err().map(show).unwrap_or_default();
    // What was queued runs afterwards, in order.
    while !context.queued.is_empty() {
        let call = context.queued.remove(0);
        if let Err(error) = vm.run_event(&mut worker, call.function, &call.arguments, &mut context) {
            return format!("{}{end}{}", context.output, show(error));
        }
    }
    context.output + &end
}

/// The same, under every protocol, which must not matter.
fn run(text: &str) -> String {
    let outputs = Kind::ALL.iter().map(|kind| {
        let _lease = optimist_stm::lease(*kind);
        (kind, run_with(text, VmConfig::default()))
    });
    let outputs: Vec<_> = outputs.collect();
    for (kind, output) in &outputs {
        assert_eq!(output, &outputs[0].1, "{kind} and {} differ", outputs[0].0);
    }
    outputs[0].1.clone()
}

#[track_caller]
fn prints(body: &str, expected: &str) {
    assert_eq!(run(&format!("fn main() {{\n{body}\n}}\n")), expected);
}

#[test]
fn numbers() {
    prints("print(7 // 2, -7 // 2, 7 % -2, -7 % 2, 7 / 2, 2 * 3.5)", "3 -4 -1 1 3.5 7.0\n");
    prints(
        "print(pow(2, 100), pow(2, -1), isqrt(99), sqrt(2.25), abs(-3), abs(-2.5))",
        "1267650600228229401496703205376 0.5 9 1.5 3 2.5\n",
    );
    prints("print(min(3, 1, 2), max(1, 2.5), floor(-1.5), ceil(1.2), round(2.5), round(-2.5))", "1 2.5 -2 2 3 -3\n");
    prints(
        "print(bit_and(12, 10), bit_or(12, 10), bit_xor(12, 10), shift_left(1, 70), shift_right(-5, 1))",
        "8 14 6 1180591620717411303424 -3\n",
    );
    prints(
        "print(int('x' == 'x'), int(3.99), int(\"-12\"), float(3), float(\"1e3\"), fixed(3.14159, 2), fixed(2, 1))",
        "1 3 -12 3.0 1000.0 3.14 2.0\n",
    );
    prints(
        "x = 1152921504606846975\nprint(x + 1, -x - 2, x * 2, (x + 1) - 1 == x)",
        "1152921504606846976 -1152921504606846977 2305843009213693950 1\n",
    );
    prints("print(1e308 * 10, 1 == 1.0, 1 < 1.5, 2 >= 2.0, 0.1 + 0.2)", "inf 0 1 1 0.30000000000000004\n");
}

#[test]
fn strings_and_lists() {
    prints(
        "s = \"hello\"\nprint(s + \" there\", len(s), s[1], upper(s), slice(s, 1, 3), find(s, \"l\"), contains(s, \"z\"))",
        "hello there 5 e HELLO el 2 0\n",
    );
    prints(
        "print(split(\"a b  c\"), split(\"a,b\", \",\"), join(list(1, 2), \"-\"), trim(\" x \"), replace(\"aXbX\", \"X\", \"yy\"))",
        "[\"a\", \"b\", \"c\"] [\"a\", \"b\"] 1-2 x ayybyy\n",
    );
    prints(
        "print(pad_left(7, 3) + \"|\" + pad_right(\"ab\", 4) + \"|\", starts_with(\"abc\", \"ab\"), ends_with(\"abc\", \"ab\"))",
        "  7|ab  | 1 0\n",
    );
    prints(
        "l = list(3, 1, 2)\nprint(l, sort(l), reverse(l), sum(l), len(l), concat(l, [4]), slice(l, 1), contains(l, 2), find(l, 9))",
        "[3, 1, 2] [1, 2, 3] [2, 1, 3] 6 3 [3, 1, 2, 4] [1, 2] 1 -1\n",
    );
    prints(
        "print(sort([\"b\", 2, 'z', none, 1.5, [1], \"a\", 1, 'y']))",
        "[none, 1, 1.5, 2, 'y', 'z', \"a\", \"b\", [1]]\n",
    );
    prints(
        "print(bytes(\"hé\"), decode(bytes(\"hé\")), bytes([1, 255]), ord(\"a\"), chr(233), symbol(\"x y\"))",
        "b\"h\\xc3\\xa9\" hé b\"\\x01\\xff\" 97 é 'x y'\n",
    );
    prints(
        "print(repr(\"q\\\"\"), str(1, \"a\", 'b'), [1, 's', [2]] == [1, 's', [2]], [1] == [1.0], kind(1), kind(\"\"), kind(map()))",
        "\"q\\\"\" 1a'b' 1 0 'int' 'str' 'map'\n",
    );
    prints("for c in \"añ\" { print(c) }\nfor x in [7, 8] { print(x) }", "a\nñ\n7\n8\n");
}

#[test]
fn collections() {
    prints(
        "a = array(3)\na[1] = 5\nb = array([1, 2])\nprint(a, b, len(a), a[1])\nfor x in b { print(x) }",
        "array([none, 5, none]) array([1, 2]) 3 5\n1\n2\n",
    );
    prints(
        "f = f64_array(40, 1.5)\nf[39] = 2\ni = i64_array([1, 9223372036854775807])\nprint(f[39], f[0], sum(f), i)",
        "2.0 1.5 60.5 i64_array([1, 9223372036854775807])\n",
    );
    prints(
        "m = map()\nm['a'] = 1\nm[2] = \"x\"\nm[\"k\"] = map()\nm[[1]] = 4\nm['a'] += 5\nprint(m, len(m), get(m, 9), get(m, 9, 0), has(m, 2), keys(m), values(m))",
        "map({2: \"x\", 'a': 6, \"k\": map({}), [1]: 4}) 4 none 0 1 [2, 'a', \"k\", [1]] [\"x\", 6, map({}), 4]\n",
    );
    prints(
        "m = map()\nfor i in 0..1000 { m[i * 7919] = i }\nfor i in 0..1000 { if i % 3 == 0 { remove(m, i * 7919) } }\ns = 0\nfor k in m { s += m[k] }\nprint(len(m), s, has(m, 7919), has(m, 0), remove(m, 5))\nclear(m)\nprint(m, len(m))",
        "666 332667 1 0 none\nmap({}) 0\n",
    );
    prints(
        "q = queue()\nfor i in 0..40 { push(q, i) }\nfor i in 0..35 { pop(q) }\nprint(q, len(q), peek(q), pop(q), len(q))\nclear(q)\nprint(pop(q), q)\npush(q, 1)\nprint(q)",
        "queue([36, 37, 38, 39]) 5 35 35 4\nnone queue([])\nqueue([1])\n",
    );
    let text = "object P { x, y }\nfn main() {\n p = P(1, 2)\n p.x += 10\n q = P(p, none)\n q.y = q\n print(p, p.x, p == p, p == P(11, 2), kind(p))\n freeze(p)\n try { p.x = 1 } catch e { print(e.kind, e.message) }\n print(p.x)\n}\n";
    assert_eq!(run(text), "P(x=11, y=2) 11 1 0 'P'\n'frozen' an object was frozen and cannot change any more\n11\n");
}

#[test]
fn what_is_frozen_stays_as_it_is() {
    let text = "object P { x }\nshared p = P(1)\nshared m = map()\nshared a = array(40, 0)\nfn change() {\n try { p.x = 5 } catch e { print(e.kind) }\n try { m[1] = 5 } catch e { print(e.kind) }\n try { a[39] = 5 } catch e { print(e.kind) }\n print(p.x, m, a[39])\n}\nfn main() {\n m[1] = list(p)\n try { freeze(p)\n raise 'back' } catch { p.x = 2 }\n freeze(m)\n change()\n freeze(a)\n add change()\n add change()\n}\n";
    let state = "2 map({1: [P(x=2)]}) 5\n";
    let expected = format!("'frozen'\n'frozen'\n{state}{}", format!("'frozen'\n'frozen'\n'frozen'\n{state}").repeat(2));
    assert_eq!(run(text), expected);
}

#[test]
fn shared_variables_and_events() {
    let text = "shared total = 0\nshared seen = map()\nfn note(x, n) {\n total += n\n seen[x] = total\n if n > 1 { add note(x, n - 1) }\n}\nfn show() { print(total, seen) }\nfn main() {\n add note('a', 3)\n add note([1, 2], 2)\n add note('b', 1)\n add late()\n}\nfn late() { add later() }\nfn later() { add show() }\n";
    assert_eq!(run(text), "10 map({'a': 10, 'b': 6, [1, 2]: 9})\n");
}

#[test]
fn failure_rolls_back_what_the_guarded_part_did() {
    let text = "shared m = map()\nshared n = 1\nfn risky(k) {\n m[k] = 1\n n += 1\n print(\"lost\")\n add never()\n if k > 1 { raise list('bad', k) }\n return 7\n}\nfn never() { print(\"queued once\") }\nfn main() {\n x = 1\n for k in 1..4 {\n  try { x = x + 1\n   x = risky(k) } catch e { print(e.kind, e.message, e.value, e.place, len(e.trace), x) }\n }\n print(m, n, x)\n}\n";
    assert_eq!(
        run(text),
        "lost\n'raised' ['bad', 2] ['bad', 2] test.flow:8:13 1 7\n'raised' ['bad', 3] ['bad', 3] test.flow:8:13 1 7\nmap({1: 1}) 2 7\nqueued once\n"
    );
    let text = "shared a = array(40, 0)\nfn main() {\n f = map()\n f[1] = 'kept'\n try { f[1] = 'lost'\n f[2] = 2\n for i in 0..40 { a[i] = i }\n x = 1 // 0 } catch { print(\"caught\") }\n print(f, sum(a))\n either { f[1] = 0\n retry } or { f[3] = 3 }\n print(f)\n}\n";
    assert_eq!(run(text), "caught\nmap({1: 'kept'}) 0\nmap({1: 'kept', 3: 3})\n");
}

#[test]
fn arrays_are_rolled_back_however_much_of_them_was_written() {
    let text = "shared dense = i64_array(100, 7)
shared any = array(100, 'x')
shared seed = 1
fn chance(n) {
    seed = (seed * 1103515245 + 12345) % 2147483648
    return seed // 65536 % n
}
fn write(times) {
    for i in 0..times {
        dense[chance(100)] = chance(1000)
        any[chance(100)] = list(i)
    }
}
fn state() { return list(items(dense), items(any)) }
fn round() {
    write(chance(8))
    first = state()
    inner = first
    s = seed
    try {
        write(chance(60))
        inner = state()
        try {
            write(chance(200))
            raise 'inner'
        } catch { assert(state() == inner) }
        write(chance(60))
        raise 'outer'
    } catch { assert(state() == first) }
    seed = s + 1
}
fn main() {
    for i in 0..100 { add round() }
    add show()
}
fn show() { print(sum(dense), seed) }
";
    let shown = run(text);
    assert!(shown.ends_with('\n') && shown.split_whitespace().count() == 2, "{shown}");
}

#[test]
fn errors_show_the_calls_that_led_there() {
    let text = "fn f(n) {\n if n == 0 { return [1][5] }\n return g(n)\n}\nfn g(n) { return f(n - 1) + 0 }\nfn main() { print(1)\n f(1) }\n";
    assert_eq!(
        run(text),
        "test.flow:2:21: the index 5 is out of range for a length of 1 [f then1]\n  called from g at test.flow:5:18\n  called from f at test.flow:3:9\n  called from main at test.flow:7:2\n"
    );
    assert_eq!(
        run("fn f() { return f() + 1 }\nfn main() { f() }\n").lines().next(),
        Some("test.flow:1:17: calls are nested more than 10000 deep [f entry]")
    );
}

#[test]
fn limits_end_an_event() {
    let mut config = VmConfig::default();
    config.limits.steps = 100_000;
    assert_eq!(
        run_with("fn main() { try { while true { x = 1 } } catch { print(\"no\") } }\n", config),
        "test.flow:1:36: still running after 100000 steps [main body1]\n"
    );
    let mut config = VmConfig::default();
    config.heap.limit = 20 << 20;
    config.heap.nursery = 4 << 20;
    let text = "fn main() {\n l = none\n while true { l = list(l, 1) }\n}\n";
    let error = run_with(text, config);
    assert!(error.contains("more than 20971520 bytes of memory in use"), "{error}");
    // Nor can a program that never loops pile up memory.
    let mut config = VmConfig::default();
    config.heap.limit = 20 << 20;
    let doubling = (0..40).map(|i| format!(" s{} = s{i} + s{i}\n", i + 1)).collect::<String>();
    let error = run_with(&format!("fn main() {{\n s0 = \"abcdefgh\"\n{doubling} print(len(s40))\n}}\n"), config);
    assert!(error.contains("more than 20971520 bytes of memory in use"), "{error}");
    let mut config = VmConfig::default();
    config.heap.limit = 20 << 20;
    let error = run_with("fn main() { x = array(100000000) }\n", config);
    assert!(error.contains("more than 20971520 bytes of memory in use"), "{error}");
    let mut config = VmConfig::default();
    config.limits.output = 1000;
    let error = run_with("fn main() { for i in 0..1000 { print(\"0123456789\") } }\n", config);
    assert!(error.contains("more than 1000 bytes of output in one event"), "{error}");
}

#[test]
fn host_functions() {
    let twice = Host::new("twice", Some(1), HostKind::Pure, |call, args| match call.as_i64(args[0]) {
        Some(n) => Ok(call.int(2 * n)),
        None => Err("a number is needed".into()),
    });
    let bump = Host::new("bump", Some(2), HostKind::Transactional, |call, args| {
        let old = call.map_get(args[0], args[1])?.and_then(|old| call.as_i64(old)).unwrap_or(0);
        let new = call.int(old + 1);
        call.map_set(args[0], args[1], new)?;
        Ok(new)
    });
    // Runs once, however often the event is attempted, since it cannot be undone.
    let fired = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = fired.clone();
    let fire = Host::new("fire", Some(0), HostKind::Irrevocable, move |call, _| {
        let before = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(call.int(before as i64))
    });
    let config = VmConfig { hosts: vec![twice, bump, fire], ..VmConfig::default() };
    let text = "fn main() {\n m = map()\n print(twice(21), bump(m, 'a'), bump(m, 'a'), m)\n try { bump(m, 'a')\n twice('x') } catch e { print(e.kind, e.message, m) }\n print(fire())\n}\n";
    assert_eq!(run_with(text, config), "42 1 2 map({'a': 2})\n'host' `twice`: a number is needed map({'a': 2})\n0\n");
    assert_eq!(fired.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn deep_values_do_no_harm() {
    let text = "fn main() {\n l = []\n k = []\n for i in 0..200000 { l = list(l)\n k = list(k) }\n print(l == k, len(repr(l)))\n m = map()\n m[l] = 1\n print(m[k])\n}\n";
    assert_eq!(run(text), "1 400002\n1\n");
}

#[test]
fn values_that_share_their_parts_do_no_harm() {
    // Sixty lists with 2^60 leaves.
    let text = "fn tree(leaf) {\n l = leaf\n for i in 0..60 { l = list(l, l) }\n return l\n}\nfn main() {\n a = tree(1)\n b = tree(1)\n c = tree(2)\n print(a == b, a == c, len(sort([a, c, b])))\n m = map()\n m[a] = 'a'\n m[c] = 'c'\n print(m[b], len(m), find(keys(m), c))\n}\n";
    assert_eq!(run(&text.replace("sort([a, c, b])", "sort(list(a, c, b))")), "1 0 3\n'a' 2 1\n");
}

#[test]
fn operations_on_much_count_as_many_steps() {
    for body in [
        "x = pow(3, 1000000)\n y = pow(7, 300000)\n while true { z = x // y }",
        "x = pow(3, 1000000)\n while true { z = x * x }",
        "x = pow(3, 1000000)\n while true { z = str(x) }",
        "x = repeat(\"ab\", 1000000)\n while true { z = find(x, \"aa\") }",
        "x = items(array(100000, 1))\n while true { z = 2 in x }",
    ] {
        let mut config = VmConfig::default();
        config.limits.steps = 1_000_000;
        let began = std::time::Instant::now();
        let error = run_with(&format!("fn main() {{\n {body}\n}}\n"), config);
        assert!(error.contains("still running after 1000000 steps"), "{body}: {error}");
        assert!(began.elapsed().as_secs() < 30, "{body}: {:?}", began.elapsed());
    }
}

#[test]
fn garbage_of_a_long_event_is_collected() {
    let mut config = VmConfig::default();
    config.heap.nursery = 2 << 20;
    let text = "shared keep = map()\nfn main() {\n m = map()\n for i in 0..200000 {\n  m[i % 100] = list(i, list(i))\n  keep[i % 50] = m[i % 100]\n }\n s = 0\n for k in m { s += m[k][1][0] }\n for k in keep { s += keep[k][0] }\n print(s)\n}\n";
    let source = Source::new("test.flow", text);
    let program = optimist_flowgraph::compile(&source).expect("a right program");
    let vm = Vm::new(program, config).expect("a small program");
    let (mut worker, mut context) = (vm.worker(), Collected::default());
    vm.initialise(&mut worker, &mut context).expect("no failure");
    vm.run_event(&mut worker, vm.function("main").expect("main"), &[], &mut context).expect("no failure");
    let last = |n: i64| (200_000 - n..200_000).sum::<i64>();
    assert_eq!(context.output, format!("{}\n", last(100) + last(50)));
    let statistics = vm.heap().statistics();
    assert!(statistics.collections >= 3, "{statistics:?}");
    assert!(statistics.reserved_bytes < 16 << 20, "{statistics:?}");
}
