//! How much a server's connections may take, and what the operating system allows and says.
#![expect(unsafe_code, reason = "asks the operating system")]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// How much a server's connections may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time; whoever comes on top gets the [refusal](super::Service::refusal).
    pub connections: usize,
    /// Bytes of input of one connection that are not yet taken. More, and it is closed.
    pub input: usize,
    /// Bytes sent and not yet written, above which a connection is not read and its outbox is [congested](super::Outbox::is_congested).
    pub high_water: usize,
    /// Bytes sent and not yet written, down to which that stays so.
    pub low_water: usize,
    /// Bytes sent and not yet written, above which `send` fails.
    pub hard: usize,
    /// How long a run that [drains](crate::TransactionQueue::drain) waits for connections to fall idle.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            input: 1 << 30,
            high_water: 1 << 20,
            low_water: 256 << 10,
            hard: 256 << 20,
            grace: Duration::from_secs(5),
        }
    }
}

/// Lets the process have as many descriptors as it may ask for, and says how many that are.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes the structure and nothing else.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the call reads the structure and nothing else.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } == 0 {
        wanted.rlim_cur
    } else {
        limit.rlim_cur
    }
}

/// Whether a read of the descriptor would not block.
pub(super) fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the call reads and writes the one structure that it is told of.
    unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
}

/// Clients that the system keeps for a listener that has not accepted them yet. Whoever comes on top is not answered and tries again after
/// a second, so a worker that is busy for some milliseconds must not be enough to fill it.
const WAITING: libc::c_int = 4096;

/// Lets the system keep more clients for a listener than it does by default.
pub(super) fn let_wait(listener: &impl AsRawFd) -> std::io::Result<()> {
    // SAFETY: the call is given a descriptor that is open for as long as the borrow, and changes only how long its queue may be.
    if unsafe { libc::listen(listener.as_raw_fd(), WAITING) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
