//! Patterns with `*`, `?`, `[a-z]` and `\`.

/// The most stars of a pattern.
const STARS: usize = 1000;

/// Whether `text` matches the whole of `pattern`.
///
/// Only the last `*` is ever gone back to, so the time is at most the product of both lengths. A pattern of more than [`STARS`] of them, one
/// after the other counting as one, matches nothing: it is no question but an attack.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if pattern.len() > STARS && pattern.chunk_by(|a, b| a == b).filter(|run| run[0] == b'*').count() > STARS {
        return false;
    }
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            None => None,
            Some(_) => text.get(t).and_then(|&byte| one(&pattern[p..], byte)),
        };
        match (step, star) {
            (Some(used), _) => {
                p += used;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

/// How much of the pattern matches one byte, if it does.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern[0] {
        b'?' => Some(1),
        b'[' => {
            let mut at = 1;
            let negated = pattern.get(at) == Some(&b'^');
            at += usize::from(negated);
            let mut found = false;
            loop {
                match (pattern.get(at), pattern.get(at + 1), pattern.get(at + 2)) {
                    (None, ..) => break,
                    (Some(b']'), ..) => {
                        at += 1;
                        break;
                    }
                    (Some(b'\\'), Some(&escaped), _) => {
                        found |= escaped == byte;
                        at += 2;
                    }
                    (Some(&from), Some(b'-'), Some(&to)) => {
                        found |= (from.min(to)..=from.max(to)).contains(&byte);
                        at += 3;
                    }
                    (Some(&single), ..) => {
                        found |= single == byte;
                        at += 1;
                    }
                }
            }
            (found != negated).then_some(at)
        }
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        literal => (literal == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::{STARS, matches};

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h*o", "heeeello", true),
            ("h[^e]llo", "hello", false),
            ("h[a-f]llo", "hello", true),
            ("*a*b*c", "xxaxxbxxbxc", true),
            ("*a*b*c", "xxaxxbxxbx", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("", "a", false),
            ("[", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        let many = "a*".repeat(50) + "b";
        assert!(!matches(many.as_bytes(), "a".repeat(500).as_bytes()));
        let text = "a".repeat(2 * STARS);
        assert!(matches("*?".repeat(STARS).as_bytes(), text.as_bytes()));
        assert!(!matches("*?".repeat(STARS + 1).as_bytes(), text.as_bytes()));
        assert!(matches("*".repeat(2 * STARS).as_bytes(), text.as_bytes()));
    }
}
