//! What the requests that have arrived come to: steps, several of which run as one event.
//!
//! A client that pipelines sends many small commands at once. Each would be correct as an event of its own, and so is any number of
//! them in one, for then they even happen at one moment. So they share the cost of an event: its begin and commit, its clock, the lock of
//! the connection's outbox. If the event meets another, it is taken apart, so that a conflict never costs more than one command;
//! see [`Connection::transact`](crate::session::Connection::transact).

use std::ops::Range;

use crate::table::Command;
use crate::value::Bytes;

/// The most steps of an event.
pub(crate) const TOGETHER: usize = 64;

/// How many bytes of replies end an event early.
pub(crate) const REPLIES: usize = 64 << 10;

/// Something to be done in an event.
pub(crate) enum Step {
    /// A reply that is known beforehand.
    Reply(&'static str),
    /// A command, its words being these of the plan's, in the database of this number.
    Command { command: &'static Command, words: Range<usize>, db: usize },
    /// The commands between MULTI and EXEC.
    Exec(Multi),
}

/// The commands since MULTI. The words are copies, one after the other.
#[derive(Default)]
pub(crate) struct Multi {
    bytes: Vec<u8>,
    /// Where each word ends.
    ends: Vec<usize>,
    /// Each command, and how many words there are up to its end.
    commands: Vec<(&'static Command, usize)>,
    /// A command could not be queued, so EXEC must fail.
    pub(crate) failed: bool,
    /// One of the commands changes the connection's database.
    pub(crate) selects: bool,
    /// The database at EXEC.
    pub(crate) db: usize,
    /// The keys to be as they were, and their stamps.
    pub(crate) watched: Vec<(usize, Bytes, u64)>,
}

impl Multi {
    pub(crate) fn push(&mut self, command: &'static Command, words: &[&[u8]]) {
        for word in words {
            self.bytes.extend_from_slice(word);
            self.ends.push(self.bytes.len());
        }
        self.commands.push((command, self.ends.len()));
        self.selects |= command.name == "select";
    }

    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// All words, in the order of the commands.
    pub(crate) fn words(&self) -> Vec<&[u8]> {
        let mut start = 0;
        let word = |&end: &usize| {
            let word = &self.bytes[start..end];
            start = end;
            word
        };
        self.ends.iter().map(word).collect()
    }

    /// The commands, and which of the words are theirs.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&'static Command, Range<usize>)> {
        let mut start = 0;
        self.commands.iter().map(move |&(command, end)| (command, std::mem::replace(&mut start, end)..end))
    }

    /// Makes it ready for the next MULTI.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(REPLIES);
        self.ends.clear();
        self.commands.clear();
        self.failed = false;
        self.selects = false;
        self.watched.clear();
    }
}

/// Keeps the memory of a vector of words that is used up.
pub(crate) fn recycle<'a>(mut words: Vec<&[u8]>) -> Vec<&'a [u8]> {
    words.clear();
    words.into_iter().map(|_| [].as_slice()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_keeps_its_words_apart() {
        let command = |name: &str| crate::table::COMMANDS.iter().find(|command| command.name == name).expect("known");
        let mut multi = Multi::default();
        for _ in 0..2 {
            multi.push(command("get"), &[b"get", b"k"]);
            multi.push(command("dbsize"), &[b"dbsize"]);
            multi.push(command("set"), &[b"set", b"", b"v"]);
            let words = multi.words();
            let seen: Vec<(&str, &[&[u8]])> =
                multi.commands().map(|(command, range)| (command.name, &words[range])).collect();
            let expected: [(&str, &[&[u8]]); 3] =
                [("get", &[b"get", b"k"]), ("dbsize", &[b"dbsize"]), ("set", &[b"set", b"", b"v"])];
            assert_eq!(seen, expected);
            multi.clear();
            assert_eq!((multi.len(), multi.words().len()), (0, 0));
        }
    }

    #[test]
    fn recycled_words_keep_their_memory() {
        let words: Vec<&[u8]> = Vec::with_capacity(100);
        let place = words.as_ptr();
        let recycled: Vec<&[u8]> = recycle(words);
        assert_eq!(recycled.as_ptr().cast::<u8>(), place.cast());
    }
}
