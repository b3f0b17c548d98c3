//! Software transactional memory: versioned objects, read and write barriers, interchangeable commit protocols.
//!
//! Two layers. The typed face is what most programs use: [`TVar`], [`atomically`] and their relatives. Below it are *objects*, a
//! versioned header word in front of 64-bit fields ([`header`]), accessed through the barriers of a [`Protocol`](protocol::Protocol) in a
//! descriptor ([`Attempt`](attempt::Attempt)); virtual machines and data structures build on those.
//!
//! ```
//! use optimist_stm::{TVar, atomically};
//!
//! let counter = TVar::new(0);
//! std::thread::scope(|scope| {
//!     for _ in 0..4 {
//!         scope.spawn(|| (0..1000).for_each(|_| atomically(|tx| counter.modify(tx, |n| n + 1))));
//!     }
//! });
//! assert_eq!(counter.load(), 4000);
//! ```

pub mod abort;
pub mod adaptive;
mod alone;
pub mod atomics;
pub mod attempt;
pub mod buffer;
#[cfg(feature = "check")]
pub mod check;
pub mod clock;
pub mod collections;
pub mod domain;
mod entries;
pub mod header;
mod history;
pub mod hooks;
mod local;
pub mod log;
mod membarrier;
pub mod order;
pub mod protocol;
mod reclaim;
pub mod run;
pub mod runtime;
mod slab;
mod tvar;
mod tx;
pub mod watch;

pub use abort::Abort;
pub use domain::Statistics;
pub use hooks::Anything;
pub use local::TxLocal;
pub use protocol::Kind;
pub use run::{Interrupt, Stop};
pub use runtime::{lease, statistics};
pub use tvar::TVar;
pub use tx::{
    FinalState, Read, ReadTx, Result, Tx, atomically, atomically_with, irrevocably, read_only, read_only_with,
    try_atomically, try_event,
};
