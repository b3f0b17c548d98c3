//! The web server and the chat server, as their clients see them.
//!
//! Each test starts the example as a process of its own on a free port of the loopback interface.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(example: &str) -> Server {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", example]);
        let mut path: PathBuf = std::env::current_exe().expect("the test has a path");
        // target/PROFILE/deps/servers-HASH
        path.pop();
        path.pop();
        if path.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "the example does not build");
        let mut command = Command::new(path.join("examples").join(example));
        let mut process = command.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("the server says something");
        let address = line.trim_end().strip_prefix("ready on ").and_then(|address| address.parse().ok());
        let Some(address) = address else { panic!("the server says `{line}`") };
        Server { process, address }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out can be set");
        BufReader::new(stream)
    }

    /// Ends the server as an administrator would.
    fn terminate(mut self) {
        let killed = Command::new("kill").arg(self.process.id().to_string()).status().expect("there is a kill");
        assert!(killed.success());
        assert!(self.process.wait().expect("it was started").success(), "the server does not end well");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

type Client = BufReader<TcpStream>;

fn say(client: &mut Client, text: &str) {
    client.get_mut().write_all(text.as_bytes()).expect("the server reads");
}

fn line(client: &mut Client) -> String {
    let mut line = String::new();
    client.read_line(&mut line).expect("the server answers");
    line.trim_end().to_owned()
}

fn rest(client: &mut Client) -> String {
    let mut rest = String::new();
    client.read_to_string(&mut rest).expect("the end");
    rest
}

/// A response: its status, its cookie, its body.
fn response(client: &mut Client) -> (String, Option<String>, String) {
    let status = line(client).strip_prefix("HTTP/1.1 ").expect("a status line").to_owned();
    let (mut cookie, mut length) = (None, 0);
    loop {
        let header = line(client);
        match header.split_once(": ") {
            None => break,
            Some(("Set-Cookie", value)) => cookie = Some(value.to_owned()),
            Some(("Content-Length", value)) => length = value.parse().expect("a length"),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).expect("the whole body");
    (status, cookie, String::from_utf8(body).expect("text"))
}

fn get(client: &mut Client, path: &str, cookie: &str) -> (String, Option<String>, String) {
    say(client, &format!("GET {path} HTTP/1.1\r\nHost: here\r\nCookie: other=1; {cookie}\r\n\r\n"));
    response(client)
}

#[test]
fn sessions_and_counters_are_shared_by_requests() {
    let server = Server::start("http_server");
    let mut client = server.connect();
    let (status, cookie, greeting) = get(&mut client, "/", "");
    assert_eq!(status, "200 OK");
    let cookie = cookie.expect("a new session");
    assert!(greeting.starts_with(&format!("Hello, visitor {}", &cookie["session=".len()..])), "{greeting}");
    // The session is found again from another connection, and so are the counters.
    let mut other = server.connect();
    let (_, again, count) = get(&mut other, "/count", &cookie);
    assert_eq!((again, count.as_str()), (None, "2 of 2 visits are yours\n"));
    let (_, fresh, count) = get(&mut other, "/count", "session=17");
    assert_eq!(count, "1 of 3 visits are yours\n");
    assert!(fresh.is_some_and(|fresh| fresh != cookie));
    assert_eq!(get(&mut client, "/transfer?amount=30", &cookie).2, "70 left\n");
    assert_eq!(get(&mut client, "/transfer?amount=71", &cookie).0, "409 Conflict");
    assert_eq!(get(&mut client, "/transfer", &cookie).0, "400 Bad Request");
    assert_eq!(get(&mut client, "/transfer?amount=70", &cookie).2, "0 left\n");
    assert_eq!(get(&mut client, "/nowhere", &cookie).0, "404 Not Found");
    assert_eq!(get(&mut client, "/total", "").2, "200 in 2 accounts that had 100 each\n");
    server.terminate();
}

#[test]
fn requests_may_come_in_pieces_or_many_at_once() {
    let server = Server::start("http_server");
    let mut client = server.connect();
    for byte in "GET / HTTP/1.1\r\nHost: here\r\n\r\n".chars() {
        say(&mut client, &byte.to_string());
    }
    let (_, cookie, _) = response(&mut client);
    let cookie = cookie.expect("a new session");
    let requests = format!("GET /count HTTP/1.1\r\nCookie: {cookie}\r\n\r\n").repeat(100);
    say(&mut client, &requests);
    for visits in 2..=101 {
        assert_eq!(response(&mut client).2, format!("{visits} of {visits} visits are yours\n"));
    }
    say(&mut client, "GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n\r\n");
    assert_eq!(response(&mut client).0, "200 OK");
    assert_eq!(rest(&mut client), "");
    // What is no request, or one with a body, ends its connection and nothing else.
    for nonsense in ["\u{0}\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345"] {
        let mut client = server.connect();
        say(&mut client, nonsense);
        assert_eq!(response(&mut client).0, "400 Bad Request");
        let _ = client.read_to_string(&mut String::new());
    }
    let mut client = server.connect();
    say(&mut client, &format!("GET / HTTP/1.1\r\nLong: {}", "x".repeat(20_000)));
    assert_eq!(response(&mut client).0, "400 Bad Request");
    assert_eq!(get(&mut server.connect(), "/", "").0, "200 OK");
    server.terminate();
}

/// Whatever is transferred meanwhile, the sum of all accounts is what they had in the beginning.
#[test]
fn a_sum_over_accounts_that_change_is_right() {
    let server = Server::start("http_server");
    std::thread::scope(|scope| {
        let transfers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = server.connect();
                    let mut cookie = String::new();
                    for n in 0..200 {
                        if n % 50 == 0 {
                            cookie = get(&mut client, "/", "").1.expect("a new session");
                        }
                        assert_eq!(get(&mut client, "/transfer?amount=2", &cookie).0, "200 OK");
                    }
                })
            })
            .collect();
        let mut client = server.connect();
        while !transfers.iter().all(|thread| thread.is_finished()) {
            let total = get(&mut client, "/total", "").2;
            let words: Vec<&str> = total.split(' ').collect();
            let (sum, accounts): (u64, u64) = (words[0].parse().unwrap(), words[2].parse().unwrap());
            assert_eq!(sum, accounts * 100, "{total}");
        }
    });
    server.terminate();
}

#[test]
fn everybody_in_the_chat_hears_the_same_in_the_same_order() {
    const LINES: usize = 100;
    let server = Server::start("chat");
    let mut listener = server.connect();
    let mut speakers: Vec<_> = (0..3).map(|_| server.connect()).collect();
    // All are in the room: each has said something that the listener has heard.
    for speaker in &mut speakers {
        say(speaker, "hello\n");
        assert!(line(&mut listener).ends_with(": hello"));
    }
    let heard: Vec<Vec<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = speakers
            .into_iter()
            .map(|mut speaker| {
                scope.spawn(move || {
                    for n in 0..LINES {
                        // In two pieces.
                        say(&mut speaker, "line ");
                        say(&mut speaker, &format!("{n}\n"));
                    }
                    let mut heard = Vec::new();
                    while heard.len() < 2 * LINES {
                        let line = line(&mut speaker);
                        if line.contains(": line ") {
                            heard.push(line);
                        }
                    }
                    heard
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a speaker")).collect()
    });
    let everything: Vec<String> = (0..3 * LINES).map(|_| line(&mut listener)).collect();
    for heard in heard {
        // Nobody hears himself.
        let own = everything.iter().find(|line| !heard.contains(line)).expect("they said something");
        let own = &own[..own.find(": ").expect("a name")];
        let others: Vec<_> = everything.iter().filter(|line| !line.starts_with(own)).cloned().collect();
        assert_eq!(heard, others);
    }
    server.terminate();
}
