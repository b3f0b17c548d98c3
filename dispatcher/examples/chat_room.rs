//! A chat server: every line that a client sends goes to all others, in one order for everybody.
//!
//! ```text
//! cargo run --release -p optimist-dispatcher --example chat_room -- 127.0.0.1:7000
//! nc 127.0.0.1 7000
//! ```

use std::time::Duration;

use optimist_dispatcher::reactor::{Connection, Limits, Service};
use optimist_dispatcher::{Config, Event, EventResult, OnError, TVar, TransactionQueue, outln};

#[derive(Default)]
struct Chat {
    room: TVar<Vec<Connection>>,
}

impl Chat {
    fn tell(&self, ev: &mut Event<'_>, from: &Connection, text: &str) -> EventResult {
        for client in self.room.get(ev)?.iter().filter(|client| *client != from) {
            client.send(ev, format!("{}: {text}\n", from.peer()).as_bytes())?;
        }
        Ok(())
    }
}

impl Service for Chat {
    fn opened(&self, ev: &mut Event<'_>, client: &Connection) -> EventResult {
        self.room.modify(ev, |room| room.iter().chain([client]).cloned().collect())?;
        self.tell(ev, client, "joins")
    }

    fn received(&self, ev: &mut Event<'_>, client: &Connection, bytes: &[u8]) -> EventResult<usize> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(0) };
        self.tell(ev, client, String::from_utf8_lossy(&bytes[..end]).trim_end())?;
        Ok(end + 1)
    }

    fn closed(&self, ev: &mut Event<'_>, client: &Connection) -> EventResult {
        self.room.modify(ev, |room| room.iter().filter(|other| *other != client).cloned().collect())?;
        self.tell(ev, client, "leaves")
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let queue = TransactionQueue::new(Config { on_error: OnError::Collect, ..Config::default() });
    let address = queue.listen(address, Limits::default(), Chat::default())?;
    queue.drain_on_termination(Duration::from_secs(5))?;
    queue.add(move |ev| {
        outln!(ev, "the chat is open at {address}");
        Ok(())
    });
    eprintln!("{}", queue.run()?);
    Ok(())
}
