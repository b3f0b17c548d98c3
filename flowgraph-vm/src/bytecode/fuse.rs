//! Fused instructions and chains of floats (see [`super::instruction`]).
//!
//! All instructions stay in their places, so jumps among them stay right, and so do the places of errors.

use super::{Instruction, Opcode};

/// What became of an operation of a block.
#[derive(Clone, Copy)]
pub(super) struct Emitted {
    /// Its only instruction; none if it became several or none.
    pub(super) word: Option<usize>,
    /// The operation of the block that alone uses its result, once.
    pub(super) user: Option<usize>,
}

/// Finds the chains of floats in a block's instructions.
pub(super) fn chains(words: &mut [Instruction], block: &[Emitted]) {
    let mut k = 0;
    while k < block.len() {
        let (Some(first), Some(through)) =
            (block[k].word, block[k].word.and_then(|word| starting(words[word].opcode())))
        else {
            k += 1;
            continue;
        };
        let mut last = k;
        while let Some(next) = link(words, block, last) {
            last = next;
        }
        if last > k {
            words[first].set_opcode(through);
        }
        k = last + 1;
    }
}

/// The opcode with which an instruction begins a chain.
fn starting(opcode: Opcode) -> Option<Opcode> {
    Some(match opcode {
        Opcode::Add => Opcode::AddThrough,
        Opcode::Sub => Opcode::SubThrough,
        Opcode::Mul => Opcode::MulThrough,
        Opcode::Div => Opcode::DivThrough,
        Opcode::Index => Opcode::IndexThrough,
        _ => return None,
    })
}

/// Adds to a chain that has come to operation `last` what follows there, and returns the operation that it then has come to.
fn link(words: &mut [Instruction], block: &[Emitted], last: usize) -> Option<usize> {
    let result = words[block[last].word?].a();
    let next = last + 1;
    let word = block.get(next)?.word?;
    if block[last].user == Some(next) {
        let opcode = on(&mut words[word], result)?;
        words[word].set_opcode(opcode);
        return Some(next);
    }
    // An element, its index perhaps stepped before, and arithmetic on the chain and on it.
    let step = (words[word].opcode() == Opcode::AddSmall && words[word].a() != result).then_some(word);
    let next = next + usize::from(step.is_some());
    let (index, after) = (block.get(next)?.word?, next + 1);
    let arithmetic = block.get(after)?.word?;
    if words[index].opcode() != Opcode::Index || block[last].user != Some(after) || block[next].user != Some(after) {
        return None;
    }
    let element = words[index].a();
    let pair = &mut words[arithmetic];
    let fused = match pair.opcode() {
        Opcode::Add => Opcode::IndexAddOn,
        Opcode::Mul => Opcode::IndexMulOn,
        Opcode::Sub if pair.b() == result => Opcode::IndexSubOn,
        _ => return None,
    };
    if pair.b() != result {
        pair.swap_operands();
    }
    debug_assert!(pair.b() == result && pair.c() == element);
    words[index].set_opcode(fused);
    if let Some(step) = step {
        words[step].set_opcode(Opcode::AddSmallOn);
    }
    Some(after)
}

/// The opcode with which an instruction goes on with a chain whose result so far would be in the register `result`.
fn on(word: &mut Instruction, result: usize) -> Option<Opcode> {
    let first = word.b() == result;
    Some(match word.opcode() {
        Opcode::Add | Opcode::Mul => {
            if !first {
                word.swap_operands();
            }
            if word.opcode() == Opcode::Add { Opcode::AddOn } else { Opcode::MulOn }
        }
        Opcode::Sub => {
            if first {
                Opcode::SubOn
            } else {
                Opcode::SubFromOn
            }
        }
        Opcode::Div if first => Opcode::DivOn,
        Opcode::SetIndex if word.c() == result => Opcode::SetIndexOn,
        _ => return None,
    })
}

/// Fuses, all over a function, the stepping of an index with its use, and the stepping of a counter with the loop's condition.
pub(super) fn steps(words: &mut [Instruction]) {
    let mut i = 0;
    while i + 1 < words.len() {
        let (word, next) = (words[i], words[i + 1]);
        if word.opcode() == Opcode::AddSmall {
            let fused = match next.opcode_byte() {
                opcode if opcode == Opcode::Index as u8 && next.c() == word.a() => Opcode::AddSmallIndex,
                opcode if opcode == Opcode::JumpLt as u8 && next.a() == word.a() => Opcode::AddSmallJumpLt,
                opcode if opcode == Opcode::JumpLtSmall as u8 && next.a() == word.a() => Opcode::AddSmallJumpLtSmall,
                _ => Opcode::AddSmall,
            };
            words[i].set_opcode(fused);
        }
        i += word.length();
    }
}
