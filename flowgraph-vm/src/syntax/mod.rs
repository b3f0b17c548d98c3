//! From text to syntax tree and back.

pub(crate) fn parse_literal(text: &str) -> Result<crate::literal::Literal, String> {
    Err(format!("{text} is not a literal"))
}
