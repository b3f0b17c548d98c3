//! Participants: other systems that commit or roll back with an event.

use crate::event::Failure;

/// Another system, a database say, that takes part in an event's commit: the first phase of two-phase commit asks it to prepare, the second
/// tells it the outcome (Gray, "Notes on data base operating systems", 1978). Made anew by each attempt and handed to
/// [`Event::enlist`](crate::Event::enlist).
///
/// 1. `prepare` is called once at the end of the attempt's body, in the order of enlisting. If one fails the event fails.
/// 2. Then exactly one of `commit` and `rollback` is called: `rollback` also if the attempt ended before `prepare`, and if it lost to
///    another event afterwards, whereupon the body runs again and enlists another participant.
/// 3. `commit` is called after the event's output has been released and before its commit hooks. It can no longer fail: whoever has
///    prepared has promised so. If it panics, that is reported as a hook's panic is.
///
/// If the process dies between the two phases, what the participants have prepared is in doubt: there is no log of the outcome here.
pub trait Participant: Send {
    /// Makes sure that `commit` will succeed.
    ///
    /// # Errors
    /// Why it would not; the event then fails with this.
    ///
    /// # Abort safety
    /// Others wait for what the event has locked while this runs; it must not wait for another event.
    fn prepare(&mut self) -> Result<(), Failure>;

    /// The event has committed.
    fn commit(self: Box<Self>);

    /// The attempt has not committed.
    fn rollback(self: Box<Self>);
}
