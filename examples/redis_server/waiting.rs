//! Clients that wait for an element: who gets it, and when.
//!
//! A command such as BLPOP that finds nothing stands in the line of each of its keys, from the event on in which it has found nothing. Whoever
//! puts a list or a sorted set where somebody waits notes the key. When the command, the script or the EXEC that did so is done, and within
//! the same event, those who wait are served ([`serve`]):
//!
//! 1. The keys in the order in which they were noted; at each of them the clients in the order in which they came, while it holds something.
//! 2. A client is served by running its command on that one key. Whose command finds nothing of its type there keeps its place, and those
//!    behind it are looked at.
//! 3. Who is served leaves all its lines. If it has pushed in turn, as BLMOVE does, that key comes after those that were noted before.
//! 4. Who gives up, because of the time, CLIENT UNBLOCK or the end of its connection, leaves its lines in an event of its own. That comes
//!    before the serving one or after it, so an element goes to one who waits or stays where it is.
//!
//! Between an element's arrival and its being handed over there is no moment, so nobody who comes later is served earlier, and nobody who was
//! not served has to be woken. What a client is served with is kept in its [`Waiter`], and its own connection sends it: the round in which
//! it does so writes the log first, where the entry is that has taken the element. One that has left, but whose
//! leaving has not been noticed yet, has got its element all the same, as with every reply that nobody reads.
//!
//! A script that waits is none of these: it is run again when anything changes that it has read.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imbl::Vector;
use optimist::stm::collections::{Change, TMap};
use optimist::stm::{Result, TVar, Tx};

use crate::call::{Call, Effects, Fail};
use crate::reply::Reply;
use crate::server::Server;
use crate::session::Client;
use crate::table::{Command, Run};
use crate::value::Bytes;

/// Who waits at which key, of whatever database.
pub(crate) type Lines = TMap<Bytes, Vector<Arc<Waiter>>, foldhash::fast::RandomState>;

/// A command that waits.
pub(crate) struct Waiter {
    client: Arc<Client>,
    command: &'static Command,
    words: Vec<Bytes>,
    /// Which of the words are keys.
    keys: Range<usize>,
    /// The number of the database.
    number: usize,
    resp3: bool,
    /// When it gives up.
    pub(crate) until: Option<Instant>,
    /// What it was served with.
    reply: TVar<Option<Bytes>>,
}

/// Which words of a command are the keys that it waits at.
fn keys(command: &Command, words: &[&[u8]]) -> Range<usize> {
    match command.name {
        "blmove" | "brpoplpush" => 1..2,
        "blmpop" | "bzmpop" => 3..3 + words.get(2).and_then(|n| crate::numbers::integer(n)).unwrap_or(0) as usize,
        _ => 1..words.len() - 1,
    }
}

/// How long a command waits, zero for ever.
fn timeout(command: &Command, words: &[&[u8]]) -> Duration {
    let at = if matches!(command.name, "blmpop" | "bzmpop") { 1 } else { words.len() - 1 };
    let seconds = words.get(at).and_then(|word| crate::numbers::float(word)).unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

/// What a command replies that has waited in vain.
pub(crate) fn nothing(command: &Command, reply: &mut Reply) {
    match command.name {
        "blmove" | "brpoplpush" => reply.null(),
        _ => reply.null_array(),
    }
}

/// Replies to a command whose client's time has come, or that CLIENT UNBLOCK has told to give up; retries if it is neither.
pub(crate) fn give_up(
    tx: &mut Tx<'_>,
    client: &Client,
    command: &Command,
    reply: &mut Reply,
    timed_out: bool,
) -> Result<()> {
    match client.unblock.get(tx)? {
        0 if !timed_out => return tx.retry(),
        2 => reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        _ => nothing(command, reply),
    }
    client.unblock.set(tx, 0)
}

/// Puts a command that has found nothing into the lines of its keys.
pub(crate) fn enter(
    tx: &mut Tx<'_>,
    server: &Server,
    client: &Arc<Client>,
    command: &'static Command,
    (words, number): (&[&[u8]], usize),
    resp3: bool,
) -> Result<Arc<Waiter>> {
    let timeout = timeout(command, words);
    let waiter = Arc::new(Waiter {
        client: client.clone(),
        command,
        words: words.iter().map(|word| Bytes::from(*word)).collect(),
        keys: keys(command, words),
        number,
        resp3,
        until: if timeout.is_zero() { None } else { Instant::now().checked_add(timeout) },
        reply: TVar::new(None),
    });
    for key in &waiter.words[waiter.keys.clone()] {
        server.lines.update(tx, key.clone(), |line| {
            let mut line = line.cloned().unwrap_or_default();
            // A key that is named twice.
            if !line.last().is_some_and(|last| Arc::ptr_eq(last, &waiter)) {
                line.push_back(waiter.clone());
            }
            line
        })?;
    }
    // An earlier wait may have ended before it was told to.
    if client.unblock.get(tx)? != 0 {
        client.unblock.set(tx, 0)?;
    }
    Ok(waiter)
}

impl Waiter {
    /// What the client is to be told; retries as long as there is nothing.
    pub(crate) fn outcome(&self, tx: &mut Tx<'_>, server: &Server, timed_out: bool) -> Result<Bytes> {
        if let Some(reply) = self.reply.get(tx)? {
            return Ok(reply);
        }
        let mut reply = Reply { bytes: Vec::new(), resp3: self.resp3 };
        give_up(tx, &self.client, self.command, &mut reply, timed_out)?;
        self.leave(tx, server)?;
        Ok(reply.bytes.into())
    }

    /// Takes it out of all lines.
    pub(crate) fn leave(&self, tx: &mut Tx<'_>, server: &Server) -> Result<()> {
        for key in &self.words[self.keys.clone()] {
            server.lines.edit(tx, key, |line| {
                let place = line.and_then(|line| line.iter().position(|other| std::ptr::eq(&**other, self)));
                let (Some(line), Some(place)) = (line, place) else { return (Change::Keep, ()) };
                if line.len() == 1 {
                    return (Change::Remove, ());
                }
                let mut line = line.clone();
                line.remove(place);
                (Change::Set(line), ())
            })?;
        }
        Ok(())
    }

    /// Whether it is on its way out.
    fn is_leaving(&self, tx: &mut Tx<'_>) -> Result<bool> {
        let closed = self.client.outbox.as_ref().is_some_and(|outbox| outbox.is_closed());
        Ok(closed || self.client.unblock.get(tx)? != 0)
    }

    /// Its command on one of its keys.
    fn narrowed<'a>(&'a self, key: &'a [u8]) -> Vec<&'a [u8]> {
        let mut words: Vec<&[u8]> = self.words[..self.keys.start].iter().map(|word| &**word).collect();
        if self.keys.start == 3 {
            words[2] = b"1";
        }
        words.push(key);
        words.extend(self.words[self.keys.end..].iter().map(|word| &**word));
        words
    }
}

/// Notes the keys at which somebody waits in databases whose content is another from now on.
pub(crate) fn look_again(tx: &mut Tx<'_>, server: &Server, numbers: &[usize], effects: &mut Effects) -> Result<()> {
    server.lines.try_for_each(tx, |_, key, line| {
        let waits = |number: &&usize| line.iter().any(|waiter| waiter.number == **number);
        effects.ready.extend(numbers.iter().filter(waits).map(|number| (*number, key.clone())));
        Ok(())
    })
}

/// Serves those who wait at keys that have been noted. `log_db` is the database to which the next entry of the log belongs.
pub(crate) fn serve(
    tx: &mut Tx<'_>,
    server: &Arc<Server>,
    effects: &mut Effects,
    now: i64,
    log_db: &mut usize,
) -> Result<()> {
    let mut next = 0;
    while let Some((number, key)) = effects.ready.get(next).cloned() {
        next += 1;
        let Some(line) = server.lines.get(tx, &key)? else { continue };
        for waiter in line.iter().filter(|waiter| waiter.number == number) {
            let Run::Event(run) = waiter.command.run else { continue };
            if waiter.is_leaving(tx)? {
                continue;
            }
            let (start, db) = (effects.log.len(), server.database(tx, number)?);
            let mut reply = Reply { bytes: Vec::new(), resp3: waiter.resp3 };
            let (args, client) = (&*waiter.narrowed(&key), &waiter.client);
            let mut call = Call { tx, args, reply: &mut reply, server, effects, client, db, now, own_log: false };
            let served = match call.exists(&key) {
                Ok(false) => break,
                Ok(true) => call.run(run),
                Err(fail) => Err(fail),
            };
            match served {
                Ok(()) => {}
                Err(Fail::Abort(abort)) => return Err(abort),
                Err(Fail::Error(text)) => {
                    reply.bytes.clear();
                    reply.error(&text);
                }
                Err(Fail::Block | Fail::WrongType) => continue,
            }
            effects.select(start, number, log_db);
            waiter.leave(tx, server)?;
            waiter.reply.set(tx, Some(reply.bytes.into()))?;
        }
    }
    effects.ready.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_narrowed_to_one_of_its_keys() {
        let narrowed = |text: &str| {
            let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            let command = crate::table::find(&words).unwrap_or_else(|error| panic!("{text}: {error}"));
            let server = Server::new(0, 1, None);
            let client = Arc::new(Client::internal());
            let waiter = optimist::atomically(|tx| enter(tx, &server, &client, command, (&words, 0), false));
            let lines = optimist::atomically(|tx| server.lines.len(tx));
            optimist::atomically(|tx| waiter.leave(tx, &server));
            assert!(optimist::atomically(|tx| server.lines.is_empty(tx)));
            let words = String::from_utf8(waiter.narrowed(b"K").join(&b' ')).expect("text");
            (lines, words, waiter.until.is_some())
        };
        for (text, expected) in [
            ("blpop a b a 0", (2, "blpop K 0", false)),
            ("bzpopmax a 1.5", (1, "bzpopmax K 1.5", true)),
            ("blmove a b LEFT RIGHT 0", (1, "blmove K b LEFT RIGHT 0", false)),
            ("brpoplpush a b 2", (1, "brpoplpush K b 2", true)),
            ("blmpop 0 3 a b c LEFT COUNT 2", (3, "blmpop 0 1 K LEFT COUNT 2", false)),
            ("bzmpop 1 1 a MIN", (1, "bzmpop 1 1 K MIN", true)),
        ] {
            let (lines, words, ends) = narrowed(text);
            assert_eq!((lines, &*words, ends), expected, "{text}");
        }
    }
}
