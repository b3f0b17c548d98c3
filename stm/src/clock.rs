//! Global version clocks: how a commit gets its stamp.
//!
//! A stamp must be larger than every snapshot taken before the commit's locks were held; whether it is *unique* decides who must
//! validate. The names follow Dice, Shalev and Shavit, "Transactional Locking II" (DISC 2006) and the GV variants of its sequels.
//!
//! | clock | write to the shared line | validation can be skipped |
//! | --- | --- | --- |
//! | [`Gv1`] | every commit | when nobody committed since the snapshot |
//! | [`Gv4`] | every commit, but a lost race is not repeated | when the race was won and nobody committed since |
//! | [`Deferred`] | none, unless somebody meets a newer version | never |

use std::sync::atomic::Ordering;

use crate::atomics::{Atomics, Word};
use crate::attempt::Attempt;
use crate::domain::Domain;

/// A source of commit stamps.
pub trait Clock: Send + Sync + 'static {
    /// The clock's name.
    const NAME: &'static str;

    /// Whether a commit without competition adds one.
    const COUNTS: bool;

    /// Whether a commit may get a stamp that another thread has made. A snapshot that covers it has then not been released by that commit, so
    /// whoever takes it [settles](Atomics::settle) before reading; pairs with the fence in [`stamp`](Self::stamp).
    const SHARES: bool;

    /// The newest snapshot. Acquire pairs with the release in [`stamp`](Self::stamp): everything committed up to the snapshot is
    /// visible to whoever reads under it.
    #[inline(always)]
    fn now<A: Atomics>(domain: &Domain<A>) -> u64 {
        let now = domain.clock.load(Ordering::Acquire);
        Self::settle::<A>();
        now
    }

    /// After a load of the clock, before anything is read under that snapshot.
    #[inline(always)]
    fn settle<A: Atomics>() {
        if Self::SHARES {
            A::settle();
        }
    }

    /// A stamp for a transaction that may be alone (`alone.rs`).
    #[inline(always)]
    fn stamp_for<A: Atomics>(tx: &Attempt<A>) -> Stamp {
        let counted = if Self::COUNTS {
            let clock = &tx.domain().clock;
            tx.alone(|| {
                // Relaxed: nobody else writes it. Release as in `Gv1`.
                let before = clock.load(Ordering::Relaxed);
                clock.store(before + 1, Ordering::Release);
                Stamp { version: before + 1, exclusive: before == tx.snapshot }
            })
        } else {
            None
        };
        counted.unwrap_or_else(|| Self::stamp(tx.domain(), tx.snapshot))
    }

    /// A stamp for a commit (or a rollback) that holds all its locks, and whether nobody can have committed since `snapshot`.
    fn stamp<A: Atomics>(domain: &Domain<A>, snapshot: u64) -> Stamp;

    /// Called by whoever met `version` newer than its snapshot, before it takes a new snapshot.
    #[inline(always)]
    fn observe<A: Atomics>(_domain: &Domain<A>, _version: u64) {}
}

/// A commit's stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The version that the written objects get.
    pub version: u64,
    /// Nobody has committed since the snapshot, so the reads need no validation.
    pub exclusive: bool,
}

/// One `fetch_add` per commit. The default: one locked instruction, and a transaction that ran alone validates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Gv1;

impl Clock for Gv1 {
    const NAME: &'static str = "gv1";

    const COUNTS: bool = true;

    const SHARES: bool = false;

    #[inline(always)]
    fn stamp<A: Atomics>(domain: &Domain<A>, snapshot: u64) -> Stamp {
        // AcqRel: the release publishes this commit's writes to later snapshots; the acquire makes the locks of every earlier
        // committer visible to the validation that follows.
        let before = crate::mutant!(
            A,
            "clock-not-advanced",
            domain.clock.fetch_add(1, Ordering::AcqRel),
            domain.clock.load(Ordering::Acquire)
        );
        let exclusive = crate::mutant!(A, "clock-exclusive-off-by-one", before == snapshot, before <= snapshot + 1);
        Stamp { version: before + 1, exclusive }
    }
}

/// One compare-and-swap per commit; whoever loses takes over the winner's stamp ("pass on failure").
#[derive(Clone, Copy, Debug)]
pub struct Gv4;

impl Clock for Gv4 {
    const NAME: &'static str = "gv4";

    const COUNTS: bool = true;

    const SHARES: bool = true;

    #[inline(always)]
    fn stamp<A: Atomics>(domain: &Domain<A>, snapshot: u64) -> Stamp {
        // The writes in place are visible before the clock is read: else the stamp taken over from the winner could be one that a snapshot
        // taken before the last of these writes already covers. It also is the release of the exchange, and between the locks and the
        // validation of two commits that both validate.
        A::fence();
        let before = domain.clock.load(Ordering::Relaxed);
        // Acquire, here and for the loser: the locks of earlier committers who validate nothing are visible to the validation that follows.
        match domain.clock.compare_exchange(before, before + 1, Ordering::Acquire) {
            Ok(_) => Stamp { version: before + 1, exclusive: before == snapshot },
            // The winner has advanced the clock after this commit took its locks, so its stamp is newer than every snapshot
            // that could have missed them.
            Err(_) => {
                let version = domain.clock.load(Ordering::Acquire);
                Stamp { version, exclusive: crate::mutant!(A, "gv4-loser-exclusive", false, true) }
            }
        }
    }
}

/// No write per commit: the stamp is the clock plus one, and the clock moves only when somebody meets such a version.
///
/// Commits of disjoint transactions then write no shared line at all. The price: every commit validates, under a full fence that
/// takes the place of the read-modify-write, and the first reader of a fresh version pays an extension. Versions of one object
/// still increase strictly, because whoever locks it has a snapshot at least as new as its version.
#[derive(Clone, Copy, Debug)]
pub struct Deferred;

impl Clock for Deferred {
    const NAME: &'static str = "deferred";

    const COUNTS: bool = false;

    const SHARES: bool = true;

    #[inline(always)]
    fn stamp<A: Atomics>(domain: &Domain<A>, _snapshot: u64) -> Stamp {
        // Between taking the locks and validating the reads: of two transactions that read what the other writes, at least one
        // sees the other's lock. It also orders the writes before the clock is read; see `observe`.
        A::fence();
        let exclusive = crate::mutant!(A, "deferred-exclusive", false, true);
        let ahead = crate::mutant!(A, "deferred-stamp-not-ahead", 1, 0);
        Stamp { version: domain.clock.load(Ordering::Relaxed) + ahead, exclusive }
    }

    #[inline(always)]
    fn observe<A: Atomics>(domain: &Domain<A>, version: u64) {
        if crate::mutant!(A, "deferred-clock-not-moved", true, false) {
            domain.clock.fetch_max(version, Ordering::Relaxed);
        }
        // Pairs with the fence in `stamp`: a commit whose lock the coming validation does not see reads the advanced clock. (One that has
        // read the clock before is visible to whoever takes a snapshot after: that is what `settle` is for.)
        // Equivalent: in a model settling is a fence, and a snapshot follows; natively it may be nothing.
        A::fence_after_update();
    }
}
