//! The records of a CSV file as events.

use std::fs::File;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use csv::{Reader, ReaderBuilder, StringRecord};
use indicatif::{ProgressBar, ProgressStyle};
use optimist::dispatcher::flowgraph::Program;
use optimist::dispatcher::{Options, TransactionQueue};
use optimist::flowgraph::flowgraph::program::FunctionId;
use optimist::flowgraph::vm::{ColumnKind, RecordHeader, Rows, Worker};

use crate::commands::{Failure, reason};

/// A file of records, opened, with its header read.
pub(super) struct Records {
    name: String,
    bytes: u64,
    /// There is always more to read until the end, unlike in a pipe.
    ready: bool,
    reader: Reader<File>,
    columns: Vec<String>,
}

/// So many records decide what the columns hold.
const SAMPLE: usize = 256;

/// So many records may be queued before the reader waits for them to be executed.
const AHEAD: usize = 4096;

/// So many records are queued together, where that makes none of them wait.
const TOGETHER: usize = 64;

/// The reader looks how many are queued after so many.
const STEP: usize = 256;

/// A run is long, and shows a progress bar, after so much time.
const LONG: Duration = Duration::from_millis(800);

impl Records {
    /// Opens a file.
    pub(super) fn open(name: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::Message(format!("cannot read `{name}`: {}", reason(&error)));
        let file = File::open(name).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(file);
        let header =
            reader.headers().map_err(|error| Failure::Message(format!("cannot read `{name}`: {}", plain(&error))))?;
        let columns: Vec<String> = header.iter().map(|column| column.trim().to_owned()).collect();
        if columns.is_empty() {
            return Err(Failure::Message(format!("`{name}` is empty: expected a first line with the columns' names")));
        }
        Ok(Records { name: name.to_owned(), bytes: metadata.len(), ready: metadata.is_file(), reader, columns })
    }

    /// Queues an event for each record while `run` executes them. Says whether records were broken; those are reported and left out.
    pub(super) fn feed(
        mut self,
        program: &Program,
        function: FunctionId,
        queue: &TransactionQueue,
        worker: &mut Worker,
        run: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let mut broken = false;
        let sample = self.sample(&mut broken);
        let kinds = kinds(&sample, self.columns.len());
        let columns = self.columns.iter().cloned().zip(kinds).collect();
        let header = Arc::new(RecordHeader::new(program.vm(), worker, columns));
        let stopped = AtomicBool::new(false);
        let hold = queue.hold();
        std::thread::scope(|scope| {
            let (stopped, broken) = (&stopped, &mut broken);
            scope.spawn(move || {
                // The run ends once the hold is gone and the queue is empty.
                let _hold = hold;
                let together = if self.ready { TOGETHER } else { 1 };
                let rows = Rows::new(&header);
                let mut feeder = Feeder { program, function, queue, together, rows, name: &self.name, broken };
                for record in &sample {
                    feeder.add(record);
                }
                let mut progress = Progress::new(self.bytes);
                let mut record = StringRecord::new();
                let mut count = 0_usize;
                loop {
                    match self.reader.read_record(&mut record) {
                        Ok(true) => feeder.add(&record),
                        Ok(false) => break,
                        Err(error) => feeder.report(&error),
                    }
                    count += 1;
                    if count.is_multiple_of(STEP) {
                        progress.at(self.reader.position().byte());
                        while queue.pending() > AHEAD && !stopped.load(Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_micros(200));
                        }
                    }
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                }
                feeder.flush();
                progress.finish();
            });
            let outcome = run();
            stopped.store(true, Ordering::Relaxed);
            outcome
        })?;
        Ok(broken)
    }

    /// The first records.
    fn sample(&mut self, broken: &mut bool) -> Vec<StringRecord> {
        let mut sample = Vec::new();
        while sample.len() < SAMPLE {
            let mut record = StringRecord::new();
            match self.reader.read_record(&mut record) {
                Ok(true) => sample.push(record),
                Ok(false) => break,
                Err(error) => {
                    *broken = true;
                    eprintln!("{}", unreadable(&self.name, &error));
                }
            }
        }
        sample
    }
}

/// What each column holds, by what most of its fields look like. A single broken field does not make numbers text.
fn kinds(sample: &[StringRecord], columns: usize) -> Vec<ColumnKind> {
    (0..columns)
        .map(|column| {
            let fields = sample.iter().filter_map(|record| record.get(column)).filter(|field| !field.is_empty());
            let (mut integers, mut floats, mut texts) = (0, 0, 0);
            for field in fields {
                match ColumnKind::of_field(field) {
                    ColumnKind::Integer => integers += 1,
                    ColumnKind::Float => floats += 1,
                    ColumnKind::Text => texts += 1,
                }
            }
            if texts >= integers + floats {
                ColumnKind::Text
            } else if floats > 0 {
                ColumnKind::Float
            } else {
                ColumnKind::Integer
            }
        })
        .collect()
}

/// Turns records into events.
struct Feeder<'a> {
    program: &'a Program,
    function: FunctionId,
    queue: &'a TransactionQueue,
    together: usize,
    /// What has been read and not been queued.
    rows: Rows,
    name: &'a str,
    broken: &'a mut bool,
}

impl Feeder<'_> {
    fn add(&mut self, record: &StringRecord) {
        if let Err(error) = self.rows.push(record.iter()) {
            *self.broken = true;
            let (line, number) = record.position().map_or((0, 0), |position| (position.line(), position.record()));
            let text = record.iter().collect::<Vec<_>>().join(",");
            let text = text.trim_end();
            eprintln!("error: {error}\n --> {}:{line}: record {number} is left out: {text}", self.name);
        } else if self.rows.len() >= self.together {
            self.flush();
        }
    }

    /// Queues what has been read.
    fn flush(&mut self) {
        let next = Rows::new(self.rows.header());
        for event in self.program.records(self.function, std::mem::replace(&mut self.rows, next)) {
            self.queue.add_handler(Options::new(), event);
        }
    }

    fn report(&mut self, error: &csv::Error) {
        *self.broken = true;
        eprintln!("{}", unreadable(self.name, error));
    }
}

/// What is said of a record that cannot be read at all.
fn unreadable(file: &str, error: &csv::Error) -> String {
    match (error.kind(), error.position()) {
        (csv::ErrorKind::Utf8 { .. }, Some(position)) => {
            let (line, number) = (position.line(), position.record());
            format!("error: a record is not valid UTF-8\n --> {file}:{line}: record {number} is left out")
        }
        _ => format!("error: cannot read `{file}`: {}", plain(error)),
    }
}

/// An error of the CSV reader in words of ours.
fn plain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Io(error) => reason(error),
        csv::ErrorKind::Utf8 { .. } => "it is not valid UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

/// A bar on standard error, if that is a terminal and the run is long.
struct Progress {
    began: Instant,
    bytes: u64,
    bar: Option<ProgressBar>,
    shown: bool,
}

impl Progress {
    fn new(bytes: u64) -> Self {
        Progress { began: Instant::now(), bytes, bar: None, shown: std::io::stderr().is_terminal() }
    }

    fn at(&mut self, byte: u64) {
        if !self.shown || (self.bar.is_none() && self.began.elapsed() < LONG) {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {bytes}/{total_bytes}  {eta} left");
            ProgressBar::new(self.bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_position(byte);
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
