//! Making residual programs readable, without changing what they do or where they fail.
//!
//! Specialising block by block leaves many small blocks. Three steps, in this order:
//!
//! 1. *Jump threading*: who jumps to a block that only jumps on is sent on directly.
//! 2. *Merging equal blocks*: blocks are equal if they do the same and go on in equal blocks. This is the coarsest such
//!    relation, found by splitting classes until nothing splits any more, so that equal loops merge as well.
//! 3. *Merging chains*: a block with a single predecessor that does nothing but jump there is appended to it.
//!
//! The second comes before the third because a chain that has swallowed what leads up to a loop is not equal to the loop any more.
//! Blocks that stand for different places in the source are never equal, since a failure must be reported at its own place.

use std::collections::HashMap;

use crate::flowgraph::program::{Block, BlockId, End, Terminator};
use crate::model::specialize::Residual;
use crate::source::Span;

/// Cleans a residual program up. Its entry stays the first block.
#[must_use]
pub fn cleanup(mut residual: Residual) -> Residual {
    let mut blocks = std::mem::take(&mut residual.program.functions[0].blocks);
    thread_jumps(&mut blocks);
    merge_equal(&mut blocks);
    merge_chains(&mut blocks);
    let order = reachable(&blocks);
    let mut place = vec![BlockId(0); blocks.len()];
    for (new, old) in order.iter().enumerate() {
        place[old.index()] = BlockId::from(new);
    }
    residual.keys = order.iter().map(|old| std::mem::take(&mut residual.keys[old.index()])).collect();
    residual.program.functions[0].blocks = order
        .iter()
        .map(|old| {
            let mut block = blocks[old.index()].clone();
            block.end.terminator.map_successors(|successor| place[successor.index()]);
            block
        })
        .collect();
    residual
}

/// The block that a jump to `id` ends up in, blocks that only jump being passed over.
fn destination(blocks: &[Block], id: BlockId) -> BlockId {
    let mut at = id;
    // Empty blocks may jump in a circle; that many steps go once around any.
    for _ in 0..blocks.len() {
        match blocks[at.index()] {
            Block { ref ops, end: End { terminator: Terminator::Goto(then), .. }, .. } if ops.is_empty() => at = then,
            _ => return at,
        }
    }
    at
}

fn thread_jumps(blocks: &mut [Block]) {
    let destinations: Vec<BlockId> = (0..blocks.len()).map(|index| destination(blocks, BlockId::from(index))).collect();
    for block in blocks.iter_mut() {
        block.end.terminator.map_successors(|successor| destinations[successor.index()]);
    }
}

fn merge_equal(blocks: &mut [Block]) {
    // What a block does by itself, as a number: its operations and its end, without where that leads.
    let mut shapes: HashMap<String, usize> = HashMap::new();
    let own: Vec<usize> = blocks
        .iter()
        .map(|block| {
            let mut end = block.end.clone();
            end.terminator.map_successors(|_| BlockId(0));
            if matches!(end.terminator, Terminator::Goto(_)) {
                end.span = Span::default();
            }
            let fresh = shapes.len();
            *shapes.entry(format!("{:?}{end:?}", block.ops)).or_insert(fresh)
        })
        .collect();
    let mut classes = own.clone();
    let mut count = shapes.len();
    loop {
        let mut numbers: HashMap<(usize, Vec<usize>), usize> = HashMap::new();
        let next = (0..blocks.len()).map(|index| {
            let successors =
                blocks[index].end.terminator.successors().map(|successor| classes[successor.index()]).collect();
            let fresh = numbers.len();
            *numbers.entry((own[index], successors)).or_insert(fresh)
        });
        classes = next.collect();
        if numbers.len() == count {
            break;
        }
        count = numbers.len();
    }
    let mut first: Vec<Option<BlockId>> = vec![None; count];
    for (index, &class) in classes.iter().enumerate() {
        first[class].get_or_insert(BlockId::from(index));
    }
    for block in blocks.iter_mut() {
        block.end.terminator.map_successors(|successor| first[classes[successor.index()]].unwrap_or(successor));
    }
}

fn merge_chains(blocks: &mut [Block]) {
    let mut predecessors = vec![0_usize; blocks.len()];
    // The entry has the caller as a predecessor.
    predecessors[0] = 1;
    for id in reachable(blocks) {
        for successor in blocks[id.index()].end.terminator.successors() {
            predecessors[successor.index()] += 1;
        }
    }
    let mut absorbed = vec![false; blocks.len()];
    for id in reachable(blocks) {
        if absorbed[id.index()] {
            continue;
        }
        while let Terminator::Goto(then) = blocks[id.index()].end.terminator
            && predecessors[then.index()] == 1
            && then != id
        {
            absorbed[then.index()] = true;
            let Block { ops, end, .. } = blocks[then.index()].clone();
            blocks[id.index()].ops.extend(ops);
            blocks[id.index()].end = end;
        }
    }
}

/// The blocks that can be reached from the first, each before what it leads to where there is a choice.
fn reachable(blocks: &[Block]) -> Vec<BlockId> {
    let mut order = Vec::new();
    let mut seen = vec![false; blocks.len()];
    let mut pending = vec![BlockId(0)];
    while let Some(id) = pending.pop() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        order.push(id);
        let successors: Vec<BlockId> = blocks[id.index()].end.terminator.successors().collect();
        pending.extend(successors.into_iter().rev());
    }
    order
}
