//! Effects: what leaves an event, kept back until it has committed.
//!
//! The contract:
//!
//! 1. Output of an attempt that does not commit appears nowhere; output of one that does appears once.
//! 2. Per destination, output appears in commit order: if event B saw what event A wrote, A's output stands before B's. Within an event
//!    it appears in the order of the calls, and what one event writes to one destination is never interleaved with another's.
//! 3. Events added by an event start after its output was released.
//! 4. A failure to write makes no event fail, for it has committed: it becomes an error of its own, reported as
//!    [`OnError`](crate::OnError) says under the name of the event whose bytes could not be written. They are kept and tried again, up to a [hard
//!    limit](Output::with_hard_limit), over which [`Event::try_write`](crate::Event::try_write) fails within the event; a pipe that nobody
//!    reads any more swallows everything after the first error.
//! 5. Output is written to the operating system at the latest when its buffer is full, when a worker falls asleep, and when the run ends. What is to follow
//!    the writing is [said with it](crate::Event::write_then).
//! 6. [Participants](Participant) in the commit are asked to prepare before it, and told how it ended.
//!
//! How rule 2 comes about: an event with output locks its destinations *before* it commits and unlocks them when it has appended (two-phase
//! locking; destinations are locked in one global order). So between two events that write to one destination, the order of
//! commits is the order of appends. Events without output take no lock. A destination's lock is never held while waiting for
//! another transaction that could wait for it: an attempt that aborts unlocks before it waits, and one that commits with
//! destinations locked gives way to an irrevocable event instead of waiting for it.

mod output;
mod participant;

use std::fmt::{self, Write as _};
use std::sync::Arc;

pub(crate) use output::{Appended, Locked, WriteError};
pub use output::{Memory, Output, OutputFull};
pub use participant::Participant;

use crate::queue::Shared;
use crate::reactor::Sends;
use crate::task::{Label, Task};

/// The output of one attempt, not yet released.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    bytes: Vec<u8>,
    /// Which part of `bytes` goes where: up to `end`, from the end of the one before.
    segments: Vec<Segment>,
    /// Up to here segments are closed: what follows is another event's.
    cut: usize,
    /// Events to be added when what stands before that position has been written.
    thens: Vec<(usize, Task)>,
    locked: Vec<Locked>,
    /// What goes to connections. Their outboxes are locked before all other destinations.
    pub(crate) sends: Sends,
}

#[derive(Debug)]
struct Segment {
    /// None is the run's standard output.
    output: Option<Output>,
    end: usize,
}

/// A position in an event's output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    bytes: usize,
    sent: usize,
}

/// The most that is kept for reuse of an event's output buffer.
const KEEP: usize = 1 << 20;

impl Effects {
    #[inline]
    pub(crate) fn clear(&mut self) {
        debug_assert!(self.locked.is_empty());
        self.sends.clear();
        if !self.segments.is_empty() {
            self.segments.clear();
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
        }
        if !self.thens.is_empty() {
            self.thens.clear();
        }
        self.cut = 0;
    }

    /// What follows is another event's.
    #[inline(always)]
    pub(crate) fn cut(&mut self) {
        self.cut = self.bytes.len();
    }

    /// Adds the event when everything so far has been written. There is something.
    pub(crate) fn then(&mut self, task: Task) {
        self.thens.push((self.bytes.len(), task));
    }

    /// How many bytes of output there are.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn extend_segment(&mut self, output: Option<&Output>, start: usize) {
        let end = self.bytes.len();
        if end == start {
            return;
        }
        match self.segments.last_mut() {
            Some(last) if last.end > self.cut && Output::same(last.output.as_ref(), output) => last.end = end,
            _ => self.segments.push(Segment { output: output.cloned(), end }),
        }
    }

    pub(crate) fn append(&mut self, output: Option<&Output>, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.extend_segment(output, start);
    }

    pub(crate) fn format(&mut self, output: Option<&Output>, text: fmt::Arguments<'_>) {
        let start = self.bytes.len();
        let mut writer = Writer(&mut self.bytes);
        // Only a `Display` implementation can fail here; what it has written so far is printed, as `print!` does.
        let _ = writer.write_fmt(text);
        self.extend_segment(output, start);
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), sent: self.sends.mark() }
    }

    pub(crate) fn roll_back_to(&mut self, mark: Mark) {
        self.sends.roll_back_to(mark.sent);
        self.bytes.truncate(mark.bytes);
        self.cut = self.cut.min(mark.bytes);
        while self.thens.pop_if(|(end, _)| *end > mark.bytes).is_some() {}
        while let Some(last) = self.segments.pop() {
            let start = self.segments.last().map_or(0, |segment| segment.end);
            if start < mark.bytes {
                self.segments.push(Segment { end: last.end.min(mark.bytes), ..last });
                break;
            }
        }
    }

    /// Locks the destinations, in the global order. Says whether there are any.
    #[inline]
    pub(crate) fn lock(&mut self, stdout: &Output) -> bool {
        let sends = self.sends.lock();
        match self.segments.as_slice() {
            [] => return sends,
            [only] => self.locked.push(only.output.as_ref().unwrap_or(stdout).lock()),
            _ => self.lock_several(stdout),
        }
        true
    }

    #[cold]
    fn lock_several(&mut self, stdout: &Output) {
        let mut outputs: Vec<&Output> =
            self.segments.iter().map(|segment| segment.output.as_ref().unwrap_or(stdout)).collect();
        outputs.sort_unstable_by_key(|output| output.id());
        outputs.dedup_by_key(|output| output.id());
        self.locked.extend(outputs.into_iter().map(Output::lock));
    }

    /// Unlocks the destinations and forgets the output.
    pub(crate) fn abandon(&mut self) {
        self.sends.abandon();
        self.locked.clear();
        self.clear();
    }

    /// Appends the output to its destinations and unlocks them. Says how many bytes there were. `whose` tells whose the part of the output is
    /// that ends at a position; `report` is called with what a destination has to say.
    #[inline]
    pub(crate) fn release(
        &mut self,
        stdout: &Output,
        queue: &Arc<Shared>,
        whose: impl Fn(usize) -> Label,
        report: impl FnMut(&Output, Appended),
    ) -> usize {
        if self.segments.is_empty() { 0 } else { self.release_segments(stdout, queue, whose, report) }
    }

    fn release_segments(
        &mut self,
        stdout: &Output,
        queue: &Arc<Shared>,
        whose: impl Fn(usize) -> Label,
        mut report: impl FnMut(&Output, Appended),
    ) -> usize {
        let mut start = 0;
        let mut thens = self.thens.drain(..).peekable();
        for segment in &self.segments {
            let output = segment.output.as_ref().unwrap_or(stdout);
            let bytes = &self.bytes[start..segment.end];
            start = segment.end;
            if let Some(locked) = self.locked.iter_mut().find(|locked| locked.id() == output.id()) {
                let appended = locked.append(bytes, whose(segment.end));
                if appended.is_news() {
                    report(output, appended);
                }
                while let Some((end, task)) = thens.next_if(|(end, _)| *end <= segment.end) {
                    locked.then(segment.end - end, task, queue);
                }
            }
        }
        drop(thens);
        self.locked.clear();
        let bytes = self.bytes.len();
        self.clear();
        bytes
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolling_back_cuts_segments() {
        let queue = Arc::<Shared>::default();
        let whose = |_| Label { name: None, site: std::panic::Location::caller() };
        let (a, in_a) = Output::memory("a");
        let (b, in_b) = Output::memory("b");
        let mut effects = Effects::default();
        effects.append(Some(&a), b"one");
        let mark = effects.mark();
        effects.append(Some(&a), b"two");
        effects.append(Some(&b), b"three");
        effects.roll_back_to(mark);
        effects.append(Some(&b), b"four");
        effects.append(Some(&a), b"five");
        effects.lock(&a);
        assert_eq!(effects.release(&a, &queue, whose, |_, _| ()), 11);
        assert_eq!((in_a.text(), in_b.text()), ("onefive".to_owned(), "four".to_owned()));
        effects.append(None, b"x");
        effects.roll_back_to(Mark { bytes: 0, sent: 0 });
        effects.lock(&a);
        assert_eq!(effects.release(&a, &queue, whose, |_, _| ()), 0);
    }
}
