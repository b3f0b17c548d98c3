//! Signals: what arrives as one is a byte in a socket that a worker's poller watches.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use mio::net::UnixStream;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::low_level::{pipe, unregister};

use crate::queue::TransactionQueue;

/// A signal of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGHUP.
    HangUp,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
}

impl Signal {
    fn number(self) -> i32 {
        match self {
            Signal::Terminate => SIGTERM,
            Signal::Interrupt => SIGINT,
            Signal::HangUp => SIGHUP,
            Signal::User1 => SIGUSR1,
            Signal::User2 => SIGUSR2,
        }
    }
}

pub(super) type Action = Arc<dyn Fn(&TransactionQueue) + Send + Sync>;

/// Where a signal arrives.
pub(super) struct Receiver {
    pub(super) stream: UnixStream,
    pub(super) action: Action,
    id: SigId,
}

impl Receiver {
    pub(super) fn new(signal: Signal, action: Action) -> io::Result<Self> {
        let (read, write) = StdUnixStream::pair()?;
        read.set_nonblocking(true)?;
        let id = pipe::register(signal.number(), write)?;
        Ok(Receiver { stream: UnixStream::from_std(read), action, id })
    }

    /// Whether the signal has arrived since the last look. Several that arrive together count once.
    pub(super) fn take(&mut self) -> bool {
        let mut buffer = [0; 64];
        let mut arrived = false;
        while let Ok(1..) = self.stream.read(&mut buffer) {
            arrived = true;
        }
        arrived
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        unregister(self.id);
    }
}
