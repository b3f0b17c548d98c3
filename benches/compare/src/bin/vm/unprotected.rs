//! Transactions without barriers: what a program costs on a heap that is nobody's but its own. For measuring only; nothing can be undone.

use std::sync::atomic::Ordering;

use optimist_stm::abort::Abort;
use optimist_stm::attempt::{Attempt, DropWord, Place};
use optimist_stm::protocol::{GlobalLock, Info, Protocol};

/// Plain loads and stores, in a transaction that `global-lock` begins and ends.
pub struct Unprotected;

impl Protocol for Unprotected {
    const INFO: Info = Info {
        // The name by which the virtual machine leaves out its own questions as well.
        name: "unprotected",
        source: "",
        opaque: true,
        privatisation_safe: true,
        readers_never_abort: true,
        ordered: false,
        in_place: true,
    };

    fn begin(tx: &mut Attempt) -> Result<(), Abort> {
        GlobalLock::begin(tx)
    }

    #[inline(always)]
    unsafe fn read(_tx: &mut Attempt, place: Place) -> Result<u64, Abort> {
        // SAFETY: the caller keeps the object alive.
        Ok(unsafe { place.field() }.load(Ordering::Relaxed))
    }

    #[inline(always)]
    unsafe fn read_only(_tx: &mut Attempt, place: Place) -> Result<u64, Abort> {
        // SAFETY: as above.
        Ok(unsafe { place.field() }.load(Ordering::Relaxed))
    }

    #[inline(always)]
    unsafe fn write(_tx: &mut Attempt, place: Place, value: u64, _drop: Option<DropWord>) -> Result<(), Abort> {
        // SAFETY: as above.
        unsafe { place.field() }.store(value, Ordering::Relaxed);
        Ok(())
    }

    fn validate(_tx: &mut Attempt) -> Result<(), Abort> {
        Ok(())
    }

    fn commit(tx: &mut Attempt) -> Result<(), Abort> {
        GlobalLock::commit(tx)
    }

    fn rollback(tx: &mut Attempt) {
        GlobalLock::rollback(tx);
    }
}
