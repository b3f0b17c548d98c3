//! A histogram of durations that costs a few instructions to feed.
//!
//! Buckets are log-linear, eight to the doubling (as in HdrHistogram), so a percentile is off by at most one part in eight.

use std::time::Duration;

const LINEAR_BITS: u32 = 3;
const LINEAR: u64 = 1 << LINEAR_BITS;
const BUCKETS: usize = (64 - LINEAR_BITS as usize + 1) * LINEAR as usize;

/// Durations by how often they occurred.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    count: u64,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: Box::new([0; BUCKETS]), count: 0, total: 0, max: 0 }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("p50", &self.percentile(0.5))
            .field("p99", &self.percentile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < LINEAR {
        return nanoseconds as usize;
    }
    let exponent = nanoseconds.ilog2() - LINEAR_BITS;
    (u64::from(exponent) * LINEAR + (nanoseconds >> exponent)) as usize
}

/// The largest value that falls into a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < LINEAR {
        return bucket;
    }
    let exponent = bucket / LINEAR - 1;
    let mantissa = u128::from(LINEAR + bucket % LINEAR + 1);
    ((mantissa << exponent) - 1).min(u128::from(u64::MAX)) as u64
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanoseconds)] += 1;
        self.count += 1;
        self.total = self.total.saturating_add(nanoseconds);
        self.max = self.max.max(nanoseconds);
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(other.counts.iter()).for_each(|(count, more)| *count += more);
        self.count += other.count;
        self.total = self.total.saturating_add(other.total);
        self.max = self.max.max(other.max);
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total)
    }

    /// The mean; zero if nothing was recorded.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.total.checked_div(self.count).unwrap_or(0))
    }

    /// The largest duration.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The duration that the given share (0 to 1) of the recorded ones does not exceed, rounded up by at most an eighth.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Duration {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper(bucket).min(self.max));
            }
        }
        self.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_tight() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for value in (0..5000).chain([1 << 40, (1 << 40) + 12345, u64::MAX - 1]) {
            let upper_bound = upper(bucket(value));
            assert!(upper_bound >= value && upper_bound - value <= value / LINEAR, "{value} {upper_bound}");
            assert!(bucket(value) == 0 || upper(bucket(value) - 1) < value);
        }
    }

    #[test]
    fn percentiles_are_within_an_eighth() {
        let mut histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.percentile(share).as_nanos() as f64 / 1000.0;
            assert!(found >= exact && found <= exact * 1.125, "{share}: {found}");
        }
        assert_eq!(histogram.mean(), Duration::from_nanos(500_500));
        assert_eq!(Histogram::default().percentile(0.5), Duration::ZERO);
    }
}
