//! Days by UTC, in the proleptic Gregorian calendar.
//!
//! The days of 400 years repeat, and a year that begins in March ends with its leap day. (Howard Hinnant, "chrono-compatible low-level date
//! algorithms", civil_from_days and days_from_civil.)

use std::fmt;

/// Seconds of a day.
pub const DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const BEFORE_1970: u64 = 719_468;

/// A day of 1970 or later. `Display` is as people write it in files: `2026-11-30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// By the calendar.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
}

impl Day {
    /// The one that has this second, since 1970.
    pub const fn at(seconds: u64) -> Self {
        let days = seconds / DAY + BEFORE_1970;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        Self { year: era * 400 + year + next, month, day }
    }

    /// Days since 1970; nothing before. One that its month does not have, such as the 31st of June, is as many days after the month's first.
    pub fn since_1970(self) -> Option<u64> {
        let Self { year, month, day } = self;
        let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
        let of_years = year * 365 + year / 4 - year / 100 + year / 400;
        // Days before a month, counted from March: 31, 30, 31, 30, 31 and again.
        let of_months = (153 * month + 2) / 5;
        (of_years + of_months + day - 1).checked_sub(BEFORE_1970)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day } = self;
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_are_named_as_by_everybody() {
        // date -u -d @SECONDS +%F
        for (seconds, name) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_799, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_796_083_199, "2026-11-30"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(Day::at(seconds).to_string(), name, "{seconds}");
        }
        assert_eq!(Day { year: 1969, month: 12, day: 31 }.since_1970(), None);
        assert_eq!(Day { year: 0, month: 1, day: 1 }.since_1970(), None);
    }

    proptest! {
        #[test]
        fn round_trip(days in 0u64..4_000_000) {
            prop_assert_eq!(Day::at(days * DAY + DAY - 1).since_1970(), Some(days));
        }
    }
}
