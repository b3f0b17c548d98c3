//! The members of a sorted set, by name and by rank.
//!
//! Transactions want a set of which a change shares all but a little with the set before, and Redis wants ranks. A weight-balanced tree has both:
//! each node knows how many entries are below it, and a change copies the path to it. The bounds are those of Hirai and Yamamoto, "Balancing
//! weight-balanced trees" (Journal of Functional Programming 21, 2011).

use std::cmp::Ordering;
use std::sync::Arc;

use crate::value::{Bytes, Table};

/// A score, ordered as numbers are. There is no NaN among them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Score(pub(crate) f64);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

/// The members of a sorted set, by name and by score.
#[derive(Clone, Default)]
pub(crate) struct Ranking {
    pub(crate) members: Table<f64>,
    pub(crate) order: Order,
}

impl Ranking {
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many members fulfil a condition that some of the lowest fulfil and no others.
    pub(crate) fn count_while(&self, condition: impl Fn(&Entry) -> bool) -> usize {
        self.order.count_while(condition)
    }

    /// How many members stand before this one.
    pub(crate) fn rank(&self, score: f64, member: &[u8]) -> usize {
        self.count_while(|(own, name)| (*own, &**name) < (Score(score), member))
    }

    pub(crate) fn insert(&mut self, member: &[u8], score: f64) -> bool {
        if let Some(old) = self.members.get(member).copied() {
            if old == score {
                return false;
            }
            self.order.remove(self.rank(old, member));
        }
        self.order.insert((Score(score), member.into()));
        self.members.insert(member, score)
    }

    pub(crate) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.members.remove(member)?;
        self.order.remove(self.rank(score, member));
        Some(score)
    }
}

/// A member after its score.
pub(crate) type Entry = (Score, Bytes);

/// Entries in order.
#[derive(Clone, Default)]
pub(crate) struct Order(Tree);

type Tree = Option<Arc<Node>>;

struct Node {
    size: usize,
    entry: Entry,
    left: Tree,
    right: Tree,
}

/// How many times as heavy as its sibling a subtree may be.
const DELTA: usize = 3;

/// How many times as heavy as the outer one the inner subtree of one that is too heavy may be, if a single rotation is to do.
const GAMMA: usize = 2;

fn size(tree: &Tree) -> usize {
    tree.as_ref().map_or(0, |node| node.size)
}

fn weight(tree: &Tree) -> usize {
    size(tree) + 1
}

fn node(entry: Entry, left: Tree, right: Tree) -> Tree {
    Some(Arc::new(Node { size: size(&left) + size(&right) + 1, entry, left, right }))
}

/// An entry between two subtrees that were in balance before one of them gained or lost an entry.
fn balanced(entry: Entry, left: Tree, right: Tree) -> Tree {
    match (&left, &right) {
        (_, Some(heavy)) if weight(&right) > DELTA * weight(&left) => {
            let Node { entry: upper, left: inner, right: outer, .. } = &**heavy;
            match inner {
                Some(inner) if inner.size + 1 >= GAMMA * weight(outer) => {
                    let lower = node(entry, left, inner.left.clone());
                    node(inner.entry.clone(), lower, node(upper.clone(), inner.right.clone(), outer.clone()))
                }
                _ => node(upper.clone(), node(entry, left, inner.clone()), outer.clone()),
            }
        }
        (Some(heavy), _) if weight(&left) > DELTA * weight(&right) => {
            let Node { entry: lower, left: outer, right: inner, .. } = &**heavy;
            match inner {
                Some(inner) if inner.size + 1 >= GAMMA * weight(outer) => {
                    let upper = node(entry, inner.right.clone(), right);
                    node(inner.entry.clone(), node(lower.clone(), outer.clone(), inner.left.clone()), upper)
                }
                _ => node(lower.clone(), outer.clone(), node(entry, inner.clone(), right)),
            }
        }
        _ => node(entry, left, right),
    }
}

fn inserted(tree: &Tree, entry: Entry) -> Tree {
    let Some(own) = tree else { return node(entry, None, None) };
    if entry < own.entry {
        balanced(own.entry.clone(), inserted(&own.left, entry), own.right.clone())
    } else {
        balanced(own.entry.clone(), own.left.clone(), inserted(&own.right, entry))
    }
}

fn removed(tree: &Tree, rank: usize) -> Tree {
    let own = tree.as_ref()?;
    let below = size(&own.left);
    match rank.cmp(&below) {
        Ordering::Less => balanced(own.entry.clone(), removed(&own.left, rank), own.right.clone()),
        Ordering::Greater => balanced(own.entry.clone(), own.left.clone(), removed(&own.right, rank - below - 1)),
        // A neighbour from the heavier side takes its place.
        Ordering::Equal if below > size(&own.right) => {
            let last = entries(&own.left, below - 1).next()?.clone();
            balanced(last, removed(&own.left, below - 1), own.right.clone())
        }
        Ordering::Equal => {
            let first = entries(&own.right, 0).next()?.clone();
            balanced(first, own.left.clone(), removed(&own.right, 0))
        }
    }
}

/// The entries from a rank on.
fn entries(mut tree: &Tree, mut rank: usize) -> Entries<'_> {
    let mut path = Vec::new();
    while let Some(node) = tree {
        let below = size(&node.left);
        if rank <= below {
            path.push(&**node);
            tree = &node.left;
        } else {
            rank -= below + 1;
            tree = &node.right;
        }
    }
    Entries { path }
}

impl Order {
    pub(crate) fn insert(&mut self, entry: Entry) {
        self.0 = inserted(&self.0, entry);
    }

    /// Removes the entry of a rank, if there is one.
    pub(crate) fn remove(&mut self, rank: usize) {
        if rank < size(&self.0) {
            self.0 = removed(&self.0, rank);
        }
    }

    fn count_while(&self, condition: impl Fn(&Entry) -> bool) -> usize {
        let (mut tree, mut count) = (&self.0, 0);
        while let Some(node) = tree {
            if condition(&node.entry) {
                count += size(&node.left) + 1;
                tree = &node.right;
            } else {
                tree = &node.left;
            }
        }
        count
    }

    /// The entries from a rank on, in order.
    pub(crate) fn from(&self, rank: usize) -> Entries<'_> {
        entries(&self.0, rank)
    }
}

/// Entries in order.
pub(crate) struct Entries<'a> {
    /// The nodes whose entries come next, the first one last, each followed by those to its right.
    path: Vec<&'a Node>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        let next = self.path.pop()?;
        let mut tree = &next.right;
        while let Some(node) = tree {
            self.path.push(node);
            tree = &node.left;
        }
        Some(&next.entry)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Checks sizes and balance, and returns the size.
    fn check(tree: &Tree) -> usize {
        let Some(node) = tree else { return 0 };
        let (left, right) = (check(&node.left), check(&node.right));
        assert_eq!(node.size, left + right + 1);
        assert!(left + 1 <= DELTA * (right + 1) && right + 1 <= DELTA * (left + 1), "{left} beside {right}");
        node.size
    }

    /// Random changes of a table and a sorted set, tried against the standard library's map.
    #[test]
    fn a_ranking_agrees_with_a_map() {
        let mut seed = 3_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let (mut set, mut model) = (Ranking::default(), BTreeMap::new());
        for round in 0..40_000 {
            let growing = round % 8000 < 5000;
            let member = format!("m{}", random(1000)).into_bytes();
            if random(10) < if growing { 8 } else { 2 } {
                let score = random(50) as f64;
                assert_eq!(set.insert(&member, score), model.insert(member, score).is_none());
            } else {
                assert_eq!(set.remove(&member), model.remove(&member));
            }
            assert_eq!((set.len(), check(&set.order.0)), (model.len(), model.len()));
            if round % 97 == 0 {
                let mut by_score: Vec<_> =
                    model.iter().map(|(member, score)| (Score(*score), Bytes::from(&**member))).collect();
                by_score.sort();
                assert!(set.order.from(0).eq(by_score.iter()));
                for (rank, (score, member)) in by_score.iter().enumerate().step_by(17) {
                    assert_eq!(set.rank(score.0, member), rank);
                    assert!(set.order.from(rank).eq(&by_score[rank..]));
                }
                assert!(model.iter().all(|(member, score)| set.members.get(member) == Some(score)));
            }
        }
    }

    #[test]
    fn a_ranking_that_grows_and_shrinks_in_order_stays_in_balance() {
        let mut set = Ranking::default();
        for number in 0..3000 {
            set.insert(format!("m{number}").as_bytes(), f64::from(number));
            check(&set.order.0);
        }
        for number in 0..3000 {
            assert_eq!(set.remove(format!("m{number}").as_bytes()), Some(f64::from(number)));
            check(&set.order.0);
        }
    }
}
