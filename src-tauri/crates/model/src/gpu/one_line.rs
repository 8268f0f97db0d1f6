//! candle's errors for people.

/// What happened: the first line, as others may carry a backtrace.
pub(super) fn one_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
