//! A run: from the pending events of a queue to an empty one, or to the reason why it stopped.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Instant;

use crossbeam_utils::CachePadded;
use optimist_stm::attempt::Attempt;
use optimist_stm::runtime::{Lease, change, lease};
use optimist_stm::{Abort, Kind};
use parking_lot::{Condvar, Mutex};

use crate::collisions::Collisions;
use crate::config::{Config, OnError, Progress, Rest};
use crate::effects::{Output, WriteError};
use crate::error::{EventError, RunError, RunErrorKind};
use crate::hotspot::{self, HotSpot, HotSpots};
use crate::order::{Local, Order, Schedule, Turn};
use crate::queue::Shared;
use crate::record::{Origin, Recording, Role, Sink};
use crate::report::{Counters, Latencies, Live, Report, WorkerReport};
use crate::task::Task;
use crate::worker::Worker;

/// Nobody has asked the run to stop.
const GO_ON: u8 = 0;
/// An event failed.
pub(crate) const STOP_ERROR: u8 = 1;
/// Somebody asked from outside.
pub(crate) const STOP_CANCELLED: u8 = 2;
/// The time limit was reached.
pub(crate) const STOP_TIME: u8 = 3;

/// How a run is told to end.
#[derive(Debug, Default)]
pub(crate) struct Control {
    reason: AtomicU8,
    draining: AtomicBool,
    /// The counters of the workers.
    pub(crate) lives: Vec<Arc<CachePadded<Live>>>,
    /// What workers have measured, handed over now and then.
    pub(crate) latencies: Mutex<Latencies>,
    /// Whose turn it is, under [`Order::Ordered`].
    pub(crate) turn: Turn,
}

impl Control {
    /// Asks for the end; the first reason counts. Relaxed: whoever sees it stops, and what led to it is found under a lock.
    pub(crate) fn stop(&self, reason: u8) {
        let _ = self.reason.compare_exchange(GO_ON, reason, Ordering::Relaxed, Ordering::Relaxed);
        self.turn.close();
    }

    #[inline(always)]
    pub(crate) fn is_stopping(&self) -> bool {
        self.reason.load(Ordering::Relaxed) != GO_ON
    }

    pub(crate) fn drain(&self) {
        // Release pairs with the acquire below: a worker that makes its poller after this sees it.
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Totals over all workers.
    pub(crate) fn counters(&self) -> Counters {
        let mut total = Counters::default();
        self.lives.iter().for_each(|live| total.merge(&live.read()));
        total
    }
}

/// What the workers of a run share.
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Config,
    pub(crate) schedule: Schedule,
    pub(crate) control: Arc<Control>,
    /// What is known about kinds of events that collide, if that is wanted.
    pub(crate) collisions: Option<Collisions>,
    pub(crate) deadline: Option<Instant>,
    /// The recording that is being made.
    pub(crate) recorder: Option<Arc<Mutex<Sink>>>,
    /// Whether a recording is being replayed.
    pub(crate) replays: bool,
    /// Whether events of an ordered run start before their turn.
    pub(crate) speculates: bool,
    errors: Mutex<Vec<EventError>>,
    /// Events of an ordered run that had started when it was stopped.
    withdrawn: Mutex<Vec<Task>>,
    /// Outputs with something to flush.
    unflushed: Mutex<Vec<Output>>,
    pub(crate) hot_spots: Mutex<HotSpots>,
}

impl Run {
    pub(crate) fn workers(&self) -> usize {
        self.control.lives.len()
    }

    /// What is known, at the end of a body that was aborted, about who lost to whom.
    #[cold]
    pub(crate) fn lost(&self, tx: &mut Attempt, event: &'static Location<'static>, reason: Abort) -> HotSpot {
        hotspot::lost(tx, event, reason, self.control.lives.iter().map(|live| &live.executing))
    }

    pub(crate) fn stop(&self, reason: u8) {
        self.control.stop(reason);
        self.shared.sleep.close();
    }

    /// Whether the run is over when every worker sleeps.
    pub(crate) fn is_finished(&self) -> bool {
        let draining = self.control.is_draining();
        // Acquire pairs with the release of the last hold.
        let held = self.shared.holds.load(Ordering::Acquire) != 0;
        let served = self.shared.reactor.get().is_some_and(|reactor| !reactor.is_empty());
        let empty = self.shared.inbox.is_empty() && !served;
        empty && (draining || (!held && self.shared.timers.is_empty()))
    }

    /// Deals with an error as the configuration says. Returns an event to be added that handles it, if that is what it says.
    pub(crate) fn report(&self, error: EventError, serial: u64) -> Option<Task> {
        match &self.config.on_error {
            OnError::Handle(handler) => {
                let handler = handler.clone();
                let site = error.location();
                let options =
                    crate::task::Options { handles_error: true, ..crate::task::Options::new().name("error handler") };
                let handle = move |event: &mut crate::event::Event<'_>| handler(&error, event);
                let mut task = Task::with(handle, site, options);
                if serial != 0 {
                    task.origin = Origin::handler(serial).0;
                }
                return Some(task);
            }
            OnError::Stop(Rest::Keep | Rest::Drop) => {
                self.record(error);
                self.stop(STOP_ERROR);
            }
            OnError::Stop(Rest::Finish) | OnError::Collect => self.record(error),
        }
        None
    }

    /// Deals with the error of an error handler: the run stops.
    pub(crate) fn report_last(&self, error: EventError) {
        self.record(error);
        self.stop(STOP_ERROR);
    }

    fn record(&self, error: EventError) {
        let mut errors = self.errors.lock();
        if errors.len() < Report::ERRORS {
            errors.push(error);
        }
    }

    pub(crate) fn withdraw(&self, task: Task) {
        self.withdrawn.lock().push(task);
    }

    pub(crate) fn note_unflushed(&self, output: &Output) {
        self.unflushed.lock().push(output.clone());
    }

    /// Writes out what was released. Calls `failed` with what could not be written.
    pub(crate) fn flush(&self, mut failed: impl FnMut(EventError)) {
        // Taken first, so that no lock is held while writing.
        let outputs = std::mem::take(&mut *self.unflushed.lock());
        for output in outputs {
            if let Err(WriteError { error, whose, repeated: false }) = output.flush_whose() {
                let unknown = || crate::task::Label { name: Some("flush".into()), site: Location::caller() };
                failed(EventError::output(whose.unwrap_or_else(unknown), output.name(), error));
            }
        }
    }
}

/// Runs a queue.
pub(crate) fn run(shared: &Arc<Shared>, config: Config) -> Result<Report, RunError> {
    let started = Instant::now();
    let replays = config.recording.as_ref().is_some_and(Recording::is_replayed);
    let workers = if replays { 1 } else { config.threads.max(1) };
    let control = Arc::new(Control { lives: (0..workers).map(|_| Arc::default()).collect(), ..Control::default() });
    {
        let mut current = shared.current.lock();
        assert!(current.is_none(), "the queue is being run already");
        *current = Some(control.clone());
    }
    let running = Running(shared);
    let _regime = Regime::put_in_force(&config, workers);
    let protocol = optimist_stm::runtime::protocol();

    let (recorder, replayed) = match config.recording.as_ref().map(Recording::begin) {
        Some(Role::Makes(sink)) => (Some(sink), None),
        Some(Role::Replays(entries)) => (None, Some(entries)),
        None => (None, None),
    };
    let locals: Vec<Local> = (0..workers).map(Local::new).collect();
    let stealers = locals.iter().map(|local| local.deque.stealer()).collect();
    let learns = config.collisions > 0 && workers > 1 && matches!(config.order, Order::Free | Order::Fifo);
    let run = Run {
        collisions: learns.then(|| Collisions::new(config.collisions)),
        shared: shared.clone(),
        schedule: match replayed {
            Some(entries) => Schedule::replay(entries),
            None => Schedule::new(config.order, stealers),
        },
        recorder,
        replays,
        control,
        deadline: config.time_limit.map(|limit| started + limit),
        speculates: config.order == Order::Ordered && workers > 1 && !protocol.info().in_place,
        errors: Mutex::default(),
        withdrawn: Mutex::default(),
        unflushed: Mutex::default(),
        hot_spots: Mutex::default(),
        config,
    };
    shared.sleep.open();
    execute(&run, locals);

    let mut put_back = run.withdrawn.lock().split_off(0);
    if run.config.order == Order::Ordered {
        put_back.sort_by_key(|task| task.number);
        put_back.iter_mut().for_each(|task| task.number = None);
    }
    put_back.extend(run.collisions.iter().flat_map(Collisions::drain));
    put_back.extend(run.schedule.drain());
    shared.put_back(put_back);
    run.flush(|error| run.record(error));
    if let Some(recorder) = &run.recorder
        && let Err(error) = recorder.lock().flush()
    {
        let label = crate::task::Label { name: Some("end of the run".into()), site: Location::caller() };
        run.record(EventError::output(label, "the recording".to_owned(), error));
    }
    let mut report = Report {
        counters: run.control.counters(),
        workers: run.control.lives.iter().map(|live| WorkerReport { counters: live.read() }).collect(),
        latencies: std::mem::take(&mut run.control.latencies.lock()),
        elapsed: started.elapsed(),
        protocol,
        pending: 0,
        hot_spots: std::mem::take(&mut *run.hot_spots.lock()).into_sorted(),
        errors: std::mem::take(&mut run.errors.lock()),
    };
    {
        // Together, so that no metrics count the run twice or not at all.
        let mut current = shared.current.lock();
        shared.totals.lock().merge(&report.counters, &report.latencies);
        std::mem::forget(running);
        *current = None;
    }
    let kind = match run.control.reason.load(Ordering::Relaxed) {
        STOP_CANCELLED => Some(RunErrorKind::Cancelled),
        STOP_TIME => Some(RunErrorKind::TimeLimit),
        _ => None,
    };
    let collects = matches!(run.config.on_error, OnError::Collect);
    let stopped_by_error = run.control.reason.load(Ordering::Relaxed) == STOP_ERROR;
    let kind = match kind {
        None if !report.errors.is_empty() && (stopped_by_error || !collects) => {
            Some(RunErrorKind::Event(Box::new(report.errors.remove(0))))
        }
        None if run.schedule.missing().is_some() => {
            Some(RunErrorKind::Diverged(run.schedule.missing().map_or_else(String::new, |origin| origin.to_string())))
        }
        None => {
            let blocked = shared.blocked();
            // A run that was drained leaves events waiting, as it leaves timers.
            let drained = run.control.is_draining();
            if blocked.is_empty() || drained { None } else { Some(RunErrorKind::Stuck(blocked)) }
        }
        some => some,
    };
    if kind.is_some() && matches!(run.config.on_error, OnError::Stop(Rest::Drop)) {
        shared.clear();
    }
    report.pending = shared.pending();
    match kind {
        None => Ok(report),
        Some(kind) => Err(RunError { kind, report: Box::new(report) }),
    }
}

/// The protocol of a run, in force while this lives.
struct Regime {
    lease: Option<Lease>,
    /// What was in force before and is to be again.
    before: Option<Kind>,
}

impl Regime {
    /// As [`Config::protocol`] says.
    fn put_in_force(config: &Config, workers: usize) -> Self {
        let before = optimist_stm::runtime::protocol();
        let ahead = config.order == Order::Ordered && workers > 1 && before.info().in_place;
        match config.protocol {
            None if ahead && change(Kind::Tl2) => Regime { lease: Some(lease(Kind::Tl2)), before: Some(before) },
            wanted => Regime { lease: wanted.map(lease), before: None },
        }
    }
}

impl Drop for Regime {
    fn drop(&mut self) {
        self.lease = None;
        if let Some(before) = self.before {
            change(before);
        }
    }
}

/// Marks the queue as running while it lives.
struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.current.lock() = None;
    }
}

/// Runs the workers, one of them on this thread.
fn execute(run: &Run, mut locals: Vec<Local>) {
    let watcher = Watcher::default();
    std::thread::scope(|scope| {
        if let Some(progress) = &run.config.progress {
            let watcher = &watcher;
            scope.spawn(move || watcher.watch(run, progress));
        }
        let own = locals.swap_remove(0);
        for local in locals {
            let name = format!("optimist-{}", local.index);
            let spawned =
                std::thread::Builder::new().name(name).spawn_scoped(scope, move || Worker::new(run, local).work());
            // With fewer threads than asked for the run would wait for those that do not exist.
            spawned.expect("the system refuses another thread; run the queue on fewer");
        }
        Worker::new(run, own).work();
        watcher.end();
    });
}

/// Ends the thread of the progress callback.
#[derive(Default)]
struct Watcher {
    over: Mutex<bool>,
    ended: Condvar,
}

impl Watcher {
    fn watch(&self, run: &Run, progress: &Progress) {
        let mut over = self.over.lock();
        while !*over {
            self.ended.wait_for(&mut over, progress.interval);
            parking_lot::MutexGuard::unlocked(&mut over, || (progress.callback)(&run.control.counters()));
        }
    }

    fn end(&self) {
        *self.over.lock() = true;
        self.ended.notify_all();
    }
}
