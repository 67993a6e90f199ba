//! Sizes and times as people write them.

use std::time::Duration;

/// Reads a size in bytes: `"25MiB"`, `"20 GB"`, `"4096"`. K, M, G and T are powers of 1000 before a B
/// and powers of 1024 before iB.
///
/// # Errors
/// What to write instead.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    const REMEDY: &str = "write a size such as \"25MiB\", \"20GiB\" or \"1000000\"";
    let (number, unit) = split(text);
    let number: u64 = number.parse().map_err(|_| REMEDY)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000_u64.pow(2),
        "gb" => 1000_u64.pow(3),
        "tb" => 1000_u64.pow(4),
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err(REMEDY),
    };
    number.checked_mul(factor).ok_or(REMEDY)
}

/// Reads a duration: `"500ms"`, `"5s"`, `"10m"`, `"1h"`, `"5d"`, `"1h30m"`.
///
/// # Errors
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const REMEDY: &str = "write a time such as \"5s\", \"10m\", \"1h30m\" or \"5d\"";
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(REMEDY);
    }
    while !rest.is_empty() {
        let (number, after) = split(rest);
        let number: u64 = number.parse().map_err(|_| REMEDY)?;
        let end = after.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(after.len());
        let millis: u64 = match &after[..end] {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(REMEDY),
        };
        let part = number.checked_mul(millis).ok_or(REMEDY)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or(REMEDY)?;
        rest = after[end..].trim_start();
    }
    Ok(total)
}

/// The digits in front, and what follows them.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in
            [("25MiB", 25 << 20), ("20 GiB", 20 << 30), ("1kB", 1000), ("4096", 4096), ("2g", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "25 apples", "99999999999TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in
            [("10m", 600_000), ("5s", 5000), ("250ms", 250), ("1h30m", 5_400_000), ("5 d", 432_000_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "m", "5 years", "1h30"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
