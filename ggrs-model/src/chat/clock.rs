//! Dates as templates write them: `strftime` over UTC. Knows nothing of templates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// The time now by the pattern, with C's conversions and English names, in UTC.
///
/// # Errors
/// The conversion that is not supported.
pub(super) fn format_now(pattern: &str) -> Result<String, char> {
    // A clock before 1970 counts as 1970.
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    format_time(since_epoch.as_secs(), pattern)
}

fn format_time(unix_seconds: u64, pattern: &str) -> Result<String, char> {
    let time = Time::from_unix(unix_seconds);
    let mut out = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut conversion = characters.next().unwrap_or('%');
        let padded = conversion != '-';
        if !padded {
            conversion = characters.next().unwrap_or('-');
        }
        out.push_str(&time.convert(conversion, padded)?);
    }
    Ok(out)
}

/// A point in time, taken apart.
struct Time {
    year: u64,
    /// 1 to 12.
    month: u64,
    /// 1 to 31.
    day: u64,
    /// 1 to 366.
    day_of_year: u64,
    /// From Sunday, 0 to 6.
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Time {
    /// The proleptic Gregorian calendar, counted from 0000-03-01, so that the leap day is a year's
    /// last (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
    fn from_unix(unix_seconds: u64) -> Self {
        let days = unix_seconds / 86_400;
        let second_of_day = unix_seconds % 86_400;
        let days_from_march = days + 719_468;
        let (era, day_of_era) = (days_from_march / 146_097, days_from_march % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_from_march + 2) / 153;
        let month = (month_from_march + 2) % 12 + 1;
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let is_leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        Self {
            year,
            month,
            day: day_from_march - (153 * month_from_march + 2) / 5 + 1,
            day_of_year: if month <= 2 {
                day_from_march - 305
            } else {
                day_from_march + 60 + u64::from(is_leap)
            },
            weekday: (days + 4) % 7, // 1970-01-01 was a Thursday
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }

    fn convert(&self, conversion: char, padded: bool) -> Result<String, char> {
        let number = |value: u64, width: usize| {
            if padded {
                format!("{value:0width$}")
            } else {
                value.to_string()
            }
        };
        let hour_of_half_day = (self.hour + 11) % 12 + 1;
        Ok(match conversion {
            'Y' => self.year.to_string(),
            'y' => number(self.year % 100, 2),
            'm' => number(self.month, 2),
            'd' => number(self.day, 2),
            'e' if padded => format!("{:2}", self.day),
            'j' => number(self.day_of_year, 3),
            'H' => number(self.hour, 2),
            'I' => number(hour_of_half_day, 2),
            'M' => number(self.minute, 2),
            'S' => number(self.second, 2),
            'p' => if self.hour < 12 { "AM" } else { "PM" }.to_owned(),
            'B' => name(&MONTHS, self.month - 1, usize::MAX),
            'b' | 'h' => name(&MONTHS, self.month - 1, 3),
            'A' => name(&WEEKDAYS, self.weekday, usize::MAX),
            'a' => name(&WEEKDAYS, self.weekday, 3),
            'F' => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
            'T' => format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second),
            'R' => format!("{:02}:{:02}", self.hour, self.minute),
            'Z' => "UTC".to_owned(),
            'z' => "+0000".to_owned(),
            '%' => "%".to_owned(),
            _ => return Err(conversion),
        })
    }
}

fn name(names: &[&str], idx: u64, n_letters: usize) -> String {
    let name = usize::try_from(idx).ok().and_then(|idx| names.get(idx));
    name.unwrap_or(&"").chars().take(n_letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds, and what CPython's `datetime.strftime` writes for them in UTC.
    const CASES: &[(u64, &str)] = &[
        (
            0,
            "1970 70 01 01  1 001 00 12 00 00 AM January Jan Thursday Thu 1970-01-01 00:00:00 00:00 % 1.1",
        ),
        (
            951782399,
            "2000 00 02 28 28 059 23 11 59 59 PM February Feb Monday Mon 2000-02-28 23:59:59 23:59 % 28.2",
        ),
        (
            951782400,
            "2000 00 02 29 29 060 00 12 00 00 AM February Feb Tuesday Tue 2000-02-29 00:00:00 00:00 % 29.2",
        ),
        (
            1709190309,
            "2024 24 02 29 29 060 07 07 05 09 AM February Feb Thursday Thu 2024-02-29 07:05:09 07:05 % 29.2",
        ),
        (
            1735689599,
            "2024 24 12 31 31 366 23 11 59 59 PM December Dec Tuesday Tue 2024-12-31 23:59:59 23:59 % 31.12",
        ),
        (
            1735689600,
            "2025 25 01 01  1 001 00 12 00 00 AM January Jan Wednesday Wed 2025-01-01 00:00:00 00:00 % 1.1",
        ),
        (
            4107542400,
            "2100 00 03 01  1 060 00 12 00 00 AM March Mar Monday Mon 2100-03-01 00:00:00 00:00 % 1.3",
        ),
        (
            1772323199,
            "2026 26 02 28 28 059 23 11 59 59 PM February Feb Saturday Sat 2026-02-28 23:59:59 23:59 % 28.2",
        ),
    ];

    #[test]
    fn times_are_those_of_python() {
        let every = "%Y %y %m %d %e %j %H %I %M %S %p %B %b %A %a %F %T %R %% %-d.%-m";
        for &(seconds, text) in CASES {
            assert_eq!(format_time(seconds, every).as_deref(), Ok(text));
        }
    }

    #[test]
    fn an_unknown_conversion_is_named() {
        assert_eq!(format_time(0, "%Y%Q"), Err('Q'));
        assert_eq!(format_time(0, "100%").as_deref(), Ok("100%"));
        assert!(format_now("%Y").is_ok());
    }
}
