//! Destinations of output: standard output, files and logs, memory.

use std::collections::VecDeque;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use crate::queue::Shared;
use crate::task::{Label, Task};

/// Somewhere that events write to. Cloning it gives another handle to the same destination.
#[derive(Clone)]
pub struct Output {
    /// Its place in the order in which destinations are locked.
    id: u64,
    sink: Arc<Mutex<Sink>>,
    /// To be looked at without the lock: an event that waited for the lock while it holds objects might
    /// wait for an event that holds the lock and waits for the objects.
    outside: Arc<Outside>,
}

/// What is known of a destination without its lock.
struct Outside {
    name: Arc<str>,
    /// Bytes released and not yet written.
    waiting: AtomicUsize,
    /// Over so many bytes that wait nothing is taken any more.
    hard: AtomicUsize,
}

struct Sink {
    writer: Box<dyn Write + Send>,
    /// Released, not yet written.
    buffer: Vec<u8>,
    /// Write at every release: somebody is looking.
    at_once: bool,
    state: State,
    /// A worker has noted that there is something to flush.
    noted: bool,
    /// How many bytes have been written so far.
    written: u64,
    /// How many had been written when it last failed.
    failed_at: Option<u64>,
    /// Whose the bytes in the buffer are: up to that position, counted as `written` is, the event of this name.
    owners: VecDeque<(u64, Label)>,
    /// What is to happen when everything up to that position has been written.
    thens: VecDeque<(u64, Task, Arc<Shared>)>,
    outside: Arc<Outside>,
}

/// Why an event's output was not taken: so much is waiting to be written that the destination's hard limit is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFull {
    output: Arc<str>,
    waiting: usize,
}

impl fmt::Display for OutputFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} takes nothing more: {} bytes are waiting to be written", self.output, self.waiting)
    }
}

impl std::error::Error for OutputFull {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The last write failed; the buffer is tried again at the next flush.
    Failing,
    /// Nobody reads it any more: everything is swallowed.
    Closed,
}

/// At this size the buffer is written: the high water mark. Whoever commits output then waits for the write.
const HIGH_WATER: usize = 64 << 10;

/// The most that is kept for a destination that cannot be written; what comes on top is lost, and reported.
const HARD_LIMIT: usize = 64 << 20;

/// A write that failed.
#[derive(Debug)]
pub(crate) struct WriteError {
    pub(crate) error: io::Error,
    /// The event with whose bytes it did, if that is known.
    pub(crate) whose: Option<Label>,
    /// The same bytes have failed before.
    pub(crate) repeated: bool,
}

impl WriteError {
    fn new(error: io::Error, whose: Option<Label>) -> Self {
        WriteError { error, whose, repeated: false }
    }
}

/// What a destination has to say about an append.
#[derive(Debug, Default)]
pub(crate) struct Appended {
    /// The write failed, and this is the first time.
    pub(crate) error: Option<WriteError>,
    /// There is now something to flush, and nobody has noted it yet.
    pub(crate) to_flush: bool,
}

impl Appended {
    pub(crate) fn is_news(&self) -> bool {
        self.error.is_some() || self.to_flush
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);
static STDOUT: LazyLock<Output> = LazyLock::new(|| {
    let stdout = io::stdout();
    let at_once = stdout.is_terminal();
    Output::with("standard output".to_owned(), Box::new(stdout), at_once)
});
static STDERR: LazyLock<Output> =
    LazyLock::new(|| Output::with("standard error".to_owned(), Box::new(io::stderr()), true));

impl Output {
    fn with(name: String, writer: Box<dyn Write + Send>, at_once: bool) -> Self {
        let outside =
            Arc::new(Outside { name: name.into(), waiting: AtomicUsize::new(0), hard: AtomicUsize::new(HARD_LIMIT) });
        let sink = Sink {
            writer,
            buffer: Vec::new(),
            at_once,
            state: State::Open,
            noted: false,
            written: 0,
            failed_at: None,
            owners: VecDeque::new(),
            thens: VecDeque::new(),
            outside: outside.clone(),
        };
        // Relaxed: only uniqueness matters.
        Output { id: NEXT.fetch_add(1, Ordering::Relaxed), sink: Arc::new(Mutex::new(sink)), outside }
    }

    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        STDOUT.clone()
    }

    /// Standard error, written at every commit.
    #[must_use]
    pub fn stderr() -> Self {
        STDERR.clone()
    }

    /// Any writer. `name` is what messages call it. The writer is called with the destination locked, so it must not run events.
    #[must_use]
    pub fn new(name: impl Into<String>, writer: impl Write + Send + 'static) -> Self {
        Output::with(name.into(), Box::new(writer), false)
    }

    /// As [`new`](Self::new), written at every commit instead of by the buffer.
    #[must_use]
    pub fn unbuffered(name: impl Into<String>, writer: impl Write + Send + 'static) -> Self {
        Output::with(name.into(), Box::new(writer), true)
    }

    /// A file to be appended to, created if there is none.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path.as_ref())?;
        Ok(Output::with(path.as_ref().display().to_string(), Box::new(file), false))
    }

    /// A file to be written from its beginning; what it contained is lost.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path.as_ref())?;
        Ok(Output::with(path.as_ref().display().to_string(), Box::new(file), false))
    }

    /// Memory, and the handle to look at it.
    #[must_use]
    pub fn memory(name: impl Into<String>) -> (Self, Memory) {
        let memory = Memory::default();
        (Output::with(name.into(), Box::new(memory.clone()), true), memory)
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn same(a: Option<&Output>, b: Option<&Output>) -> bool {
        a.map(Output::id) == b.map(Output::id)
    }

    /// The same destination with another hard limit: the most that is kept while it cannot be written, in bytes; 64 MiB by default. Over it
    /// [`Event::try_write`](crate::Event::try_write) fails, and what [`Event::write`](crate::Event::write) writes is lost, which is reported.
    #[must_use]
    pub fn with_hard_limit(self, bytes: usize) -> Self {
        // Relaxed: a number by itself.
        self.outside.hard.store(bytes, Ordering::Relaxed);
        self
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> String {
        self.outside.name.to_string()
    }

    pub(crate) fn lock(&self) -> Locked {
        Locked { id: self.id, sink: self.sink.lock_arc() }
    }

    /// Writes out what events have released.
    ///
    /// # Errors
    /// What the operating system reports. What could not be written is kept.
    pub fn flush(&self) -> io::Result<()> {
        self.flush_whose().map_err(|failed| failed.error)
    }

    /// As [`flush`](Self::flush); an error comes with the event with whose bytes it was met.
    pub(crate) fn flush_whose(&self) -> Result<(), WriteError> {
        let mut sink = self.sink.lock();
        sink.noted = false;
        sink.write_out()?;
        match sink.state {
            State::Closed => Ok(()),
            _ => sink.writer.flush().map_err(|error| WriteError::new(error, None)),
        }
    }

    /// Whether so many bytes more may be written.
    pub(crate) fn check_room(&self, more: usize) -> Result<(), OutputFull> {
        let waiting = self.buffered();
        // Relaxed: a limit that is being changed.
        if waiting > 0 && waiting + more > self.outside.hard.load(Ordering::Relaxed) {
            return Err(OutputFull { output: self.outside.name.clone(), waiting });
        }
        Ok(())
    }

    /// Bytes released and not yet written.
    #[must_use]
    pub fn buffered(&self) -> usize {
        // Relaxed: a hint, which may be old by the time it is used.
        self.outside.waiting.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Sink {
    /// Writes the buffer; what could not be written stays in it.
    fn write_out(&mut self) -> Result<(), WriteError> {
        let mut written = 0;
        let result = loop {
            if written == self.buffer.len() {
                break Ok(());
            }
            match self.writer.write(&self.buffer[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Somebody has made a terminal or a pipe non-blocking.
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(error) => break Err(error),
            }
        };
        self.buffer.drain(..written);
        self.written += written as u64;
        let done = self.owners.iter().take_while(|(end, _)| *end <= self.written).count();
        self.owners.drain(..done);
        let whose = self.owners.front().map(|(_, label)| label.clone());
        self.state = match &result {
            Ok(()) => State::Open,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.buffer = Vec::new();
                self.owners.clear();
                State::Closed
            }
            Err(_) => State::Failing,
        };
        self.publish();
        let due = self.thens.iter().take_while(|(end, ..)| *end <= self.written).count();
        self.thens.drain(..due).for_each(|(_, task, queue)| queue.push(task, None));
        if self.state == State::Closed {
            self.thens.clear();
        }
        result.map_err(|error| {
            let repeated = self.failed_at.replace(self.written) == Some(self.written);
            WriteError { error, whose, repeated }
        })
    }

    fn publish(&self) {
        self.outside.waiting.store(self.buffer.len(), Ordering::Relaxed);
    }

    fn append(&mut self, bytes: &[u8], whose: Label) -> Appended {
        if self.state == State::Closed {
            return Appended::default();
        }
        let failing = self.state == State::Failing;
        if failing && self.buffer.len() + bytes.len() > self.outside.hard.load(Ordering::Relaxed) {
            let text =
                format!("{} bytes are waiting to be written, and {} more were lost", self.buffer.len(), bytes.len());
            return Appended { error: Some(WriteError::new(io::Error::other(text), Some(whose))), to_flush: false };
        }
        self.buffer.extend_from_slice(bytes);
        let end = self.written + self.buffer.len() as u64;
        match self.owners.back_mut() {
            Some((last, label)) if *label == whose => *last = end,
            _ => self.owners.push_back((end, whose)),
        }
        let mut error = None;
        // A destination that fails is tried again when it is flushed, not at every append.
        if !failing && (self.at_once || self.buffer.len() >= HIGH_WATER) {
            let flushed = |sink: &mut Self| sink.writer.flush().map_err(|error| WriteError::new(error, None));
            error = self.write_out().and_then(|()| if self.at_once { flushed(self) } else { Ok(()) }).err();
        } else {
            self.publish();
        }
        let to_flush = !self.buffer.is_empty() && !self.noted;
        self.noted |= to_flush;
        Appended { error, to_flush }
    }

    /// Adds the event to the queue when everything up to `back` bytes before the end of what was appended has been written.
    fn then(&mut self, back: usize, task: Task, queue: &Arc<Shared>) {
        let end = self.written + (self.buffer.len() as u64).saturating_sub(back as u64);
        if self.state == State::Closed {
            drop(task);
        } else if end <= self.written {
            queue.push(task, None);
        } else {
            self.thens.push_back((end, task, queue.clone()));
        }
    }
}

/// A destination locked by an event that is about to commit.
pub(crate) struct Locked {
    id: u64,
    sink: ArcMutexGuard<RawMutex, Sink>,
}

impl Locked {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn append(&mut self, bytes: &[u8], whose: Label) -> Appended {
        self.sink.append(bytes, whose)
    }

    pub(crate) fn then(&mut self, back: usize, task: Task, queue: &Arc<Shared>) {
        self.sink.then(back, task, queue);
    }
}

impl fmt::Debug for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locked").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What was written to an [`Output::memory`].
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// The bytes so far.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().clone()
    }

    /// The text so far; bytes that are none are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
