//! Servers: what clients see.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use optimist_dispatcher::reactor::{Ended, Io, Limits, Next, Outbox, Server, Service, Session};
use optimist_dispatcher::{Config, OnError, Report, RunError, TVar, TransactionQueue};

/// Answers each line with the number of lines that all clients have sent, and the line itself. `sleep` keeps the worker for a while, `add`
/// leaves the answer to an event of the queue.
#[derive(Clone, Default)]
struct Counting {
    count: TVar<u64>,
}

impl Service for Counting {
    type Session = Counting;

    fn connected(&self, _outbox: &Outbox, _peer: &str) -> Counting {
        self.clone()
    }
}

impl Session for Counting {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Next::Incomplete };
        let (line, outbox) = (&input[..end], io.outbox().clone());
        assert_ne!(line, b"crash", "as the client wishes");
        let ended = io.event(|ev| {
            let count = self.count.get(ev)? + 1;
            self.count.set(ev, count)?;
            match line {
                b"panic" => panic!("as the client wishes"),
                b"fail" => return ev.fail("as the client wishes"),
                b"big" => ev.send(&outbox, &vec![b'x'; 8 << 20])?,
                b"quit" => ev.send(&outbox, b"bye\n")?,
                b"sleep" => std::thread::sleep(Duration::from_millis(100)),
                b"add" => {
                    let outbox = outbox.clone();
                    ev.add(move |ev| ev.send(&outbox, format!("{count} added\n").as_bytes()));
                }
                line => {
                    ev.send(&outbox, format!("{count} ").as_bytes())?;
                    ev.send(&outbox, line)?;
                    ev.send(&outbox, b"\n")?;
                }
            }
            Ok(())
        });
        match ended {
            Ended::Committed(()) if line != b"quit" => Next::Took(end + 1),
            _ => Next::Close,
        }
    }
}

struct Running {
    server: Server,
    address: SocketAddr,
    thread: JoinHandle<Result<Report, RunError>>,
}

impl Running {
    fn start(threads: usize, limits: Limits) -> Self {
        Running::serve(threads, limits, Counting::default())
    }

    fn serve(threads: usize, limits: Limits, service: impl Service) -> Self {
        let queue = TransactionQueue::new(Config { threads, on_error: OnError::Collect, ..Config::default() });
        let server = queue.serve(limits, service);
        let address = server.listen("127.0.0.1:0").unwrap();
        let thread = std::thread::spawn(move || queue.run());
        Running { server, address, thread }
    }

    fn connect(&self) -> (BufReader<TcpStream>, TcpStream) {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (BufReader::new(stream.try_clone().unwrap()), stream)
    }

    /// Ends the run, once it goes on.
    fn stop(self) -> Report {
        until("the run does not end", || {
            self.server.queue().drain();
            self.thread.is_finished()
        });
        self.thread.join().unwrap().unwrap()
    }
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

/// Waits until something holds, and not for ever.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn pipelined_messages_are_answered_in_order() {
    for threads in [1, 2, 4] {
        let server = Running::start(threads, Limits::default());
        let clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
        let numbers: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = clients
                .into_iter()
                .map(|(mut reader, mut writer)| {
                    scope.spawn(move || {
                        let mut numbers = Vec::new();
                        for batch in 0..20 {
                            let text: String = (0..50).map(|n| format!("{batch}-{n}\n")).collect();
                            // In two halves, cut within a line.
                            let (first, second) = text.split_at(text.len() / 2 + 1);
                            writer.write_all(first.as_bytes()).unwrap();
                            writer.write_all(second.as_bytes()).unwrap();
                            for n in 0..50 {
                                let answer = line(&mut reader);
                                let (number, echo) = answer.split_once(' ').unwrap();
                                assert_eq!(echo, format!("{batch}-{n}\n"));
                                numbers.push(number.parse().unwrap());
                            }
                        }
                        numbers
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(numbers.iter().all(|numbers| numbers.is_sorted()));
        let mut all: Vec<u64> = numbers.into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (1..=4000).collect::<Vec<_>>());
        let report = server.stop();
        assert_eq!((report.counters.failures, report.counters.commits), (0, 4000));
    }
}

#[test]
fn a_panic_or_failure_closes_its_connection_alone() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let server = Running::start(2, Limits::default());
    let (mut reader, mut writer) = server.connect();
    for word in ["panic\nnever\n", "fail\nnever\n", "crash\nnever\n"] {
        let (mut bad_reader, mut bad_writer) = server.connect();
        bad_writer.write_all(word.as_bytes()).unwrap();
        let mut rest = Vec::new();
        // Closed with unread input, so the client may see a reset.
        let _ = bad_reader.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    writer.write_all(b"hello\n").unwrap();
    // The failed events have counted nothing.
    assert_eq!(line(&mut reader), "1 hello\n");
    std::panic::set_hook(hook);
    let report = server.stop();
    // Two events have failed, which their sessions knew; the session's own panic nobody else could deal with.
    assert_eq!((report.counters.failures, report.errors.len()), (2, 1));
    assert!(report.errors[0].to_string().contains("a session panicked"), "{}", report.errors[0]);
}

#[test]
fn vanishing_clients_and_half_messages_harm_nobody() {
    let server = Running::start(2, Limits { input: 1000, ..Limits::default() });
    for _ in 0..50 {
        let (_, mut writer) = server.connect();
        writer.write_all(b"half a mess").unwrap();
    }
    let (mut reader, mut writer) = server.connect();
    let _ = writer.write_all(&[b'x'; 100_000]);
    let _ = reader.read_to_end(&mut Vec::new());
    let (mut reader, mut writer) = server.connect();
    writer.write_all(b"one\nquit\nnever\n").unwrap();
    assert_eq!((line(&mut reader), line(&mut reader)), ("1 one\n".to_owned(), "bye\n".to_owned()));
    let (mut reader, mut writer) = server.connect();
    writer.write_all(b"two\n").unwrap();
    writer.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.ends_with(" two\n"), "{text}");
    assert_eq!(server.stop().counters.failures, 0);
}

/// The request and the end of the client's sending arrive while the worker is busy, so that one edge announces both; a read that is not
/// full is no sign then that nothing is left.
#[test]
fn an_end_that_arrives_with_the_last_request_is_seen() {
    let server = Running::start(1, Limits::default());
    for _ in 0..3 {
        let (mut reader, mut writer) = server.connect();
        writer.write_all(b"one\n").unwrap();
        assert!(line(&mut reader).ends_with(" one\n"));
        let (_, mut sleeper) = server.connect();
        sleeper.write_all(b"sleep\n").unwrap();
        std::thread::sleep(Duration::from_millis(30));
        writer.write_all(b"two\n").unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.ends_with(" two\n"), "{text}");
    }
    server.stop();
}

#[test]
fn a_client_that_does_not_read_is_held_back() {
    let server = Running::start(2, Limits::default());
    let (mut slow, mut slow_writer) = server.connect();
    // 400 MB if they were all handled at once.
    for _ in 0..50 {
        slow_writer.write_all(b"big\n").unwrap();
    }
    let (mut reader, mut writer) = server.connect();
    for n in 0..100 {
        writer.write_all(format!("{n}\n").as_bytes()).unwrap();
        assert!(line(&mut reader).ends_with(&format!(" {n}\n")));
    }
    std::thread::sleep(Duration::from_millis(50));
    writer.write_all(b"count\n").unwrap();
    let count: u64 = line(&mut reader).split_once(' ').unwrap().0.parse().unwrap();
    assert!(count < 120, "{count} messages were handled although nothing was read");
    // When it reads, it gets everything.
    let mut left = 50 * (8 << 20);
    let mut buffer = vec![0; 1 << 20];
    while left > 0 {
        let read = slow.read(&mut buffer).unwrap();
        assert!(read > 0 && buffer[..read].iter().all(|byte| *byte == b'x'));
        left -= read;
    }
    assert_eq!(server.stop().counters.failures, 0);
}

#[test]
fn an_idle_server_sleeps_and_wakes_at_once() {
    let server = Running::start(2, Limits::default());
    let idle: Vec<_> = (0..200).map(|_| server.connect()).collect();
    let (mut reader, mut writer) = server.connect();
    writer.write_all(b"hello\n").unwrap();
    assert!(line(&mut reader).ends_with(" hello\n"));
    let mut fastest = Duration::MAX;
    for n in 0..20 {
        std::thread::sleep(Duration::from_millis(20));
        let sent = Instant::now();
        writer.write_all(format!("{n}\n").as_bytes()).unwrap();
        assert!(line(&mut reader).ends_with(&format!("{n}\n")));
        fastest = fastest.min(sent.elapsed());
    }
    assert!(fastest < Duration::from_millis(2), "the fastest answer took {fastest:?}");
    drop(idle);
    let report = server.stop();
    let asleep: u64 = report.workers.iter().map(|worker| worker.counters.asleep_ns).sum();
    assert!(asleep as f64 > 0.5 * 2.0 * report.elapsed.as_nanos() as f64, "{report}");
    // Each of 200 connections may have woken somebody twice, each line once. Ticks of a millisecond would be 800 more.
    assert!(report.counters.sleeps < 700, "{report}");
}

/// Events of the queue and of connections in one run: neither waits for the other, and both count.
#[test]
fn connections_are_served_beside_events_of_the_queue() {
    let server = Running::start(1, Limits::default());
    let spinning = TVar::new(true);
    let (goes_on, queue) = (spinning.clone(), server.server.queue().clone());
    // An event that adds itself again and again keeps the one worker busy.
    queue.add(move |ev| {
        if goes_on.get(ev)? {
            std::thread::sleep(Duration::from_millis(5));
            ev.again();
        }
        Ok(())
    });
    let (mut reader, mut writer) = server.connect();
    let mut fastest = Duration::MAX;
    for n in 1..=20 {
        let asked = Instant::now();
        writer.write_all(b"line\n").unwrap();
        assert_eq!(line(&mut reader), format!("{n} line\n"));
        fastest = fastest.min(asked.elapsed());
    }
    // Not after so many events as a worker usually takes without looking around.
    assert!(fastest < Duration::from_millis(100), "the fastest answer took {fastest:?}");
    writer.write_all(b"add\n").unwrap();
    assert_eq!(line(&mut reader), "21 added\n");
    spinning.store(false);
    drop((reader, writer));
    let report = server.stop();
    assert!(report.counters.commits > 40 && report.counters.added > 10, "{report}");
}

/// A run in which there was nothing to listen to, and then is.
#[test]
fn a_server_may_begin_in_the_middle_of_a_run() {
    let queue = TransactionQueue::new(Config { threads: 2, ..Config::default() });
    let hold = queue.hold();
    let running = queue.clone();
    let thread = std::thread::spawn(move || running.run());
    // Until both workers sleep without a poller.
    std::thread::sleep(Duration::from_millis(50));
    let server = queue.serve(Limits::default(), Counting::default());
    let address = server.listen("127.0.0.1:0").unwrap();
    let mut server = Running { server, address, thread };
    for _ in 0..2 {
        let clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
        for (mut reader, mut writer) in clients {
            writer.write_all(b"line\n").unwrap();
            assert!(line(&mut reader).ends_with(" line\n"));
        }
        until("connections are not forgotten", || server.server.connections() == 0);
        // The listener outlives a run that is stopped.
        let queue = server.server.queue().clone();
        queue.stop();
        assert!(server.thread.join().unwrap().unwrap_err().is_cancelled());
        server.thread = std::thread::spawn(move || queue.run());
    }
    drop(hold);
    server.stop();
}

/// Takes something that others put, and waits for it if there is nothing.
#[derive(Clone, Default)]
struct Store {
    items: TVar<Vec<u64>>,
}

impl Service for Store {
    type Session = Store;

    fn connected(&self, _outbox: &Outbox, _peer: &str) -> Store {
        self.clone()
    }
}

impl Session for Store {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Next::Incomplete };
        let (word, outbox) = (std::str::from_utf8(&input[..end]).unwrap(), io.outbox().clone());
        let ended = io.event(|ev| {
            let mut items = self.items.get(ev)?;
            if let Ok(item) = word.parse() {
                items.push(item);
                self.items.set(ev, items)?;
            } else {
                let Some(item) = items.pop() else { return Ok(ev.retry()?) };
                self.items.set(ev, items)?;
                ev.send(&outbox, format!("{item}\n").as_bytes())?;
            }
            Ok(())
        });
        match ended {
            Ended::Committed(()) => Next::Took(end + 1),
            Ended::Blocked => Next::Blocked(None),
            _ => Next::Close,
        }
    }
}

#[test]
fn clients_that_wait_block_no_worker_and_those_that_leave_take_nothing() {
    let server = Running::serve(2, Limits::default(), Store::default());
    let mut waiting: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for (_, writer) in &mut waiting {
        writer.write_all(b"take\n").unwrap();
    }
    // The last one leaves while it waits.
    until("not all are connected", || server.server.connections() == 10);
    std::thread::sleep(Duration::from_millis(50));
    waiting.pop();
    until("the one that has left is still there", || server.server.connections() == 9);
    let (mut reader, mut writer) = server.connect();
    for item in 0..10 {
        writer.write_all(format!("{item}\n").as_bytes()).unwrap();
    }
    let mut taken: Vec<u64> = waiting.iter_mut().map(|(reader, _)| line(reader).trim().parse().unwrap()).collect();
    writer.write_all(b"take\n").unwrap();
    taken.push(line(&mut reader).trim().parse().unwrap());
    taken.sort_unstable();
    assert_eq!(taken, (0..10).collect::<Vec<_>>());
    assert_eq!(server.stop().counters.failures, 0);
}

/// A client whose event waits, and that goes on sending, costs nothing, and is seen to leave.
#[test]
fn a_waiting_client_that_sends_a_lot_keeps_no_worker_busy() {
    let server = Running::serve(1, Limits::default(), Store::default());
    let (_, mut writer) = server.connect();
    writer.write_all(b"take\n").unwrap();
    writer.write_all(&[b'x'; 200 << 10]).unwrap();
    drop(writer);
    until("the one that has left is still there", || server.server.connections() == 0);
    // This one sends more than is read ahead.
    let (_, mut writer) = server.connect();
    writer.write_all(b"take\n").unwrap();
    writer.set_nonblocking(true).unwrap();
    for _ in 0..30 {
        while let Ok(1..) = writer.write(&[b'x'; 100 << 10]) {}
        std::thread::sleep(Duration::from_millis(10));
    }
    // Its input is over the limit once it is read.
    let (_, mut other) = server.connect();
    other.write_all(b"7\n").unwrap();
    drop((writer, other));
    until("the one that has left is still there", || server.server.connections() == 0);
    let report = server.stop();
    assert!(report.counters.asleep_ns as f64 > 0.5 * report.elapsed.as_nanos() as f64, "{report}");
}
