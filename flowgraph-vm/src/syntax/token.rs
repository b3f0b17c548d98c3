//! Tokens, and the lexer that makes them.
//!
//! Line ends are tokens, because they end statements; the parser skips them where a statement cannot end. Comments are kept
//! beside the tokens for the formatter. Words are never reserved here: in a program of labelled blocks every word can name a variable,
//! so that is for the parser to decide.

use std::sync::Arc;

use num_bigint::BigInt;

use crate::diagnostic::{Code, Diagnostic};
use crate::literal::Int;
use crate::source::Span;

/// What a token is.
#[derive(Clone, PartialEq, Debug)]
pub enum TokenKind {
    /// A word: the name of something, or a keyword.
    Word(Arc<str>),
    /// An integer without sign.
    Int(Int),
    /// A float without sign.
    Float(f64),
    /// A symbol in single quotes.
    Symbol(Arc<str>),
    /// A string in double quotes.
    Str(Arc<str>),
    /// A byte string, `b"…"`.
    Bytes(Arc<[u8]>),
    /// Brackets, operators and the like.
    Punct(&'static str),
    /// A line end.
    Newline,
    /// The end of the text.
    End,
}

/// A token and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stands.
    pub span: Span,
}

/// A comment, from `#` to the end of the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comment {
    /// Where it stands, without the line end.
    pub span: Span,
    /// Whether nothing but blanks stands before it on its line.
    pub own_line: bool,
}

/// All there is in a text.
#[derive(Debug, Default)]
pub struct Tokens {
    /// The tokens; the last is [`TokenKind::End`].
    pub tokens: Vec<Token>,
    /// The comments.
    pub comments: Vec<Comment>,
    /// What could not be read.
    pub diagnostics: Vec<Diagnostic>,
}

/// Longest first, so that the first that fits is the right one.
const PUNCTUATION: &[&str] = &[
    "//=", "==", "!=", "<=", ">=", "+=", "-=", "*=", "/=", "%=", "//", "..", "(", ")", "[", "]", "{", "}", ",", ":",
    ";", ".", "=", "<", ">", "+", "-", "*", "/", "%",
];

/// What other languages write, and what is written here.
const FOREIGN: &[(&str, &str)] = &[
    ("&&", "and"),
    ("||", "or"),
    ("!", "not"),
    ("&", "bit_and(a, b)"),
    ("|", "bit_or(a, b)"),
    ("^", "pow(a, b)"),
    ("?", "if a { … } else { … }"),
];

/// Takes a text apart.
pub fn tokenize(text: &str) -> Tokens {
    let mut lexer = Lexer { text, at: 0, out: Tokens::default(), line_has_token: false };
    lexer.run();
    lexer.out
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    out: Tokens,
    line_has_token: bool,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while let Some(c) = self.peek().filter(|&c| wanted(c)) {
            self.at += c.len_utf8();
        }
    }

    fn push(&mut self, kind: TokenKind, start: usize) {
        self.line_has_token = true;
        self.out.tokens.push(Token { kind, span: Span::new(start, self.at) });
    }

    fn error(&mut self, code: Code, start: usize, end: usize, message: String) -> &mut Diagnostic {
        self.out.diagnostics.push(Diagnostic::new(code, Span::new(start, end), message));
        self.out.diagnostics.last_mut().expect("one was pushed")
    }

    fn run(&mut self) {
        while let Some(c) = self.peek() {
            let start = self.at;
            match c {
                '\n' => {
                    self.at += 1;
                    self.out.tokens.push(Token { kind: TokenKind::Newline, span: Span::new(start, start + 1) });
                    self.line_has_token = false;
                }
                c if c.is_whitespace() || c == '\u{feff}' => self.at += c.len_utf8(),
                '#' => {
                    self.skip_while(|c| c != '\n');
                    let end = start + self.text[start..self.at].trim_end().len();
                    self.out.comments.push(Comment { span: Span::new(start, end), own_line: !self.line_has_token });
                }
                '"' => self.quoted('"', start),
                '\'' => self.quoted('\'', start),
                'b' if self.rest().starts_with("b\"") => {
                    self.at += 1;
                    self.byte_string(start);
                }
                c if c.is_alphabetic() || c == '_' => {
                    self.skip_while(|c| c.is_alphanumeric() || c == '_');
                    let word = self.text[start..self.at].into();
                    self.push(TokenKind::Word(word), start);
                }
                c if c.is_ascii_digit() => self.number(start),
                c => self.punctuation(c, start),
            }
        }
        let end = self.text.len();
        self.out.tokens.push(Token { kind: TokenKind::End, span: Span::new(end, end) });
    }

    fn punctuation(&mut self, c: char, start: usize) {
        if let Some(punct) = PUNCTUATION.iter().find(|punct| self.rest().starts_with(**punct)) {
            self.at += punct.len();
            self.push(TokenKind::Punct(punct), start);
            return;
        }
        let foreign = FOREIGN.iter().find(|(written, _)| self.rest().starts_with(written));
        self.at += foreign.map_or(c.len_utf8(), |(written, _)| written.len());
        let end = self.at;
        let written = self.text[start..end].to_owned();
        self.error(Code::Syntax, start, end, format!("`{}` means nothing here", written.escape_debug()));
        if let Some((_, ours)) = foreign {
            let diagnostic = self.out.diagnostics.last_mut().expect("one was pushed");
            diagnostic.help.push(format!("write `{ours}`"));
        }
    }

    fn number(&mut self, start: usize) {
        let radix = match self.text.as_bytes().get(start..start + 2) {
            Some(b"0x" | b"0X") => 16,
            Some(b"0b" | b"0B") => 2,
            _ => 10,
        };
        if radix != 10 {
            self.at += 2;
        }
        let from = self.at;
        self.skip_while(|c| c.is_ascii_alphanumeric() && (radix != 10 || c.is_ascii_digit()) || c == '_');
        let mut float = false;
        if radix == 10 {
            let after_point = self.rest().strip_prefix('.').and_then(|rest| rest.chars().next());
            if after_point.is_some_and(|c| c.is_ascii_digit()) {
                float = true;
                self.at += 1;
                self.skip_while(|c| c.is_ascii_digit() || c == '_');
            }
            let exponent =
                self.rest().strip_prefix(['e', 'E']).map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
            if let Some(digits) = exponent.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                float = true;
                self.at = self.text.len() - digits.len();
                self.skip_while(|c| c.is_ascii_digit());
            }
        }
        let number_end = self.at;
        self.skip_while(|c| c.is_alphanumeric() || c == '_');
        let written = &self.text[start..self.at];
        let digits: String = self.text[from..number_end].chars().filter(|&c| c != '_').collect();
        let kind = if number_end != self.at {
            None
        } else if float {
            digits.parse().ok().filter(|float: &f64| float.is_finite()).map(TokenKind::Float)
        } else {
            BigInt::parse_bytes(digits.as_bytes(), radix).map(|big| TokenKind::Int(Int::from(big)))
        };
        let (end, message) = (self.at, format!("`{}` is not a number", shorten(written)));
        match kind {
            Some(kind) => self.push(kind, start),
            None => {
                let help = match &self.text[number_end..end] {
                    "ms" => "times are numbers of milliseconds",
                    "s" | "sec" | "min" | "us" | "ns" => "times are numbers of milliseconds: 1.5 seconds are `1500`",
                    "f" | "L" | "n" | "u" | "d" => "numbers have no suffix; integers are of any size",
                    rest if rest.starts_with(char::is_alphabetic) && radix == 10 => "a name cannot start with a digit",
                    _ => "",
                };
                let diagnostic = self.error(Code::Literal, start, end, message);
                diagnostic.help.extend((!help.is_empty()).then(|| help.to_owned()));
                self.push(TokenKind::Int(Int::Small(0)), start);
            }
        }
    }

    /// A string or symbol; the position is at its opening quote.
    fn quoted(&mut self, quote: char, start: usize) {
        self.at += 1;
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.peek() {
                None | Some('\n') => {
                    self.unclosed(quote, start);
                    break;
                }
                Some(c) if c == quote => {
                    self.at += 1;
                    break;
                }
                Some('\\') => match self.escape() {
                    Some(Escape::Char(c)) => text.push(c),
                    Some(Escape::Byte(byte)) if byte < 0x80 => text.push(char::from(byte)),
                    _ => self.bad_escape(at),
                },
                Some(c) => {
                    self.at += c.len_utf8();
                    text.push(c);
                }
            }
        }
        let kind = if quote == '"' { TokenKind::Str(text.into()) } else { TokenKind::Symbol(text.into()) };
        self.push(kind, start);
    }

    /// A byte string; the position is at its opening quote.
    fn byte_string(&mut self, start: usize) {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let at = self.at;
            match self.peek() {
                None | Some('\n') => {
                    self.unclosed('"', start);
                    break;
                }
                Some('"') => {
                    self.at += 1;
                    break;
                }
                Some('\\') => match self.escape() {
                    Some(Escape::Byte(byte)) => bytes.push(byte),
                    Some(Escape::Char(c)) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
                    None => self.bad_escape(at),
                },
                Some(c) => {
                    self.at += c.len_utf8();
                    bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
                }
            }
        }
        self.push(TokenKind::Bytes(bytes.into()), start);
    }

    /// Reads what follows a backslash; `None` if it is no escape, with the position behind what was looked at.
    fn escape(&mut self) -> Option<Escape> {
        self.at += 1;
        let c = self.peek()?;
        if c == '\n' {
            return None;
        }
        self.at += c.len_utf8();
        Some(match c {
            'n' => Escape::Char('\n'),
            'r' => Escape::Char('\r'),
            't' => Escape::Char('\t'),
            '0' => Escape::Char('\0'),
            '\\' | '\'' | '"' => Escape::Char(c),
            'x' => {
                let digits = self.rest().get(..2)?;
                let byte = u8::from_str_radix(digits, 16).ok()?;
                self.at += 2;
                Escape::Byte(byte)
            }
            'u' => {
                let body = self.rest().strip_prefix('{')?;
                let length = body.find('}')?;
                let c = u32::from_str_radix(&body[..length], 16).ok().and_then(char::from_u32)?;
                self.at += length + 2;
                Escape::Char(c)
            }
            _ => return None,
        })
    }

    fn bad_escape(&mut self, start: usize) {
        let end = self.at;
        let written = self.text[start..end].to_owned();
        let help = r#"escapes are \n \r \t \0 \\ \' \" \xNN and \u{N}"#.to_owned();
        self.error(Code::Literal, start, end, format!("`{}` is not an escape", shorten(&written))).help.push(help);
    }

    fn unclosed(&mut self, quote: char, start: usize) {
        let end = self.at;
        let what = if quote == '\'' { "symbol" } else { "string" };
        self.error(Code::Literal, start, end, format!("this {what} is not closed")).primary.text =
            format!("expected `{quote}` before the end of the line");
    }
}

enum Escape {
    Char(char),
    Byte(u8),
}

/// A piece of source for a message, cut if it is long.
pub(super) fn shorten(written: &str) -> String {
    match written.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", &written[..cut]),
        None => written.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        let tokens = tokenize(text);
        assert_eq!(tokens.diagnostics, [], "{text}");
        tokens.tokens.into_iter().map(|token| token.kind).collect()
    }

    fn messages(text: &str) -> Vec<String> {
        tokenize(text).diagnostics.into_iter().map(|d| d.message).collect()
    }

    #[test]
    fn numbers() {
        use TokenKind::{End, Float, Int as I, Punct};
        assert_eq!(kinds("1_000 0xff 0b101"), [I(Int::Small(1000)), I(Int::Small(255)), I(Int::Small(5)), End]);
        assert_eq!(kinds("1.5 1e3 2.5e-1"), [Float(1.5), Float(1000.0), Float(0.25), End]);
        assert_eq!(kinds("1..5"), [I(Int::Small(1)), Punct(".."), I(Int::Small(5)), End]);
        assert_eq!(
            messages("12ab 0x 1e999 0b12"),
            ["`12ab` is not a number", "`0x` is not a number", "`1e999` is not a number", "`0b12` is not a number"]
        );
    }

    #[test]
    fn quoted_things() {
        use TokenKind::{Bytes, End, Str, Symbol};
        assert_eq!(kinds(r#"'mov_a' "a\n\"\u{e9}\x41""#), [Symbol("mov_a".into()), Str("a\n\"éA".into()), End]);
        assert_eq!(kinds(r#"b"\xff\n""#), [Bytes([0xff, b'\n'].into()), End]);
        assert_eq!(messages("\"abc\n'x"), ["this string is not closed", "this symbol is not closed"]);
        assert_eq!(messages(r#""\q" "\xff""#), [r"`\q` is not an escape", r"`\xff` is not an escape"]);
    }

    #[test]
    fn comments_are_kept_beside_the_tokens() {
        let tokens = tokenize("# one\nx = 1 # two  \n");
        let comments: Vec<_> = tokens.comments.iter().map(|comment| (comment.span, comment.own_line)).collect();
        assert_eq!(comments, [(Span::new(0, 5), true), (Span::new(12, 17), false)]);
    }

    #[test]
    fn foreign_operators_get_a_hint() {
        let diagnostics = tokenize("a && b ! $").diagnostics;
        let told: Vec<_> = diagnostics.iter().map(|d| (d.message.as_str(), d.help.join(""))).collect();
        assert_eq!(
            told,
            [
                ("`&&` means nothing here", "write `and`".to_owned()),
                ("`!` means nothing here", "write `not`".to_owned()),
                ("`$` means nothing here", String::new()),
            ]
        );
    }
}
