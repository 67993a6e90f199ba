/// Letters by which a mistyped name differs at most from the one that was meant, and no more than half of it.
const LETTERS_MAX: usize = 3;

/// The name among `known` that may have been meant by `name`.
#[must_use]
pub fn nearest_name<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let distances = known.map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known));
    let (distance, nearest) = distances.min()?;
    (distance <= LETTERS_MAX.min(name.chars().count().div_ceil(2))).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_seen_and_another_name_is_not() {
        let known = ["proseware", "contoso", "hr"];
        for (name, nearest) in [
            ("prosewar", Some("proseware")),
            ("Proseware", Some("proseware")),
            ("contsoo", Some("contoso")),
            ("fabrikam", None),
            ("it", None),
        ] {
            assert_eq!(nearest_name(name, known.into_iter()), nearest, "{name}");
        }
        assert_eq!(nearest_name("a", [].into_iter()), None);
    }
}
