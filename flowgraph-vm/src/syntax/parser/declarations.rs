//! Declarations, and the order of a file.

use super::{Lost, Parsed, Parser};
use crate::diagnostic::{Code, Diagnostic};
use crate::syntax::ast::{Function, Item};
use crate::syntax::token::TokenKind;

/// The words that start a declaration.
const DECLARATIONS: &[&str] = &["fn", "pure", "shared", "const", "object"];

impl Parser<'_> {
    fn starts_line(&self, index: usize) -> bool {
        index == 0 || matches!(self.tokens[index - 1].kind, TokenKind::Newline | TokenKind::Punct(";" | "}"))
    }

    pub(super) fn declaration_at(&self, index: usize) -> bool {
        let TokenKind::Word(word) = &self.tokens[index].kind else {
            return false;
        };
        let named = matches!(self.tokens.get(index + 1).map(|token| &token.kind), Some(TokenKind::Word(_)));
        named && DECLARATIONS.contains(&&**word) && self.starts_line(index)
    }

    pub(super) fn declares(&self) -> bool {
        (0..self.tokens.len()).any(|index| self.declaration_at(index))
    }

    pub(super) fn items(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        loop {
            while matches!(self.peek(), TokenKind::Newline | TokenKind::Punct(";")) {
                self.step();
            }
            if self.peek() == &TokenKind::End {
                return items;
            }
            let before = self.at;
            match self.item() {
                Ok(item) => items.push(item),
                Err(Lost) => {
                    if self.at == before {
                        self.step();
                    }
                    while self.peek() != &TokenKind::End && !self.declaration_at(self.at) {
                        self.step();
                    }
                    self.brackets = 0;
                    self.nesting = 0;
                }
            }
        }
    }

    fn item(&mut self) -> Parsed<Item> {
        let start = self.span();
        let item = if self.is_word("fn") || self.is_word("pure") && self.word_at(1, "fn") {
            Item::Function(self.function()?)
        } else if self.is_word("shared") && self.any_word_at(1) {
            self.step();
            let name = self.name("the name of the shared variable")?;
            let value = if self.eat_punct("=") { Some(self.expression()?) } else { None };
            Item::Shared { name, value, span: self.from(start) }
        } else if self.is_word("const") && self.any_word_at(1) {
            self.step();
            let name = self.name("the name of the constant")?;
            self.expect_punct("=", "`=` and the constant's value")?;
            let value = self.expression()?;
            Item::Const { name, value, span: self.from(start) }
        } else if self.is_word("object") && self.any_word_at(1) {
            self.object()?
        } else {
            let message = format!("expected a declaration, found {}", self.found());
            let diagnostic = Diagnostic::new(Code::Syntax, start, message)
                .label("statements stand inside functions")
                .help("a file consists of `fn`, `pure fn`, `shared`, `const` and `object`, or else of labelled blocks alone");
            return Err(self.report(diagnostic));
        };
        self.end_of_statement()?;
        Ok(item)
    }

    fn object(&mut self) -> Parsed<Item> {
        let start = self.span();
        self.step();
        let name = self.name("the name of the object type")?;
        self.expect_punct("{", "`{` and the names of the fields")?;
        let mut fields = Vec::new();
        loop {
            while matches!(self.peek(), TokenKind::Newline | TokenKind::Punct("," | ";")) {
                self.step();
            }
            if self.eat_punct("}") {
                return Ok(Item::Object { name, fields, span: self.from(start) });
            }
            fields.push(self.name("the name of a field or `}`")?);
            if !matches!(self.peek(), TokenKind::Newline | TokenKind::Punct("," | ";" | "}")) {
                return Err(self.expected("`,` or `}`"));
            }
        }
    }

    fn function(&mut self) -> Parsed<Function> {
        let start = self.span();
        let pure = self.eat_word("pure");
        self.step();
        let name = self.name("the name of the function")?;
        self.expect_punct("(", "`(` and the parameters")?;
        let parameters = self.separated(")", |parser| parser.name("the name of a parameter or `)`"))?;
        let head = self.from(start);
        let body = self.body()?;
        Ok(Function { name, parameters, body, pure, head, span: self.from(start) })
    }
}
