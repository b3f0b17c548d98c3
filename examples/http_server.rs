//! A web server whose requests share sessions and counters.
//!
//! ```text
//! cargo run --release --example http_server        # then: curl -i http://127.0.0.1:8080/
//! ```
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | a greeting; who has no session gets one, in a cookie |
//! | `GET /count` | how often this session has asked, and how often all have |
//! | `GET /transfer?amount=N` | moves from the session's account to the house's, or 409 if there is not enough |
//! | `GET /total` | the sum of all accounts, which never changes |
//!
//! Every request is one event. The sum is taken over accounts that others change meanwhile, and is right all the same.

use httparse::{EMPTY_HEADER, Request, Status};
use optimist::dispatcher::reactor::{Ended, Io, Limits, Next, Outbox, Service, Session};
use optimist::dispatcher::{Event, EventResult, TransactionQueue};
use optimist::stm::TVar;
use optimist::stm::collections::TMap;

/// The most bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// What a new account has.
const START: u64 = 100;

/// What belongs to one session.
#[derive(Clone, Default)]
struct Account {
    visits: u64,
    balance: u64,
}

/// What all requests share.
#[derive(Clone, Default)]
struct Site {
    accounts: TMap<u64, Account>,
    /// Visits in parts, so that counting does not make requests meet: one for each thread.
    visits: TMap<usize, u64>,
    house: TVar<u64>,
}

impl Service for Site {
    type Session = Connection;

    fn connected(&self, outbox: &Outbox, _peer: &str) -> Connection {
        Connection { site: self.clone(), outbox: outbox.clone() }
    }
}

struct Connection {
    site: Site,
    outbox: Outbox,
}

/// What is answered.
struct Answer {
    status: &'static str,
    body: String,
    session: Option<u64>,
}

impl Site {
    fn answer(&self, ev: &mut Event<'_>, thread: usize, path: &str, session: Option<u64>) -> EventResult<Answer> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let ok = |body| Answer { status: "200 OK", body, session: None };
        if path == "/total" {
            let mut total = self.house.get(ev)?;
            self.accounts.try_for_each(ev, |_, _, account| {
                total += account.balance;
                Ok(())
            })?;
            let accounts = self.accounts.len(ev)? as u64;
            return Ok(ok(format!("{total} in {accounts} accounts that had {START} each\n")));
        }
        let known = match session {
            Some(id) => self.accounts.get(ev, &id)?.map(|account| (id, account)),
            None => None,
        };
        let fresh = known.is_none();
        let (id, mut account) = known.unwrap_or_else(|| (ev.random(), Account { visits: 0, balance: START }));
        account.visits += 1;
        self.visits.update(ev, thread, |visits| visits.map_or(1, |visits| visits + 1))?;
        let mut answer = match path {
            "/" => ok(format!("Hello, visitor {id:016x}.\n")),
            "/count" => {
                let all: u64 = self.visits.entries(ev)?.into_iter().map(|(_, visits)| visits).sum();
                ok(format!("{} of {all} visits are yours\n", account.visits))
            }
            "/transfer" => match query.strip_prefix("amount=").and_then(|amount| amount.parse::<u64>().ok()) {
                Some(amount) if amount <= account.balance => {
                    account.balance -= amount;
                    self.house.modify(ev, |house| house + amount)?;
                    ok(format!("{} left\n", account.balance))
                }
                Some(_) => Answer { status: "409 Conflict", body: "not enough\n".to_owned(), session: None },
                None => Answer { status: "400 Bad Request", body: "amount=N is missing\n".to_owned(), session: None },
            },
            _ => Answer { status: "404 Not Found", body: "there is no such page\n".to_owned(), session: None },
        };
        self.accounts.update(ev, id, |_| account)?;
        answer.session = fresh.then_some(id);
        Ok(answer)
    }
}

/// The number of the session, if the cookie has one.
fn session_of(cookie: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(cookie).ok()?;
    let value = text.split(';').find_map(|pair| pair.trim().strip_prefix("session="))?;
    u64::from_str_radix(value, 16).ok()
}

impl Connection {
    fn refuse(&self, io: &mut Io<'_>) -> Next {
        io.event(|ev| {
            ev.send(&self.outbox, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        });
        Next::Close
    }
}

impl Session for Connection {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        let mut headers = [EMPTY_HEADER; 64];
        let mut request = Request::new(&mut headers);
        let used = match request.parse(input) {
            Ok(Status::Complete(used)) => used,
            Ok(Status::Partial) if input.len() <= MAX_HEAD => return Next::Incomplete,
            _ => return self.refuse(io),
        };
        let header = |name: &str| request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        // There is nothing to send here, so nobody may.
        if request.method != Some("GET") || header("Content-Length").is_some_and(|length| length.value != b"0") {
            return self.refuse(io);
        }
        let session = header("Cookie").and_then(|cookie| session_of(cookie.value));
        let last = header("Connection").is_some_and(|value| value.value.eq_ignore_ascii_case(b"close"));
        let (path, thread) = (request.path.unwrap_or("/"), io.thread());
        let ended = io.event(|ev| {
            let Answer { status, body, session } = self.site.answer(ev, thread, path, session)?;
            let cookie = session.map_or(String::new(), |id| format!("Set-Cookie: session={id:016x}\r\n"));
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n{cookie}Content-Length: {length}\r\n\r\n{body}"
            );
            ev.send(&self.outbox, text.as_bytes())
        });
        match ended {
            Ended::Committed(()) if !last => Next::Took(used),
            _ => Next::Close,
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let queue = TransactionQueue::default();
    let address = queue.serve(Limits::default(), Site::default()).listen(address)?;
    queue.drain_on_termination(std::time::Duration::from_secs(5))?;
    println!("ready on {address}");
    queue.run()?;
    Ok(())
}
