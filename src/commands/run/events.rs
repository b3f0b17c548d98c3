//! Programs of functions: `main` first, then an event for each record, then `finish`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use optimist::dispatcher::flowgraph::{Program, ProgramFailure};
use optimist::dispatcher::{Config, EventError, OnError, Output, Recording, Report, Rest, RunError, TransactionQueue};
use optimist::flowgraph::diagnostic::{Code, Diagnostic, suggestion};
use optimist::flowgraph::flowgraph::op::Notation;
use optimist::flowgraph::flowgraph::program::{self, FunctionId};
use optimist::flowgraph::vm::{Collected, Vm, VmConfig};
use optimist::flowgraph::{Source, Span};

use super::records::Records;
use super::{Args, StatsFormat, statistics};
use crate::commands::{Failure, reason};

pub(super) fn run(args: &Args, source: &Arc<Source>, program: program::Program) -> Result<(), Failure> {
    if args.start.is_some() || !args.set.is_empty() {
        let why = "has functions; `--start` and `--set` are for programs of labelled blocks alone";
        return Err(Failure::Usage(format!("`{}` {why}", args.file)));
    }
    let entries = Entries::of(args, source, &program)?;
    let has_sources = has_sources(&program);
    let recording = recording(args)?;
    if has_sources && recording.is_some() {
        let why = "has sources of events, and what they give is not recorded";
        return Err(Failure::Message(format!("`{}` {why}", args.file)));
    }
    let vm = Vm::new(program, VmConfig::default()).map_err(|error| Failure::Message(error.to_string()))?;
    let folder = std::env::current_dir().unwrap_or_else(|_| Path::new(".").to_owned());
    let program = Program::new(vm, Output::stderr(), folder);
    let config = Config {
        threads: args.threads.get(),
        protocol: Some(args.protocol),
        on_error: OnError::Stop(Rest::Drop),
        recording,
        ..Config::default()
    };
    let queue = TransactionQueue::new(config);
    if has_sources {
        // A server ends by being told to, and then goes through its last events.
        let done = queue.drain_on_termination(GRACE);
        done.map_err(|error| Failure::Message(format!("signals cannot be received: {}", reason(&error))))?;
    }
    let records = args.events.as_deref().map(Records::open).transpose()?;

    let mut job = Job { source, queue, report: Report::default() };
    let outcome = job.all(&program, entries, records);
    match args.stats {
        None => {}
        Some(StatsFormat::Text) => eprint!("{}", statistics::text(&job.report, &program)),
        Some(StatsFormat::Json) => eprintln!("{}", statistics::json(&job.report, &program)),
    }
    outcome
}

/// The recording that is to be made or replayed.
fn recording(args: &Args) -> Result<Option<Recording>, Failure> {
    let (name, recording, what) = match (&args.record, &args.replay) {
        (Some(name), _) => (name, Recording::create(name), "write"),
        (None, Some(name)) => (name, Recording::open(name), "replay"),
        (None, None) => return Ok(None),
    };
    recording.map(Some).map_err(|error| Failure::Message(format!("cannot {what} `{name}`: {}", reason(&error))))
}

/// How long a server that is told to end waits for its last events.
const GRACE: Duration = Duration::from_secs(10);

/// Whether the program names sources of events.
fn has_sources(program: &program::Program) -> bool {
    let blocks = program.functions.iter().flat_map(|function| &function.blocks);
    blocks.flat_map(|block| &block.ops).any(|assign| assign.op.notation() == Notation::Each)
}

/// The functions that a run calls.
struct Entries {
    main: Option<FunctionId>,
    record: Option<FunctionId>,
    finish: Option<FunctionId>,
}

impl Entries {
    fn of(args: &Args, source: &Arc<Source>, program: &program::Program) -> Result<Self, Failure> {
        let wrong = |span: Span, message: String, label: &str| {
            let diagnostic = Diagnostic::new(Code::WrongArity, span, message).label(label);
            Failure::Diagnostics(source.clone(), vec![diagnostic])
        };
        let entry = |name: &str, parameters: usize| match program.function(name) {
            None => Ok(None),
            Some(id) => {
                let function = &program.functions[id.index()];
                if function.parameters == parameters {
                    return Ok(Some(id));
                }
                let wanted = if parameters == 0 { "no parameters" } else { "one parameter, the record" };
                let message = format!("`{name}` is called by the run and has {wanted}");
                Err(wrong(function.span, message, &format!("has {}", function.parameters)))
            }
        };
        let entries = Entries { main: entry("main", 0)?, record: entry("record", 1)?, finish: entry("finish", 0)? };
        if args.events.is_some() && entries.record.is_none() {
            return Err(Failure::Message(format!("{}: there is no `fn record(r)` to take the records", args.file)));
        }
        if entries.main.is_none() && (entries.record.is_none() || args.events.is_none()) && entries.finish.is_none() {
            let names = program.functions.iter().map(|function| &*function.name);
            let hint = match suggestion("main", names) {
                _ if entries.record.is_some() => "; give it records with `--events DATA.csv`".to_owned(),
                Some(name) => format!("; did you mean `main` by `{name}`?"),
                None => String::new(),
            };
            return Err(Failure::Message(format!("{}: there is no `fn main()` to run{hint}", args.file)));
        }
        Ok(entries)
    }
}

/// A run from its first event to its last.
struct Job<'a> {
    source: &'a Arc<Source>,
    queue: TransactionQueue,
    report: Report,
}

impl Job<'_> {
    fn all(&mut self, program: &Program, entries: Entries, records: Option<Records>) -> Result<(), Failure> {
        let mut worker = program.vm().worker();
        let mut context = Collected::default();
        let initialised = program.vm().initialise(&mut worker, &mut context);
        initialised.map_err(|error| self.diagnostic(&ProgramFailure(error)))?;
        if let Some(main) = entries.main {
            program.add(&self.queue, main, Vec::new());
            self.run_queue()?;
        }
        let mut broken = false;
        if let (Some(records), Some(function)) = (records, entries.record) {
            let queue = self.queue.clone();
            broken = records.feed(program, function, &queue, &mut worker, || self.run_queue())?;
        }
        if let Some(finish) = entries.finish {
            // A server that was told to end leaves behind what was not due yet.
            self.queue.clear();
            program.add(&self.queue, finish, Vec::new());
            self.run_queue()?;
        }
        if broken { Err(Failure::Silent) } else { Ok(()) }
    }

    fn run_queue(&mut self) -> Result<(), Failure> {
        match self.queue.run() {
            Ok(report) => {
                self.report.merge(report);
                Ok(())
            }
            Err(error) => {
                let failure = self.explain(&error);
                let (report, _) = error.into_parts();
                self.report.merge(report);
                Err(failure)
            }
        }
    }

    fn explain(&self, error: &RunError) -> Failure {
        match error.event() {
            Some(event) if event.is_broken_pipe() => Failure::Silent,
            Some(event) => self.explain_event(event),
            None => self.explain_waiting(error).unwrap_or_else(|| Failure::Message(error.to_string())),
        }
    }

    /// Where each event waits that nobody is left to wake, places that are alike being told once.
    fn explain_waiting(&self, error: &RunError) -> Option<Failure> {
        let mut places: Vec<Diagnostic> = Vec::new();
        for failure in error.waits().filter_map(|failure| failure.downcast_ref::<ProgramFailure>()) {
            let diagnostic = failure.0.to_diagnostic(self.source);
            if places.len() < 10 && !places.contains(&diagnostic) {
                places.push(diagnostic);
            }
        }
        (!places.is_empty()).then(|| Failure::Diagnostics(self.source.clone(), places))
    }

    fn explain_event(&self, error: &EventError) -> Failure {
        match error.failure().and_then(|failure| failure.downcast_ref::<ProgramFailure>()) {
            Some(failure) => self.diagnostic(failure),
            None => Failure::Message(error.to_string()),
        }
    }

    fn diagnostic(&self, failure: &ProgramFailure) -> Failure {
        Failure::Diagnostics(self.source.clone(), vec![failure.0.to_diagnostic(self.source)])
    }
}
