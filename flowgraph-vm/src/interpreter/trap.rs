//! Why an operation gave no value.

use crate::barrier::Abort;
use crate::flowgraph::fault::Fault;
use crate::interpreter::context::Refusal;
use crate::value::Value;

/// Why an operation gave no value. Small, since every operation returns it.
#[derive(Debug)]
pub(crate) enum Trap {
    /// The attempt is over and will be run again.
    Abort(Abort),
    /// The operation failed.
    Fault(Box<Fault>),
    /// The program raised a value.
    Raise(Value),
    /// The program waits for a change.
    Retry,
}

impl From<Abort> for Trap {
    #[inline]
    fn from(abort: Abort) -> Self {
        Trap::Abort(abort)
    }
}

impl From<Refusal> for Trap {
    #[cold]
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Fault(fault) => fault.into(),
            Refusal::Abort(Abort::Retry) => Trap::Retry,
            Refusal::Abort(abort) => Trap::Abort(abort),
        }
    }
}

impl From<Fault> for Trap {
    #[cold]
    fn from(fault: Fault) -> Self {
        Trap::Fault(Box::new(fault))
    }
}
