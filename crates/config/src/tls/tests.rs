use super::*;

#[test]
fn days_are_counted_as_people_count_them() {
    for (seconds, said) in [
        (0, "less than a day"),
        (DAY_SECONDS - 1, "less than a day"),
        (DAY_SECONDS, "1 day"),
        (13 * DAY_SECONDS + 5, "13 days"),
    ] {
        assert_eq!(days(seconds), said);
    }
}
