//! Histograms with fixed buckets: written by the engine thread, read by whoever scrapes, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Everything the engine measures as a distribution.
#[derive(Debug)]
pub struct Histograms {
    /// Seconds from receipt to the first sampled token.
    pub time_to_first_token: Histogram,
    /// Seconds between two sampled tokens of a sequence.
    pub inter_token: Histogram,
    /// Seconds from receipt to admission.
    pub queue_time: Histogram,
    /// Seconds of a step.
    pub step_time: Histogram,
    /// Tokens of a step.
    pub step_tokens: Histogram,
    /// Rows of a step.
    pub step_rows: Histogram,
}

impl Default for Histograms {
    fn default() -> Histograms {
        const WAITS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
        const GAPS: &[f64] = &[0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5];
        const TOKENS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0];
        const ROWS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0];
        Histograms {
            time_to_first_token: Histogram::new(WAITS),
            inter_token: Histogram::new(GAPS),
            queue_time: Histogram::new(WAITS),
            step_time: Histogram::new(GAPS),
            step_tokens: Histogram::new(TOKENS),
            step_rows: Histogram::new(ROWS),
        }
    }
}

/// One distribution. Readers may see a value counted in its bucket and not yet in the sum; that heals by itself.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than `bounds`: the last counts what lies above all of them.
    counts: Vec<AtomicU64>,
    /// The sum's bits.
    sum: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSnapshot {
    /// Upper bounds of the buckets, inclusive, ascending; infinity is not among them.
    pub bounds: &'static [f64],
    /// For each bound, how many values were at most that.
    pub cumulative: Vec<u64>,
    /// How many values there were.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }
    }

    /// Count `value`. Called by one thread only, which is why the sum needs no retry.
    pub(crate) fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed)) + value;
        self.sum.store(sum.to_bits(), Ordering::Relaxed);
    }

    /// How it stands.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut count = 0;
        let mut cumulative: Vec<u64> = Vec::with_capacity(self.bounds.len());
        for (bucket, n) in self.counts.iter().enumerate() {
            count += n.load(Ordering::Relaxed);
            if bucket < self.bounds.len() {
                cumulative.push(count);
            }
        }
        HistogramSnapshot {
            bounds: self.bounds,
            cumulative,
            count,
            sum: f64::from_bits(self.sum.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_every_bucket_that_reaches_it_and_bounds_are_inclusive() {
        let histogram = Histogram::new(&[1.0, 2.0, 4.0]);
        for value in [0.5, 1.0, 1.5, 4.0, 9.0] {
            histogram.observe(value);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.cumulative, [2, 3, 4]);
        assert_eq!((snapshot.count, snapshot.sum), (5, 16.0));
    }

    #[test]
    fn every_histogram_has_ascending_bounds() {
        let all = Histograms::default();
        for histogram in [
            &all.time_to_first_token,
            &all.inter_token,
            &all.queue_time,
            &all.step_time,
            &all.step_tokens,
            &all.step_rows,
        ] {
            assert!(histogram.bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
