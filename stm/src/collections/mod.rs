//! Transactional data structures, versioned in parts.
//!
//! A `TVar<HashMap<K, V>>` is one object: every writer conflicts with everybody. The structures here consist of many small objects, so
//! that two transactions conflict only if they touch the same part. Every operation takes the running transaction and is as atomic
//! as the transaction is: several operations on several structures belong to one state and take effect at once.
//!
//! | structure | parts, each an object of its own | conflicts |
//! | --- | --- | --- |
//! | [`TMap`] | a slot of the hash trie; the value of each key; the length by thread | same key, or a key added or removed in the same slot |
//! | [`TSet`] | as `TMap` | as `TMap` |
//! | [`TOrderedMap`] | a child of a B+-tree node; the value of each key; the length by thread | same key, or a key added or removed in the same leaf |
//! | [`TQueue`] | head, tail, the link of each node | pushes among each other, pops among each other; one with the other only where the queue is empty |
//! | [`TVec`] | each element; the fill of each chunk; the length | same index; `push` and `pop` among each other |
//! | [`TCounter`] | one summand by thread | reading it with adding to it; never additions |
//!
//! All are handles: a clone is another handle to the same structure.
//!
//! # How they are built
//!
//! Nodes are immutable but for their cells, words with a header, which are accessed through the barriers of the protocol in
//! force. A node created in a transaction is freed if that aborts; one that a transaction unlinks is retired when it commits, and freed
//! once no transaction is left that may have reached it. So a reference to a node is good until the end of the attempt.
//! Nothing here depends on the protocol.

mod btree;
mod cell;
mod counter;
mod map;
mod ordered;
#[cfg(test)]
mod phantoms;
mod queue;
mod set;
mod shared;
mod trie;
mod vector;

pub use counter::TCounter;
pub use map::{Change, TMap};
pub use ordered::TOrderedMap;
pub use queue::TQueue;
pub use set::TSet;
pub use vector::TVec;
