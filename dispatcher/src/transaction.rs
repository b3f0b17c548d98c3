//! `add` and `run` on a queue that the whole program shares.
//!
//! ```
//! use optimist_dispatcher::{outln, transaction};
//!
//! transaction::add(|ev| {
//!     outln!(ev, "first");
//!     ev.add(|ev| {
//!         outln!(ev, "second, because the first has committed");
//!         Ok(())
//!     });
//!     Ok(())
//! });
//! transaction::run()?;
//! # Ok::<(), optimist_dispatcher::RunError>(())
//! ```

use std::sync::LazyLock;

use crate::config::Config;
use crate::error::RunError;
use crate::event::{Event, EventResult};
use crate::queue::TransactionQueue;
use crate::report::Report;

static QUEUE: LazyLock<TransactionQueue> = LazyLock::new(TransactionQueue::default);

/// The queue of [`add`] and [`run`].
#[must_use]
pub fn queue() -> &'static TransactionQueue {
    &QUEUE
}

/// Adds an event. Within an event, it starts only if that one commits.
#[track_caller]
pub fn add(event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static) {
    QUEUE.add(event);
}

/// Adds an event with a name for messages.
#[track_caller]
pub fn add_named(
    name: impl Into<std::borrow::Cow<'static, str>>,
    event: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static,
) {
    QUEUE.add_named(name, event);
}

/// Runs all pending events and those that they add, until none is left, on all cores.
///
/// # Errors
/// As [`TransactionQueue::run`].
///
/// # Panics
/// As [`TransactionQueue::run`].
pub fn run() -> Result<Report, RunError> {
    QUEUE.run()
}

/// As [`run`], with a configuration that then stays with the queue.
///
/// # Errors
/// As [`TransactionQueue::run`].
///
/// # Panics
/// As [`TransactionQueue::run`].
pub fn run_with(config: Config) -> Result<Report, RunError> {
    QUEUE.configure(config);
    QUEUE.run()
}
