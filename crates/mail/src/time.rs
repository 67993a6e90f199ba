use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z, as records and logs keep time.
///
/// A value, not a clock: a caller that needs the present is given it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl UnixMillis {
    /// This time plus `millis` milliseconds, without wrapping.
    #[must_use]
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this time; 0 when the clock went back.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The date-time of a header field in UTC (RFC 5322 section 3.3), for `Received:` and `Date:`.
    #[must_use]
    pub fn rfc5322(self) -> impl std::fmt::Display {
        let (days, (year, month, day), (hour, minute, second)) = self.civil();
        let weekday = DAYS[(days % 7) as usize];
        let month = MONTHS[month as usize - 1];
        std::fmt::from_fn(move |f| {
            write!(f, "{weekday}, {day} {month} {year} {hour:02}:{minute:02}:{second:02} +0000")
        })
    }

    /// The time as RFC 3339 in UTC with milliseconds, for log records.
    #[must_use]
    pub fn rfc3339(self) -> impl std::fmt::Display {
        let (_, (year, month, day), (hour, minute, second)) = self.civil();
        let millis = self.0 % 1000;
        std::fmt::from_fn(move |f| {
            write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
        })
    }

    /// Reads what [`UnixMillis::rfc3339`] writes, with or without the part of a second; `None` of anything
    /// else, and of what is before 1970.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let numbers = |text: &str, mark: char| -> Option<[u64; 3]> {
            let numbers: Vec<u64> = text.split(mark).map(str::parse).collect::<Result<_, _>>().ok()?;
            numbers.try_into().ok()
        };
        let (time, millis) = time.split_once('.').unwrap_or((time, "0"));
        let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
        let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        if !is_date || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        // The inverse of `civil`, by years that begin on 1 March.
        let (year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let (era, year_of_era) = (year / 400, year % 400);
        let of_year = (153 * shifted_month + 2) / 5 + day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = (era * 146_097 + of_era).checked_sub(719_468)?;
        let millis: u64 = format!("{millis:0<3}").get(..3)?.parse().ok()?;
        Some(Self((days * 86_400 + hour * 3600 + minute * 60 + second) * 1000 + millis))
    }

    /// Days since the epoch, the civil date, and the time of day.
    fn civil(self) -> (u64, (u64, u64, u64), (u64, u64, u64)) {
        let seconds = self.0 / 1000;
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Days to a date in the proleptic Gregorian calendar, by 400-year eras that begin on 1 March.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        (days, (year, month, day), (rest / 3600, rest % 3600 / 60, rest % 60))
    }
}

impl From<SystemTime> for UnixMillis {
    /// What is before 1970 becomes 0, what is past the range its end.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_system_s_time_is_counted_from_1970() {
        let millis = Duration::from_millis(1_795_390_496_789);
        assert_eq!(UnixMillis::from(UNIX_EPOCH + millis), UnixMillis(1_795_390_496_789));
        assert_eq!(UnixMillis::from(UNIX_EPOCH - millis), UnixMillis(0), "a clock that was never set");
    }

    #[test]
    fn dates_are_civil() {
        let table = [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000", "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "Tue, 29 Feb 2000 00:00:00 +0000", "2000-02-29T00:00:00.000Z"),
            (1_795_426_496_789, "Mon, 23 Nov 2026 09:34:56 +0000", "2026-11-23T09:34:56.789Z"),
        ];
        for (millis, rfc5322, rfc3339) in table {
            assert_eq!(UnixMillis(millis).rfc5322().to_string(), rfc5322);
            assert_eq!(UnixMillis(millis).rfc3339().to_string(), rfc3339);
            assert_eq!(UnixMillis::parse_rfc3339(rfc3339), Some(UnixMillis(millis)));
        }
        for day in 0..=60_000 {
            let time = UnixMillis(day * 86_400_000 + 3_723_004);
            assert_eq!(UnixMillis::parse_rfc3339(&time.rfc3339().to_string()), Some(time));
        }
        assert_eq!(UnixMillis::parse_rfc3339("1970-01-01T00:00:01Z"), Some(UnixMillis(1000)));
        for text in
            ["", "1970-01-01", "1970-01-01T00:00:00.000", "1969-12-31T00:00:00Z", "1970-13-01T00:00:00Z"]
        {
            assert_eq!(UnixMillis::parse_rfc3339(text), None, "{text}");
        }
    }
}
