//! What makes a family: how its files are understood.
//!
//! A tensor or key that is not asked for is refused: it would mean another computation than ours.

use super::keys::Keys;
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::ModelPlan;
use crate::plan::tensor_list::TensorList;

/// A family of models.
pub(crate) struct Family {
    /// What its files say in `general.architecture`, and before each of its keys.
    pub(crate) architecture: &'static str,
    /// How metadata becomes a plan. A key that is not asked for here is refused, unless it says nothing.
    pub(crate) plan: fn(&Keys<'_>) -> Result<ModelPlan, Cause>,
    /// The tensors of a model of this plan: all of them, and no others.
    pub(crate) tensors: fn(&ModelPlan, &Gguf) -> TensorList,
}
