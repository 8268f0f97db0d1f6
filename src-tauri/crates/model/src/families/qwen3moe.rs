//! Qwen 3 with experts: its attention is Qwen 3's.

use super::experts::{Defaults, put_experts};
use super::family::Family;
use super::keys::Keys;
use super::qwen3;
use crate::error::Cause;
use crate::plan::model_plan::ModelPlan;

pub(super) const FAMILY: Family = Family { architecture: "qwen3moe", plan, tensors: qwen3::tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let mut plan = qwen3::plan(keys)?;
    put_experts(keys, &mut plan, &Defaults::USUAL)?;
    Ok(plan)
}
