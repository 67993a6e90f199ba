//! What a page looks like on a terminal of the usual width.

/// Columns of a terminal where nothing else is known.
const COLUMNS: usize = 80;

/// Units that no line begins with when the one before ends with their number.
const UNITS: [&str; 9] = ["s", "min", "h", "d", "B", "KiB", "MiB", "GiB", "TiB"];

/// What of a page a terminal of 80 columns would break inside a word, and the numbers that have lost their units
/// to the next line. A line that is one word may be wider: a path cannot be broken.
#[must_use]
pub fn misfits(page: &str) -> Vec<String> {
    let is_wide = |line: &&str| line.chars().count() > COLUMNS && line.trim().contains(' ');
    let wide = page.lines().filter(is_wide).map(str::to_owned);
    let parted = page.lines().zip(page.lines().skip(1)).filter_map(|(line, next)| {
        let number = line.split_whitespace().next_back()?.trim_start_matches('(');
        let unit = next.split_whitespace().next()?.trim_end_matches([',', ';', '.', ':', ')']);
        let is_parted = number.parse::<f64>().is_ok() && UNITS.contains(&unit);
        is_parted.then(|| format!("{number} / {unit}"))
    });
    wide.chain(parted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        let wide = "word ".repeat(17);
        assert_eq!(
            misfits(&format!("a\n{wide}\n  next try in 9\n   s, or never\nin 3\nwords\n")),
            [wide, "9 / s".into()]
        );
        assert_eq!(misfits(&format!("a\n{}\nin 9 s\n", "/path".repeat(20))), [""; 0]);
    }
}
