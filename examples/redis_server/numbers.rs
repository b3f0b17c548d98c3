//! Numbers as text, the way clients expect them.

/// The digits of an integer, without allocating.
pub(crate) fn decimal(n: i64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    &buffer[at..]
}

/// An integer in its one canonical form: no blanks, no plus, no leading zeros.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let first = *digits.first()?;
    if !digits.iter().all(u8::is_ascii_digit) || (first == b'0' && (digits.len() > 1 || text.len() > 1)) {
        return None;
    }
    if digits.len() > 18 {
        // It may be too large.
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let number = digits.iter().fold(0, |number, digit| 10 * number + i64::from(digit - b'0'));
    Some(if digits.len() < text.len() { -number } else { number })
}

/// A floating-point number, infinities included.
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    // Most are integers, which are read faster.
    if let Some(number) = integer(text) {
        return Some(number as f64);
    }
    let text = std::str::from_utf8(text).ok()?;
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_whitespace()) || text.len() > 400 {
        return None;
    }
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok().map(|n| n as f64);
    }
    let n: f64 = text.parse().ok()?;
    if n.is_nan() { None } else { Some(n) }
}

/// The shortest text that gives the number back.
pub(crate) fn double(n: f64) -> String {
    if n.is_infinite() {
        return if n > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if n.is_nan() {
        return "nan".to_owned();
    }
    if n == 0.0 {
        return if n.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let magnitude = n.abs();
    if (1e-4..1e17).contains(&magnitude) {
        return format!("{n}");
    }
    let text = format!("{n:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if exponent.starts_with('-') => {
            format!("{mantissa}e-{:0>2}", &exponent[1..])
        }
        Some((mantissa, exponent)) => format!("{mantissa}e+{exponent:0>2}"),
        None => text,
    }
}

/// As [`double`], never with an exponent: what the increment commands store.
pub(crate) fn plain(n: f64) -> String {
    let text = format!("{n:.17}");
    let short = format!("{n}");
    if short.len() <= text.len() { short } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_integers() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
        ] {
            assert_eq!(integer(text.as_bytes()), value);
            let mut buffer = [0; 20];
            assert_eq!(decimal(value.expect("a number"), &mut buffer), text.as_bytes());
        }
        for text in ["", " 1", "1 ", "+1", "01", "-0", "9223372036854775808", "1.0", "x"] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn floats() {
        assert_eq!(double(3.0), "3");
        assert_eq!(double(1e20), "1e+20");
        assert_eq!(double(1.5e-7), "1.5e-07");
        assert_eq!(double(f64::NEG_INFINITY), "-inf");
        assert_eq!(float(b"+inf"), Some(f64::INFINITY));
        assert_eq!((float(b"nan"), float(b" 1"), float(b"1x")), (None, None, None));
    }
}
