//! The reactor's contract, over real sockets of the loopback interface.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use optimist_dispatcher::reactor::{Ended, Io, Limits, Next, Outbox, Server, Service, Session};
use optimist_dispatcher::{Config, OnError, Report, RunError, TVar, TransactionQueue};
use optimist_stm::collections::TMap;

/// Lines in, lines out. `add` counts and tells everybody; `wait N` answers once the count has reached N; `fail` and `panic` do so after
/// sending; `big` sends more than may be.
#[derive(Clone, Default)]
struct Counter {
    count: TVar<u64>,
    everybody: TMap<u64, Outbox>,
    attempts: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

struct Line {
    shared: Counter,
    outbox: Outbox,
}

impl Service for Counter {
    type Session = Line;

    fn connected(&self, outbox: &Outbox, _peer: &str) -> Line {
        optimist_stm::atomically(|tx| self.everybody.insert(tx, outbox.id(), outbox.clone()));
        Line { shared: self.clone(), outbox: outbox.clone() }
    }

    fn refusal(&self) -> &[u8] {
        b"full\n"
    }
}

impl Session for Line {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Next::Incomplete };
        let line = String::from_utf8_lossy(&input[..end]).into_owned();
        let shared = self.shared.clone();
        let timed_out = io.timed_out();
        let ended = io.event(|ev| {
            shared.attempts.fetch_add(1, Ordering::Relaxed);
            if line == "add" {
                let count = shared.count.get(ev)? + 1;
                shared.count.set(ev, count)?;
                for (_, outbox) in shared.everybody.entries(ev)? {
                    ev.send(&outbox, format!("{count}\n").as_bytes())?;
                }
            } else if let Some(wanted) = line.strip_prefix("wait ") {
                let wanted: u64 = wanted.parse()?;
                ev.send(&self.outbox, b"waited\n")?;
                if shared.count.get(ev)? < wanted && !timed_out {
                    return ev.retry().map_err(Into::into);
                }
            } else if line == "fail" {
                ev.send(&self.outbox, b"never\n")?;
                return ev.fail("as asked");
            } else if line == "panic" {
                ev.send(&self.outbox, b"never\n")?;
                panic!("as asked");
            } else if line == "big" {
                ev.send(&self.outbox, &vec![0; 1 << 20])?;
            }
            Ok(())
        });
        let answer = match ended {
            Ended::Committed(()) => return Next::Took(end + 1),
            Ended::Blocked => return Next::Blocked(Some(Instant::now() + Duration::from_millis(300))),
            Ended::Failed(failure) => format!("failed: {failure}\n"),
            Ended::Panicked(message) => format!("panicked: {message}\n"),
        };
        io.event(|ev| ev.send(&self.outbox, answer.as_bytes()));
        Next::Took(end + 1)
    }

    fn closed(&mut self, io: &mut Io<'_>, _error: Option<&std::io::Error>) {
        self.shared.closed.fetch_add(1, Ordering::Relaxed);
        io.event(|ev| Ok(self.shared.everybody.remove(ev, &self.outbox.id()).map(drop)?));
    }
}

struct Running {
    service: Counter,
    address: SocketAddr,
    server: Server,
    thread: Option<std::thread::JoinHandle<Result<Report, RunError>>>,
}

impl Running {
    fn start(limits: Limits) -> Running {
        let service = Counter::default();
        let queue = TransactionQueue::new(Config { threads: 2, on_error: OnError::Collect, ..Config::default() });
        let server = queue.serve(limits, service.clone());
        let address = server.listen("127.0.0.1:0").expect("a free port");
        let thread = std::thread::spawn(move || queue.run());
        Running { service, address, server, thread: Some(thread) }
    }

    /// Drains the run, once it goes on.
    fn stop(&mut self) -> Report {
        let thread = self.thread.take().expect("stopped once");
        while !thread.is_finished() {
            self.server.queue().drain();
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().expect("the server panicked").expect("the run failed")
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("it accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("possible");
        BufReader::new(stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() && !std::thread::panicking() {
            self.stop();
        }
    }
}

fn say(client: &mut BufReader<TcpStream>, text: &str) {
    client.get_mut().write_all(text.as_bytes()).expect("it reads");
}

fn line(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).expect("it answers");
    line.trim_end().to_owned()
}

#[test]
fn everybody_hears_every_commit_once_and_in_order() {
    const EACH: usize = 500;
    let running = Running::start(Limits::default());
    let mut listener = running.connect();
    say(&mut listener, "wait 0\n");
    assert_eq!(line(&mut listener), "waited");
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (mut client, sender) = (running.connect(), sender.clone());
            scope.spawn(move || {
                say(&mut client, &"add\n".repeat(EACH));
                let heard: Vec<u64> = std::iter::repeat_with(|| line(&mut client).parse().expect("a number"))
                    .take_while(|count| *count < 4 * EACH as u64)
                    .collect();
                sender.send(heard).expect("the test waits");
            });
        }
    });
    drop(sender);
    for count in 1..=4 * EACH {
        assert_eq!(line(&mut listener), count.to_string());
    }
    // Those who came later have missed the beginning and nothing else.
    for heard in results {
        assert!(heard.windows(2).all(|pair| pair[1] == pair[0] + 1), "{heard:?}");
    }
    assert!(running.service.attempts.load(Ordering::Relaxed) > 4 * EACH);
}

#[test]
fn failures_and_panics_send_nothing() {
    let running = Running::start(Limits { hard: 1 << 19, ..Limits::default() });
    let mut client = running.connect();
    say(&mut client, "fail\npanic\nbig\nwait 0\n");
    assert_eq!(line(&mut client), "failed: as asked");
    assert_eq!(line(&mut client), "panicked: as asked");
    assert!(line(&mut client).starts_with("failed: the connection does not take what is sent to it"));
    assert_eq!(line(&mut client), "waited");
}

#[test]
fn blocked_events_wake_at_the_change_or_at_their_time() {
    let running = Running::start(Limits::default());
    let (mut waiting, mut adding) = (running.connect(), running.connect());
    let started = Instant::now();
    say(&mut waiting, "wait 1\nwait 0\n");
    std::thread::sleep(Duration::from_millis(50));
    say(&mut adding, "add\n");
    // The news of the change may come before the answer or after it, since they are two events.
    let mut heard = [line(&mut waiting), line(&mut waiting), line(&mut waiting)];
    heard.sort();
    assert_eq!(heard, ["1", "waited", "waited"]);
    assert!(started.elapsed() < Duration::from_millis(290), "it was woken by its time and not by the change");
    let started = Instant::now();
    say(&mut waiting, "wait 99\n");
    assert_eq!(line(&mut waiting), "waited");
    assert!(started.elapsed() >= Duration::from_millis(290), "it did not wait");
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let running = Running::start(Limits { connections: 2, ..Limits::default() });
    let mut kept = [running.connect(), running.connect()];
    for client in &mut kept {
        say(client, "wait 0\n");
        assert_eq!(line(client), "waited");
    }
    assert_eq!(line(&mut running.connect()), "full");
    drop(kept);
    let deadline = Instant::now() + Duration::from_secs(10);
    while running.server.connections() > 0 {
        assert!(Instant::now() < deadline, "closed connections still count");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut client = running.connect();
    say(&mut client, "wait 0\n");
    assert_eq!(line(&mut client), "waited");
}

#[test]
fn stopping_serves_what_has_arrived() {
    let running = Running::start(Limits::default());
    let mut client = running.connect();
    say(&mut client, "wait 0\n");
    assert_eq!(line(&mut client), "waited");
    say(&mut client, "add\n");
    running.server.queue().drain();
    let mut rest = String::new();
    client.read_to_string(&mut rest).expect("the end");
    assert_eq!(rest, "1\n");
    let closed = running.service.closed.clone();
    drop(running);
    assert_eq!(closed.load(Ordering::Relaxed), 1);
}

#[test]
fn unix_sockets() {
    let path = std::env::temp_dir().join(format!("optimist-reactor-{}", std::process::id()));
    // Somebody's left-over file is in the way.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let queue = TransactionQueue::new(Config { threads: 1, ..Config::default() });
    queue.serve(Limits::default(), Counter::default()).listen_unix(&path).expect("the file is replaced");
    let running = queue.clone();
    let thread = std::thread::spawn(move || running.run());
    let mut stream = UnixStream::connect(&path).expect("it accepts");
    stream.write_all(b"wait 0\n").expect("it reads");
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"waited\n");
    queue.drain();
    assert!(thread.join().expect("no panic").is_ok());
    assert!(!path.exists(), "the file is left over");
}
