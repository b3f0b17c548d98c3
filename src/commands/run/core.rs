//! Core programs: labelled blocks without functions.

use std::sync::Arc;
use std::time::Instant;

use optimist::flowgraph::Source;
use optimist::flowgraph::diagnostic::suggestion;
use optimist::flowgraph::flowgraph::program::Program;
use optimist::flowgraph::vm::{Collected, Vm, VmConfig};

use super::{Args, StatsFormat};
use crate::commands::{Failure, print};

pub(super) fn run(args: &Args, source: &Arc<Source>, mut program: Program) -> Result<(), Failure> {
    if args.record.is_some() || args.replay.is_some() {
        return Err(Failure::Usage(format!("`{}` has no events that could be recorded", args.file)));
    }
    if args.events.is_some() {
        return Err(Failure::Usage(format!("`{}` has no functions, so it cannot take events", args.file)));
    }
    let function = program.functions.first_mut().expect("a core program is one function");
    for setting in &args.set {
        // A variable that the program never mentions is part of the environment all the same.
        if function.variable(&setting.name).is_none() {
            function.variables.push(setting.name.clone());
        }
    }
    let start = match &args.start {
        None => function.blocks.first().map(|block| block.label.to_string()).unwrap_or_default(),
        Some(label) => label.clone(),
    };
    let Some(block) = function.block(&start) else {
        let meant = suggestion(&start, function.blocks.iter().map(|block| &*block.label));
        let hint = meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        return Err(Failure::Message(format!("{}: there is no label `{start}`{hint}", args.file)));
    };
    let environment: Vec<_> = args
        .set
        .iter()
        .filter_map(|setting| Some((function.variable(&setting.name)?, setting.value.clone())))
        .collect();
    let vm = Vm::new(program, VmConfig::default()).map_err(|error| Failure::Message(error.to_string()))?;
    let mut worker = vm.worker();
    let mut context = Collected::default();
    let began = Instant::now();
    let outcome = vm.run_core(&mut worker, block, &environment, &mut context);
    let elapsed = began.elapsed();
    print(&context.output)?;
    outcome.map_err(|error| Failure::Diagnostics(source.clone(), vec![error.to_diagnostic(source)]))?;
    match args.stats {
        None => {}
        Some(StatsFormat::Text) => eprintln!("time {:.3} s, interpreted", elapsed.as_secs_f64()),
        Some(StatsFormat::Json) => {
            eprintln!("{}", serde_json::json!({"seconds": elapsed.as_secs_f64(), "tier": "interp"}));
        }
    }
    Ok(())
}
