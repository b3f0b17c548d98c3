//! The append-only log.
//!
//! What an event has changed is appended, as commands, when it commits: in commit order, since the log is locked from before the commit
//! until the entry is in its buffer. The buffer is written to the file before any reply of the round is written to a socket, so a
//! change that a client was told of is in the hands of the operating system, whatever happens to the process (and on the disk, with
//! `appendfsync always`). Commands whose outcome depends on time or chance are logged as what they did. An event of several commands is
//! one entry between MULTI and EXEC: it is replayed whole or, cut off at the end of the file, not at all.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use optimist::dispatcher::Output;
use optimist::dispatcher::reactor::{Ended, Io};
use optimist::stm::{Abort, Interrupt, Tx};

use crate::call::{Call, Effects, Fail, append_command};
use crate::codec::{MAX_BULK, Split, Splitter};
use crate::reply::Reply;
use crate::server::Server;
use crate::session::Client;
use crate::table::Run;
use crate::value::Bytes;

/// Where the log goes.
pub(crate) struct Log {
    pub(crate) output: Output,
    /// Whether it is to be on the disk before replies are sent.
    pub(crate) sync: Arc<AtomicBool>,
}

/// Writes the file through, if that is asked for.
struct File {
    file: std::fs::File,
    unsynced: bool,
    sync: Arc<AtomicBool>,
}

impl io::Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unsynced = true;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unsynced && self.sync.load(Ordering::Relaxed) {
            self.file.sync_data()?;
        }
        self.unsynced = false;
        Ok(())
    }
}

/// Reads a log and opens it to be continued. What an interrupted write has left at its end is cut off.
///
/// # Errors
/// If the file cannot be read or written.
pub(crate) fn open(path: &Path) -> io::Result<(Vec<u8>, Log)> {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    let mut bytes = Vec::new();
    if file.metadata()?.is_file() {
        bytes = std::fs::read(path)?;
        let whole = whole_entries(&bytes);
        if whole < bytes.len() {
            eprintln!("the log ends in half an entry: {} bytes are cut off", bytes.len() - whole);
            file.set_len(whole as u64)?;
            bytes.truncate(whole);
        }
    }
    let sync = Arc::<AtomicBool>::default();
    let writer = File { file, unsynced: false, sync: sync.clone() };
    Ok((bytes, Log { output: Output::new(format!("the log {}", path.display()), writer), sync }))
}

/// How many bytes of a log are whole entries.
fn whole_entries(bytes: &[u8]) -> usize {
    let mut splitter = Splitter::default();
    let (mut at, mut whole, mut inside) = (0, 0, false);
    while let Ok(Split::Request(used)) = splitter.split(&bytes[at..], MAX_BULK) {
        let words = splitter.arguments(&bytes[at..]);
        match words.first() {
            Some(&b"MULTI") => inside = true,
            Some(&b"EXEC") => inside = false,
            _ => {}
        }
        at += used;
        if !inside {
            whole = at;
        }
    }
    whole
}

/// Runs what a log contains, and says how many entries that are.
///
/// # Errors
/// If it contains something that is no command.
pub(crate) fn replay(server: &Arc<Server>, bytes: &[u8]) -> Result<usize, String> {
    let mut splitter = Splitter::default();
    let (mut at, mut entries) = (0, 0);
    let mut pending: Option<Vec<Vec<Vec<u8>>>> = None;
    let client = Arc::new(Client::internal());
    while let Ok(Split::Request(used)) = splitter.split(&bytes[at..], MAX_BULK) {
        let words: Vec<Vec<u8>> = splitter.arguments(&bytes[at..]).into_iter().map(<[u8]>::to_vec).collect();
        at += used;
        let entry = match (words.first().map(Vec::as_slice), &mut pending) {
            (Some(b"MULTI"), None) => {
                pending = Some(Vec::new());
                continue;
            }
            (Some(b"EXEC"), Some(_)) => pending.take().unwrap_or_default(),
            (_, Some(pending)) => {
                pending.push(words);
                continue;
            }
            (_, None) => vec![words],
        };
        apply(server, &client, &entry).map_err(|error| format!("the log cannot be replayed: {error} at byte {at}"))?;
        entries += 1;
    }
    Ok(entries)
}

fn apply(server: &Arc<Server>, client: &Arc<Client>, entry: &[Vec<Vec<u8>>]) -> Result<(), String> {
    let mut effects = Effects::default();
    let mut failure = None;
    optimist::atomically(|tx: &mut Tx<'_>| {
        failure = None;
        effects.clear();
        let mut selected = 0;
        for words in entry {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            if words[0] == b"SELECT" {
                selected = words.get(1).and_then(|db| crate::numbers::integer(db)).unwrap_or(0).clamp(0, 15) as usize;
                continue;
            }
            let run = match crate::table::find(&words) {
                Ok(command) => command.run,
                Err(text) => {
                    failure = Some(text.into_owned());
                    return Ok(());
                }
            };
            let Run::Event(run) = run else { continue };
            let db = server.database(tx, selected)?;
            let mut reply = Reply::default();
            let mut call = Call {
                tx,
                args: &words,
                reply: &mut reply,
                server,
                effects: &mut effects,
                client,
                db,
                // Nothing has expired while the log is replayed: what has was either removed by an entry, or is removed afterwards.
                now: 0,
                own_log: false,
            };
            match run(&mut call).map_err(Fail::spoken) {
                Err(Fail::Abort(abort)) => return Err(abort),
                Err(Fail::Error(text)) => failure = Some(text.into_owned()),
                Ok(()) | Err(Fail::Block | Fail::WrongType) => {}
            }
        }
        Ok::<(), Abort>(())
    });
    crate::expire_later(&mut effects.expiries);
    failure.map_or(Ok(()), Err)
}

/// Writes out what has been logged, before replies are written.
pub(crate) fn settle(server: &Server) {
    let Some(log) = &server.log else { return };
    let broken = log.flush().err();
    if let Some(error) = &broken
        && !server.log_broken.load(Ordering::Relaxed)
    {
        eprintln!("{}: {error}; no more changes are accepted until it can be written", log.name());
    }
    if server.log_broken.load(Ordering::Relaxed) != broken.is_some() {
        server.log_broken.store(broken.is_some(), Ordering::Relaxed);
    }
}

/// Empties databases that were put aside, for a moment. Says whether there is more to do.
pub(crate) fn tidy(server: &Arc<Server>, io: &mut Io<'_>) -> bool {
    let start = Instant::now();
    while start.elapsed() < TIDYING {
        if !matches!(io.event(|ev| Ok(server.tidy(ev)?)), Ended::Committed(true)) {
            return false;
        }
    }
    true
}

/// How long emptying a database may keep the connections of a thread waiting.
const TIDYING: Duration = Duration::from_millis(1);

/// Removes a key if it has expired.
pub(crate) fn expire(server: &Arc<Server>, io: &mut Io<'_>, when: i64, db: usize, key: &Bytes) {
    let now = Server::now();
    let mut effects = Effects::default();
    let mut reply = Reply::default();
    let client = Arc::new(Client::internal());
    let ended = io.event(|ev| {
        effects.clear();
        // One that was put aside is emptied anyway.
        let Some(number) = server.number(ev, db)? else { return Ok(false) };
        let due = server.dbs[db].with(ev, &**key, |item| item.expires != 0 && item.expires <= now.max(when))?;
        if due != Some(true) {
            return Ok(false);
        }
        server.dbs[db].remove(ev, &**key)?;
        server.expiring[db].add(ev, -1)?;
        append_command(&mut effects.log, &[b"DEL", key]);
        effects.logged = 1;
        let mut call = Call {
            tx: ev.tx(),
            args: &[],
            reply: &mut reply,
            server,
            effects: &mut effects,
            client: &client,
            db,
            now,
            own_log: false,
        };
        if let Err(Fail::Abort(abort)) = call.notify('x', "expired", key) {
            return Err(Interrupt::Abort(abort));
        }
        effects.select(0, number, &mut 0);
        crate::session::release(ev, server, &mut effects)?;
        Ok(true)
    });
    if let Ended::Committed(true) = ended {
        server.expired.fetch_add(1, Ordering::Relaxed);
    }
}
