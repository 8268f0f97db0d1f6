//! Qwen 3.5 and 3.6 with experts, of which one is every token's and gated.

use super::experts::{Defaults, put_experts};
use super::family::Family;
use super::keys::Keys;
use super::qwen35;
use crate::error::Cause;
use crate::plan::model_plan::ModelPlan;

pub(super) const FAMILY: Family = Family { architecture: "qwen35moe", plan, tensors: qwen35::tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let mut plan = qwen35::plan(keys)?;
    put_experts(keys, &mut plan, &Defaults::USUAL)?;
    Ok(plan)
}
