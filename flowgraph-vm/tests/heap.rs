//! The heap under load: collections between events, within them, and while several threads run.

mod common;

use common::{machine, printed, run_events};
use optimist_flowgraph::value::Value;
use optimist_flowgraph::vm::{Collected, HeapConfig, HeapStatistics, Host, HostKind, Limits, Root, Vm, VmConfig};
use optimist_flowgraph::{Source, compile_with};
use optimist_stm::protocol::{Kind, Shipped};
use optimist_stm::with_protocol;
use parking_lot::Mutex;

fn config(nursery: usize) -> VmConfig {
    VmConfig { heap: HeapConfig { nursery, growth_percent: 50, ..HeapConfig::default() }, ..VmConfig::default() }
}

/// Events that share lists, maps, queues and objects, that make garbage, fail inside guarded parts, and are long enough to be stopped in the middle.
const CHURN: &str = "object Node { value, next }
shared table = map()
shared line = queue()
shared total = 0
shared cells = array(64, none)
fn step(i) {
    # A long chain that only this event sees, read back after much garbage.
    chain = none
    for k in 0..60 + i % 7 * 200 {
        chain = Node(list(i, k), chain)
        waste = list(waste_of(k), \"x\" + str(k))
    }
    sum = 0
    n = 0
    while chain != none {
        assert(chain.value[0] == i, \"a foreign value\")
        sum += chain.value[1]
        n += 1
        chain = chain.next
    }
    assert(sum * 2 == n * (n - 1), \"a lost node\")
    try {
        table['never'] = list(i)
        cells[0] = 'never'
        raise 'stop'
    } catch e { assert(e.value == 'stop') }
    key = i % 37
    old = get(table, key, list(0, \"\"))
    table[key] = list(old[0] + 1, str(key))
    cells[i % 64] = Node(i, list(i, str(i)))
    found = cells[i * 31 % 64]
    if found != none { assert(found.next == list(found.value, str(found.value)), \"a torn cell\") }
    push(line, list(i, str(i)))
    if i % 2 == 1 {
        a = pop(line)
        assert(a[1] == str(a[0]), \"a torn list\")
    }
}
fn waste_of(k) { return list(k, k, list(k)) }
fn check() {
    sum = 0
    for key in table {
        assert(table[key][1] == str(key), \"a torn entry\")
        sum += table[key][0]
    }
    print(sum, len(line), has(table, 'never'))
}
";

/// One number for optimised builds, a smaller one for the others.
fn scaled_for_build(optimised: usize, other: usize) -> usize {
    if cfg!(debug_assertions) { other } else { optimised }
}

fn churn<P: Shipped>(threads: usize) {
    let events = scaled_for_build(1200, 250);
    let vm = machine(CHURN, config(256 << 10));
    run_events::<P>(&vm, "step", events, threads);
    assert_eq!(printed(&vm, "check"), format!("{events} {} 0\n", events - events / 2));
    let statistics = vm.heap().statistics();
    assert!(statistics.collections > scaled_for_build(5, 2) as u64, "{statistics:?}");
    assert!(statistics.reserved_bytes < 64 << 20, "{statistics:?}");
}

#[test]
fn collections_keep_what_events_share_and_see() {
    for kind in Kind::ALL {
        for threads in [1, 3] {
            with_protocol!(kind, P => churn::<P>(threads));
        }
    }
}

/// Whether the long tests are to be run in full: `OPTIMIST_LONG=1`.
fn is_long() -> bool {
    std::env::var_os("OPTIMIST_LONG").is_some()
}

/// How many pieces of garbage the long test makes.
fn scaled(full: usize) -> usize {
    if is_long() { full } else { full / scaled_for_build(100, 1000) }
}

#[test]
fn many_small_events_stay_small() {
    let events = if is_long() { 100_000_000 } else { scaled_for_build(100_000, 20_000) };
    let text = "shared m = map()\nfn step(i) {\n m[i % 1000] = list(i, str(i))\n x = list(i, list(i))\n}\nfn check() { print(len(m), m[7][1]) }\n";
    let vm = machine(text, VmConfig::default());
    run_events::<optimist_stm::protocol::shipped::Eager>(&vm, "step", events, 2);
    let last = (events - 8) / 1000 * 1000 + 7;
    let printed = printed(&vm, "check");
    assert!(printed.starts_with("1000 "), "{printed}");
    let value: usize = printed.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(value % 1000 == 7 && value <= last, "{printed}");
    let statistics = vm.heap().statistics();
    assert!(statistics.reserved_bytes < 150 << 20, "{statistics:?}");
    report("many small events", events, statistics);
}

/// What the long tests are read for: how long the program stood still, and how much memory it took.
fn report(what: &str, count: usize, statistics: HeapStatistics) {
    let HeapStatistics { collections, longest_pause, total_pause, put_off, reserved_bytes, .. } = statistics;
    println!(
        "{what}: {count}; {collections} collections, longest pause {longest_pause:?}, all pauses {total_pause:?}, {put_off} put off; {:.1} MB reserved",
        reserved_bytes as f64 / 1e6
    );
}

#[test]
fn events_that_keep_nothing_reuse_their_memory() {
    let text = "shared n = 0\nfn step(i) {\n x = list(i, list(i), str(i))\n n += len(x)\n}\nfn check() { print(n) }\n";
    let vm = machine(text, VmConfig::default());
    run_events::<optimist_stm::protocol::shipped::Eager>(&vm, "step", 100_000, 1);
    assert_eq!(printed(&vm, "check"), "300000\n");
    let statistics = vm.heap().statistics();
    assert_eq!(statistics.collections, 0);
    assert!(statistics.reserved_bytes <= 2 << 20, "{statistics:?}");
}

#[test]
fn one_long_event_makes_much_garbage() {
    let pieces = scaled(100_000_000);
    let text = format!(
        "shared keep = map()\nfn main() {{\n l = none\n for i in 0..{pieces} {{ l = list(i, i)\n if i % 100000 == 0 {{ keep[i % 7] = l }} }}\n print(l[0], len(keep))\n}}\n"
    );
    let vm = machine(&text, VmConfig::default());
    assert_eq!(printed(&vm, "main"), format!("{} {}\n", pieces - 1, pieces.div_ceil(100_000).min(7)));
    let statistics = vm.heap().statistics();
    assert!(statistics.reserved_bytes < 100 << 20, "{statistics:?}");
    if pieces >= 100_000_000 {
        assert!(statistics.collections > 50, "{statistics:?}");
    }
    report("pieces of garbage in one event", pieces, statistics);
}

#[test]
fn big_heaps_are_marked_in_parallel() {
    let text = "object Node { a, b }\nshared root = none\nfn tree(n) {\n if n == 0 { return none }\n return Node(tree(n - 1), tree(n - 1))\n}\nfn count(t) {\n if t == none { return 0 }\n return 1 + count(t.a) + count(t.b)\n}\nfn main() {\n root = tree(DEPTH)\n for i in 0..400000 { x = list(i, list(i)) }\n print(count(root))\n}\nfn again() {\n for i in 0..400000 { x = list(i, list(i, i), i) }\n print(count(root))\n}\n";
    let depth = scaled_for_build(20, 19);
    let vm = machine(&text.replace("DEPTH", &depth.to_string()), config(4 << 20));
    let nodes = format!("{}\n", (1 << depth) - 1);
    assert_eq!(printed(&vm, "main"), nodes);
    assert_eq!(printed(&vm, "again"), nodes);
    let statistics = vm.heap().statistics();
    assert!(statistics.collections > 4 && statistics.live_bytes > 16 << 20, "{statistics:?}");
}

/// An event in the middle of which collections happen while values are known to nobody but the transaction's log: old ones that a
/// rollback will bring back, and (under protocols that keep writes back) new ones.
const LOGGED: &str = "object Box { content }
shared box = Box(list(\"old\", 0))
shared table = map()
fn main() {
    for round in 1..6 {
        # Long enough to fill whole blocks, which others would get if they were taken for free.
        kept = none
        for k in 0..4000 { kept = list(k, kept) }
        try {
            box.content = list(\"new\" + str(round), round)
            table[round] = Box(list(round))
            kept = none
            waste()
            assert(box.content == list(\"new\" + str(round), round), \"the new value is lost\")
            assert(table[round].content == list(round), \"the new entry is lost\")
            if round % 2 == 0 { raise 'back' }
        } catch e {
            assert(e.value == 'back', e.message)
            for k in 0..4000 {
                assert(kept[0] == 3999 - k, \"the variable is lost\")
                kept = kept[1]
            }
        }
        waste()
    }
    print(box.content, keys(table))
}
fn waste() {
    l = none
    for i in 0..6000 { l = list(i, list(i, i)) }
}
";

#[test]
fn what_only_the_log_knows_survives_a_collection() {
    for kind in Kind::ALL {
        let _lease = optimist_stm::lease(*kind);
        let vm = machine(LOGGED, config(64 << 10));
        assert_eq!(printed(&vm, "main"), "[\"new5\", 5] [1, 3, 5]\n", "{kind}");
        assert!(vm.heap().statistics().collections > 20);
    }
}

#[test]
fn an_event_that_waits_for_another_one_lets_it_collect() {
    // Every event takes the counter; every eighth then makes much garbage while the others wait for it.
    let text = "shared n = 0\nfn step(i) {\n n += 1\n if i % 8 == 0 {\n  l = none\n  for k in 0..60000 { l = list(k, l) \n if k % 50 == 0 { l = none } }\n }\n}\nfn check() { print(n) }\n";
    let vm = machine(text, config(256 << 10));
    run_events::<optimist_stm::protocol::shipped::Eager>(&vm, "step", 64, 3);
    assert_eq!(printed(&vm, "check"), "64\n");
    let statistics = vm.heap().statistics();
    assert!(statistics.collections >= 4 && statistics.put_off <= 2, "{statistics:?}");
    assert!(statistics.reserved_bytes <= 8 << 20, "{statistics:?}");
}

#[test]
fn an_event_over_its_memory_limit_ends_without_a_trace() {
    let text = "shared n = 0
fn chain(pieces) {
    n = pieces
    l = none
    for i in 0..pieces { l = list(i, l) }
    return n
}
fn garbage(pieces) {
    for i in 0..pieces { l = list(i, i, i) }
    return n
}
fn caught(pieces) {
    try { chain(pieces) } catch e { n = 'caught' }
    return n
}
fn straight(pieces) {
    n = pieces
    a = array(pieces)
    b = array(pieces)
    c = array(pieces)
    n = 'too far'
    return n
}
fn stored() { return n }
";
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let vm = machine(text, VmConfig { limits, ..VmConfig::default() });
    let mut worker = vm.worker();
    let mut run = |name: &str, pieces: i64| {
        let function = vm.function(name).expect("declared above");
        let arguments: Vec<Root> = vm.program().functions[function.index()]
            .parameters
            .min(1)
            .checked_sub(1)
            .map(|_| Root::plain(Value::small(pieces)).expect("a number"))
            .into_iter()
            .collect();
        let value = vm.run_event(&mut worker, function, &arguments, &mut Collected::default());
        value.map(|value| value.value().as_int())
    };
    assert_eq!(run("chain", 10_000).unwrap(), Some(10_000));
    for (name, pieces) in [("chain", 100_000), ("garbage", 1_000_000), ("caught", 100_000), ("straight", 60_000)] {
        let error = run(name, pieces).expect_err(name);
        assert_eq!(error.fault.kind(), "too_much_allocated", "{name}");
        assert_eq!(error.fault.to_string(), "more than 1048576 bytes of memory allocated in one event");
        assert_eq!(run("stored", 0).unwrap(), Some(10_000), "{name} left something behind");
    }
    // Each event counts anew.
    for _ in 0..20 {
        assert_eq!(run("chain", 10_000).unwrap(), Some(10_000));
    }
}

#[test]
fn a_collection_does_not_wait_for_an_event_that_comes_to_no_safepoint() {
    // One event is stuck in a function of the embedding program until the others are done, and they need a collection meanwhile.
    let text = "shared n = 0
fn stuck() { wait() }
fn busy() {
    l = none
    for i in 0..400000 { l = list(i, i) }
    n += 1
}
fn check() { print(n) }
";
    let (entered, has_entered) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (entered, released) = (Mutex::new(entered), Mutex::new(released));
    let wait = Host::new("wait", Some(0), HostKind::Pure, move |call, _| {
        entered.lock().send(()).expect("the test waits for it");
        released.lock().recv().expect("the test lets it go on");
        Ok(call.int(0))
    });
    let source = Source::new("test.flow", text);
    let program = compile_with(&source, &[wait.signature()]).expect("a right program");
    let vm = Vm::new(program, VmConfig { hosts: vec![wait], ..config(256 << 10) }).expect("a small program");
    vm.initialise(&mut vm.worker(), &mut Collected::default()).expect("no failure");
    let run = |name: &str| {
        let function = vm.function(name).expect("declared above");
        vm.run_event(&mut vm.worker(), function, &[], &mut Collected::default()).expect("no failure");
    };
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| run("stuck"));
        has_entered.recv().expect("it comes to its wait");
        // These would wait for ever if a collection waited for the stuck one.
        run("busy");
        let meanwhile = vm.heap().statistics();
        assert!(meanwhile.put_off > 0 && meanwhile.collections == 0, "{meanwhile:?}");
        release.send(()).expect("it waits");
        stuck.join().expect("no panic");
    });
    run("busy");
    assert_eq!(printed(&vm, "check"), "2\n");
    assert!(vm.heap().statistics().collections > 0, "{:?}", vm.heap().statistics());
}

#[test]
fn collections_do_not_count_as_steps() {
    let text = "fn spin(rounds) {\n for i in 0..rounds { l = list(i, i, i, i, i, i) }\n return rounds\n}\n";
    let limits = Limits { steps: 10_000, ..Limits::default() };
    let vm = machine(text, VmConfig { limits, ..config(64 << 10) });
    let spin = vm.function("spin").expect("declared above");
    let mut worker = vm.worker();
    for (rounds, ends) in [(10_000, true), (10_002, false), (10_000, true)] {
        let argument = Root::plain(Value::small(rounds)).expect("a number");
        let result = vm.run_event(&mut worker, spin, &[argument], &mut Collected::default());
        assert_eq!(result.is_ok(), ends, "{rounds} rounds: {:?}", result.map(|value| value.value()));
    }
    assert!(vm.heap().statistics().collections > 5, "{:?}", vm.heap().statistics());
}

/// Two boxes of which at most one may be full: each event looks at both and then, if they are empty, fills one.
const SKEW: &str = "object Box { content }
shared left = Box(0)
shared right = Box(0)
fn step(i) {
    full = left.content + right.content
    assert(full < 2, \"both are full\")
    for k in 0..1000 { x = k }
    if full == 1 {
        left.content = 0
        right.content = 0
    } else if i % 2 == 0 {
        left.content = 1
    } else {
        right.content = 1
    }
}
";

#[test]
fn every_attempt_logs_what_it_reads() {
    for kind in Kind::ALL {
        let vm = machine(SKEW, VmConfig::default());
        with_protocol!(kind, P => run_events::<P>(&vm, "step", scaled_for_build(4000, 500), 2));
    }
}
