//! The command line: one file per command.
//!
//! Exit status 0 is success, 1 a mistake in the program or its input, 2 a wrong command line.

mod check;
mod check_protocol;
mod fmt;
mod run;
mod specialize;
mod trace;

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use optimist::flowgraph::flowgraph::program::Program;
use optimist::flowgraph::model::ModelError;
use optimist::flowgraph::{Diagnostic, Literal, Source, compile};

/// Runs event-driven programs on every core without locks.
#[derive(Parser)]
#[command(name = "optimist", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program
    Run(run::Args),
    /// Look for mistakes without running
    Check(check::Args),
    /// Format programs
    Fmt(fmt::Args),
    /// Print a core program specialised to known variables
    Specialize(specialize::Args),
    /// Trace a core program from a label, and print the trace before and after optimising
    Trace(trace::Args),
    /// Model-check a commit protocol
    CheckProtocol(check_protocol::Args),
}

/// Runs the command line.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => run::command(&args),
        Command::Check(args) => check::command(&args),
        Command::Fmt(args) => fmt::command(&args),
        Command::Specialize(args) => specialize::command(&args),
        Command::Trace(args) => trace::command(&args),
        Command::CheckProtocol(args) => check_protocol::command(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Why a command did not succeed.
pub(crate) enum Failure {
    /// Mistakes with places in a source.
    Diagnostics(Arc<Source>, Vec<Diagnostic>),
    /// A mistake without a place.
    Message(String),
    /// A wrong command line.
    Usage(String),
    /// Everything has been said.
    Silent,
}

impl Failure {
    fn report(self) -> ExitCode {
        match self {
            Failure::Diagnostics(source, diagnostics) => {
                show(&source, &diagnostics);
                ExitCode::from(1)
            }
            Failure::Message(message) => {
                eprintln!("error: {message}");
                ExitCode::from(1)
            }
            Failure::Usage(message) => {
                eprintln!("error: {message}");
                ExitCode::from(2)
            }
            Failure::Silent => ExitCode::from(1),
        }
    }
}

/// Shows diagnostics on standard error.
pub(crate) fn show(source: &Source, diagnostics: &[Diagnostic]) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for diagnostic in diagnostics {
        eprintln!("{}", diagnostic.render(source, colour).trim_end());
    }
}

/// Reads a source file.
pub(crate) fn read_source(file: &str) -> Result<Arc<Source>, Failure> {
    let text =
        std::fs::read(file).map_err(|error| Failure::Message(format!("cannot read `{file}`: {}", reason(&error))))?;
    let text = String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::Message(format!("`{file}` is not text: line {line} is not valid UTF-8"))
    })?;
    Ok(Source::new(file, text))
}

/// Reads and compiles a program.
pub(crate) fn read_program(file: &str) -> Result<(Arc<Source>, Program), Failure> {
    let source = read_source(file)?;
    match compile(&source) {
        Ok(program) => Ok((source, program)),
        Err(diagnostics) => Err(Failure::Diagnostics(source, diagnostics)),
    }
}

/// An operating system's error without its number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    }
}

/// Prints text on standard output. A reader that has gone away is no error: the command just ends.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::Silent),
        Err(error) => Err(Failure::Message(format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// A variable's value on the command line, `NAME=LITERAL`.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The variable.
    pub(crate) name: Arc<str>,
    /// Its value.
    pub(crate) value: Literal,
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=LITERAL")?;
        let name = name.trim();
        let mut letters = name.chars();
        let starts = letters.next().is_some_and(|first| first.is_alphabetic() || first == '_');
        if !starts || !letters.all(|letter| letter.is_alphanumeric() || letter == '_') {
            return Err(format!("`{name}` is not a variable's name"));
        }
        Ok(Setting { name: name.into(), value: Literal::parse(value)? })
    }
}

/// Settings as the model takes them.
pub(crate) fn given(settings: &[Setting]) -> Vec<(Arc<str>, Literal)> {
    settings.iter().map(|setting| (setting.name.clone(), setting.value.clone())).collect()
}

/// An error of the model as a failure of the command.
pub(crate) fn model_failure(source: &Arc<Source>, error: &ModelError) -> Failure {
    match error.to_diagnostic(source) {
        Some(diagnostic) => Failure::Diagnostics(source.clone(), vec![diagnostic]),
        None => Failure::Message(format!("{}: {error}", source.name())),
    }
}
