//! `e^x` for weights: branch-free, so that the compiler runs it on many values at once, and the same on every machine.

/// Values a loop handles at once; a multiple of every vector width in use.
pub(super) const LANES: usize = 16;

/// `e^x` for `x <= 0`, within 4e-7 of its value; 0 below -87.
///
/// `e^x = 2^n · e^r` with `n = round(x / ln 2)` and `|r| <= ln 2 / 2`; `e^r` by its Taylor series to the 6th power.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 · 2^23 rounds to an integer without a call.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with trailing zeros, so that n · LN2_HIGH is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > -87.0 { x } else { -87.0 };
    // The integer is also in the low bits of the sum, where no conversion is needed to get at it.
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let power = f32::from_bits(exponent << 23);
    if x > -87.0 { p * power } else { 0.0 }
}

/// The sum of `e^((value - max) · scale)`.
pub(super) fn exp_sum(values: &[f32], max: f32, scale: f32) -> f64 {
    let mut sum = 0.0f64;
    // Parts of a few thousand values keep the f32 sums exact enough; the parts are added in f64.
    for part in values.chunks(256 * LANES) {
        let mut lanes = [0f32; LANES];
        let mut chunks = part.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += exp((value - max) * scale);
            }
        }
        for &value in chunks.remainder() {
            sum += f64::from(exp((value - max) * scale));
        }
        sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_within_its_bound_of_the_true_value() {
        let mut worst = 0f64;
        for i in 0..=87_000 {
            let x = -f64::from(i) / 1_000.0;
            let x = x as f32;
            if x <= -87.0 {
                continue;
            }
            let truth = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - truth).abs() / truth);
        }
        assert!(worst < 4e-7, "{worst:e}");
        assert_eq!((exp(0.0), exp(-88.0), exp(f32::MIN)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn a_sum_over_a_vocabulary_is_that_of_double_precision() {
        let values: Vec<f32> = (0..262_144).map(|i| (i as f32 * 0.7).sin() * 12.0).collect();
        let truth: f64 = values.iter().map(|&v| (f64::from(v - 12.0) * 0.8).exp()).sum();
        let sum = exp_sum(&values, 12.0, 0.8);
        assert!((sum - truth).abs() / truth < 1e-6, "{sum} {truth}");
    }
}
