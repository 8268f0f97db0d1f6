//! LFM 2 with experts behind some dense layers.

use kernels::experts::Scoring;

use super::experts::{Defaults, put_experts};
use super::family::Family;
use super::keys::Keys;
use super::lfm2;
use crate::error::Cause;
use crate::plan::model_plan::ModelPlan;

pub(super) const FAMILY: Family = Family { architecture: "lfm2moe", plan, tensors: lfm2::tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let mut plan = lfm2::convolving(keys)?;
    put_experts(keys, &mut plan, &Defaults { scoring: Scoring::Sigmoid, ..Defaults::USUAL })?;
    Ok(plan)
}
