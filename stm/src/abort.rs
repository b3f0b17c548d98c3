//! Why an attempt ends without committing: the one table of reasons.
//!
//! An [`Abort`] is control flow and not an error: it travels from a barrier through the body's `?` to the loop that runs the
//! transaction, which rolls back, waits where waiting helps, and runs the body again. A user never sees one.

macro_rules! abort_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $text:literal;)+) => {
        /// Why an attempt ended without committing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[must_use = "an abort must reach the loop that runs the transaction; pass it on with `?`"]
        pub enum Abort {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl Abort {
            /// All reasons, in the order of their codes.
            pub const ALL: &'static [Abort] = &[$(Abort::$name),+];

            /// The reason's name in statistics and JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Abort::$name => $text,)+ }
            }
        }
    };
}

abort_reasons! {
    /// An object was locked by another transaction, and waiting for it was not allowed or took too long.
    Locked = 0, "locked";
    /// An object changed after the snapshot, and the reads made so far no longer held when the snapshot was to be extended.
    Extension = 1, "extension";
    /// A read no longer held when the transaction committed.
    Validation = 2, "validation";
    /// A read-only transaction without a log met an object newer than its snapshot.
    Snapshot = 3, "snapshot";
    /// The protocol's own lock was taken, under a platform where waiting is not possible.
    Busy = 4, "busy";
    /// An older or irrevocable transaction had precedence.
    Yield = 5, "yield";
    /// The body asked to wait until something it read changes.
    Retry = 6, "retry";
    /// A transaction that comes earlier in the fixed order wrote what this one had read.
    Order = 7, "order";
    /// An invariant registered with the transaction did not hold on an inconsistent view, or asked for a re-run.
    Invariant = 8, "invariant";
    /// A test forced the abort.
    Chaos = 9, "chaos";
    /// The transaction must run again as an irrevocable one.
    Irrevocable = 10, "irrevocable";
    /// Another protocol had been put in force.
    Regime = 11, "regime";
}

/// How many reasons there are.
pub const REASONS: usize = Abort::ALL.len();

impl std::fmt::Display for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_index_the_table() {
        for (index, reason) in Abort::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn a_read_result_travels_in_registers() {
        assert_eq!(size_of::<Result<u64, Abort>>(), 16);
    }
}
