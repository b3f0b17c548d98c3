//! Clients: connections of one thread, kept busy or at a given rate.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// How many connections there are.
const CONNECTIONS: usize = 50;
/// Different requests that are made beforehand.
const VARIANTS: usize = 10_000;

/// How long the clients sleep between two looks at what is due, where they keep a rate.
const PAUSE: Duration = Duration::from_micros(20);

/// Requests of one kind.
pub struct Workload {
    /// What the table calls it.
    pub name: &'static str,
    requests: Vec<Vec<u8>>,
    /// How many replies each gets.
    replies: usize,
    prepare: Vec<u8>,
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    bytes
}

impl Workload {
    fn new(name: &'static str, replies: usize, request: impl Fn(&str) -> Vec<u8>) -> Workload {
        // Keys in an order without a pattern.
        let key = |n: usize| format!("key:{:012}", n.wrapping_mul(7_919) % VARIANTS);
        Workload { name, replies, requests: (0..VARIANTS).map(|n| request(&key(n))).collect(), prepare: Vec::new() }
    }

    pub fn set() -> Workload {
        Workload::new("SET", 1, |key| command(&["SET", key, "xyz"]))
    }

    pub fn get() -> Workload {
        let mut get = Workload::new("GET", 1, |key| command(&["GET", key]));
        get.prepare = Workload::set().requests.concat();
        get
    }

    pub fn incr() -> Workload {
        Workload::new("INCR", 1, |key| command(&["INCR", &format!("n{key}")]))
    }

    /// MULTI, so many INCR, EXEC.
    pub fn transaction(commands: usize) -> Workload {
        let name = if commands == 2 { "MULTI INCR INCR EXEC" } else { "EXEC of 50 INCR" };
        Workload::new(name, commands + 2, |key| {
            let mut bytes = command(&["MULTI"]);
            for number in 0..commands {
                bytes.extend(command(&["INCR", &format!("n{key}:{number}")]));
            }
            bytes.extend(command(&["EXEC"]));
            bytes
        })
    }

    /// SORT of a list of a thousand numbers.
    pub fn sort() -> Workload {
        let mut sort = Workload::new("SORT of 1,000", 1, |_| command(&["SORT", "numbers"]));
        sort.prepare = command(&["DEL", "numbers"]);
        for n in 0..1000_u32 {
            sort.prepare.extend(command(&["RPUSH", "numbers", &(n.wrapping_mul(2_654_435_761) % 100_000).to_string()]));
        }
        sort
    }
}

/// Where the replies at the beginning of some bytes end, one after the other.
#[derive(Default)]
struct Replies {
    /// Elements of arrays that are still to come.
    open: usize,
    /// Bytes of a long string that are still to come.
    skip: usize,
}

impl Replies {
    /// Takes whole replies off the bytes: says how many, and how many bytes are used up.
    fn take(&mut self, bytes: &[u8]) -> (usize, usize) {
        let (mut at, mut whole) = (0, 0);
        loop {
            if self.skip > 0 {
                let more = self.skip.min(bytes.len() - at);
                at += more;
                self.skip -= more;
                if self.skip > 0 {
                    return (whole, at);
                }
            } else {
                let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') else { return (whole, at) };
                let line = &bytes[at..at + end + 1];
                let number = || {
                    let digits = std::str::from_utf8(&line[1..line.len() - 2]).expect("a length is digits");
                    digits.parse::<i64>().expect("a length is a number")
                };
                at += line.len();
                match line[0] {
                    b'$' if number() >= 0 => {
                        self.skip = number() as usize + 2;
                        continue;
                    }
                    b'*' if number() > 0 => {
                        // An array within another takes the place of one element.
                        self.open = self.open.saturating_sub(1) + number() as usize;
                        continue;
                    }
                    b'-' => panic!("the server says {}", String::from_utf8_lossy(line)),
                    _ => {}
                }
            }
            if self.open > 0 {
                self.open -= 1;
                if self.open > 0 {
                    continue;
                }
            }
            whole += 1;
        }
    }
}

struct Connection {
    stream: TcpStream,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    replies: Replies,
    /// Replies seen of the first request under way.
    seen: usize,
    /// When each request under way was due.
    due: VecDeque<Instant>,
}

/// The connections of one thread to one server.
pub struct Load<'a> {
    workload: &'a Workload,
    depth: usize,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    next: usize,
    scratch: Vec<u8>,
    micros: Vec<f64>,
    done: u64,
}

impl<'a> Load<'a> {
    /// Connects, and prepares the keyspace.
    pub fn new(address: SocketAddr, workload: &'a Workload, depth: usize) -> Load<'a> {
        if !workload.prepare.is_empty() {
            let mut stream = std::net::TcpStream::connect(address).expect("the server accepts");
            let wanted = workload.prepare.split(|byte| *byte == b'*').count() - 1;
            let mut writer = stream.try_clone().expect("a stream can be cloned");
            std::thread::scope(|scope| {
                scope.spawn(move || writer.write_all(&workload.prepare).expect("the server reads"));
                let (mut replies, mut input, mut seen, mut buffer) = (Replies::default(), Vec::new(), 0, [0; 4096]);
                while seen < wanted {
                    let n = stream.read(&mut buffer).expect("the server answers");
                    input.extend_from_slice(&buffer[..n]);
                    let (whole, used) = replies.take(&input);
                    seen += whole;
                    input.drain(..used);
                }
            });
        }
        let poll = Poll::new().expect("a poller");
        let connections = (0..CONNECTIONS)
            .map(|index| {
                let stream = std::net::TcpStream::connect(address).expect("the server accepts");
                stream.set_nodelay(true).expect("an option of the socket");
                stream.set_nonblocking(true).expect("an option of the socket");
                let mut stream = TcpStream::from_std(stream);
                poll.registry()
                    .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                    .expect("it can be watched");
                Connection {
                    stream,
                    output: Vec::new(),
                    written: 0,
                    input: Vec::new(),
                    replies: Replies::default(),
                    seen: 0,
                    due: VecDeque::new(),
                }
            })
            .collect();
        Load {
            workload,
            depth,
            poll,
            events: Events::with_capacity(CONNECTIONS),
            connections,
            next: 0,
            scratch: vec![0; 64 << 10],
            micros: Vec::new(),
            done: 0,
        }
    }

    fn send(&mut self, index: usize, count: usize, due: Instant) {
        let connection = &mut self.connections[index];
        for _ in 0..count {
            connection.output.extend_from_slice(&self.workload.requests[self.next % VARIANTS]);
            connection.due.push_back(due);
            self.next += 1;
        }
        self.flush(index);
    }

    fn flush(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        while connection.written < connection.output.len() {
            match connection.stream.write(&connection.output[connection.written..]) {
                Ok(n) => connection.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server does not read: {error}"),
            }
        }
        connection.output.clear();
        connection.written = 0;
    }

    /// Reads what has come, and says how many requests that answers.
    fn receive(&mut self, index: usize, timed: bool) -> usize {
        let connection = &mut self.connections[index];
        let mut answered = 0;
        loop {
            let n = match connection.stream.read(&mut self.scratch) {
                Ok(0) => panic!("the server closes a connection"),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the server does not answer: {error}"),
            };
            connection.input.extend_from_slice(&self.scratch[..n]);
            let (whole, used) = connection.replies.take(&connection.input);
            if used == connection.input.len() {
                connection.input.clear();
            } else {
                connection.input.drain(..used);
            }
            connection.seen += whole;
            while connection.seen >= self.workload.replies {
                connection.seen -= self.workload.replies;
                let due = connection.due.pop_front().expect("a reply has a request");
                if timed {
                    self.micros.push(due.elapsed().as_secs_f64() * 1e6);
                }
                answered += 1;
            }
            if n < self.scratch.len() {
                break;
            }
        }
        self.done += answered as u64;
        answered
    }

    /// Always as many requests under way as there may be, for so long: how many were answered, in how many seconds.
    pub fn closed(&mut self, time: Duration) -> (u64, f64) {
        let start = Instant::now();
        for index in 0..CONNECTIONS {
            self.send(index, self.depth, start);
        }
        while start.elapsed() < time {
            self.step(None, |load, index| {
                load.receive(index, false);
                // As pipelining clients do: the next batch when the last one is answered.
                if load.connections[index].due.is_empty() {
                    load.send(index, load.depth, start);
                }
            });
        }
        let seconds = start.elapsed().as_secs_f64();
        (self.done, seconds)
    }

    /// Requests at a rate, whatever the answers do, for so long: the median, 99th and 99.9th percentile of the times from when a request was due
    /// to its answer, in microseconds.
    pub fn open(&mut self, time: Duration, rate: f64) -> [f64; 3] {
        let start = Instant::now();
        let mut sent = 0_u64;
        while start.elapsed() < time {
            let due = (start.elapsed().as_secs_f64() * rate) as u64;
            while sent < due {
                let when = start + Duration::from_secs_f64(sent as f64 / rate);
                self.send(sent as usize % CONNECTIONS, 1, when);
                sent += 1;
            }
            self.step(Some(Duration::ZERO), |load, index| _ = load.receive(index, true));
            // Without this the clients would keep a processor to themselves, which a server of several threads needs.
            std::thread::sleep(PAUSE);
        }
        self.micros.sort_by(f64::total_cmp);
        let at = |part: f64| self.micros[((self.micros.len() - 1) as f64 * part) as usize];
        [at(0.5), at(0.99), at(0.999)]
    }

    fn step(&mut self, timeout: Option<Duration>, readable: impl Fn(&mut Self, usize)) {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        self.poll.poll(&mut events, timeout).expect("the poller works");
        for event in &events {
            let Token(index) = event.token();
            if event.is_writable() {
                self.flush(index);
            }
            if event.is_readable() {
                readable(self, index);
            }
        }
        self.events = events;
    }
}
