//! The vector against `Vec`.

use optimist_stm::collections::TVec;
use optimist_stm::{Tx, read_only};

use crate::model::{Random, Subject, against_model, rounds};

#[derive(Clone, Debug)]
enum VectorOp {
    Push(u64),
    Pop,
    Get(usize),
    Set(usize, u64),
    Modify(usize),
    Swap(usize, usize),
    Truncate(usize),
    Len,
    Values,
}

struct VectorSubject(TVec<String>);

impl Subject for VectorSubject {
    type Op = VectorOp;
    type Outcome = Vec<String>;
    type Model = Vec<String>;

    fn op(&self, random: &mut Random) -> VectorOp {
        let index = random.below(200) as usize;
        match random.below(200) {
            0..51 => VectorOp::Push(random.below(1000)),
            51..100 => VectorOp::Pop,
            100..130 => VectorOp::Get(index),
            130..160 => VectorOp::Set(index, random.below(1000)),
            160..175 => VectorOp::Modify(index),
            175..182 => VectorOp::Swap(index, random.below(200) as usize),
            182 => VectorOp::Truncate(index),
            183..195 => VectorOp::Len,
            _ => VectorOp::Values,
        }
    }

    fn apply(&self, tx: &mut Tx<'_>, op: &VectorOp) -> optimist_stm::Result<Vec<String>> {
        Ok(match op {
            VectorOp::Push(value) => vec![self.0.push(tx, value.to_string())?.to_string()],
            VectorOp::Pop => self.0.pop(tx)?.into_iter().collect(),
            VectorOp::Get(index) => self.0.get(tx, *index)?.into_iter().collect(),
            VectorOp::Set(index, value) => vec![self.0.set(tx, *index, value.to_string())?.to_string()],
            VectorOp::Modify(index) => vec![self.0.modify(tx, *index, |value| format!("{value}."))?.to_string()],
            VectorOp::Swap(first, second) => vec![self.0.swap(tx, *first, *second)?.to_string()],
            VectorOp::Truncate(length) => {
                self.0.truncate(tx, *length)?;
                Vec::new()
            }
            VectorOp::Len => vec![self.0.len(tx)?.to_string(), self.0.is_empty(tx)?.to_string()],
            VectorOp::Values => self.0.values(tx)?,
        })
    }

    fn model(model: &mut Self::Model, op: &VectorOp) -> Vec<String> {
        match op {
            VectorOp::Push(value) => {
                model.push(value.to_string());
                vec![(model.len() - 1).to_string()]
            }
            VectorOp::Pop => model.pop().into_iter().collect(),
            VectorOp::Get(index) => model.get(*index).cloned().into_iter().collect(),
            VectorOp::Set(index, value) => {
                vec![model.get_mut(*index).map(|old| *old = value.to_string()).is_some().to_string()]
            }
            VectorOp::Modify(index) => vec![model.get_mut(*index).map(|old| old.push('.')).is_some().to_string()],
            VectorOp::Swap(first, second) => {
                let both = *first < model.len() && *second < model.len();
                if both {
                    model.swap(*first, *second);
                }
                vec![both.to_string()]
            }
            VectorOp::Truncate(length) => {
                model.truncate(*length);
                Vec::new()
            }
            VectorOp::Len => vec![model.len().to_string(), model.is_empty().to_string()],
            VectorOp::Values => model.clone(),
        }
    }

    fn agrees(&self, model: &Self::Model) {
        assert_eq!(&read_only(|tx| self.0.values(tx)), model);
    }
}

#[test]
fn a_vector_agrees_with_the_model() {
    against_model(4, rounds(8_000), || VectorSubject(TVec::new()));
}
