//! The rotations of a plan, as the kernels take them: both backends turn by the same angles.

use kernels::ops::{self, Rope};

use crate::plan::model_plan::ModelPlan;
use crate::plan::rope_plan::{RopePairs, RopePlan};

/// One for each of the plan's.
pub(crate) fn rotations(plan: &ModelPlan) -> Vec<Rope> {
    let rotation = |rope: &RopePlan| {
        let pairs = match rope.pairs {
            RopePairs::Interleaved => ops::RopePairs::Interleaved,
            RopePairs::SplitHalf => ops::RopePairs::Halves,
        };
        let factors = (!rope.factors.is_empty()).then_some(rope.factors.as_slice());
        Rope::new(pairs, rope.n_rot, f64::from(rope.base), f64::from(rope.position_scale), factors)
    };
    plan.ropes.iter().map(rotation).collect()
}
