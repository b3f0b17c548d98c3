//! The versioned header: one word in front of every object's fields.
//!
//! ```text
//!  63     62 … 48      47 … 0
//! ┌───┬─────────────┬──────────┐
//! │ 0 │          version       │   unlocked: the stamp of the commit that wrote the fields
//! ├───┼─────────────┼──────────┤
//! │ 1 │  owner slot │  offset  │   locked: who holds it, and where in the owner's lock log, in bytes
//! └───┴─────────────┴──────────┘
//! ```
//!
//! The lock bit is the top bit, so that one unsigned comparison `header <= snapshot` asks both questions of the fast path:
//! unlocked, and not newer than the snapshot.

/// The lock bit.
const LOCKED: u64 = 1 << 63;
/// Where the owner's slot begins.
const OWNER_SHIFT: u32 = 48;
/// The bits of the offset in the lock log.
const OFFSET_MASK: u64 = (1 << OWNER_SHIFT) - 1;

/// The header of an object nobody has written yet: the oldest version, readable under every snapshot.
pub const FRESH: u64 = 1;

/// The number of transactions that can exist at once: what fits beside the lock bit.
pub const MAX_SLOTS: usize = 1 << 15;

/// A header as it was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header(pub u64);

impl Header {
    /// Whether some transaction holds the object.
    #[inline(always)]
    #[must_use]
    pub fn is_locked(self) -> bool {
        self.0 & LOCKED != 0
    }

    /// The version, if the object is unlocked.
    #[inline(always)]
    #[must_use]
    pub fn version(self) -> Option<u64> {
        if self.is_locked() { None } else { Some(self.0) }
    }

    /// Whether `owner` holds the object.
    #[inline(always)]
    #[must_use]
    pub fn is_held_by(self, owner: Owner) -> bool {
        self.0 & !OFFSET_MASK == owner.0
    }

    /// The slot of the transaction that holds the object. Meaningful while locked.
    #[inline(always)]
    #[must_use]
    pub fn slot(self) -> usize {
        ((self.0 & !LOCKED) >> OWNER_SHIFT) as usize
    }

    /// Where the object's entry begins in the owner's lock log, in bytes. Meaningful while locked.
    #[inline(always)]
    #[must_use]
    pub fn offset(self) -> usize {
        (self.0 & OFFSET_MASK) as usize
    }
}

/// A transaction as the headers name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner(u64);

impl Owner {
    /// Nobody: holds no object.
    pub const NOBODY: Owner = Owner(1);

    /// The owner with this slot.
    #[must_use]
    pub fn new(slot: usize) -> Self {
        assert!(slot < MAX_SLOTS, "at most {MAX_SLOTS} threads can run transactions at once");
        Owner(LOCKED | (slot as u64) << OWNER_SHIFT)
    }

    /// The header of an object held by this owner, described by the entry at `offset` of its lock log.
    #[inline(always)]
    #[must_use]
    pub fn lock(self, offset: usize) -> u64 {
        debug_assert!(offset as u64 <= OFFSET_MASK);
        self.0 | offset as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_anything() {
        for header in [FRESH, 1 << 40, Owner::new(0).lock(1), Owner::new(MAX_SLOTS - 1).lock(0)] {
            assert!(!Header(header).is_held_by(Owner::NOBODY));
        }
    }

    #[test]
    fn a_locked_header_names_its_owner_and_its_entry() {
        let owner = Owner::new(17);
        let header = Header(owner.lock(123));
        assert!(header.is_locked());
        assert!(header.is_held_by(owner));
        assert!(!header.is_held_by(Owner::new(16)));
        assert_eq!((header.slot(), header.offset(), header.version()), (17, 123, None));
    }

    #[test]
    fn a_locked_header_is_newer_than_every_snapshot() {
        assert!(Owner::new(0).lock(0) > u64::MAX >> 1);
        assert_eq!(Header(FRESH).version(), Some(FRESH));
    }
}
