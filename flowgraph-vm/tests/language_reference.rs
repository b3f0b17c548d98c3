//! Runs every example of the language reference and compares what it prints; checks the tables that follow from the code.
//!
//! A block ```` ```flow ```` is a program, `start=LABEL NAME=LITERAL…` behind it the start of a core program. It may be followed by ```` ```csv ````, the
//! records it is given, and is followed by ```` ```output ````, what it prints, or ```` ```error ````, what is said about it. ```` ```residual ````
//! is the program before it, specialised. ```` ```program ```` is one that only has to be without mistakes, since it needs the world. With `UPDATE_EXPECT=1` the page is brought up to date instead.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use optimist_flowgraph::diagnostic::{Code, Severity};
use optimist_flowgraph::flowgraph::fault::{Fault, RuntimeError};
use optimist_flowgraph::flowgraph::op::{Notation, Op};
use optimist_flowgraph::flowgraph::program::{Program, ProgramKind, VarId};
use optimist_flowgraph::model::cleanup::cleanup;
use optimist_flowgraph::model::{Limits, specialize};
use optimist_flowgraph::vm::{Collected, ColumnKind, RecordHeader, Rows, Vm, VmConfig};
use optimist_flowgraph::{Literal, Source, check, compile, fmt};

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/language-reference.md")
}

/// A line of the page, or a fenced block of it.
enum Part {
    Line(String),
    Block { info: String, body: String },
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line.strip_prefix("```") {
            Some(info) => {
                let body: String =
                    lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
                parts.push(Part::Block { info: info.to_owned(), body });
            }
            None => parts.push(Part::Line(line.to_owned())),
        }
    }
    parts
}

/// The settings behind a block's kind: the start label, and variables.
fn settings(info: &str) -> (Option<&str>, Vec<(Arc<str>, Literal)>) {
    let mut start = None;
    let mut given = Vec::new();
    for setting in info.split_whitespace().skip(1) {
        let (name, value) = setting.split_once('=').expect("NAME=VALUE");
        match name {
            "start" => start = Some(value),
            _ => given.push((name.into(), Literal::parse(value).expect("a literal"))),
        }
    }
    (start, given)
}

/// What a program prints, or what is said about it.
fn outcome(text: &str, info: &str, records: Option<&str>) -> Result<String, String> {
    let source = Source::new("example.flow", text);
    let mistakes = check(&source, &[]);
    if !mistakes.is_empty() {
        let all: Vec<String> = mistakes.iter().map(|mistake| mistake.render(&source, false)).collect();
        return Err(all.join("\n"));
    }
    let program = compile(&source).expect("has no mistakes");
    let mut context = Collected::default();
    let result = match program.kind {
        ProgramKind::Core => run_core(program, info, &mut context),
        ProgramKind::Functions => run_events(program, records, &mut context),
    };
    match result {
        Ok(()) => Ok(context.output),
        Err(error) => Err(error.to_diagnostic(&source).render(&source, false)),
    }
}

fn run_core(program: Program, info: &str, context: &mut Collected) -> Result<(), Box<RuntimeError>> {
    let (start, given) = settings(info);
    let function = program.core().expect("a core program");
    let start = function.block(start.expect("a start")).expect("the label is there");
    let given: Vec<(VarId, Literal)> =
        given.into_iter().filter_map(|(name, value)| Some((function.variable(&name)?, value))).collect();
    let vm = Vm::new(program, VmConfig::default()).expect("a small program");
    vm.run_core(&mut vm.worker(), start, &given, context)
}

/// `main`, the records, what was queued in the order of its delays, and `finish`.
fn run_events(program: Program, records: Option<&str>, context: &mut Collected) -> Result<(), Box<RuntimeError>> {
    let vm = Vm::new(program, VmConfig::default()).expect("a small program");
    let mut worker = vm.worker();
    vm.initialise(&mut worker, context)?;
    if let Some(main) = vm.function("main") {
        vm.run_event(&mut worker, main, &[], context)?;
    }
    if let Some(records) = records {
        let mut lines = records.lines();
        let names: Vec<String> = lines.next().expect("a header").split(',').map(str::to_owned).collect();
        let read: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
        let columns =
            names.into_iter().zip(&read[0]).map(|(name, field)| (name, ColumnKind::of_field(field))).collect();
        let mut rows = Rows::new(&Arc::new(RecordHeader::new(&vm, &mut worker, columns)));
        for row in read {
            rows.push(row.into_iter()).expect("a good record");
        }
        let handler = vm.function("record").expect("a handler of records");
        for row in 0..rows.len() {
            worker.begin();
            let record = rows.make(&mut worker, row);
            let record = worker.root(record);
            worker.end(true);
            vm.run_event(&mut worker, handler, &[record], context)?;
        }
    }
    while !context.queued.is_empty() {
        let (next, _) = context.queued.iter().enumerate().min_by_key(|(_, call)| call.delay).expect("one is queued");
        let call = context.queued.remove(next);
        vm.run_event(&mut worker, call.function, &call.arguments, context)?;
    }
    match vm.function("finish") {
        Some(finish) => vm.run_event(&mut worker, finish, &[], context).map(|_| ()),
        None => Ok(()),
    }
}

/// The table that belongs between two marks.
fn table(mark: &str) -> Option<String> {
    let mut out = String::new();
    match mark {
        "<!-- operations -->" => {
            out += "| operation | takes | |\n| --- | --- | --- |\n";
            for op in Op::ALL.iter().filter(|op| op.notation() == Notation::Call) {
                let _ = writeln!(out, "| `{}` | {} | {} |", op.name(), op.arity(), op.doc());
            }
        }
        "<!-- sources -->" => {
            out += "| source | |\n| --- | --- |\n";
            for op in Op::ALL {
                match op.notation() {
                    Notation::Each => writeln!(out, "| `for each x in {}(…) add f(x)` | {} |", op.name(), op.doc()),
                    Notation::When => writeln!(out, "| `when {}(…) add f()` | {} |", op.name(), op.doc()),
                    _ => Ok(()),
                }
                .expect("writing to a string");
            }
        }
        "<!-- codes -->" => {
            out += "| code | | |\n| --- | --- | --- |\n";
            for code in Code::ALL {
                let severity = if code.severity() == Severity::Error { "error" } else { "warning" };
                let _ = writeln!(out, "| `{}` | {severity} | {} |", code.name(), code.doc());
            }
        }
        "<!-- faults -->" => {
            out += "| kind | message |\n| --- | --- |\n";
            for (kind, message) in Fault::KINDS {
                let _ = writeln!(out, "| `'{kind}'` | {} |", message.replace("{}", "…").replace(['{', '}'], ""));
            }
        }
        _ => return None,
    }
    Some(out)
}

#[test]
fn every_example_does_what_the_page_says() {
    let text = std::fs::read_to_string(page()).expect("the page is there");
    let mut updated = String::new();
    let mut program: Option<(String, String)> = None;
    let mut records: Option<String> = None;
    let mut examples = 0;
    let mut in_table = false;
    for part in parts(&text) {
        match part {
            Part::Line(line) => {
                in_table &= line != "<!-- end -->";
                if in_table {
                    continue;
                }
                let _ = writeln!(updated, "{line}");
                if let Some(table) = table(&line) {
                    in_table = true;
                    updated += &table;
                }
            }
            Part::Block { info, mut body } => {
                let mut info = info;
                match info.split_whitespace().next() {
                    Some("flow") => {
                        assert!(program.is_none(), "the program before this one has no result:\n{body}");
                        program = Some((body.clone(), info.clone()));
                        // Examples are formatted, apart from bodies on one line, which are kept short on purpose.
                        let source = Source::new("example.flow", body.clone());
                        if let Ok(formatted) = fmt(&source) {
                            assert_eq!(fmt(&Source::new("formatted.flow", formatted.clone())).as_ref(), Ok(&formatted));
                        }
                    }
                    Some("program") => {
                        let source = Source::new("example.flow", body.clone());
                        let mistakes = check(&source, &[]);
                        let said = mistakes.iter().map(|mistake| mistake.render(&source, false)).collect::<String>();
                        assert_eq!(said, "", "{body}");
                        body = fmt(&source).expect("it has no mistakes");
                    }
                    Some("csv") => records = Some(body.clone()),
                    Some("output" | "error") => {
                        let (text, settings) = program.take().expect("a program comes before its result");
                        let result = outcome(&text, &settings, records.take().as_deref());
                        info = if result.is_ok() { "output" } else { "error" }.to_owned();
                        body = result.unwrap_or_else(|said| said);
                        examples += 1;
                    }
                    Some("residual") => {
                        let power = include_str!("../../examples/power.flow");
                        let (start, given) = settings(&info);
                        let program = compile(&Source::new("power.flow", power)).expect("the example compiles");
                        let residual = specialize(&program, start.expect("a start"), &given, Limits::default());
                        body = cleanup(residual.expect("specialises")).print();
                    }
                    _ => {}
                }
                let _ = write!(updated, "```{info}\n{body}```\n");
            }
        }
    }
    assert!(examples >= 28, "only {examples} examples");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(page(), updated).expect("the page can be written");
    } else {
        assert!(text == updated, "{}", difference(&text, &updated));
    }
}

/// The first place where two texts differ.
fn difference(old: &str, new: &str) -> String {
    let at = old
        .lines()
        .zip(new.lines())
        .position(|(old, new)| old != new)
        .unwrap_or(old.lines().count().min(new.lines().count()));
    let around = |text: &str| {
        text.lines().skip(at.saturating_sub(3)).take(8).map(|line| format!("    {line}\n")).collect::<String>()
    };
    format!("line {} of the page\n{}should be\n{}run with UPDATE_EXPECT=1 if so", at + 1, around(old), around(new))
}

#[test]
fn every_operation_that_is_called_by_name_is_shown_in_an_example() {
    let text = std::fs::read_to_string(page()).expect("the page is there");
    let examples: String = parts(&text)
        .into_iter()
        .filter_map(|part| {
            if let Part::Block { info, body } = part {
                (info.starts_with("flow") || info == "program").then_some(body)
            } else {
                None
            }
        })
        .collect();
    let missing: Vec<&str> = Op::ALL
        .iter()
        .filter(|op| op.notation() == Notation::Call && !examples.contains(&format!("{}(", op.name())))
        .map(|op| op.name())
        .collect();
    // What a `for` does by itself need not be shown.
    assert_eq!(missing, ["iterate"], "operations without an example");
}
