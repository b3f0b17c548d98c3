//! Nothing that is given to the lexer, parser, formatter, verifier or diagnostics makes them panic, formatting keeps what a program means, and the
//! machine survives whatever it runs.
//!
//! Texts come from three sources: any characters at all, programs that were damaged at random, and well-formed programs that
//! were put together at random with odd spacing and comments everywhere.

#[path = "common/front_end.rs"]
mod front_end;
#[path = "common/within_limits.rs"]
mod within_limits;

use front_end::try_everything;
use optimist_flowgraph::model::random::Random;
use optimist_flowgraph::syntax::token::{TokenKind, tokenize};
use optimist_flowgraph::{Literal, Source, check, compile, fmt};
use proptest::prelude::*;
use within_limits::run_within_limits;

const CORPUS: &[&str] = &[
    include_str!("../../examples/power.flow"),
    include_str!("../../examples/promote.flow"),
    include_str!("../../examples/bytecode.flow"),
    "const N = 10 # size\nobject Account { owner, balance }\nshared bank = map()\n\nfn main() {\n  for i in 0..N { bank[i] = Account(\"x\", -1) }\n  for k in keys(bank) { print(k, bank[k].balance) }\n  add move(1, 2, 3.5) after 100\n}\n\n# moves\nfn move(a, b, n) {\n  if bank[a].balance < n { raise \"poor\" } else if n == 0 or not n { return }\n  bank[a].balance -= n; bank[b].balance += n\n}\n",
    "fn f(q) {\n  while true {\n    try {\n      either { x = pop(q)\n        if x == none { retry }\n      } or { x = 'none' }\n      if x { break }\n      continue\n    } catch e { print(e.message); return e }\n  }\n  loop:\n  x -= 1 # less\n  if x > 0 goto loop else goto done\n  done: promote(x)\n  print_and_stop([1, 's', [b\"\\xff\", 0x1f, 1_000]])\n}\npure fn g(a, b) { return -a * (b + 1) % 2 // 3 / 4 }\n",
    "shared n = 0\nfn main() {\n  for each c in connections( \"127.0.0.1:0\" ) add hello(c) # clients\n  for each line in lines(\"-\") add said(n, line)\n}\nfn hello(c) { for each b in chunks(c) add said(c, b); when closed(c) add bye(c); when readable(c) add bye(c); each = 1; for each in [1] { when = each } }\nfn said(c, item) { for each x in lines(item) add said(c, x) }\nfn bye(c) { send(c, peer(c)); close(c); receive(c) }\n",
    "fn f(c) { try goto b catch e goto d\nb: leave goto x\nd: promote(c) goto x\nx: return c }",
];

const TOKENS: &[&str] = &[
    "fn",
    "f",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    ";",
    ".",
    "..",
    "=",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "+=",
    "and",
    "or",
    "not",
    "if",
    "else",
    "while",
    "for",
    "in",
    "goto",
    "try",
    "catch",
    "either",
    "retry",
    "raise",
    "return",
    "break",
    "continue",
    "add",
    "after",
    "each",
    "when",
    "lines",
    "closed",
    "promote",
    "print_and_stop",
    "pure",
    "shared",
    "const",
    "object",
    "leave",
    "x",
    "y",
    "e",
    "0",
    "-1",
    "1.5",
    "99999999999999999999",
    "'s'",
    "\"t\"",
    "b\"u\"",
    "\n",
    " ",
    "# c\n",
    "é",
    "\u{1F600}",
    "\\",
    "\"",
    "'",
    "none",
    "true",
];

fn rounds(default: u64) -> u64 {
    std::env::var("OPTIMIST_PROGRAMS").ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

#[test]
fn the_corpus_is_well_formed() {
    for text in CORPUS {
        let source = Source::new("corpus.flow", *text);
        let mistakes: String = check(&source, &[]).iter().map(|d| d.render(&source, false)).collect();
        assert_eq!(mistakes, "");
        try_everything(text);
    }
}

#[test]
fn the_examples_have_no_mistakes_and_survive_formatting() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).expect("the examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "flow") {
            let source = Source::new(path.display().to_string(), std::fs::read_to_string(&path).expect("a file"));
            let mistakes: String = check(&source, &[]).iter().map(|d| d.render(&source, false)).collect();
            assert_eq!(mistakes, "");
            try_everything(source.text());
            tried += 1;
        }
    }
    assert!(tried >= 6, "only {tried} examples were found");
}

/// A program damaged at random, in a way in which people damage programs.
fn damaged(text: &str, random: &mut Random) -> String {
    // Pieces are tokens and what stands between them, so that damage is of the kind that people do.
    let tokens = tokenize(text);
    let mut pieces: Vec<String> = Vec::new();
    let mut at = 0;
    for token in &tokens.tokens {
        pieces.push(text[at..token.span.start as usize].to_owned());
        pieces.push(text[token.span.range()].to_owned());
        at = token.span.end as usize;
    }
    for _ in 0..1 + random.below(4) {
        let place = random.below(pieces.len());
        match random.below(6) {
            0 => pieces[place].clear(),
            1 => pieces.insert(place, random.pick(TOKENS).to_owned()),
            2 => pieces[place] = random.pick(TOKENS).to_owned(),
            3 => {
                let other = random.below(pieces.len());
                pieces.swap(place, other);
            }
            4 => pieces.truncate(place),
            _ => {
                let end = (place + random.below(12)).min(pieces.len());
                let copy = pieces[place..end].to_vec();
                let target = random.below(pieces.len());
                pieces.splice(target..target, copy);
            }
        }
        if pieces.is_empty() {
            pieces.push(String::new());
        }
    }
    pieces.concat()
}

#[test]
fn damaged_programs() {
    for seed in 0..rounds(1000) {
        let mut random = Random::new(seed);
        let text = random.pick(CORPUS);
        try_everything(&damaged(text, &mut random));
    }
}

/// Programs that do much in a little time, to be altered and run.
const RUNNABLE: &[&str] = &[
    "shared m = map()\nshared a = array(40, 0)\nobject P { x, y }\nfn main() {\n    p = P(1, [2, 'a'])\n    for i in 0..40 {\n        a[i] = i * i\n        m[i % 7] = list(i, p)\n        p.x += a[i]\n    }\n    for k, v in m { print(k, v[0], len(v)) }\n    print(p.x // 3, sum(a), sort(keys(m)), p == m[0][1])\n}\n",
    "fn main() {\n    i = 10\n    s = \"abc\"\n    while i > 0 {\n        s = s + str(i, 's', 1.5 * i)\n        if len(s) > 30 { s = slice(s, 3) }\n        i -= 1\n    }\n    print(s, find(s, \"1\"), split(s, \"s\"), upper(s), s in s)\n    print(fib(10), pow(3, 50) % 1000, pow(2, 200) // 7, -5 // 2)\n}\nfn fib(n) { if n < 2 { return n } return fib(n - 1) + fib(n - 2) }\n",
    "shared q = queue()\nfn main() {\n    f = f64_array(8, 0.5)\n    push(q, f)\n    push(q, [1, 2, [3]])\n    try {\n        f[3] = 2.5\n        push(q, 1)\n        raise list('no', f[3])\n    } catch e { print(e.kind, len(q), sum(f)) }\n    again:\n    f[0] -= 0.25\n    x = pop(q)\n    if f[0] > -1.0 goto again else goto done\n    done: print(x, f, reverse(items(f)))\n}\n",
];

/// A program in which a few operators, values and names were exchanged for others, so that it mostly is one still.
fn altered(text: &str, random: &mut Random) -> String {
    let values = [
        "0",
        "-1",
        "1.5",
        "1000000000000",
        "none",
        "'a'",
        "\"ab\"",
        "[1, 2]",
        "array(2, 1)",
        "map()",
        "queue()",
        "x",
        "f",
        "i",
    ];
    let operators = ["+", "-", "*", "/", "//", "%", "==", "<", ">=", "in", "and", "or"];
    let mut out = String::new();
    let mut at = 0;
    for token in tokenize(text).tokens {
        out.push_str(&text[at..token.span.start as usize]);
        at = token.span.end as usize;
        let written = &text[token.span.range()];
        let other = match &token.kind {
            TokenKind::Int(_) | TokenKind::Float(_) | TokenKind::Str(_) | TokenKind::Symbol(_) => &values[..],
            TokenKind::Word(word) if word.len() == 1 => &values[..],
            TokenKind::Punct(punct) if operators.contains(punct) => &operators[..],
            _ => &[],
        };
        out.push_str(if !other.is_empty() && random.percent(3) { random.pick(other) } else { written });
    }
    out + &text[at..]
}

#[test]
fn altered_programs_end_within_their_limits() {
    let (mut ran, mut outcomes) = (0, std::collections::BTreeMap::new());
    let rounds = rounds(1500);
    for seed in 0..rounds {
        let mut random = Random::new(seed ^ 0xda3a9e);
        let text = random.pick(RUNNABLE);
        if let Some(outcome) = run_within_limits(&altered(text, &mut random)) {
            ran += 1;
            *outcomes.entry(outcome).or_insert(0) += 1;
        }
    }
    println!("{ran} of {rounds} ran: {outcomes:?}");
    assert!(ran * 4 > rounds && outcomes.len() > 5, "{ran} of {rounds}: {outcomes:?}");
}

#[test]
fn token_salads() {
    for seed in 0..rounds(1000) {
        let mut random = Random::new(seed);
        let text: Vec<&str> = (0..random.below(60)).map(|_| random.pick(TOKENS)).collect();
        try_everything(&text.join(random.pick(&["", " ", "\n"])));
        try_everything(&format!("fn f(x, y) {{\n{}\n}}", text.join(" ")));
    }
}

/// Writes well-formed programs of functions with odd spacing and with comments wherever one can stand.
struct Writer {
    random: Random,
    out: String,
    depth: usize,
    loops: usize,
}

impl Writer {
    fn program(seed: u64) -> String {
        let mut writer = Self { random: Random::new(seed), out: String::new(), depth: 0, loops: 0 };
        writer.comment();
        for name in ["s", "t"] {
            if writer.random.percent(50) {
                writer.push(&format!("shared {name} = map()"));
                writer.line_end();
            } else {
                writer.push(&format!("const {name}=[1 ,2]"));
                writer.line_end();
            }
        }
        writer.push("object P{a,b}");
        writer.line_end();
        for name in ["f", "g"] {
            writer.push(&format!("fn {name}(x,y)"));
            writer.block();
            writer.line_end();
        }
        writer.out
    }

    fn push(&mut self, text: &str) {
        for c in text.chars() {
            if c == ' ' && self.random.percent(20) {
                self.out.push_str("  ");
            }
            self.out.push(c);
        }
    }

    fn comment(&mut self) {
        if self.random.percent(12) {
            let mark = self.random.below(1000);
            self.out.push_str(&format!("# c{mark} \n"));
        }
    }

    fn line_end(&mut self) {
        match self.random.below(8) {
            0 => self.out.push_str(" # end\n"),
            1 => self.out.push_str("\n\n\n"),
            2 => self.out.push_str("\n\n # alone\n\n"),
            3 => self.out.push(';'),
            _ => self.out.push('\n'),
        }
        self.comment();
    }

    fn block(&mut self) {
        self.out.push_str(self.random.clone().pick(&["{", " {", " {\n", " { # open\n"]));
        self.depth += 1;
        for _ in 0..self.random.below(if self.depth > 3 { 2 } else { 4 }) {
            self.statement();
            self.line_end();
        }
        self.depth -= 1;
        self.comment();
        self.out.push('}');
    }

    fn statement(&mut self) {
        let choice = if self.depth > 3 { self.random.below(8) } else { self.random.below(17) };
        match choice {
            0..=2 => {
                let place = self.random.pick(&["x", "y", "z", "x.a", "y[1]", "x.a[y].b"]);
                let op = self.random.pick(&["=", "=", "+=", "//=", " = "]);
                self.push(&format!("{place}{op}"));
                self.expression();
            }
            3 => self.push("print(x,y , z)"),
            4 => {
                self.push("return ");
                self.expression();
            }
            5 => self.push("add f(1,\n 2) after 3"),
            6 if self.loops > 0 => self.push("break"),
            6..=7 => self.push("promote( x )"),
            8..=9 => {
                self.push("if ");
                self.expression();
                self.block();
                while self.random.percent(30) {
                    self.push(" else if ");
                    self.expression();
                    self.block();
                }
                if self.random.percent(50) {
                    self.push(self.random.clone().pick(&[" else", "\nelse", " # why\n else "]));
                    self.block();
                }
            }
            10..=11 => {
                self.push("while ");
                self.expression();
                self.loops += 1;
                self.block();
                self.loops -= 1;
            }
            12 => {
                let name = format!("i{}", self.depth);
                self.push(&format!("for {name} in 0 .. "));
                self.expression();
                self.loops += 1;
                self.block();
                self.loops -= 1;
            }
            13 => {
                self.push("try");
                self.block();
                self.push(self.random.clone().pick(&[" catch e", "\ncatch", " # handler\ncatch e "]));
                self.block();
            }
            14 => {
                self.push("either");
                self.block();
                self.push(" or");
                self.block();
            }
            15 => {
                self.push("for k , v in items(s)");
                self.loops += 1;
                self.block();
                self.loops -= 1;
            }
            _ => self.push("raise 'bad'"),
        }
    }

    fn expression(&mut self) {
        match self.random.below(16) {
            0 => self.push("-1_000"),
            1 => self.push("\"a # no comment\""),
            2 => self.push("(x\n  + y # inside\n )"),
            3 => {
                self.push("(not ");
                self.expression();
                self.out.push(')');
            }
            4 => self.push("f( x ,g(y, 2) )"),
            5..=7 => {
                let op = self.random.pick(&["+", " - ", "*\n", " and ", " or ", " % "]);
                self.out.push('(');
                self.expression();
                self.push(op);
                self.expression();
                self.out.push(')');
            }
            8 => self.push("P(1, [1, 's', # in a list\n [2]]).a"),
            9 => self.push("- x"),
            10 => {
                self.push("( x in [y ,");
                self.expression();
                self.push("])");
            }
            _ => self.push(self.random.clone().pick(&["x", "y", "0", "1.5", "'s'", "s", "len(x)"])),
        }
    }
}

#[test]
fn well_formed_programs_survive_formatting() {
    let mut accepted = 0;
    let rounds = rounds(700);
    for seed in 0..rounds {
        let text = Writer::program(seed);
        accepted += u64::from(fmt(&Source::new("w.flow", text.clone())).is_ok());
        try_everything(&text);
    }
    assert!(accepted * 10 > rounds * 9, "only {accepted} of {rounds} were well-formed");
}

#[test]
fn deep_nesting_is_a_mistake_and_no_overflow() {
    for (open, close) in [("(", ")"), ("[", "]"), ("-", ""), ("f(", ")"), ("x[", "]"), ("not ", "")] {
        let text = format!("fn f(x) {{ y = {}1{} }}", open.repeat(50_000), close.repeat(50_000));
        try_everything(&text);
        try_everything(&format!("l: x = {}1{}\n goto l", open.repeat(50_000), close.repeat(50_000)));
    }
    try_everything(&format!("fn f(x) {{ y = {}x }}", "x + ".repeat(50_000)));
    try_everything(&format!("fn f(x) {{ y = x{} }}", ".a[1]".repeat(50_000)));
    try_everything(&format!("fn f(x) {{ {} {} }}", "if x {".repeat(50_000), "}".repeat(50_000)));
    try_everything(&"{".repeat(100_000));
    let chain = format!("fn f(x) {{ if x {{}} {} }}", "else if x { y = 1 }".repeat(3000));
    try_everything(&chain);
    assert!(compile(&Source::new("chain.flow", chain)).is_ok());
}

#[test]
fn literals_read_back() {
    for seed in 0..rounds(1000) {
        let mut random = Random::new(seed);
        let text: Vec<&str> = (0..random.below(12)).map(|_| random.pick(TOKENS)).collect();
        if let Ok(literal) = Literal::parse(&text.concat()) {
            assert_eq!(Literal::parse(&literal.to_string()).as_ref(), Ok(&literal));
        }
    }
    for wrong in ["", "x", "1 2", "[1", "1 +", "'a", "f(1)", "1 + 2", "--1"] {
        assert!(Literal::parse(wrong).is_err(), "{wrong}");
    }
    assert_eq!(
        Literal::parse(" [-7, 'a', [1.5, b\"x\"], none, true] ").map(|l| l.to_string()).as_deref(),
        Ok("[-7, 'a', [1.5, b\"x\"], none, 1]")
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC*") {
        try_everything(&text);
    }

    #[test]
    fn any_text_in_a_function(text in "[ -~\\n]*") {
        try_everything(&format!("fn f(x) {{ {text} }}"));
    }
}
