//! Client programs for the model checker, enumerated by class.
//!
//! A class says how many transactions each thread runs: `2+1` is two on the first thread and one on the second. A transaction is a
//! sequence of at most two reads and writes of two objects `x` and `y`; each write has a value of its own. A class holds *all* such
//! programs
//!
//! - up to renaming the objects and the threads, and
//! - in which every thread has a conflict with another one (a common object that one of them writes); a thread without one cannot
//!   influence the others, so the program says nothing that a smaller class does not.
//!
//! Two threads and two objects suffice for protocols whose behaviour does not depend on which objects and threads there are beside those
//! in a conflict (Guerraoui, Henzinger and Singh, "Model checking transactional memories", Distributed Computing 2010, name the
//! properties). What a protocol of this crate does with a third object it also does with the second; the classes with three
//! threads are there for those whose transactions help or overtake each other.
//!
//! Programs are written `rx wy; wx! | ry`: threads are separated by `|`, a thread's transactions by `;`. A transaction ending in `!` fails by
//! its own error and is rolled back; one that begins with `?` is read-only, with `*` irrevocable.

use std::fmt;
use std::str::FromStr;

use crate::attempt::Mode;

/// One access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Op {
    /// Reads an object.
    Read(u8),
    /// Writes an object.
    Write(u8),
}

impl Op {
    fn object(self) -> u8 {
        match self {
            Op::Read(object) | Op::Write(object) => object,
        }
    }

    /// With `x` and `y`, which are all that a class has, in each other's place.
    fn swapped(self) -> Self {
        match self {
            Op::Read(object) => Op::Read(object ^ 1),
            Op::Write(object) => Op::Write(object ^ 1),
        }
    }
}

/// How a transaction runs and ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// It asks to commit.
    Update,
    /// Its body fails at the end, so that it must leave no trace.
    Fails,
    /// It is declared to read only.
    ReadOnly,
    /// It runs irrevocably.
    Irrevocable,
}

impl Kind {
    /// The mode of its attempt.
    #[must_use]
    pub fn mode(self) -> Mode {
        match self {
            Kind::Update | Kind::Fails => Mode::Update,
            Kind::ReadOnly => Mode::ReadOnly,
            Kind::Irrevocable => Mode::Irrevocable,
        }
    }
}

/// One transaction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Transaction {
    /// How it runs and ends.
    pub kind: Kind,
    /// Its accesses.
    pub ops: Vec<Op>,
}

impl Transaction {
    fn writes(&self, object: u8) -> bool {
        self.ops.contains(&Op::Write(object))
    }

    fn conflicts_with(&self, other: &Transaction) -> bool {
        let touches = |transaction: &Transaction, object| transaction.ops.iter().any(|op| op.object() == object);
        (0..NAMES.len() as u8).any(|object| {
            (self.writes(object) && touches(other, object)) || (other.writes(object) && touches(self, object))
        })
    }

    fn swapped(&self) -> Self {
        Transaction { kind: self.kind, ops: self.ops.iter().map(|op| op.swapped()).collect() }
    }
}

/// A program: for each thread its transactions, one after the other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Program {
    /// The threads.
    pub threads: Vec<Vec<Transaction>>,
}

impl Program {
    /// The value written by an access: distinct for all writes of a program, and not 0, with which objects begin.
    #[must_use]
    pub fn value(thread: usize, transaction: usize, op: usize) -> u64 {
        (100 * (thread + 1) + 10 * (transaction + 1) + op + 1) as u64
    }

    /// The number of accesses.
    #[must_use]
    pub fn size(&self) -> usize {
        self.threads.iter().flatten().map(|transaction| transaction.ops.len()).sum()
    }

    /// How many objects it needs.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.threads.iter().flatten().flat_map(|t| &t.ops).map(|op| usize::from(op.object()) + 1).max().unwrap_or(0)
    }

    fn swapped(&self) -> Self {
        let threads = self.threads.iter().map(|thread| thread.iter().map(Transaction::swapped).collect()).collect();
        Program { threads }
    }

    /// Whether it stands for all programs that differ from it by names only.
    fn is_canonical(&self) -> bool {
        let sorted = |mut program: Program| {
            // Longer threads first, as classes are named.
            program.threads.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            program
        };
        let this = sorted(self.clone());
        *self == this && this <= sorted(self.swapped())
    }

    /// Whether every thread has a conflict with another one.
    fn is_connected(&self) -> bool {
        (0..self.threads.len()).all(|a| {
            (0..self.threads.len()).any(|b| {
                a != b && self.threads[a].iter().any(|t| self.threads[b].iter().any(|other| t.conflicts_with(other)))
            })
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, thread) in self.threads.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " | " })?;
            for (index, transaction) in thread.iter().enumerate() {
                f.write_str(if index == 0 { "" } else { "; " })?;
                f.write_str(match transaction.kind {
                    Kind::ReadOnly => "?",
                    Kind::Irrevocable => "*",
                    _ => "",
                })?;
                for (index, op) in transaction.ops.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { " " })?;
                    match op {
                        Op::Read(object) => write!(f, "r{}", name(*object))?,
                        Op::Write(object) => write!(f, "w{}", name(*object))?,
                    }
                }
                f.write_str(if transaction.kind == Kind::Fails { "!" } else { "" })?;
            }
        }
        Ok(())
    }
}

/// The names of objects.
const NAMES: [char; 4] = ['x', 'y', 'z', 'u'];

/// The name of an object.
#[must_use]
pub fn name(object: u8) -> char {
    NAMES[usize::from(object)]
}

/// A text that is no program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAProgram(String);

impl fmt::Display for NotAProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no access; expected `r` or `w` and one of x, y, z, u, as in `rx wy; wx! | ry`", self.0)
    }
}

impl std::error::Error for NotAProgram {}

impl FromStr for Program {
    type Err = NotAProgram;

    fn from_str(text: &str) -> Result<Self, NotAProgram> {
        let transaction = |text: &str| {
            let text = text.trim();
            let (kind, ops) = if let Some(ops) = text.strip_suffix('!') {
                (Kind::Fails, ops)
            } else if let Some(ops) = text.strip_prefix('?') {
                (Kind::ReadOnly, ops)
            } else if let Some(ops) = text.strip_prefix('*') {
                (Kind::Irrevocable, ops)
            } else {
                (Kind::Update, text)
            };
            let op = |word: &str| {
                let (access, object) = word.split_at_checked(1)?;
                let object = NAMES.iter().position(|name| name.to_string() == object)? as u8;
                match access {
                    "r" => Some(Op::Read(object)),
                    "w" => Some(Op::Write(object)),
                    _ => None,
                }
            };
            let op = |word: &str| op(word).ok_or_else(|| NotAProgram(word.to_owned()));
            let ops: Vec<Op> = ops.split_whitespace().map(op).collect::<Result<_, _>>()?;
            if ops.is_empty() {
                return Err(NotAProgram(text.to_owned()));
            }
            if kind == Kind::ReadOnly && ops.iter().any(|op| matches!(op, Op::Write(_))) {
                return Err(NotAProgram(text.to_owned()));
            }
            Ok(Transaction { kind, ops })
        };
        let threads = text.split('|').map(|thread| thread.split(';').map(transaction).collect());
        Ok(Program { threads: threads.collect::<Result<_, _>>()? })
    }
}

/// A class of programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    /// The transactions of each thread.
    pub threads: &'static [usize],
    /// The kind of exactly one of the transactions; the others are updates.
    pub one: Kind,
    /// The most accesses of all transactions together.
    pub accesses: usize,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.threads.iter().map(ToString::to_string).collect();
        f.write_str(&counts.join("+"))?;
        f.write_str(match self.one {
            Kind::Update => "",
            Kind::Fails => ", one fails",
            Kind::ReadOnly => ", one read-only",
            Kind::Irrevocable => ", one irrevocable",
        })?;
        if self.accesses < usize::MAX { write!(f, ", up to {} accesses", self.accesses) } else { Ok(()) }
    }
}

impl Class {
    /// Two threads with one transaction each.
    pub const ONE_ONE: Class = Class { threads: &[1, 1], one: Kind::Update, accesses: usize::MAX };
    /// Two transactions against one.
    pub const TWO_ONE: Class = Class { threads: &[2, 1], one: Kind::Update, accesses: usize::MAX };
    /// Two threads with two transactions each.
    pub const TWO_TWO: Class = Class { threads: &[2, 2], one: Kind::Update, accesses: usize::MAX };
    /// Three threads with one transaction each.
    pub const ONE_ONE_ONE: Class = Class { threads: &[1, 1, 1], one: Kind::Update, accesses: usize::MAX };

    /// The programs of the class with no more accesses than these.
    #[must_use]
    pub const fn up_to(self, accesses: usize) -> Class {
        Class { accesses, ..self }
    }

    /// The same class with one transaction of this kind.
    #[must_use]
    pub const fn with_one(self, one: Kind) -> Class {
        Class { one, ..self }
    }

    /// Its programs, smallest first.
    #[must_use]
    pub fn programs(self) -> Vec<Program> {
        let plain = shapes(Kind::Update);
        let total: usize = self.threads.iter().sum();
        let mut programs = Vec::new();
        if self.one == Kind::Update {
            self.extend(&mut programs, &vec![&plain; total]);
        } else {
            let special = shapes(self.one);
            for position in 0..total {
                let mut choices = vec![&plain; total];
                choices[position] = &special;
                self.extend(&mut programs, &choices);
            }
        }
        programs.sort_by_cached_key(|program| (program.size(), program.clone()));
        programs.dedup();
        programs
    }

    /// Adds the programs of which the n-th transaction is among the n-th choices.
    fn extend(self, programs: &mut Vec<Program>, choices: &[&Vec<Transaction>]) {
        let mut at = vec![0; choices.len()];
        loop {
            let mut transactions = at.iter().zip(choices).map(|(&index, choice)| choice[index].clone());
            let threads = self.threads.iter().map(|&count| transactions.by_ref().take(count).collect()).collect();
            let program = Program { threads };
            if program.size() <= self.accesses && program.is_connected() && program.is_canonical() {
                programs.push(program);
            }
            let Some(position) = (0..at.len()).rev().find(|&position| at[position] + 1 < choices[position].len())
            else {
                return;
            };
            at[position] += 1;
            at[position + 1..].fill(0);
        }
    }
}

/// The transactions of one kind.
fn shapes(kind: Kind) -> Vec<Transaction> {
    let ops = [Op::Read(0), Op::Read(1), Op::Write(0), Op::Write(1)];
    let one = ops.iter().map(|&a| vec![a]);
    let two = ops.iter().flat_map(|&a| ops.iter().map(move |&b| vec![a, b]));
    let is_write = |op: &Op| matches!(op, Op::Write(_));
    one.chain(two)
        .filter(|ops| match kind {
            Kind::Update | Kind::Irrevocable => true,
            // One that has written nothing has nothing to undo.
            Kind::Fails => ops.iter().any(is_write),
            Kind::ReadOnly => !ops.iter().any(is_write),
        })
        .map(|ops| Transaction { kind, ops })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_as_it_is_written() {
        for class in [Class::ONE_ONE, Class::TWO_ONE.with_one(Kind::Fails), Class::ONE_ONE.with_one(Kind::ReadOnly)] {
            for program in class.programs() {
                assert_eq!(program.to_string().parse(), Ok(program));
            }
        }
        assert_eq!("rx | rq".parse::<Program>().unwrap_err().0, "rq");
        assert_eq!("?wx | rx".parse::<Program>().unwrap_err().0, "?wx");
        assert!("rx | ".parse::<Program>().is_err());
    }

    #[test]
    fn classes_hold_each_program_once() {
        let counts: Vec<(String, usize)> = [
            Class::ONE_ONE,
            Class::ONE_ONE.with_one(Kind::Fails),
            Class::ONE_ONE.with_one(Kind::ReadOnly),
            Class::ONE_ONE.with_one(Kind::Irrevocable),
            Class::TWO_ONE,
            Class::TWO_ONE.with_one(Kind::Fails),
            Class::ONE_ONE_ONE,
            Class::TWO_TWO.up_to(5),
        ]
        .iter()
        .map(|class| (class.to_string(), class.programs().len()))
        .collect();
        let counts: Vec<(&str, usize)> = counts.iter().map(|(class, count)| (class.as_str(), *count)).collect();
        assert_eq!(
            counts,
            [
                ("1+1", 76),
                ("1+1, one fails", 112),
                ("1+1, one read-only", 30),
                ("1+1, one irrevocable", 142),
                ("2+1", 3524),
                ("2+1, one fails", 7768),
                ("1+1+1", 562),
                ("2+2, up to 5 accesses", 957),
            ]
        );
    }

    #[test]
    fn renamed_programs_are_one() {
        let programs = Class::ONE_ONE.programs();
        let has = |text: &str| programs.contains(&text.parse().unwrap());
        assert!(has("rx wy | ry wx"));
        assert!(has("rx ry | wx wy"));
        assert!(!(has("rx wx | wx") && has("ry wy | wy")), "the same up to the name of the object");
        assert!(!has("rx | ry"), "no conflict");
    }
}
