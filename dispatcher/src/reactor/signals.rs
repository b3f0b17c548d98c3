//! Signals: a handler that may do next to nothing writes a byte into a pipe, which the poller reads.
#![expect(unsafe_code, reason = "installs a signal handler")]

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use mio::unix::pipe;
use mio::{Interest, Registry, Token};

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
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Interrupt => libc::SIGINT,
            Signal::HangUp => libc::SIGHUP,
        }
    }
}

pub(super) type Action = Arc<dyn Fn(&TransactionQueue) + Send + Sync>;

/// The write end of the pipe for each signal number; -1 where nobody listens.
static PIPES: [AtomicI32; 32] = [const { AtomicI32::new(-1) }; 32];

/// Where signals arrive.
pub(super) struct Receiver {
    reader: pipe::Receiver,
    /// Lives as long as a handler may write to it.
    writer: pipe::Sender,
    actions: Vec<(Signal, Action)>,
}

extern "C" fn on_signal(signal: libc::c_int) {
    let Some(pipe) = usize::try_from(signal).ok().and_then(|index| PIPES.get(index)) else { return };
    let pipe = pipe.load(Ordering::Relaxed);
    let byte = signal as u8;
    if pipe >= 0 {
        // SAFETY: `write` may be called in a signal handler; the descriptor is open, or is none, and then the call fails. The byte
        // lives on the stack.
        unsafe {
            let saved = *libc::__errno_location();
            libc::write(pipe, std::ptr::from_ref(&byte).cast(), 1);
            *libc::__errno_location() = saved;
        }
    }
}

impl Receiver {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let (writer, mut reader) = pipe::new()?;
        registry.register(&mut reader, token, Interest::READABLE)?;
        Ok(Receiver { reader, writer, actions: Vec::new() })
    }

    pub(super) fn add(&mut self, signal: Signal, action: Action) -> io::Result<()> {
        let number = signal.number();
        PIPES[number as usize].store(self.writer.as_raw_fd(), Ordering::Relaxed);
        // SAFETY: the action is fully initialised (an empty mask, no flags but restarting), and the handler does only what a handler may.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(number, &raw const action, std::ptr::null_mut())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.actions.push((signal, action));
        Ok(())
    }

    /// What is to be done for the signals that have arrived.
    pub(super) fn take(&mut self) -> Vec<Action> {
        let mut bytes = [0; 64];
        let mut arrived = Vec::new();
        while let Ok(count @ 1..) = self.reader.read(&mut bytes) {
            arrived.extend_from_slice(&bytes[..count]);
        }
        arrived
            .iter()
            .flat_map(|byte| {
                self.actions
                    .iter()
                    .filter(|(signal, _)| signal.number() == i32::from(*byte))
                    .map(|(_, action)| action.clone())
            })
            .collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let own = self.writer.as_raw_fd();
        for pipe in &PIPES {
            let _ = pipe.compare_exchange(own, -1, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
