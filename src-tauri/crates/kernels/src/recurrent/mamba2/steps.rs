//! How much of a token's input each head takes in, and how much it keeps of what it has.
#![allow(unsafe_code)]

use crate::isa::Isa;
use crate::ops::over_rows;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads};
use crate::vmath;

/// The steps of some tokens; kept from call to call.
#[derive(Debug, Default)]
pub struct TokenSteps {
    /// What the input is multiplied with: `[n_tokens, n_heads]`.
    pub(super) step: Vec<f32>,
    /// What is left of the state: `[n_tokens, n_heads]`.
    pub(super) decay: Vec<f32>,
}

impl TokenSteps {
    pub(super) fn check(&self, n: usize) {
        assert_eq!((self.step.len(), self.decay.len()), (n, n), "steps");
    }
}

/// Makes the steps of tokens of their `products`, `[n_tokens, n_heads]`: a step is `softplus(product + bias)`, and what is
/// left is `e^(rate · step)`; `rate` and `bias` are `[n_heads]`.
///
/// # Panics
/// When `products` is not whole rows, or the heads' slices differ in length.
pub fn prepare(
    threads: &Threads,
    isa: Isa,
    products: &[f32],
    (rate, bias): (&[f32], &[f32]),
    steps: &mut TokenSteps,
) {
    let n_heads = rate.len();
    assert!(n_heads > 0 && products.len().is_multiple_of(n_heads), "{} steps of {n_heads}", products.len());
    assert_eq!(bias.len(), n_heads, "biases of {n_heads} heads");
    steps.step.resize(products.len(), 0.0);
    steps.decay.resize(products.len(), 0.0);
    let (step, decay) = (SharedMut::new(&mut steps.step), SharedMut::new(&mut steps.decay));
    over_rows(threads, products.len() / n_heads, n_heads, |rows| {
        for row in rows {
            let values = row * n_heads..(row + 1) * n_heads;
            // SAFETY: the rows of different ranges do not overlap; all slices have one length.
            unsafe {
                let out = (step.range(values.clone()), decay.range(values.clone()));
                steps_of(isa, &products[values], (rate, bias), out);
            }
        }
    });
}

simd_dispatch! {
    /// # Safety
    /// The slices have one length.
    unsafe fn steps_of(products: &[f32], heads: (&[f32], &[f32]), out: (&mut [f32], &mut [f32])) = steps_on
}

/// The steps of one token.
///
/// # Safety
/// The instruction set of `S`. The slices have one length.
#[inline(always)]
unsafe fn steps_on<S: Simd>(
    products: &[f32],
    (rate, bias): (&[f32], &[f32]),
    (step, decay): (&mut [f32], &mut [f32]),
) {
    for first in (0..products.len()).step_by(LANES) {
        let n = LANES.min(products.len() - first);
        let mut lanes = [[0f32; LANES]; 3];
        for (lanes, values) in lanes.iter_mut().zip([products, rate, bias]) {
            lanes[..n].copy_from_slice(&values[first..first + n]);
        }
        // SAFETY: whole lanes; the instruction set by the caller.
        unsafe {
            let [product, rate, bias] = [0, 1, 2].map(|i| S::load(lanes[i].as_ptr()));
            let taken = vmath::softplus::<S>(S::add(product, bias));
            let left = vmath::exp::<S>(S::mul(rate, taken));
            S::store(lanes[0].as_mut_ptr(), taken);
            S::store(lanes[1].as_mut_ptr(), left);
        }
        step[first..first + n].copy_from_slice(&lanes[0][..n]);
        decay[first..first + n].copy_from_slice(&lanes[1][..n]);
    }
}
