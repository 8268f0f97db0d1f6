//! Mamba-2 as files describe it, in the layers that do not attend.

use kernels::kv::MAX_HEAD_DIM;
use kernels::recurrent::conv::MAX_TAPS;
use kernels::recurrent::mamba2::ScanShape;

use super::keys::Keys;
use crate::error::Cause;
use crate::plan::recurrent::{Mamba2Plan, RecurrentPlan};

/// More than any model has.
const MAX_HEADS: usize = 1024;
const MAX_STATES: usize = 1024;

/// What mixes tokens by the states that the file describes.
pub(super) fn mamba2(keys: &Keys<'_>) -> Result<RecurrentPlan, Cause> {
    let n_heads = keys.count_to("ssm.time_step_rank", None, MAX_HEADS)?;
    let n_groups = keys.count_to("ssm.group_count", None, MAX_HEADS)?;
    let n_states = keys.count_to("ssm.state_size", None, MAX_STATES)?;
    let inner = keys.count_to("ssm.inner_size", None, MAX_HEADS * MAX_HEAD_DIM)?;
    let n_taps = keys.count_to("ssm.conv_kernel", None, MAX_TAPS)?;
    if !n_heads.is_multiple_of(n_groups) || !inner.is_multiple_of(n_heads) {
        return Err(Cause::Malformed(format!(
            "Mamba-2 of {inner} values in {n_heads} heads in {n_groups} groups"
        )));
    }
    let (head_dim, unit) = (inner / n_heads, ScanShape::HEAD_DIM_UNIT);
    if !head_dim.is_multiple_of(unit) || head_dim > MAX_HEAD_DIM {
        return Err(Cause::Unsupported(format!(
            "heads of {head_dim} values in Mamba-2; multiples of {unit} up to {MAX_HEAD_DIM} are"
        )));
    }
    Ok(RecurrentPlan::Mamba2(Mamba2Plan {
        shape: ScanShape { n_heads, head_dim, n_groups, n_states },
        n_taps,
    }))
}
