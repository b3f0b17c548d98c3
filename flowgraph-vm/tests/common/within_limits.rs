//! What must hold of any program of functions: the machine survives it within its limits, and a formatted program does the same. Shared by the
//! tests and the fuzz targets.

use optimist_flowgraph::flowgraph::program::ProgramKind;
use optimist_flowgraph::vm::{Collected, HeapConfig, Limits, Vm, VmConfig};
use optimist_flowgraph::{Source, compile, fmt};

/// What `main` prints, or how it fails, within limits that let no program run for long.
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

/// Runs a program, if the text is one whose `main` can be run alone, and says how it ended: by itself or by the kind of its failure.
pub(crate) fn run_within_limits(text: &str) -> Option<String> {
    // What waits for another event waits for ever here.
    if text.contains("retry") {
        return None;
    }
    let result = outcome(text)?;
    // Errors know their lines, so a program that prints its places prints others when it is formatted; times and chance are never the same.
    if !["catch", "event_number", "now", "random"].iter().any(|word| text.contains(word)) {
        let formatted = fmt(&Source::new("fuzz.flow", text)).expect("it compiles");
        assert_eq!(outcome(&formatted).as_ref(), Some(&result), "{text}\nformatted as\n{formatted}");
    }
    Some(result.1.unwrap_or_else(|| "ended".to_owned()))
}
