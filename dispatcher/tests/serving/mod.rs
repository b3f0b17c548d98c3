//! What the tests of servers share: services made of functions, runs in the background, clients that do not wait for ever.
#![allow(dead_code, reason = "no test uses all of it")]

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use optimist_dispatcher::reactor::{Io, Limits, Next, Outbox, Server, Service, Session};
use optimist_dispatcher::{Config, OnError, Report, RunError, TransactionQueue};

type Receive = dyn Fn(&[u8], &mut Io<'_>) -> Next + Send + Sync;
type Closed = dyn Fn(&mut Io<'_>, Option<&io::Error>) + Send + Sync;
type Connected = dyn Fn(&Outbox) + Send + Sync;

/// A service made of functions.
#[derive(Clone)]
pub(crate) struct Functions {
    receive: Arc<Receive>,
    closed: Arc<Closed>,
    connected: Arc<Connected>,
}

pub(crate) fn service(receive: impl Fn(&[u8], &mut Io<'_>) -> Next + Send + Sync + 'static) -> Functions {
    Functions { receive: Arc::new(receive), closed: Arc::new(|_, _| ()), connected: Arc::new(|_| ()) }
}

impl Functions {
    pub(crate) fn closed(mut self, closed: impl Fn(&mut Io<'_>, Option<&io::Error>) + Send + Sync + 'static) -> Self {
        self.closed = Arc::new(closed);
        self
    }

    pub(crate) fn connected(mut self, connected: impl Fn(&Outbox) + Send + Sync + 'static) -> Self {
        self.connected = Arc::new(connected);
        self
    }
}

impl Service for Functions {
    type Session = Functions;

    fn connected(&self, outbox: &Outbox, _peer: &str) -> Functions {
        (self.connected)(outbox);
        self.clone()
    }

    fn refusal(&self) -> &[u8] {
        b"full\n"
    }
}

impl Session for Functions {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        (self.receive)(input, io)
    }

    fn closed(&mut self, io: &mut Io<'_>, error: Option<&io::Error>) {
        (self.closed)(io, error);
    }
}

/// The first line of the input, without its end.
pub(crate) fn first_line(input: &[u8]) -> Option<&[u8]> {
    Some(&input[..input.iter().position(|byte| *byte == b'\n')?])
}

/// A server in the background.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    thread: Option<JoinHandle<Result<Report, RunError>>>,
}

impl Running {
    pub(crate) fn start(threads: usize, limits: Limits, service: impl Service) -> Self {
        let queue = TransactionQueue::new(Config { threads, on_error: OnError::Collect, ..Config::default() });
        let server = queue.serve(limits, service);
        let address = server.listen("127.0.0.1:0").expect("a free port");
        Running { server, address, thread: Some(std::thread::spawn(move || queue.run())) }
    }

    pub(crate) fn queue(&self) -> &TransactionQueue {
        self.server.queue()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).expect("it accepts"))
    }

    /// Drains the run, once it goes on.
    pub(crate) fn stop(&mut self) -> Report {
        let thread = self.thread.take().expect("stopped once");
        until("the run has ended", || {
            self.queue().drain();
            thread.is_finished()
        });
        thread.join().expect("the server panicked").expect("the run failed")
    }

    /// Stops the run, and starts it again.
    pub(crate) fn stop_and_go_on(&mut self) {
        self.queue().stop();
        let ended = self.thread.take().expect("it runs").join().expect("the server panicked");
        assert!(ended.expect_err("it was stopped").is_cancelled());
        let queue = self.queue().clone();
        self.thread = Some(std::thread::spawn(move || queue.run()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() && !std::thread::panicking() {
            self.stop();
        }
    }
}

/// A client.
pub(crate) struct Client(pub(crate) BufReader<TcpStream>);

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("possible");
        Client(BufReader::new(stream))
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.stream().write_all(text.as_bytes()).expect("it reads");
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("it answers");
        line.trim_end().to_owned()
    }
}

/// Waits until something holds, and not for ever.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in 20 seconds: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
