//! Random numbers by counter: a pure function of a seed and a place.

use std::hash::{BuildHasher, RandomState};

/// The random numbers of one token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dice {
    pub(super) seed: u64,
    /// The token's place in its answer.
    pub(super) place: u64,
}

impl Dice {
    /// The `n`-th number, uniform in `0.0..1.0`.
    pub(super) fn throw(self, n: u64) -> f64 {
        // `mix(0)` is 0: the first number is the seed's own.
        uniform(self.seed ^ mix(n), self.place)
    }
}

/// The `place`-th number of `seed`, uniform in `0.0..1.0` with 53 bits.
pub(super) fn uniform(seed: u64, place: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let bits = mix(mix(seed.wrapping_add(GOLDEN)).wrapping_add(place.wrapping_add(1).wrapping_mul(GOLDEN)));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A seed that nobody can guess, for requests that fix none: the standard library's hash keys come from the system.
pub(crate) fn fresh_seed(request_idx: u64) -> u64 {
    RandomState::new().hash_one(request_idx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_evenly_over_places_and_over_seeds() {
        for by_seed in [false, true] {
            let mut counts = [0u32; 16];
            let n = 64_000;
            for i in 0..n {
                let x = if by_seed { uniform(i, 3) } else { uniform(42, i) };
                assert!((0.0..1.0).contains(&x));
                counts[(x * 16.0) as usize] += 1;
            }
            for count in counts {
                assert!((3_700..4_300).contains(&count), "{counts:?}");
            }
        }
    }

    #[test]
    fn neighbouring_seeds_and_places_have_nothing_in_common() {
        let n = 20_000;
        let product = |f: &dyn Fn(u64) -> f64, g: &dyn Fn(u64) -> f64| {
            (0..n).map(|i| (f(i) - 0.5) * (g(i) - 0.5)).sum::<f64>() / n as f64
        };
        let correlation = product(&|i| uniform(7, i), &|i| uniform(8, i)) * 12.0;
        assert!(correlation.abs() < 0.03, "{correlation}");
        let correlation = product(&|i| uniform(7, i), &|i| uniform(7, i + 1)) * 12.0;
        assert!(correlation.abs() < 0.03, "{correlation}");
    }
}
