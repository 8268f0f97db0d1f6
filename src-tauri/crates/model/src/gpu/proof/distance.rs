//! How far a device's values are from the CPU's.

use super::doubt::Doubt;
use crate::gpu::verdict::GpuFault;

/// A stream cannot show less than this share of its largest value: that is what f32 leaves of a sum.
const RESOLUTION: f32 = 1.0 / (1 << 20) as f32;

/// The worst value seen so far: how far it is off, as a share of its row's root mean square or of itself, whichever is
/// greater. What few large values of a row lose to rounding is their own share, and no small one is measured by them.
#[derive(Debug)]
pub(super) struct Worst {
    share: f32,
    bound: f32,
}

impl Worst {
    /// None seen yet; none may be off by more than `bound`.
    pub(super) fn within(bound: f32) -> Worst {
        Worst { share: 0.0, bound }
    }

    /// How far it is off.
    pub(super) fn share(&self) -> f32 {
        self.share
    }

    /// Compare rows of `width`: what `place` made of `x`, which is added to it, with what it should have made.
    ///
    /// # Errors
    /// A value is no number, or off by more than the bound.
    pub(super) fn see_added(
        &mut self,
        place: &str,
        x: &[f32],
        (got, want): (&[f32], &[f32]),
        width: usize,
    ) -> Result<(), Doubt> {
        let rows = x.chunks_exact(width).zip(got.chunks_exact(width)).zip(want.chunks_exact(width));
        for ((x, got), want) in rows {
            let added: Vec<f32> = want.iter().zip(x).map(|(want, x)| want - x).collect();
            let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            self.see(place, (got, want), &added, largest * RESOLUTION)?;
        }
        Ok(())
    }

    /// Compare rows of `width`, each by its own size.
    ///
    /// # Errors
    /// As [`Worst::see_added`].
    pub(super) fn see_rows(
        &mut self,
        place: &str,
        (got, want): (&[f32], &[f32]),
        width: usize,
    ) -> Result<(), Doubt> {
        for (got, want) in got.chunks_exact(width).zip(want.chunks_exact(width)) {
            self.see(place, (got, want), want, 0.0)?;
        }
        Ok(())
    }

    /// Compare a row, in which `part` is what counts and nothing is smaller than `least`.
    fn see(
        &mut self,
        place: &str,
        (got, want): (&[f32], &[f32]),
        part: &[f32],
        least: f32,
    ) -> Result<(), Doubt> {
        finite(place, got)?;
        let size = root_mean_square(part).max(least);
        for ((got, want), part) in got.iter().zip(want).zip(part) {
            let off = (got - want).abs();
            // Rows of zeros have no size; what the CPU cannot compute either is no proof.
            let share = if off == 0.0 { 0.0 } else { off / size.max(part.abs()) };
            if share.is_nan() || share > self.bound {
                let bound = self.bound;
                let text = format!("{place}: off by {share:.3} of the row's size, {bound} is allowed");
                return Err(Doubt::Gpu(GpuFault::wrong(text)));
            }
            self.share = self.share.max(share);
        }
        Ok(())
    }
}

/// Hold that the device's `values` are all numbers.
///
/// # Errors
/// One is not.
pub(super) fn finite(place: &str, values: &[f32]) -> Result<(), Doubt> {
    match values.iter().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err(Doubt::Gpu(GpuFault::wrong(format!("{place}: values that are no numbers")))),
    }
}

fn root_mean_square(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    (sum / values.len().max(1) as f64).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(of: Result<(), Doubt>) -> String {
        match of {
            Ok(()) => String::new(),
            Err(Doubt::Gpu(fault)) => fault.text,
            Err(Doubt::Other(cause)) => panic!("{cause:?}"),
        }
    }

    #[test]
    fn what_is_off_is_measured_by_what_the_layer_adds_and_not_by_the_stream() {
        let x = [1000.0; 4];
        let want = [1001.0, 999.0, 1001.0, 999.0];
        let off = |by: f32| {
            let mut worst = Worst::within(0.1);
            let got = [1001.0 + by, 999.0, 1001.0, 999.0];
            (fault(worst.see_added("layer 3", &x, (&got, &want), 4)), worst.share())
        };
        assert_eq!(off(0.0625), (String::new(), 0.0625));
        assert_eq!(off(0.25).0, "layer 3: off by 0.250 of the row's size, 0.1 is allowed");
        assert_eq!(off(f32::NAN).0, "layer 3: values that are no numbers");
        assert_eq!(off(f32::INFINITY).0, "layer 3: values that are no numbers");
    }

    #[test]
    fn rows_are_measured_one_by_one_and_zeros_and_faulty_references_have_no_size() {
        let seen =
            |got: &[f32], want: &[f32]| fault(Worst::within(0.1).see_rows("the logits", (got, want), 2));
        assert_eq!(seen(&[0.0, 0.0, 9.0, 9.0], &[0.0, 0.0, 9.0, 9.5]), "");
        assert!(seen(&[0.2, 0.0, 90.0, 90.0], &[0.1, 0.0, 90.0, 90.0]).contains("off by 1.000"));
        assert!(seen(&[0.1, 0.02], &[0.1, 0.0]).contains("off by 0.283"));
        assert!(seen(&[0.1, 0.0], &[0.0, 0.0]).contains("off by inf"));
        assert!(seen(&[0.1, 0.0], &[f32::NAN, 0.0]).starts_with("the logits: off by"));
    }
}
