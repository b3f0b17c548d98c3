//! The transaction module: queued events run as transactions, on every core.
//!
//! A program adds events and runs them. Each event is one atomic transaction over the variables of [`optimist_stm`]; it is repeated
//! when it collides with another, and whatever it lets out (output, further events, timers) is kept back until it has committed.
//!
//! ```
//! use optimist_dispatcher::{TVar, transaction};
//!
//! let total = TVar::new(0_u64);
//! for amount in 1..=100 {
//!     let total = total.clone();
//!     transaction::add(move |ev| {
//!         let sum = total.get(ev)? + amount;
//!         total.set(ev, sum)?;
//!         Ok(())
//!     });
//! }
//! let report = transaction::run()?;
//! assert_eq!((total.load(), report.counters.commits), (5050, 100));
//! # Ok::<(), optimist_dispatcher::RunError>(())
//! ```
//!
//! The rooms: [`TransactionQueue`] holds what is pending; a *run* takes it through a *schedule* ([`Order`]) to its *workers*; a worker
//! executes one event at a time and releases its [`effects`] in the way that module states. Idle workers sleep
//! (`sleep`), and the last one to fall asleep ends the run.
//!
//! *Progress.* An event that has lost [`PATIENCE`](optimist_stm::run::PATIENCE) times runs once more irrevocably, in the order of asking: so it
//! is attempted at most `PATIENCE + 1` times while one protocol is in force, however many others run against it, and at most once before that
//! together with other tiny events. In ordered runs
//! two attempts are enough. Queues are first in, first out, so an event that adds itself again and again keeps no other waiting.

mod batch;
mod child;
mod collisions;
mod combinators;
mod config;
pub mod effects;
mod error;
mod event;
mod execution;
#[cfg(feature = "flowgraph")]
pub mod flowgraph;
mod histogram;
mod hold;
mod hotspot;
#[cfg(test)]
mod loom_atomics;
mod metrics;
mod order;
mod queue;
pub mod reactor;
pub mod record;
mod report;
mod run;
mod sleep;
mod task;
mod timer;
mod trace;
pub mod transaction;
mod worker;

pub use child::ChildQueue;
pub use config::{Config, ErrorHandler, OnError, Progress, Rest};
pub use effects::{Output, OutputFull, Participant};
pub use error::{EventError, RunError};
pub use event::{EffectMark, Event, EventResult, Failure};
pub use histogram::Histogram;
pub use hold::Hold;
pub use hotspot::HotSpot;
pub use metrics::Metrics;
pub use optimist_stm::{Abort, Interrupt, Kind, TVar};
pub use order::Order;
pub use queue::TransactionQueue;
pub use record::Recording;
pub use report::{Counters, Latencies, Report, WorkerReport};
pub use task::{Handler, Options};
