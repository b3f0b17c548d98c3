//! The example server, spoken to as a Redis client does.

#[path = "../../examples/redis_server/main.rs"]
#[expect(dead_code, reason = "the test serves without `main`")]
mod server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A client. Requests are written as words between blanks; replies are compared as they come over the wire.
struct Client(TcpStream);

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(stream)
    }

    fn send(&mut self, request: &str) {
        let words: Vec<&str> = request.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.write_all(bytes.as_bytes()).unwrap();
    }

    fn expect(&mut self, reply: &str) {
        let wanted = reply.replace(' ', "\r\n") + "\r\n";
        let mut got = vec![0; wanted.len()];
        self.0.read_exact(&mut got).unwrap_or_else(|error| panic!("{error} while waiting for {wanted:?}"));
        assert_eq!(String::from_utf8_lossy(&got), wanted);
    }

    fn ask(&mut self, request: &str, reply: &str) {
        self.send(request);
        self.expect(reply);
    }
}

fn serve(test: impl FnOnce(SocketAddr)) {
    let (queue, address) = server::server("127.0.0.1:0", 2).unwrap();
    let running = queue.clone();
    let thread = std::thread::spawn(move || running.run());
    test(address);
    while !thread.is_finished() {
        queue.drain();
        std::thread::sleep(Duration::from_millis(2));
    }
    let report = thread.join().unwrap().unwrap();
    assert_eq!(report.counters.failures, 0, "{:?}", report.errors);
}

#[test]
fn values_of_all_types() {
    serve(|address| {
        let mut c = Client::new(address);
        c.ask("SET a 1", "+OK");
        c.ask("INCRBY a 41", ":42");
        c.ask("GET a", "$2 42");
        c.ask("SET a x NX GET", "$2 42");
        c.ask("STRLEN a", ":2");
        c.ask("RPUSH l 1 2 3", ":3");
        c.ask("LPUSH l 0", ":4");
        c.ask("LRANGE l 1 -2", "*2 $1 1 $1 2");
        c.ask("LREM l -1 2", ":1");
        c.ask("LPOP l 9", "*3 $1 0 $1 1 $1 3");
        c.ask("EXISTS l", ":0");
        c.ask("HSET h f 1 g 2", ":2");
        c.ask("HINCRBY h f 6", ":7");
        c.ask("HMGET h f x g", "*3 $1 7 $-1 $1 2");
        c.ask("SADD s a b a", ":2");
        c.ask("SISMEMBER s b", ":1");
        c.ask("ZADD z 2 b 1 a 2 a2", ":3");
        c.ask("ZRANGE z 0 -1 WITHSCORES", "*6 $1 a $1 1 $2 a2 $1 2 $1 b $1 2");
        c.ask("PEXPIRE a 30", ":1");
        c.ask("TTL none", ":-2");
        std::thread::sleep(Duration::from_millis(40));
        c.ask("GET a", "$-1");
        c.ask("TYPE z", "+zset");
        c.send("GET z");
        let mut error = [0; 10];
        c.0.read_exact(&mut error).unwrap();
        assert_eq!(&error, b"-WRONGTYPE");
    });
}

#[test]
fn transactions_watch_their_keys() {
    serve(|address| {
        let (mut a, mut b) = (Client::new(address), Client::new(address));
        a.ask("WATCH k", "+OK");
        a.ask("MULTI", "+OK");
        a.ask("INCR k", "+QUEUED");
        b.ask("GET k", "$-1");
        a.ask("EXEC", "*1 :1");
        a.ask("WATCH k", "+OK");
        b.ask("SET k 5", "+OK");
        a.ask("MULTI", "+OK");
        a.ask("INCR k", "+QUEUED");
        a.ask("EXEC", "*-1");
        a.ask("GET k", "$1 5");
        a.ask("MULTI", "+OK");
        a.ask("DISCARD", "+OK");
        a.ask("PING", "+PONG");
    });
}

/// Many clients count with MULTI/EXEC, pipelined: no increment is lost, and the two counters never differ.
#[test]
fn concurrent_transactions_lose_nothing() {
    serve(|address| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    let mut c = Client::new(address);
                    for _ in 0..100 {
                        ["MULTI", "INCR x", "INCR y", "EXEC"].iter().for_each(|request| c.send(request));
                        c.expect("+OK +QUEUED +QUEUED *2");
                        let mut numbers = Vec::new();
                        while numbers.iter().filter(|byte| **byte == b'\n').count() < 2 {
                            let mut byte = [0];
                            c.0.read_exact(&mut byte).unwrap();
                            numbers.push(byte[0]);
                        }
                        let text = String::from_utf8(numbers).unwrap();
                        let (x, y) = text.trim_end().split_once("\r\n").unwrap();
                        assert_eq!(x, y);
                    }
                });
            }
        });
        Client::new(address).ask("MGET x y", "*2 $3 400 $3 400");
    });
}

#[test]
fn blocking_pops_wait_without_a_thread_each() {
    serve(|address| {
        let mut waiting: Vec<Client> = (0..10).map(|_| Client::new(address)).collect();
        waiting.iter_mut().for_each(|c| c.send("BLPOP q 0"));
        let mut late = Client::new(address);
        let started = Instant::now();
        late.ask("BLPOP nothing 0.1", "*-1");
        assert!(started.elapsed() >= Duration::from_millis(100));
        // A client that goes while it waits takes nothing.
        drop(waiting.pop());
        std::thread::sleep(Duration::from_millis(50));
        for _ in 0..9 {
            late.ask("RPUSH q x", ":1");
            std::thread::sleep(Duration::from_millis(5));
        }
        waiting.iter_mut().for_each(|c| c.expect("*2 $1 q $1 x"));
        late.ask("LLEN q", ":0");
    });
}

#[test]
fn what_is_published_reaches_the_subscribers_in_order() {
    serve(|address| {
        let (mut a, mut b) = (Client::new(address), Client::new(address));
        a.ask("SUBSCRIBE news", "*3 $9 subscribe $4 news :1");
        for n in 0..10 {
            b.ask(&format!("PUBLISH news {n}"), ":1");
        }
        for n in 0..10 {
            a.expect(&format!("*3 $7 message $4 news $1 {n}"));
        }
        drop(a);
        std::thread::sleep(Duration::from_millis(50));
        b.ask("PUBLISH news x", ":0");
    });
}

#[test]
fn nonsense_closes_its_connection_alone() {
    serve(|address| {
        let mut good = Client::new(address);
        for nonsense in ["*x\r\n", "*1\r\n$536870913\r\n", "*1\r\n+x\r\n", "*99999999\r\n"] {
            let mut bad = Client::new(address);
            bad.0.write_all(nonsense.as_bytes()).unwrap();
            let mut rest = String::new();
            bad.0.read_to_string(&mut rest).unwrap();
            assert!(rest.starts_with("-ERR Protocol error"), "{rest}");
        }
        // A declared length of 512 MB reserves nothing, and half a frame harms nobody.
        let mut half = Client::new(address);
        half.0.write_all(b"*2\r\n$3\r\nGET\r\n$536870912\r\nabc").unwrap();
        good.ask("PING", "+PONG");
    });
}
