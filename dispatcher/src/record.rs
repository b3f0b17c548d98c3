//! Recording a run, and replaying it.
//!
//! The outcome of a run follows from the events added, the order in which they committed, and the times and random numbers that they asked for. A
//! recording holds the latter three, in a text file:
//!
//! ```text
//! optimist recording 1
//! run
//! x0 1764064800000000000 -
//! 1.0 - 256
//! ```
//!
//! One line for each event that committed (or failed), in commit order: which event, its time and its [number](crate::Event::number), from
//! which its random numbers follow, if it asked for them. Which event is said by descent, so that it means the same in another run: `x0` is the
//! first one added from outside of all events, `1.0` the first that the event in line 1 of the run's added. A line is appended while its
//! event's destinations are locked ([`effects`](crate::effects), rule 2), so lines are in commit order for the same reason as output is.
//!
//! A replay runs the same events one at a time in that order, and gives them the recorded times and numbers. Timers do not wait.
//!
//! What an event learns elsewhere is not recorded: what it receives, [`attempts`](crate::Event::attempts) and
//! [`worker`](crate::Event::worker), shared state that is not transactional.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

const HEAD: &str = "optimist recording 1";

/// Where an event comes from, as a number that is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(pub(crate) u64);

const OUTSIDE: u64 = 1 << 63;
const INDEX_BITS: u32 = 24;
/// Indices with a meaning of their own.
const AGAIN: u64 = (1 << INDEX_BITS) - 1;
const HANDLER: u64 = (1 << INDEX_BITS) - 2;

impl Origin {
    /// The `n`th event added from outside.
    pub(crate) fn outside(n: u64) -> Self {
        Origin(OUTSIDE | n)
    }

    /// The event that the one of the line `serial` added as its `index`th.
    pub(crate) fn child(serial: u64, index: u64) -> Self {
        Origin(serial << INDEX_BITS | index.min(HANDLER - 1))
    }

    /// The event of the line `serial`, run again.
    pub(crate) fn again(serial: u64) -> Self {
        Origin(serial << INDEX_BITS | AGAIN)
    }

    /// The event that handles the failure of the one of the line `serial`.
    pub(crate) fn handler(serial: u64) -> Self {
        Origin(serial << INDEX_BITS | HANDLER)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (serial, index) = (self.0 >> INDEX_BITS, self.0 & AGAIN);
        match index {
            _ if self.0 & OUTSIDE != 0 => write!(f, "x{}", self.0 ^ OUTSIDE),
            AGAIN => write!(f, "{serial}.again"),
            HANDLER => write!(f, "{serial}.handler"),
            _ => write!(f, "{serial}.{index}"),
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        if let Some(n) = text.strip_prefix('x') {
            return n.parse().ok().map(Origin::outside);
        }
        let (serial, index) = text.split_once('.')?;
        let serial = serial.parse().ok()?;
        Some(match index {
            "again" => Origin::again(serial),
            "handler" => Origin::handler(serial),
            index => Origin::child(serial, index.parse().ok()?),
        })
    }
}

/// A line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) origin: Origin,
    pub(crate) now: Option<SystemTime>,
    pub(crate) number: Option<u64>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.origin)?;
        match self.now.map(|now| now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()) {
            Some(now) => write!(f, "{now} ")?,
            None => f.write_str("- ")?,
        }
        match self.number {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("-"),
        }
    }
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let origin = Origin::parse(words.next()?)?;
        let mut number = || -> Option<Option<u64>> {
            match words.next()? {
                "-" => Some(None),
                digits => digits.parse().ok().map(Some),
            }
        };
        let now = number()?.map(|nanoseconds| UNIX_EPOCH + Duration::from_nanos(nanoseconds));
        Some(Entry { origin, now, number: number()? })
    }
}

/// A recording that is being made or replayed, to be put into [`Config::recording`](crate::Config::recording) before events are added. See
/// [the module](self) for what it holds.
///
/// ```
/// use optimist_dispatcher::{Config, Output, Recording, TransactionQueue, outln};
///
/// # let path = std::env::temp_dir().join(format!("optimist-doc-{}.txt", std::process::id()));
/// let run = |recording: Recording| {
///     let (stdout, printed) = Output::memory("printed");
///     let queue = TransactionQueue::new(Config { threads: 2, stdout, recording: Some(recording), ..Config::default() });
///     for name in ["a", "b", "c"] {
///         queue.add(move |ev| {
///             let (time, chance) = (ev.now(), ev.random());
///             outln!(ev, "{name} {time:?} {chance}");
///             Ok(())
///         });
///     }
///     queue.run().map(|_| printed.text())
/// };
/// let printed = run(Recording::create(&path)?)?;
/// assert_eq!(run(Recording::open(&path)?)?, printed);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Recording {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Made(Arc<Mutex<Sink>>),
    Replayed(Arc<Mutex<Source>>),
}

pub(crate) struct Sink {
    writer: Box<dyn Write + Send>,
    serial: u64,
    error: Option<io::Error>,
}

struct Source {
    runs: std::vec::IntoIter<Arc<[Entry]>>,
}

/// What a run makes of a recording.
pub(crate) enum Role {
    Makes(Arc<Mutex<Sink>>),
    Replays(Arc<[Entry]>),
}

impl Recording {
    /// Records what follows in a file; what it contained is lost.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Recording::write_to(BufWriter::new(File::create(path)?))
    }

    /// Records what follows.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn write_to(mut writer: impl Write + Send + 'static) -> io::Result<Self> {
        writeln!(writer, "{HEAD}")?;
        let sink = Sink { writer: Box::new(writer), serial: 0, error: None };
        Ok(Recording { kind: Kind::Made(Arc::new(Mutex::new(sink))) })
    }

    /// Replays a file.
    ///
    /// # Errors
    /// If the file cannot be read or is no recording.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Recording::read_from(BufReader::new(File::open(path)?))
    }

    /// Replays what the reader gives.
    ///
    /// # Errors
    /// What the reader reports, or that this is no recording.
    pub fn read_from(reader: impl BufRead) -> io::Result<Self> {
        let wrong = |number: usize| {
            io::Error::new(io::ErrorKind::InvalidData, format!("line {} is not one of a recording", number + 1))
        };
        let mut runs: Vec<Vec<Entry>> = Vec::new();
        let mut headed = false;
        for (number, line) in reader.lines().enumerate() {
            let line = line?;
            match (number, runs.last_mut()) {
                (0, _) if line == HEAD => headed = true,
                (0, _) => return Err(wrong(0)),
                _ if line == "run" => runs.push(Vec::new()),
                (_, Some(run)) => run.push(Entry::parse(&line).ok_or_else(|| wrong(number))?),
                _ => return Err(wrong(number)),
            }
        }
        if !headed {
            return Err(wrong(0));
        }
        let runs: Vec<Arc<[Entry]>> = runs.into_iter().map(Arc::from).collect();
        Ok(Recording { kind: Kind::Replayed(Arc::new(Mutex::new(Source { runs: runs.into_iter() }))) })
    }

    /// Whether it is being replayed.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        matches!(self.kind, Kind::Replayed(_))
    }

    /// Begins a run.
    pub(crate) fn begin(&self) -> Role {
        match &self.kind {
            Kind::Made(sink) => {
                let mut locked = sink.lock();
                locked.serial = 0;
                locked.line(format_args!("run"));
                Role::Makes(sink.clone())
            }
            Kind::Replayed(source) => Role::Replays(source.lock().runs.next().unwrap_or_else(|| Arc::from([]))),
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("is_replayed", &self.is_replayed()).finish_non_exhaustive()
    }
}

impl Sink {
    fn line(&mut self, text: fmt::Arguments<'_>) {
        if self.error.is_none() {
            self.error = writeln!(self.writer, "{text}").err();
        }
    }

    /// Appends an event; returns its line number in the run.
    pub(crate) fn append(&mut self, entry: Entry) -> u64 {
        self.line(format_args!("{entry}"));
        self.serial += 1;
        self.serial
    }

    /// At the end of a run.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.writer.flush(),
        }
    }
}

/// The recording, locked by an event that is about to commit.
pub(crate) type Locked = ArcMutexGuard<RawMutex, Sink>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        for origin in
            [Origin::outside(0), Origin::outside(77), Origin::child(3, 5), Origin::again(9), Origin::handler(1)]
        {
            let now = Some(UNIX_EPOCH + Duration::from_nanos(1_764_064_800_123_456_789));
            for (now, number) in [(None, None), (now, Some(0)), (None, Some(u64::MAX))] {
                let text = Entry { origin, now, number }.to_string();
                let read = Entry::parse(&text).expect("a line");
                assert_eq!((read.origin, read.now, read.number), (origin, now, number), "{text}");
            }
        }
        for wrong in ["", "x", "x1 -", "1 - -", "1.2 - y", "1.z - -"] {
            assert!(Entry::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        for text in ["", "something else\n", "optimist recording 1\nx0 - -\n", "optimist recording 1\nrun\nx0\n"] {
            assert!(Recording::read_from(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Recording::read_from("optimist recording 1\nrun\nx0 - -\n".as_bytes()).is_ok());
    }
}
