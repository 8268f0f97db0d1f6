//! `strftime_now`: the time of a rendering as text, in UTC, as Python's `strftime` writes it in the C locale.

use std::time::SystemTime;

use jiff::fmt::strtime::{BrokenDownTime, Config, PosixCustom};
use minijinja::{Error, ErrorKind};

/// Longest format: what it asks to be padded is bounded by its digits, not by it.
const MAX_FORMAT_BYTES: usize = 1024;

/// The time in the words of `format`.
///
/// # Errors
/// The format is too long, or the time is beyond the calendar.
pub(crate) fn strftime(format: &str, now: SystemTime) -> Result<String, Error> {
    let failed =
        |e: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}"));
    if format.len() > MAX_FORMAT_BYTES {
        return Err(failed(&format_args!("a format of {} bytes", format.len())));
    }
    let now = jiff::Timestamp::try_from(now).map_err(|e| failed(&e))?;
    let zoned = now.to_zoned(jiff::tz::TimeZone::UTC);
    let written = of_no_zone(format, zoned.subsec_nanosecond() / 1_000);
    let config = Config::new().custom(PosixCustom::new()).lenient(true);
    BrokenDownTime::from(&zoned).to_string_with_config(&config, &written).map_err(|e| failed(&e))
}

/// The format with what Python itself writes into it: microseconds, and nothing for a zone, which `datetime.now()` has
/// not.
fn of_no_zone(format: &str, microseconds: i32) -> String {
    let mut out = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        let (before, directive) = rest.split_at(at);
        out.push_str(before);
        let mut chars = directive.chars();
        chars.next();
        match chars.next() {
            Some('f') => out.push_str(&format!("{microseconds:06}")),
            Some('z' | 'Z') => {}
            Some(c) => out.extend(['%', c]),
            // A sign alone stands for itself.
            None => out.push_str("%%"),
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out
}
