//! Commit protocols: one contract, one file each.
//!
//! A protocol decides how reads are kept consistent, when writes become visible and who gives way. All share the descriptor
//! ([`Attempt`]) and its logs, and none knows about threads, retries or values: the loop around it is [`crate::run`].
//!
//! The contract, for whoever writes one:
//!
//! 1. `begin` sets `snapshot` and `limit`. The fast path of compiled code is: load the field, load the header, and take the value
//!    if `header <= limit`, logging the header. A protocol for which that would be wrong sets `limit` to 0, and then sees every access.
//! 2. `read` returns a value that belongs, together with all earlier ones of the attempt, to one state (opacity), unless the protocol
//!    declares otherwise in its [`Info`]. It returns the attempt's own write if there is one.
//! 3. `write` may take effect at once (and be undone) or be kept back.
//! 4. `commit` makes all writes visible at once or fails, and releases everything. After an error the caller calls `rollback`.
//! 5. `rollback` restores what was there and releases everything. An object that was written in place gets a new version, because
//!    a reader checks the header only *after* it has loaded the field.
//! 6. A wait is possible only where [`Atomics::CAN_WAIT`] says so; elsewhere it is an abort. An
//!    [encumbered](Attempt::encumbered) attempt waits for no irrevocable one.
//! 7. In [`Mode::Irrevocable`](crate::attempt::Mode::Irrevocable) no operation may return an abort, save under a platform that cannot wait.
//! 8. Every log is empty after `commit` and `rollback`. Header versions never decrease and never exceed the clock by more than one, so
//!    that protocols can be exchanged while no transaction runs.
#![expect(unsafe_code, reason = "declares barriers, whose callers keep the objects alive")]

pub mod any;
pub mod eager;
pub mod global_lock;
mod lazy;
pub mod mvcc;
pub mod norec;
pub mod ordered;
pub mod tl2;

use crate::abort::Abort;
use crate::atomics::{Atomics, Native};
use crate::attempt::{Attempt, DropWord, Place, Savepoint};
use crate::watch::Watch;

pub use any::{Any, Calls};
pub use eager::Eager;
pub use global_lock::GlobalLock;
pub use mvcc::Mvcc;
pub use norec::Norec;
pub use ordered::Ordered;
pub use tl2::Tl2;

/// What a protocol promises, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The name by which it is chosen.
    pub name: &'static str,
    /// The paper or system.
    pub source: &'static str,
    /// Every attempt, committed or not, sees one consistent state at all times.
    pub opaque: bool,
    /// After a transaction has made an object private, it may be accessed without barriers at once, provided that its fields are stored with
    /// release (as every store is on x86): a transaction that still reads one finds with it what made the object private. Under a protocol
    /// that does not promise this, once [`quiesce`](crate::domain::Domain::quiesce) has returned.
    pub privatisation_safe: bool,
    /// A read-only transaction never aborts.
    pub readers_never_abort: bool,
    /// Transactions commit in an order fixed beforehand.
    pub ordered: bool,
    /// Writes go to their place at once and are undone on abort.
    pub in_place: bool,
}

/// A commit protocol. See the [module](self) for the rules.
pub trait Protocol<A: Atomics = Native>: Send + Sync + 'static {
    /// What it promises.
    const INFO: Info;

    /// Whether begin, read and write are those of [`Eager`] up to the slow paths, so that [`Any`] may inline them.
    const EAGER: bool = false;

    /// Starts an attempt: sets the snapshot and the limit of the fast path.
    ///
    /// # Errors
    /// An abort where the protocol would have to wait and cannot.
    fn begin(tx: &mut Attempt<A>) -> Result<(), Abort>;

    /// Reads a field.
    ///
    /// # Errors
    /// An abort if no value consistent with the earlier reads can be had.
    ///
    /// # Safety
    /// The object stays allocated until the attempt ends.
    unsafe fn read(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort>;

    /// Reads a field in [`Mode::ReadOnly`](crate::attempt::Mode::ReadOnly).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Safety
    /// As [`read`](Self::read).
    unsafe fn read_only(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort>;

    /// Writes a field. With `drop`, the word is a pointer to a boxed value: the one it replaces is handed to
    /// [`Attempt::note_replaced`] by the time of the commit.
    ///
    /// # Errors
    /// An abort if the attempt cannot commit any more.
    ///
    /// # Safety
    /// As [`read`](Self::read), and the attempt is not read-only.
    unsafe fn write(tx: &mut Attempt<A>, place: Place<A>, value: u64, drop: Option<DropWord>) -> Result<(), Abort>;

    /// Checks that everything read so far still holds, and moves the snapshot forward if the protocol can.
    ///
    /// # Errors
    /// An abort if it does not.
    fn validate(tx: &mut Attempt<A>) -> Result<(), Abort>;

    /// Commits.
    ///
    /// # Errors
    /// An abort if it cannot; the caller then calls [`rollback`](Self::rollback).
    fn commit(tx: &mut Attempt<A>) -> Result<(), Abort>;

    /// Registers interest in everything read so far, for an attempt about to be rolled back because it waits for a change.
    #[cold]
    fn watch(tx: &mut Attempt<A>) -> Watch<A> {
        tx.watch()
    }

    /// Undoes the attempt.
    fn rollback(tx: &mut Attempt<A>);

    /// A position to which the attempt can be rolled back.
    fn savepoint(tx: &mut Attempt<A>) -> Savepoint {
        tx.mark()
    }

    /// Undoes what was written since `savepoint`. What was read since stays in the read set.
    fn rollback_to(tx: &mut Attempt<A>, savepoint: Savepoint) {
        tx.roll_back_to(savepoint);
    }
}

/// A protocol with a [`Kind`].
pub trait Shipped: Protocol<Native> {
    /// Its kind.
    const KIND: Kind;
}

macro_rules! shipped {
    ($($(#[doc = $doc:literal])+ $kind:ident = $protocol:ty, $name:literal;)+) => {
        /// The shipped protocols, to be chosen at run time.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
        #[repr(u8)]
        pub enum Kind {
            #[default]
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// All of them, the default first.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),+];

            /// The name by which it is chosen.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)+ }
            }

            /// What it promises.
            #[must_use]
            pub const fn info(self) -> Info {
                match self { $(Kind::$kind => <shipped::$kind as Protocol<Native>>::INFO,)+ }
            }

            /// Checks it; see [`check`](crate::check).
            #[cfg(feature = "check")]
            pub fn check(self, budget: &crate::check::Budget) -> crate::check::Verdict {
                match self { $(Kind::$kind => crate::check::check::<shipped::$kind>(budget),)+ }
            }

            /// Searches for a planted fault under it.
            #[cfg(feature = "check")]
            pub(crate) fn search(self, search: &mut crate::check::proof::Search) -> Option<crate::check::Fate> {
                match self { $(Kind::$kind => search.elsewhere::<shipped::$kind>(),)+ }
            }

            /// Its operations, for calls through pointers.
            pub(crate) fn calls(self) -> &'static Calls<Native> {
                match self { $(Kind::$kind => const { &Calls::of::<shipped::$kind>() },)+ }
            }
        }

        $(impl Shipped for shipped::$kind {
            const KIND: Kind = Kind::$kind;
        })+

        /// Evaluates an expression with a type standing for the protocol of this kind, so that what is called is compiled for it:
        /// `with_protocol!(kind, P => run::<P>())`.
        #[macro_export]
        macro_rules! with_protocol {
            ($value:expr, $p:ident => $body:expr) => {
                match $value {
                    $($crate::protocol::Kind::$kind => { type $p = $crate::protocol::shipped::$kind; $body })+
                }
            };
        }

        /// The protocols under the names of their [`Kind`]s.
        pub mod shipped {
            use crate::clock::{Deferred, Gv1, Gv4};
            $($(#[doc = $doc])+ pub type $kind = $protocol;)+
        }
    };
}

shipped! {
    /// Encounter-time locks in place.
    Eager = super::Eager<Gv1>, "eager";
    /// Encounter-time locks in place; commits do not repeat a lost race for the clock.
    EagerGv4 = super::Eager<Gv4>, "eager-gv4";
    /// Encounter-time locks in place; commits write no shared clock.
    EagerDeferred = super::Eager<Deferred>, "eager-deferred";
    /// Lazy writes, locks at commit.
    Tl2 = super::Tl2<Gv1>, "tl2";
    /// One sequence lock, validation by value.
    Norec = super::Norec, "norec";
    /// Several versions: readers never abort.
    Mvcc = super::Mvcc, "mvcc";
    /// Speculation with commits in a fixed order.
    Ordered = super::Ordered, "ordered";
    /// One lock around every transaction.
    GlobalLock = super::GlobalLock, "global-lock";
}

impl std::str::FromStr for Kind {
    type Err = UnknownProtocol;

    fn from_str(name: &str) -> Result<Self, UnknownProtocol> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| UnknownProtocol(name.to_owned()))
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// No protocol has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownProtocol(String);

impl std::fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        write!(f, "there is no protocol `{}`; there are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownProtocol {}
