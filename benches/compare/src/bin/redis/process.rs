//! The servers: started, asked for their processor time, stopped.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server that runs as long as this lives.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Process {
    /// The server of the examples, which says where it listens.
    pub fn own(program: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.args(["--port", "0", "--threads", "2"]).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("the server says something");
        let address = line.split_whitespace().nth(2).and_then(|word| word.parse().ok());
        Process { child, address: address.unwrap_or_else(|| panic!("the server says `{line}`")) }
    }

    /// redis-server, on a port that is free.
    pub fn rival(program: &str) -> Process {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let mut command = Command::new(program);
        command.args(["--port", &address.port().to_string(), "--save", "", "--appendonly", "no"]).stdout(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Process { child, address };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{program} does not listen");
    }

    /// Seconds of processor time that it has taken so far, all threads together.
    pub fn cpu(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let of = |path: std::path::PathBuf| {
            let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        };
        tasks.filter_map(|task| of(task.ok()?.path())).sum::<f64>() / 1e9
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
