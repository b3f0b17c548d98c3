//! RESP2, the protocol of Redis clients: requests in, replies out.

/// A request that is not one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The longest bulk string and the longest array that are accepted, as in Redis.
const LONGEST: usize = 512 << 20;
const MOST: usize = 1 << 20;

/// The arguments of the first request in `bytes`, and its length; nothing if it is not complete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Vec<Vec<u8>>, usize)>, Malformed> {
    let Some((line, mut at)) = line(bytes) else {
        return if bytes.len() > 64 << 10 { Err(Malformed("too big inline request")) } else { Ok(None) };
    };
    let Some(count) = line.strip_prefix(b"*") else {
        let words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        return Ok(Some((words.map(<[u8]>::to_vec).collect(), at)));
    };
    let count = number(count).filter(|count| *count <= MOST as i64).ok_or(Malformed("invalid multibulk length"))?;
    let mut arguments = Vec::new();
    for _ in 0..count {
        let Some((header, length)) = self::line(&bytes[at..]) else { return Ok(None) };
        let size = header.strip_prefix(b"$").ok_or(Malformed("expected '$'"))?;
        let size = number(size).and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= LONGEST);
        let size = size.ok_or(Malformed("invalid bulk length"))?;
        at += length;
        let Some(argument) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if &argument[size..] != b"\r\n" {
            return Err(Malformed("expected the end of a bulk string"));
        }
        arguments.push(argument[..size].to_vec());
        at += size + 2;
    }
    Ok(Some((arguments, at)))
}

/// The first line without its end, and its length with it.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), end + 1))
}

/// A decimal number in 64 bits, as strict as Redis.
pub(crate) fn number(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A reply under construction.
#[derive(Debug, Default)]
pub(crate) struct Reply(pub(crate) Vec<u8>);

impl Reply {
    pub(crate) fn simple(&mut self, text: &str) {
        self.0.extend_from_slice(format!("+{text}\r\n").as_bytes());
    }

    pub(crate) fn ok(&mut self) {
        self.0.extend_from_slice(b"+OK\r\n");
    }

    pub(crate) fn error(&mut self, text: &str) {
        self.0.extend_from_slice(format!("-{text}\r\n").as_bytes());
    }

    pub(crate) fn integer(&mut self, value: i64) {
        self.0.extend_from_slice(format!(":{value}\r\n").as_bytes());
    }

    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(crate) fn nil(&mut self) {
        self.0.extend_from_slice(b"$-1\r\n");
    }

    pub(crate) fn nil_array(&mut self) {
        self.0.extend_from_slice(b"*-1\r\n");
    }

    pub(crate) fn array(&mut self, length: usize) {
        self.0.extend_from_slice(format!("*{length}\r\n").as_bytes());
    }

    pub(crate) fn bulk_or_nil(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.nil(),
        }
    }

    pub(crate) fn bulks<B: AsRef<[u8]>>(&mut self, items: &[B]) {
        self.array(items.len());
        items.iter().for_each(|item| self.bulk(item.as_ref()));
    }
}
