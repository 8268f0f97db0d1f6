//! The rotations of a plan, as the kernels take them: both backends turn by the same angles.

use kernels::ops::{self, Rope, Yarn};

use crate::plan::model_plan::ModelPlan;
use crate::plan::rope_plan::{RopePairs, RopePlan, YarnPlan};

/// One for each of the plan's.
pub(crate) fn rotations(plan: &ModelPlan) -> Vec<Rope> {
    plan.ropes.iter().map(rotation).collect()
}

fn rotation(rope: &RopePlan) -> Rope {
    let pairs = match rope.pairs {
        RopePairs::Interleaved => ops::RopePairs::Interleaved,
        RopePairs::SplitHalf => ops::RopePairs::Halves,
    };
    let (base, factors) =
        (f64::from(rope.base), (!rope.factors.is_empty()).then_some(rope.factors.as_slice()));
    let plain = Rope::new(pairs, rope.n_rot, base, f64::from(rope.position_scale), factors);
    let stretched = match rope.yarn {
        Some(yarn) => plain.by_yarn(&stretch(base, yarn)),
        None => plain,
    };
    stretched.times(rope.magnitude.into())
}

fn stretch(base: f64, yarn: YarnPlan) -> Yarn {
    Yarn {
        base,
        factor: yarn.factor.into(),
        original_context: yarn.original_context as f64,
        beta_fast: yarn.beta_fast.into(),
        beta_slow: yarn.beta_slow.into(),
        kept: yarn.kept.into(),
    }
}
