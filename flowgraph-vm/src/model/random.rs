//! Random core programs, to try tiers against each other.
//!
//! A program is a function of its generator alone. It always ends: jumps go forward, or back at the cost of a counter that nothing else
//! changes. Variables have a kind that most operations respect, so that programs get somewhere, and some do not, so that they fail in every way there
//! is: unset variables, wrong kinds, indices out of range, division by zero.

use std::fmt::Write;
use std::sync::Arc;

use crate::literal::{Int, Literal};

/// A small generator of pseudo-random numbers (SplitMix64), the same on every machine. Its first choices can be given, so that a fuzzer can
/// steer what is made of it.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
    steering: Arc<[u8]>,
    steered: usize,
}

impl Random {
    /// The generator with this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, steering: Arc::default(), steered: 0 }
    }

    /// A generator whose choices follow from these bytes as long as there are any, and are all the same after.
    pub fn steered(bytes: &[u8]) -> Self {
        Self { steering: bytes.into(), ..Self::new(0) }
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        if let Some(&[low, high]) = self.steering.get(self.steered..self.steered + 2) {
            self.steered += 2;
            return u64::from(u16::from_le_bytes([low, high])) * 0x0001_0001_0001_0001;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, but not including, `bound`.
    ///
    /// # Panics
    ///
    /// If `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// True with this chance in a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.bits() % 100 < chance
    }

    /// One of these.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A core program with a place to start and an environment to start in.
#[derive(Clone, Debug)]
pub struct RandomProgram {
    /// The text.
    pub text: String,
    /// The label to start at.
    pub start: &'static str,
    /// The environment. Some variables that the program reads are not in it.
    pub given: Vec<(Arc<str>, Literal)>,
}

const INTEGERS: &[&str] = &["i", "j", "k", "m"];
const FLOATS: &[&str] = &["f", "g"];
const LISTS: &[&str] = &["l", "q"];
const SYMBOLS: &[&str] = &["s", "t"];
const NEVER_SET: &str = "ghost";

/// A core program.
pub fn core_program(mut random: Random) -> RandomProgram {
    let mut text = String::new();
    let blocks = 2 + random.below(7);
    for block in 0..blocks {
        // Labels appear in any form that the grammar allows: on a line of their own or before the first operation.
        let _ = writeln!(text, "b{block}:{}", if random.percent(20) { "  # a block" } else { "" });
        for _ in 0..random.below(6) {
            let line = operation(&mut random);
            let _ = writeln!(text, "    {line}");
        }
        end(&mut random, block, blocks, &mut text);
    }
    let mut given: Vec<(Arc<str>, Literal)> = vec![("fuel".into(), Literal::int(random.below(7) as i64))];
    for name in INTEGERS.iter().chain(FLOATS).chain(LISTS).chain(SYMBOLS) {
        if !random.percent(4) {
            given.push(((*name).into(), value_for(&mut random, name)));
        }
    }
    RandomProgram { text, start: "b0", given }
}

fn end(random: &mut Random, block: usize, blocks: usize, text: &mut String) {
    let forward = |random: &mut Random| block + 1 + random.below(blocks - block - 1);
    if block + 1 == blocks {
        let operand = any(random);
        let _ = writeln!(text, "    print_and_stop({operand})\n");
        return;
    }
    let line = match random.below(20) {
        0 => format!("print_and_stop({})", any(random)),
        1..=6 => {
            let (back, on) = (random.below(block + 1), forward(random));
            format!("fuel = fuel - 1\n    more = fuel >= 0\n    if more goto b{back} else goto b{on}")
        }
        7..=11 => format!("goto b{}", forward(random)),
        12..=13 => format!("promote({}) goto b{}", any(random), forward(random)),
        _ => format!("if {} goto b{} else goto b{}", any(random), forward(random), forward(random)),
    };
    let _ = writeln!(text, "    {line}\n");
}

fn operation(random: &mut Random) -> String {
    if random.percent(4) {
        // Anything with anything.
        let target = variable(random);
        let (left, right) = (any(random), any(random));
        return match random.below(9) {
            0 => format!("{target} = {left}"),
            1 => format!("{target} = {left}[{right}]"),
            2 => format!("{target} = -{}", variable(random)),
            _ => format!(
                "{target} = {left} {} {right}",
                random.pick(&["+", "-", "==", "!=", ">=", "<", "<=", ">", "//", "%", "/"])
            ),
        };
    }
    match random.below(20) {
        0..=7 => {
            let target = random.pick(INTEGERS);
            let op = random.pick(&["+", "-", "+", "-", "//", "%"]);
            format!("{target} = {} {op} {}", integer(random), integer(random))
        }
        // Multiplying by constants only: squaring in a loop makes numbers too long to be worth waiting for.
        8 => format!("{} = {} * {}", random.pick(INTEGERS), random.pick(INTEGERS), constant_integer(random)),
        9..=12 => {
            let op = random.pick(&["==", "!=", ">=", "<", "<=", ">"]);
            format!("{} = {} {op} {}", random.pick(INTEGERS), integer(random), integer(random))
        }
        13 => format!("{} = {} == {}", random.pick(INTEGERS), any(random), any(random)),
        14..=15 => {
            let op = random.pick(&["+", "-", "*", "/", "//", "%"]);
            let right = if random.percent(50) { integer(random) } else { float(random) };
            format!("{} = {} {op} {right}", random.pick(FLOATS), float(random))
        }
        16..=17 => format!("{} = {}[{}]", random.pick(INTEGERS), random.pick(LISTS), random.below(4)),
        18 => format!("{} = {}", random.pick(LISTS), list(random)),
        _ => format!("{} = {}", random.pick(SYMBOLS), symbol(random)),
    }
}

fn variable(random: &mut Random) -> &'static str {
    match random.below(10) {
        0..=5 => random.pick(INTEGERS),
        6 => random.pick(FLOATS),
        7..=8 => random.pick(LISTS),
        _ => random.pick(SYMBOLS),
    }
}

fn any(random: &mut Random) -> String {
    match random.below(40) {
        0 => NEVER_SET.to_owned(),
        1..=3 => constant_integer(random),
        4 => float(random),
        5 => symbol(random),
        6 => list(random).to_string(),
        _ => variable(random).to_owned(),
    }
}

fn integer(random: &mut Random) -> String {
    if random.percent(60) { random.pick(INTEGERS).to_owned() } else { constant_integer(random) }
}

fn constant_integer(random: &mut Random) -> String {
    number(random).to_string()
}

fn number(random: &mut Random) -> Int {
    match random.below(20) {
        0 => Int::Small(i64::MAX),
        1 => Int::Small(i64::MIN),
        // The edges of numbers that fit 61 and 62 bits beside a tag.
        2 => Int::Small((1 << 60) - random.below(3) as i64),
        3 => Int::Small(-(1 << 60) - random.below(3) as i64),
        4 => Int::Small(1 << 61),
        5 => Int::Small(i64::MAX).add(&Int::Small(random.below(3) as i64)),
        6 => Int::Small(random.bits() as i64).mul(&Int::Small(random.bits() as i64)),
        _ => Int::Small(random.below(12) as i64 - 4),
    }
}

fn float(random: &mut Random) -> String {
    let value = random.pick(&[0.0, -0.0, 1.0, 1.5, -2.25, 1e300, 5e-324, 9_007_199_254_740_992.0, 3.0]);
    if random.percent(50) { random.pick(FLOATS).to_owned() } else { Literal::Float(value).to_string() }
}

fn symbol(random: &mut Random) -> String {
    Literal::symbol(random.pick(&["red", "green", "it's"])).to_string()
}

fn list(random: &mut Random) -> Literal {
    let items: Vec<Literal> = (0..random.below(4))
        .map(|_| match random.below(8) {
            0 => Literal::symbol("red"),
            1 => Literal::List([Literal::int(2), Literal::Float(0.5)].into()),
            _ => Literal::Int(number(random)),
        })
        .collect();
    Literal::List(items.into())
}

fn value_for(random: &mut Random, name: &str) -> Literal {
    if random.percent(3) {
        return list(random);
    }
    match name {
        "f" | "g" => Literal::Float(random.pick(&[0.5, -1.0, 2.0, 1e10])),
        "l" | "q" => list(random),
        "s" | "t" => Literal::symbol(random.pick(&["red", "blue"])),
        _ => Literal::Int(number(random)),
    }
}
