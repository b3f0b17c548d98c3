//! Histories of transactions, and what they tell about the protocol that ran them.
//!
//! A [`History`] says of each attempt which version of which object it has read and written, when it began, asked to commit and ended, and
//! whether it committed. The versions of an object are ordered by number, so all conflicts are known and checking takes (almost) linear
//! time:
//!
//! - [`History::intervals`]: all versions that an attempt has read must have been valid at one moment between its begin and its end. It
//!   looks at one attempt at a time, aborted ones included, and so sees *zombie reads*, which is to say it checks opacity, as far as
//!   the stamps are exact: a commit took place somewhere between the stamps around it.
//! - [`History::graph`]: the serialisation graph (Bernstein, Hadzilacos and Goodman, 1987; Adya, 1999) must have no cycle. Over
//!   the committed transactions it checks strict serializability, exactly, but sees no zombies; with [`Nodes::All`] those that aborted are
//!   added as readers, which decides opacity (Guerraoui and Kapalka, PPoPP 2008).
//!
//! Histories are written and read as JSON lines, one attempt a line:
//!
//! ```json
//! {"thread":0,"begin":10,"commit":17,"end":21,"committed":true,"reads":[[3,0]],"writes":[[3,1]]}
//! ```

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

/// An object and one of its versions. Version 0 is the state before the history.
pub type Access = (u32, u64);

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    thread: u32,
    committed: bool,
    reads: u32,
    writes: u32,
    first: usize,
    begin: u64,
    commit: u64,
    end: u64,
}

/// When an attempt did what, in units of a clock that all threads share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stamps {
    /// Before it began.
    pub begin: u64,
    /// Before it asked to commit.
    pub commit: u64,
    /// After it had ended.
    pub end: u64,
}

/// What a number of threads did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    records: Vec<Record>,
    accesses: Vec<Access>,
}

/// What is wrong with a history. Attempts are named by their position in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An attempt has read a version that nobody committed.
    DirtyRead {
        /// The reader.
        attempt: usize,
        /// The version.
        access: Access,
    },
    /// What an attempt has read was never valid all at once during it.
    NoMoment {
        /// The reader.
        attempt: usize,
        /// A version it has read, and one that was not yet there when the first was already replaced.
        between: (Access, Access),
    },
    /// Two transactions have committed the same version.
    SameVersion {
        /// The writers.
        attempts: (usize, usize),
        /// The version.
        access: Access,
    },
    /// Each of these must come before the next, and the last before the first.
    Cycle(Vec<usize>),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |(object, version): &Access| format!("version {version} of object {object}");
        match self {
            Violation::DirtyRead { attempt, access } => {
                write!(f, "attempt {attempt} has read {}, which nobody committed", name(access))
            }
            Violation::NoMoment { attempt, between: (old, new) } => {
                write!(f, "attempt {attempt} has read {} and {}, which were never valid together", name(old), name(new))
            }
            Violation::SameVersion { attempts: (a, b), access } => {
                write!(f, "attempts {a} and {b} have both committed {}", name(access))
            }
            Violation::Cycle(attempts) => {
                let attempts: Vec<String> = attempts.iter().map(ToString::to_string).collect();
                write!(f, "no serial order: each must precede the next, round and round: {}", attempts.join(" → "))
            }
        }
    }
}

impl std::error::Error for Violation {}

/// Which attempts are nodes of the serialisation graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// Those that committed.
    Committed,
    /// All; those that aborted as readers.
    All,
}

/// A version of an object: its number and its writer.
type Versions = Vec<(u64, usize)>;

impl History {
    /// Adds an attempt. Its writes count only if it committed; its reads of its own writes are left out.
    pub fn push(&mut self, thread: u32, stamps: Stamps, committed: bool, reads: &[Access], writes: &[Access]) {
        self.accesses.extend_from_slice(reads);
        self.close(thread, stamps, committed, writes);
    }

    /// Notes a read of the attempt that is added next, with [`close`](Self::close).
    #[inline]
    pub(crate) fn read_by_next(&mut self, access: Access) {
        self.accesses.push(access);
    }

    /// Adds an attempt whose reads have been noted. Its writes count only if it committed.
    #[inline]
    pub(crate) fn close(&mut self, thread: u32, stamps: Stamps, committed: bool, writes: &[Access]) {
        let first = self.records.last().map_or(0, |last| last.first + (last.reads + last.writes) as usize);
        let reads = self.accesses.len() - first;
        let writes = if committed { writes } else { &[] };
        self.accesses.extend_from_slice(writes);
        let Stamps { begin, commit, end } = stamps;
        let (reads, writes) = (reads as u32, writes.len() as u32);
        self.records.push(Record { thread, committed, reads, writes, first, begin, commit, end });
    }

    /// Makes room for so many attempts of so many accesses.
    pub(crate) fn reserve(&mut self, attempts: usize, accesses: usize) {
        self.records.reserve(attempts);
        self.accesses.reserve(attempts * accesses);
    }

    /// Adds all attempts of another history.
    pub fn append(&mut self, other: &History) {
        let offset = self.accesses.len();
        self.accesses.extend_from_slice(&other.accesses);
        self.records.extend(other.records.iter().map(|record| Record { first: record.first + offset, ..*record }));
    }

    /// How many attempts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many attempts committed.
    #[must_use]
    pub fn committed(&self) -> usize {
        self.records.iter().filter(|record| record.committed).count()
    }

    fn reads(&self, record: &Record) -> &[Access] {
        &self.accesses[record.first..][..record.reads as usize]
    }

    fn writes(&self, record: &Record) -> &[Access] {
        &self.accesses[record.first + record.reads as usize..][..record.writes as usize]
    }

    /// The committed versions of each object, in their order.
    fn versions(&self) -> Result<HashMap<u32, Versions>, Violation> {
        let mut versions: HashMap<u32, Versions> = HashMap::new();
        for (index, record) in self.records.iter().enumerate() {
            for &(object, version) in self.writes(record) {
                versions.entry(object).or_default().push((version, index));
            }
        }
        for (&object, versions) in &mut versions {
            versions.sort_unstable();
            if let Some(pair) = versions.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                let access = (object, pair[0].0);
                return Err(Violation::SameVersion { attempts: (pair[0].1, pair[1].1), access });
            }
        }
        Ok(versions)
    }

    /// The writer of a version and that of the next, or none where it is the first state or the last.
    fn around(
        versions: &HashMap<u32, Versions>,
        attempt: usize,
        access: Access,
    ) -> Result<(Option<usize>, Option<usize>), Violation> {
        let none = Versions::new();
        let versions = versions.get(&access.0).unwrap_or(&none);
        let at = versions.partition_point(|(version, _)| *version < access.1);
        if access.1 == 0 {
            return Ok((None, versions.first().map(|(_, writer)| *writer)));
        }
        match versions.get(at) {
            Some((version, writer)) if *version == access.1 => {
                Ok((Some(*writer), versions.get(at + 1).map(|(_, next)| *next)))
            }
            _ => Err(Violation::DirtyRead { attempt, access }),
        }
    }

    /// Checks that each attempt, committed or not, has read versions that were all valid at one moment between its begin and its end.
    ///
    /// # Errors
    /// The first attempt for which there is no such moment.
    pub fn intervals(&self) -> Result<(), Violation> {
        let versions = self.versions()?;
        for (attempt, record) in self.records.iter().enumerate() {
            // The earliest and the latest moment at which all reads so far can have been valid, and who is responsible.
            let mut from = (record.begin, None);
            let mut until = (record.end, None);
            for &access in self.reads(record) {
                let (writer, next) = Self::around(&versions, attempt, access)?;
                if let Some(writer) = writer
                    && self.records[writer].commit > from.0
                {
                    from = (self.records[writer].commit, Some(access));
                }
                if let Some(next) = next
                    && next != attempt
                    && self.records[next].end < until.0
                {
                    until = (self.records[next].end, Some(access));
                }
                if from.0 > until.0 {
                    let between = (until.1.unwrap_or(access), from.1.unwrap_or(access));
                    return Err(Violation::NoMoment { attempt, between });
                }
            }
        }
        Ok(())
    }

    /// Checks that the serialisation graph has no cycle: that there is one serial order which explains all versions read and written, and
    /// in which whoever ended before another began comes before it.
    ///
    /// # Errors
    /// A cycle.
    pub fn graph(&self, nodes: Nodes) -> Result<(), Violation> {
        let versions = self.versions()?;
        let count = self.records.len();
        let is_node = |index: usize| nodes == Nodes::All || self.records[index].committed;
        let mut edges: Vec<(u32, u32)> = Vec::new();
        for (attempt, record) in self.records.iter().enumerate().filter(|(index, _)| is_node(*index)) {
            for &access in self.reads(record) {
                let (writer, next) = Self::around(&versions, attempt, access)?;
                // Read what it wrote, before the next replaced it.
                edges.extend(writer.filter(|writer| *writer != attempt).map(|writer| (writer as u32, attempt as u32)));
                edges.extend(next.filter(|next| *next != attempt).map(|next| (attempt as u32, next as u32)));
            }
        }
        for versions in versions.values() {
            edges.extend(versions.windows(2).map(|pair| (pair[0].1 as u32, pair[1].1 as u32)));
        }
        // Real time: one extra node for each end, in a chain; everyone leads to its own end, and the last end before a begin leads to that.
        let mut ends: Vec<(u64, u32)> =
            (0..count).filter(|index| is_node(*index)).map(|index| (self.records[index].end, index as u32)).collect();
        ends.sort_unstable();
        let chain = |rank: usize| (count + rank) as u32;
        for (rank, (_, attempt)) in ends.iter().enumerate() {
            edges.push((*attempt, chain(rank)));
            if rank > 0 {
                edges.push((chain(rank - 1), chain(rank)));
            }
        }
        for (attempt, record) in self.records.iter().enumerate().filter(|(index, _)| is_node(*index)) {
            let before = ends.partition_point(|(end, _)| *end < record.begin);
            if before > 0 {
                edges.push((chain(before - 1), attempt as u32));
            }
        }
        match find_cycle(count + ends.len(), &edges) {
            None => Ok(()),
            Some(cycle) => Err(Violation::Cycle(
                cycle.into_iter().map(|node| node as usize).filter(|node| *node < count).collect(),
            )),
        }
    }

    /// Runs all checks.
    ///
    /// # Errors
    /// The first violation.
    pub fn check(&self) -> Result<(), Violation> {
        self.intervals()?;
        self.graph(Nodes::Committed)?;
        self.graph(Nodes::All)
    }

    /// Writes the history as JSON lines.
    ///
    /// # Errors
    /// If writing fails.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        for record in &self.records {
            let line = json!({
                "thread": record.thread,
                "begin": record.begin,
                "commit": record.commit,
                "end": record.end,
                "committed": record.committed,
                "reads": self.reads(record),
                "writes": self.writes(record),
            });
            writeln!(to, "{line}")?;
        }
        Ok(())
    }

    /// Reads a history of JSON lines.
    ///
    /// # Errors
    /// If reading fails, or with [`io::ErrorKind::InvalidData`] and the number of the line that is no attempt.
    pub fn read(from: impl BufRead) -> io::Result<History> {
        let mut history = History::default();
        for (number, line) in from.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let wrong =
                |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {what}", number + 1));
            let value: Value = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            history.push_value(&value).map_err(wrong)?;
        }
        Ok(history)
    }

    fn push_value(&mut self, value: &Value) -> Result<(), String> {
        let number = |name: &str| {
            value.get(name).and_then(Value::as_u64).ok_or_else(|| format!("`{name}` must be a whole number"))
        };
        let accesses = |name: &str| -> Result<Vec<Access>, String> {
            let wrong = || format!("`{name}` must be a list of pairs [object, version]");
            let list = value.get(name).and_then(Value::as_array).ok_or_else(wrong)?;
            let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
                Some([object, version]) => Some((u32::try_from(object.as_u64()?).ok()?, version.as_u64()?)),
                _ => None,
            };
            list.iter().map(|entry| pair(entry).ok_or_else(wrong)).collect()
        };
        let committed = value.get("committed").and_then(Value::as_bool).ok_or("`committed` must be true or false")?;
        let stamps = Stamps { begin: number("begin")?, commit: number("commit")?, end: number("end")? };
        let thread = u32::try_from(number("thread")?).map_err(|_| "`thread` is too large".to_owned())?;
        self.push(thread, stamps, committed, &accesses("reads")?, &accesses("writes")?);
        Ok(())
    }
}

/// A cycle in a directed graph, if there is one: Kahn's topological sort, and a walk through what it leaves over.
fn find_cycle(nodes: usize, edges: &[(u32, u32)]) -> Option<Vec<u32>> {
    let mut start = vec![0_u32; nodes + 1];
    let mut incoming = vec![0_u32; nodes];
    for &(from, to) in edges {
        start[from as usize + 1] += 1;
        incoming[to as usize] += 1;
    }
    for node in 0..nodes {
        start[node + 1] += start[node];
    }
    let mut targets = vec![0_u32; edges.len()];
    let mut fill = start.clone();
    for &(from, to) in edges {
        let at = &mut fill[from as usize];
        targets[*at as usize] = to;
        *at += 1;
    }
    let out = |node: u32| &targets[start[node as usize] as usize..start[node as usize + 1] as usize];
    let mut free: Vec<u32> = (0..nodes as u32).filter(|node| incoming[*node as usize] == 0).collect();
    let mut sorted = 0;
    while let Some(node) = free.pop() {
        sorted += 1;
        for &target in out(node) {
            let left = &mut incoming[target as usize];
            *left -= 1;
            if *left == 0 {
                free.push(target);
            }
        }
    }
    if sorted == nodes {
        return None;
    }
    // Each node left over has a predecessor left over: walking backwards must come round.
    let mut back: HashMap<u32, u32> = HashMap::new();
    for &(from, to) in edges {
        if incoming[from as usize] > 0 && incoming[to as usize] > 0 {
            back.insert(to, from);
        }
    }
    let mut at = *back.keys().min()?;
    let mut seen: HashMap<u32, usize> = HashMap::new();
    let mut way = Vec::new();
    while !seen.contains_key(&at) {
        seen.insert(at, way.len());
        way.push(at);
        at = *back.get(&at)?;
    }
    let mut cycle = way.split_off(seen[&at]);
    cycle.reverse();
    Some(cycle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(begin: u64, commit: u64, end: u64) -> Stamps {
        Stamps { begin, commit, end }
    }

    /// Two objects written together, by one after the other.
    fn two_writers() -> History {
        let mut history = History::default();
        history.push(0, stamps(0, 10, 12), true, &[(0, 0), (1, 0)], &[(0, 1), (1, 1)]);
        history.push(0, stamps(20, 30, 32), true, &[(0, 1), (1, 1)], &[(0, 2), (1, 2)]);
        history
    }

    #[test]
    fn a_serial_history_is_accepted() {
        let mut history = two_writers();
        history.push(1, stamps(13, 25, 40), false, &[(0, 1), (1, 1)], &[]);
        assert_eq!(history.check(), Ok(()));
    }

    #[test]
    fn a_zombie_is_seen_by_the_intervals_and_not_by_the_graph_of_the_committed() {
        let mut history = two_writers();
        history.push(1, stamps(5, 35, 40), false, &[(0, 0), (1, 2)], &[]);
        assert_eq!(history.intervals(), Err(Violation::NoMoment { attempt: 2, between: ((0, 0), (1, 2)) }));
        assert_eq!(history.graph(Nodes::Committed), Ok(()));
        assert!(matches!(history.graph(Nodes::All), Err(Violation::Cycle(_))));
    }

    #[test]
    fn a_lost_update_is_a_cycle() {
        let mut history = History::default();
        history.push(0, stamps(0, 10, 12), true, &[(0, 0)], &[(0, 1)]);
        history.push(1, stamps(1, 10, 12), true, &[(0, 0)], &[(0, 2)]);
        assert!(matches!(history.graph(Nodes::Committed), Err(Violation::Cycle(cycle)) if cycle.len() == 2));
    }

    #[test]
    fn write_skew_is_a_cycle() {
        let mut history = History::default();
        history.push(0, stamps(0, 10, 12), true, &[(0, 0), (1, 0)], &[(0, 1)]);
        history.push(1, stamps(1, 10, 12), true, &[(0, 0), (1, 0)], &[(1, 1)]);
        assert_eq!(history.intervals(), Ok(()));
        assert!(matches!(history.graph(Nodes::Committed), Err(Violation::Cycle(_))));
    }

    #[test]
    fn dirty_and_stale_reads_and_doubled_versions_are_seen() {
        let mut history = two_writers();
        history.push(1, stamps(13, 25, 40), false, &[(0, 7)], &[]);
        let dirty = Violation::DirtyRead { attempt: 2, access: (0, 7) };
        assert_eq!((history.intervals(), history.graph(Nodes::All)), (Err(dirty.clone()), Err(dirty)));
        let mut history = two_writers();
        history.push(1, stamps(33, 35, 40), true, &[(0, 1)], &[]);
        assert!(matches!(history.intervals(), Err(Violation::NoMoment { attempt: 2, .. })));
        assert!(matches!(history.graph(Nodes::Committed), Err(Violation::Cycle(_))), "read after it was replaced");
        let mut history = two_writers();
        history.push(1, stamps(33, 35, 40), true, &[(0, 1)], &[(0, 2)]);
        assert!(matches!(history.check(), Err(Violation::SameVersion { attempts: (1, 2), access: (0, 2) })));
    }

    #[test]
    fn a_history_survives_a_file() {
        let mut history = two_writers();
        history.push(1, stamps(13, 25, 40), false, &[(0, 1), (1, 1)], &[]);
        let mut file = Vec::new();
        history.write(&mut file).unwrap();
        assert_eq!(History::read(&*file).unwrap(), history);
        let error = History::read(&b"{\"thread\":0}\n"[..]).unwrap_err();
        assert_eq!(error.to_string(), "line 1: `committed` must be true or false");
    }
}
