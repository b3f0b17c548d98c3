//! What the compiler wants to know about a function before it picks instructions: the order of its blocks, which variables are
//! certainly set, which are still wanted, and how often each is used.

use crate::flowgraph::program::{Assign, BlockId, Function, Guard, Operand, Terminator, VarId};

/// A set of variables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct VarSet(Vec<u64>);

impl VarSet {
    fn empty(variables: usize) -> VarSet {
        VarSet(vec![0; variables.div_ceil(64)])
    }

    fn full(variables: usize) -> VarSet {
        VarSet(vec![u64::MAX; variables.div_ceil(64)])
    }

    pub(super) fn has(&self, var: VarId) -> bool {
        self.0[var.index() / 64] >> (var.index() % 64) & 1 != 0
    }

    pub(super) fn insert(&mut self, var: VarId) {
        self.0[var.index() / 64] |= 1 << (var.index() % 64);
    }

    fn remove(&mut self, var: VarId) {
        self.0[var.index() / 64] &= !(1 << (var.index() % 64));
    }

    fn intersect(&mut self, other: &VarSet) -> bool {
        self.combine(other, |a, b| a & b)
    }

    fn unite(&mut self, other: &VarSet) -> bool {
        self.combine(other, |a, b| a | b)
    }

    fn combine(&mut self, other: &VarSet, with: impl Fn(u64, u64) -> u64) -> bool {
        let mut changed = false;
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            let new = with(*a, *b);
            changed |= new != *a;
            *a = new;
        }
        changed
    }
}

pub(super) struct Analysis {
    /// The blocks that can be reached, in reverse postorder.
    pub(super) order: Vec<BlockId>,
    /// For each block the variables that are certainly set where it begins.
    pub(super) set_at: Vec<VarSet>,
    /// For each block the variables that may be read after its end.
    pub(super) live_after: Vec<VarSet>,
    /// How often each variable is used, uses in loops counting more.
    pub(super) uses: Vec<u64>,
}

impl Analysis {
    /// Analyses a function that is entered at `start` with the variables `given` set.
    pub(super) fn new(function: &Function, start: BlockId, given: &[VarId]) -> Analysis {
        let order = reverse_postorder(function, start);
        let set_at = certainly_set(function, &order, start, given);
        let live_after = live(function, &order);
        let uses = count_uses(function, &order);
        Analysis { order, set_at, live_after, uses }
    }
}

fn reverse_postorder(function: &Function, start: BlockId) -> Vec<BlockId> {
    let mut seen = vec![false; function.blocks.len()];
    let mut postorder = Vec::new();
    // A block with the number of its successors that have been visited. The last successor is visited first, so that the
    // first, which a structured loop goes on in, comes to stand right behind its block.
    let mut path = vec![(start, successors(function, start))];
    seen[start.index()] = true;
    while let Some((block, rest)) = path.last_mut() {
        match rest.pop() {
            Some(next) if !seen[next.index()] => {
                seen[next.index()] = true;
                let follow = successors(function, next);
                path.push((next, follow));
            }
            Some(_) => {}
            None => {
                postorder.push(*block);
                path.pop();
            }
        }
    }
    postorder.reverse();
    postorder
}

fn successors(function: &Function, block: BlockId) -> Vec<BlockId> {
    function.blocks[block.index()].end.terminator.successors().collect()
}

fn certainly_set(function: &Function, order: &[BlockId], start: BlockId, given: &[VarId]) -> Vec<VarSet> {
    let count = function.variables.len();
    let mut set_at = vec![VarSet::full(count); function.blocks.len()];
    set_at[start.index()] = VarSet::empty(count);
    for var in given {
        set_at[start.index()].insert(*var);
    }
    let mut changed = true;
    while changed {
        changed = false;
        for block in order {
            let mut set = set_at[block.index()].clone();
            let body = &function.blocks[block.index()];
            body.ops.iter().filter_map(|op| op.target).for_each(|target| set.insert(target));
            if let Terminator::Enter { guard: Guard::Failure(Some(error)), handler, body } = body.end.terminator {
                changed |= set_at[body.index()].intersect(&set);
                set.insert(error);
                changed |= set_at[handler.index()].intersect(&set);
            } else {
                for next in body.end.terminator.successors() {
                    changed |= set_at[next.index()].intersect(&set);
                }
            }
        }
    }
    set_at
}

fn live(function: &Function, order: &[BlockId]) -> Vec<VarSet> {
    let count = function.variables.len();
    let mut live_after = vec![VarSet::empty(count); function.blocks.len()];
    let mut live_before = live_after.clone();
    let mut changed = true;
    while changed {
        changed = false;
        for block in order.iter().rev() {
            let body = &function.blocks[block.index()];
            for next in body.end.terminator.successors() {
                let before = live_before[next.index()].clone();
                changed |= live_after[block.index()].unite(&before);
            }
            let mut live = live_after[block.index()].clone();
            body.end.terminator.operand().and_then(Operand::var).into_iter().for_each(|var| live.insert(var));
            for op in body.ops.iter().rev() {
                step_back(op, &mut live);
            }
            changed |= live_before[block.index()].unite(&live);
        }
    }
    live_after
}

/// Turns what is live after an operation into what is live before it.
fn step_back(op: &Assign, live: &mut VarSet) {
    if let Some(target) = op.target {
        live.remove(target);
    }
    op.args.iter().filter_map(|arg| arg.var()).for_each(|var| live.insert(var));
}

fn count_uses(function: &Function, order: &[BlockId]) -> Vec<u64> {
    let mut place = vec![usize::MAX; function.blocks.len()];
    for (i, block) in order.iter().enumerate() {
        place[block.index()] = i;
    }
    // The nesting of loops, from the spans of backward jumps in the order of the blocks.
    let mut nesting = vec![0_i32; order.len() + 1];
    for (i, block) in order.iter().enumerate() {
        for next in function.blocks[block.index()].end.terminator.successors() {
            if place[next.index()] <= i {
                nesting[place[next.index()]] += 1;
                nesting[i + 1] -= 1;
            }
        }
    }
    let mut uses = vec![0_u64; function.variables.len()];
    let mut depth = 0;
    for (i, block) in order.iter().enumerate() {
        depth += nesting[i];
        let weight = 10_u64.pow(depth.clamp(0, 8) as u32);
        let body = &function.blocks[block.index()];
        let read = body.ops.iter().flat_map(|op| op.args.iter().copied()).chain(body.end.terminator.operand());
        let vars = read.filter_map(Operand::var).chain(body.ops.iter().filter_map(|op| op.target));
        for var in vars {
            uses[var.index()] = uses[var.index()].saturating_add(weight);
        }
    }
    uses
}
