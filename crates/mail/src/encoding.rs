//! Crockford's base 32: no I, L, O or U, either case, easy to read aloud, safe in a URL.

pub(crate) const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Writes the low `5 * out.len()` bits of `value`, most significant digit first.
pub(crate) fn encode(mut value: u128, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
}

/// Reads exactly `digits` digits, ignoring hyphens; `None` for anything else.
pub(crate) fn decode(text: &str, digits: usize) -> Option<u128> {
    let mut value = 0_u128;
    let mut count = 0;
    for byte in text.bytes().filter(|&byte| byte != b'-') {
        let folded = match byte.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        let digit = ALPHABET.iter().position(|&symbol| symbol == folded)?;
        value = value << 5 | digit as u128;
        count += 1;
        if count > digits {
            return None;
        }
    }
    (count == digits).then_some(value)
}
