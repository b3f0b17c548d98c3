//! How long a sleeping worker takes to wake, in microseconds, minimum and median: for an event that another thread adds, with and without
//! a poller, and for a request over the loopback interface, beside a thread that blocks in `read`.
//!
//! `cargo run --release -p optimist-dispatcher --example wake_up`

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use optimist_dispatcher::reactor::{Io, Limits, Next, Outbox, Service, Session};
use optimist_dispatcher::{Config, TransactionQueue};

const TIMES: usize = 500;
/// Long enough for everybody to have fallen asleep.
const PAUSE: Duration = Duration::from_millis(2);

struct Echo;

impl Service for Echo {
    type Session = Echo;

    fn connected(&self, _outbox: &Outbox, _peer: &str) -> Echo {
        Echo
    }
}

impl Session for Echo {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        let outbox = io.outbox().clone();
        io.event(|ev| ev.send(&outbox, input));
        Next::Took(input.len())
    }
}

fn report(what: &str, mut once: impl FnMut() -> Duration) {
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            std::thread::sleep(PAUSE);
            once()
        })
        .collect();
    times.sort_unstable();
    let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
    println!("{what:<40}{:8.1}{:8.1}", micros(times[0]), micros(times[TIMES / 2]));
}

/// From adding an event to its start.
fn added(queue: &TransactionQueue) -> Duration {
    let (sender, receiver) = mpsc::channel();
    let started = Instant::now();
    queue.add(move |_| {
        let _ = sender.send(started.elapsed());
        Ok(())
    });
    receiver.recv().expect("the event runs")
}

fn asked(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    stream.write_all(b"x").expect("somebody reads");
    stream.read_exact(&mut [0]).expect("somebody answers");
    started.elapsed()
}

fn connect(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody accepts");
    stream.set_nodelay(true).expect("possible");
    stream
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:<40}{:>8}{:>8}", "", "min", "median");
    let queue = TransactionQueue::new(Config { threads: 2, ..Config::default() });
    let hold = queue.hold();
    let running = queue.clone();
    let run = std::thread::spawn(move || running.run().map(drop));
    report("an event added, no poller", || added(&queue));
    let address = queue.serve(Limits::default(), Echo).listen("127.0.0.1:0")?;
    let mut stream = connect(address);
    report("an event added, workers in their pollers", || added(&queue));
    report("a request and its answer", || asked(&mut stream));
    drop((hold, stream));
    queue.drain();
    run.join().expect("no panic")?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = connect(listener.local_addr()?);
    let (mut other, _) = listener.accept()?;
    other.set_nodelay(true)?;
    let thread = std::thread::spawn(move || {
        let mut byte = [0];
        while other.read_exact(&mut byte).is_ok() {
            other.write_all(&byte).expect("somebody reads");
        }
    });
    report("the same, a thread that blocks in read", || asked(&mut stream));
    drop(stream);
    thread.join().expect("no panic");
    Ok(())
}
