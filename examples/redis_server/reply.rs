//! Replies in RESP2, and RESP3 where the client has asked for it.

use crate::numbers::double;

/// The replies of one event, written one after the other.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub resp3: bool,
}

impl Reply {
    #[inline]
    fn head(&mut self, kind: u8, n: i64) {
        match n {
            0..10 => self.bytes.extend_from_slice(&[kind, b'0' + n as u8, b'\r', b'\n']),
            10..100 => {
                self.bytes.extend_from_slice(&[kind, b'0' + (n / 10) as u8, b'0' + (n % 10) as u8, b'\r', b'\n']);
            }
            _ => {
                self.bytes.push(kind);
                let mut digits = [0; 20];
                self.bytes.extend_from_slice(crate::numbers::decimal(n, &mut digits));
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    pub(crate) fn simple(&mut self, text: &str) {
        self.bytes.push(b'+');
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(crate) fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// An error. Text without a code in capitals gets `ERR`.
    pub(crate) fn error(&mut self, text: &str) {
        self.bytes.push(b'-');
        self.bytes.extend(text.bytes().map(|byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }));
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(crate) fn integer(&mut self, n: i64) {
        self.head(b':', n);
    }

    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len() + 16);
        self.head(b'$', bytes.len() as i64);
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    /// Text that is meant to be read by people.
    pub(crate) fn verbatim(&mut self, text: &str) {
        if self.resp3 {
            self.head(b'=', text.len() as i64 + 4);
            self.bytes.extend_from_slice(b"txt:");
            self.bytes.extend_from_slice(text.as_bytes());
            self.bytes.extend_from_slice(b"\r\n");
        } else {
            self.text(text);
        }
    }

    pub(crate) fn null(&mut self) {
        self.bytes.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    pub(crate) fn null_array(&mut self) {
        self.bytes.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    pub(crate) fn array(&mut self, length: usize) {
        self.head(b'*', length as i64);
    }

    pub(crate) fn map(&mut self, pairs: usize) {
        if self.resp3 { self.head(b'%', pairs as i64) } else { self.array(2 * pairs) }
    }

    pub(crate) fn set(&mut self, length: usize) {
        self.head(if self.resp3 { b'~' } else { b'*' }, length as i64);
    }

    pub(crate) fn push(&mut self, length: usize) {
        self.head(if self.resp3 { b'>' } else { b'*' }, length as i64);
    }

    pub(crate) fn double(&mut self, n: f64) {
        if self.resp3 {
            self.bytes.push(b',');
            self.bytes.extend_from_slice(double(n).as_bytes());
            self.bytes.extend_from_slice(b"\r\n");
        } else {
            self.text(&double(n));
        }
    }

    pub(crate) fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let write = |resp3| {
            let mut reply = Reply { bytes: Vec::new(), resp3 };
            reply.map(1);
            reply.bulk(b"k");
            reply.double(1.5);
            reply.null();
            reply.null_array();
            reply.error("ERR a\r\nb");
            String::from_utf8(reply.bytes).expect("text")
        };
        assert_eq!(write(false), "*2\r\n$1\r\nk\r\n$3\r\n1.5\r\n$-1\r\n*-1\r\n-ERR a  b\r\n");
        assert_eq!(write(true), "%1\r\n$1\r\nk\r\n,1.5\r\n_\r\n_\r\n-ERR a  b\r\n");
    }
}
