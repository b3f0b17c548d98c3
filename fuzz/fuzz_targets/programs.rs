//! Any program of functions: the machine survives it within its limits, and a formatted program does the same.
#![no_main]

use optimist_flowgraph::flowgraph::program::ProgramKind;
use optimist_flowgraph::vm::{Collected, HeapConfig, Limits, Vm, VmConfig};
use optimist_flowgraph::{Source, compile, fmt};

/// What `main` prints, or how it fails.
fn outcome(text: &str) -> Option<(String, Option<String>)> {
    let program = compile(&Source::new("fuzz.flow", text)).ok()?;
    if program.kind == ProgramKind::Core {
        return None;
    }
    let limits = Limits { steps: 20_000, depth: 500, output: 1 << 20, memory: 16 << 20 };
    let heap = HeapConfig { limit: 64 << 20, ..HeapConfig::default() };
    let vm = Vm::new(program, VmConfig { limits, heap, ..VmConfig::default() }).ok()?;
    let (mut worker, mut context) = (vm.worker(), Collected::default());
    let main = vm.function("main").filter(|main| vm.program().functions[main.index()].parameters == 0)?;
    let done = vm
        .initialise(&mut worker, &mut context)
        .and_then(|()| vm.run_event(&mut worker, main, &[], &mut context).map(|_| ()));
    Some((context.output, done.err().map(|error| error.fault.kind().to_owned())))
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some(result) = outcome(text) else { return };
    // Errors know their lines, so a program that prints its places prints others when it is formatted.
    if text.contains("catch") || text.contains("event_number") {
        return;
    }
    let formatted = fmt(&Source::new("fuzz.flow", text)).expect("it compiles");
    assert_eq!(outcome(&formatted), Some(result), "{text}\nformatted as\n{formatted}");
});
