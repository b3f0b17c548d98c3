//! A chat server: what one says, all others hear, in one order for everybody.
//!
//! `cargo run --release --example chat`, and then, in several terminals, `nc 127.0.0.1 7000`

use optimist::dispatcher::TransactionQueue;
use optimist::dispatcher::reactor::{Io, Limits, Next, Outbox, Service, Session};
use optimist::stm::collections::TMap;

/// Everybody who is here, by connection. It is all that is shared, and nothing guards it but its transactions.
#[derive(Clone, Default)]
struct Room(TMap<u64, Outbox>);

impl Service for Room {
    type Session = Guest;
    fn connected(&self, outbox: &Outbox, peer: &str) -> Guest {
        optimist::atomically(|tx| self.0.insert(tx, outbox.id(), outbox.clone()));
        Guest { room: self.clone(), name: peer.to_owned() }
    }
}

struct Guest {
    room: Room,
    name: String,
}

impl Session for Guest {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Next::Incomplete };
        let (line, own) = (format!("{}: {}\n", self.name, String::from_utf8_lossy(&input[..end])), io.outbox().clone());
        io.event(|ev| {
            // Who lags a megabyte behind misses something.
            for (_, outbox) in
                self.room.0.entries(ev)?.iter().filter(|(id, to)| *id != own.id() && to.waiting() < 1 << 20)
            {
                ev.send(outbox, line.as_bytes())?;
            }
            Ok(())
        });
        Next::Took(end + 1)
    }

    fn closed(&mut self, io: &mut Io<'_>, _error: Option<&std::io::Error>) {
        let id = io.outbox().id();
        io.event(|ev| Ok(self.room.0.remove(ev, &id).map(drop)?));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let queue = TransactionQueue::default();
    println!("ready on {}", queue.serve(Limits::default(), Room::default()).listen(address)?);
    queue.drain_on_termination(std::time::Duration::from_secs(5))?;
    queue.run()?;
    Ok(())
}
