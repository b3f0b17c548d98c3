//! The wire: requests split out of a connection's input, without copying them.
//!
//! A request is a RESP array of bulk strings, or a line of words ("inline"). The splitter keeps what it has learned about a frame that
//! is not complete yet, so that a big request that arrives in many pieces is not parsed from its beginning for each of them. It allocates
//! nothing on the word of a declared length: only what has arrived takes memory.

use std::ops::Range;

/// The most words of a request.
const MAX_WORDS: i64 = 1 << 20;
/// The longest inline request, and the longest line with a length.
const MAX_LINE: usize = 64 << 10;
/// The longest word, unless a setting says less.
pub(crate) const MAX_BULK: i64 = 512 << 20;

/// What is wrong with a request. The connection is closed after the reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

/// The request at the beginning of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// The words are in [`Splitter::words`]; so many bytes are used up.
    Request(usize),
    /// More input is needed.
    Incomplete,
}

/// Splits requests off an input.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// Where the words of the request are, in the input.
    pub(crate) words: Vec<Range<usize>>,
    /// Words of the frame that are still to come.
    left: i64,
    /// How much of the frame has been looked at.
    at: usize,
    /// Words that an inline request's quotes have changed, so that they are not in the input.
    pub(crate) unquoted: Vec<Vec<u8>>,
    pub(crate) inline: bool,
    /// The length of the word at `at`, once its line is known.
    length: Option<usize>,
}

impl Splitter {
    /// The words of the request that was split off `input` last.
    pub(crate) fn arguments<'a>(&'a self, input: &'a [u8]) -> Vec<&'a [u8]> {
        if self.inline {
            self.unquoted.iter().map(Vec::as_slice).collect()
        } else {
            self.words.iter().map(|range| &input[range.clone()]).collect()
        }
    }

    /// Looks for a request at the beginning of `input`. Where the answer is that it is incomplete, the next call must be made
    /// with the same input and more.
    ///
    /// # Errors
    /// If the input is no request.
    pub(crate) fn split(&mut self, input: &[u8], max_bulk: i64) -> Result<Split, Malformed> {
        if self.left == 0 {
            self.words.clear();
            self.inline = false;
            self.at = 0;
            self.length = None;
            match input.first() {
                None => return Ok(Split::Incomplete),
                Some(b'*') => {
                    let Some((line, next)) = line(input, 1, "too big mbulk count string")? else {
                        return Ok(Split::Incomplete);
                    };
                    let count = number(line).filter(|count| *count <= MAX_WORDS);
                    let count = count.ok_or_else(|| Malformed("Protocol error: invalid multibulk length".into()))?;
                    if count <= 0 {
                        return Ok(Split::Request(next));
                    }
                    self.left = count;
                    self.at = next;
                }
                Some(_) => return self.inline(input),
            }
        }
        while self.left > 0 {
            let length = match self.length {
                Some(length) => length,
                None => {
                    match input.get(self.at) {
                        None => return Ok(Split::Incomplete),
                        Some(b'$') => {}
                        Some(&other) => {
                            return Err(Malformed(format!("Protocol error: expected '$', got '{}'", other as char)));
                        }
                    }
                    let Some((line, next)) = line(input, self.at + 1, "too big bulk count string")? else {
                        return Ok(Split::Incomplete);
                    };
                    let length = number(line).filter(|length| (0..=max_bulk).contains(length));
                    let length = length.ok_or_else(|| Malformed("Protocol error: invalid bulk length".into()))?;
                    self.at = next;
                    *self.length.insert(length as usize)
                }
            };
            if input.len() < self.at + length + 2 {
                return Ok(Split::Incomplete);
            }
            self.words.push(self.at..self.at + length);
            self.at += length + 2;
            self.length = None;
            self.left -= 1;
        }
        Ok(Split::Request(self.at))
    }

    /// How many bytes the frame needs from its beginning, as far as that is known.
    #[cfg(test)]
    fn wanted(&self) -> usize {
        self.length.map_or(0, |length| self.at + length + 2)
    }

    fn inline(&mut self, input: &[u8]) -> Result<Split, Malformed> {
        let Some(end) = input.iter().take(MAX_LINE + 1).position(|byte| *byte == b'\n') else {
            if input.len() > MAX_LINE {
                return Err(Malformed("Protocol error: too big inline request".into()));
            }
            return Ok(Split::Incomplete);
        };
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        self.unquoted = words(line).ok_or_else(|| Malformed("Protocol error: unbalanced quotes in request".into()))?;
        self.inline = true;
        Ok(Split::Request(end + 1))
    }

    /// Whether the request has no words, and so wants no reply.
    pub(crate) fn is_empty(&self) -> bool {
        if self.inline { self.unquoted.is_empty() } else { self.words.is_empty() }
    }
}

/// The line from `start`, without its end, and where the next one begins.
fn line<'a>(input: &'a [u8], start: usize, too_long: &str) -> Result<Option<(&'a [u8], usize)>, Malformed> {
    let rest = &input[start..];
    match rest.iter().take(MAX_LINE).position(|byte| *byte == b'\r') {
        Some(end) if start + end + 1 < input.len() => Ok(Some((&rest[..end], start + end + 2))),
        None if rest.len() >= MAX_LINE => Err(Malformed(format!("Protocol error: {too_long}"))),
        _ => Ok(None),
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    // Most lengths are short.
    if let [digit @ b'0'..=b'9'] = digits {
        return Some(i64::from(digit - b'0'));
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The words of a line: separated by white space, with quotes as in a shell. None if a quote is not closed.
pub(crate) fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != 0);
        let Some(start) = start else { return Some(words) };
        rest = &rest[start..];
        let mut word = Vec::new();
        let mut quote = None;
        loop {
            let Some((&byte, after)) = rest.split_first() else {
                if quote.is_some() {
                    return None;
                }
                break;
            };
            rest = after;
            match (quote, byte) {
                (None, b'"' | b'\'') => quote = Some(byte),
                (None, byte) if byte.is_ascii_whitespace() || byte == 0 => break,
                (None, byte) => word.push(byte),
                (Some(open), byte) if byte == open => {
                    // A closing quote ends the word.
                    if rest.first().is_some_and(|next| !next.is_ascii_whitespace()) {
                        return None;
                    }
                    break;
                }
                (Some(b'"'), b'\\') => {
                    let hex = |at: usize| rest.get(at).and_then(|digit| (*digit as char).to_digit(16));
                    if let (Some(b'x'), Some(high), Some(low)) = (rest.first(), hex(1), hex(2)) {
                        word.push((high * 16 + low) as u8);
                        rest = &rest[3..];
                    } else {
                        let (&byte, after) = rest.split_first()?;
                        rest = after;
                        word.push(match byte {
                            b'n' => b'\n',
                            b'r' => b'\r',
                            b't' => b'\t',
                            b'b' => 8,
                            b'a' => 7,
                            other => other,
                        });
                    }
                }
                (Some(b'\''), b'\\') if rest.first() == Some(&b'\'') => {
                    word.push(b'\'');
                    rest = &rest[1..];
                }
                (Some(_), byte) => word.push(byte),
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, Malformed> {
        let mut splitter = Splitter::default();
        let mut rest = input;
        let mut requests = Vec::new();
        while let Split::Request(used) = splitter.split(rest, MAX_BULK)? {
            requests.push(splitter.arguments(rest).into_iter().map(<[u8]>::to_vec).collect());
            rest = &rest[used..];
        }
        Ok(requests)
    }

    #[test]
    fn requests_of_both_kinds() {
        let requests =
            all(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nset a \"b\\x41 c\"\r\n*0\r\n\r\nping\n").expect("well formed");
        let text: Vec<String> = requests
            .iter()
            .map(|words| format!("{:?}", words.iter().map(|w| String::from_utf8_lossy(w)).collect::<Vec<_>>()))
            .collect();
        assert_eq!(text, [r#"["GET", "k"]"#, r#"["set", "a", "bA c"]"#, "[]", "[]", r#"["ping"]"#]);
    }

    #[test]
    fn malformed_requests_are_refused() {
        let error = |input: &[u8]| all(input).expect_err("malformed").0;
        assert_eq!(error(b"*3\r\n$3\r\nSET\r\nx"), "Protocol error: expected '$', got 'x'");
        assert_eq!(error(b"*2000000\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(error(b"*1\r\n$-5\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(error(b"*1\r\n$600000000\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(error(b"set \"a\r\n"), "Protocol error: unbalanced quotes in request");
        assert_eq!(error(&[b'x'; MAX_LINE + 1]), "Protocol error: too big inline request");
    }

    #[test]
    fn a_declared_length_takes_no_memory() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.split(b"*1\r\n$536870912\r\nabc", MAX_BULK), Ok(Split::Incomplete));
        assert_eq!(splitter.wanted(), 4 + 12 + 536_870_912 + 2);
    }

    /// Random streams cut at random places give the same requests as uncut, and random bytes never make the splitter panic.
    #[test]
    fn pieces_and_noise() {
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..3000 {
            let mut input = Vec::new();
            for _ in 0..=random(4) {
                let count = random(4) + 1;
                input.extend(format!("*{count}\r\n").bytes());
                for _ in 0..count {
                    let word: Vec<u8> = (0..random(9)).map(|_| b"ab\r\n$*\"\\"[random(8) as usize]).collect();
                    input.extend(format!("${}\r\n", word.len()).bytes());
                    input.extend(word);
                    input.extend(b"\r\n");
                }
            }
            if round % 3 == 2 {
                for _ in 0..=random(3) {
                    let at = random(input.len() as u64) as usize;
                    input[at] = b"*$\r\n019x\"-\xff"[random(11) as usize];
                }
            }
            let whole = all(&input);
            let mut splitter = Splitter::default();
            let (mut start, mut end, mut requests) = (0, 0, Vec::new());
            let pieces = loop {
                match splitter.split(&input[start..end], MAX_BULK) {
                    Ok(Split::Request(used)) => {
                        requests.push(splitter.arguments(&input[start..end]).into_iter().map(<[u8]>::to_vec).collect());
                        start += used;
                    }
                    Ok(Split::Incomplete) if end == input.len() => break Ok(requests),
                    Ok(Split::Incomplete) => end = (end + 1 + random(5) as usize).min(input.len()),
                    Err(error) => break Err(error),
                }
            };
            assert_eq!(pieces, whole, "{:?}", String::from_utf8_lossy(&input));
        }
    }
}
