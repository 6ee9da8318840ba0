//! Dates and durations as people write them, and as `trine` writes them back.

use std::time::Duration;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use ledger::time::Span;
use license::product::WallTime;

/// Reads RFC 3339, or `YYYY-MM-DD` for the first instant of that day in UTC.
pub fn parse_date(text: &str) -> Result<WallTime, String> {
    let timestamp = match text.parse::<Timestamp>() {
        Ok(timestamp) => timestamp,
        Err(_) => text
            .parse::<Date>()
            .ok()
            .filter(|_| text.len() == "2027-01-31".len())
            .and_then(|date| date.to_zoned(TimeZone::UTC).ok())
            .map(|zoned| zoned.timestamp())
            .ok_or_else(|| {
                "write a date as 2027-01-31 (UTC) or a time as 2027-01-31T18:00:00Z".to_owned()
            })?,
    };
    Ok(WallTime(timestamp.as_millisecond()))
}

/// RFC 3339 in UTC, to the second; the bare number for what no calendar holds.
pub fn show_date(time: WallTime) -> String {
    match Timestamp::from_millisecond(time.0) {
        Ok(timestamp) => timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => format!("{} ms since 1970", time.0),
    }
}

/// Reads `90s`, `5m`, `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it as 90s, 5m or 1h30m"))
}

/// Writes a number of milliseconds as `400d 2h`, `1h 30m` or `2s 500ms`, which
/// [`parse_duration`] reads.
pub fn show_millis(millis: u64) -> String {
    Span(millis).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_date_is_midnight_in_utc() {
        assert_eq!(parse_date("1970-01-02"), Ok(WallTime(86_400_000)));
        assert_eq!(parse_date("1970-01-02T00:00:00Z"), Ok(WallTime(86_400_000)));
        assert_eq!(parse_date("1970-01-02T02:00:00+02:00"), Ok(WallTime(86_400_000)));
    }

    #[test]
    fn what_is_no_date_is_refused_with_the_form_to_use() {
        for wrong in ["", "tomorrow", "2027-13-01", "01/02/2027", "2027-1-1", "1767225600"] {
            let error = parse_date(wrong).expect_err(wrong);
            assert!(error.contains("2027-01-31"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_date_reads_back_as_it_was_written() {
        for text in ["2027-01-31T00:00:00Z", "1969-12-31T23:59:59Z"] {
            assert_eq!(parse_date(text).map(show_date).as_deref(), Ok(text));
        }
        assert!(show_date(WallTime(i64::MAX)).contains("ms since 1970"));
    }

    #[test]
    fn a_duration_is_read_and_shown_in_units() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert!(parse_duration("ten").is_err());
        assert_eq!(show_millis(2_500), "2s 500ms");
        assert_eq!(show_millis(3_600_123), "1h");
        assert_eq!(show_millis(0), "0s");
        assert_eq!(show_millis(86_400_000), "1d");
        let long = 400 * 86_400_000 + 7_500_000;
        assert_eq!(show_millis(long), "400d 2h 5m");
        for text in ["400d 2h 5m", "1d", "1day", "2 days"] {
            assert!(parse_duration(text).is_ok(), "{text}");
        }
    }
}
