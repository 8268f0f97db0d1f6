//! Numbers as the API shows them: no more digits than they are worth.

use std::time::Duration;

/// Percentages.
pub(crate) fn one_decimal(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Progress.
pub(crate) fn two_decimals(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Lengths of work.
pub(crate) fn three_decimals(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Seconds of what people wait for.
pub(crate) fn seconds(duration: Duration) -> f64 {
    one_decimal(duration.as_secs_f64())
}
