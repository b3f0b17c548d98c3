//! A chat server: what one says, all others hear, in one order for everybody.
//!
//! ```text
//! cargo run --release --example chat        # then, in several terminals: nc 127.0.0.1 7000
//! ```

use optimist::dispatcher::TransactionQueue;
use optimist::dispatcher::reactor::{Ended, Io, Limits, Next, Outbox, Service, Session};
use optimist::stm::collections::TMap;

/// Everybody who is here: name and outbox by connection. The one thing that is shared, and nothing guards it but its transactions.
#[derive(Clone, Default)]
struct Room(TMap<u64, (String, Outbox)>);

struct Guest {
    room: Room,
    id: u64,
    name: String,
}

impl Service for Room {
    type Session = Guest;

    fn connected(&self, outbox: &Outbox, peer: &str) -> Guest {
        let (id, name) = (outbox.id(), peer.to_owned());
        optimist::atomically(|tx| self.0.insert(tx, id, (name.clone(), outbox.clone())));
        Guest { room: self.clone(), id, name }
    }
}

impl Guest {
    /// Says something to all others: one event, so everybody hears everything in the same order.
    fn say(&self, io: &mut Io<'_>, line: &str) -> Ended<()> {
        io.event(|ev| {
            for (id, (_, outbox)) in self.room.0.entries(ev)? {
                if id != self.id && outbox.waiting() < 1 << 20 {
                    ev.send(&outbox, line.as_bytes())?;
                }
            }
            Ok(())
        })
    }
}

impl Session for Guest {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
            return if input.len() > 4096 { Next::Close } else { Next::Incomplete };
        };
        self.say(io, &format!("{}: {}\n", self.name, String::from_utf8_lossy(&input[..end])));
        Next::Took(end + 1)
    }

    fn closed(&mut self, io: &mut Io<'_>, _error: Option<&std::io::Error>) {
        io.event(|ev| Ok(self.room.0.remove(ev, &self.id).map(drop)?));
        self.say(io, &format!("{} has left\n", self.name));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let queue = TransactionQueue::default();
    let address = queue.serve(Limits::default(), Room::default()).listen(address)?;
    queue.drain_on_termination(std::time::Duration::from_secs(5))?;
    println!("ready on {address}");
    queue.run()?;
    Ok(())
}
