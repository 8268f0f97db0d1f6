//! What a file says of the rotation of queries and keys, and how it was stretched to more positions.

use super::keys::Keys;
use crate::error::Cause;
use crate::file::metadata::MetadataError;
use crate::plan::model_plan::Temperature;
use crate::plan::rope_plan::{LongFactors, RopePairs, RopePlan, YarnPlan};

/// How far a file's number may be from what YaRN makes of its factor, and still mean that.
const SAME_MAGNITUDE: f32 = 1e-3;

impl Keys<'_> {
    /// The tensor of the factors that rotations may have.
    pub(super) const ROPE_FACTORS: &'static str = "rope_freqs.weight";

    /// The tensors of factors for contexts that are not long, and for long ones.
    pub(super) const LONG_ROPE_FACTORS: [&'static str; 2] =
        ["rope_factors_short.weight", "rope_factors_long.weight"];

    /// The rotation that the file describes, without the factors of `rope_freqs`.
    pub(super) fn rope(&self, pairs: RopePairs, n_rot: usize) -> Result<RopePlan, Cause> {
        let factor = self.positive("rope.scaling.factor")?;
        let factor = factor.or(self.positive("rope.scale_linear")?);
        let mut rope = RopePlan::plain(pairs, n_rot, self.positive("rope.freq_base")?.unwrap_or(10_000.0));
        rope.magnitude = self.positive("rope.scaling.yarn_attn_factor")?.unwrap_or(1.0);
        // Asked for whatever the type is: where it does not use them, they say nothing.
        let multiplier = self.positive("rope.scaling.yarn_log_multiplier")?;
        let yarn = self.yarn(factor.unwrap_or(1.0))?;
        let kind = self.str("rope.scaling.type")?;
        match kind {
            Some("none") => {}
            None | Some("linear") => rope.position_scale = 1.0 / factor.unwrap_or(1.0),
            Some("yarn") => {
                if yarn.kept != 0.0 {
                    rope.magnitude = self.yarn_magnitude(rope.magnitude, yarn.factor, multiplier)?;
                }
                rope.yarn = Some(yarn);
            }
            Some("longrope") => {
                self.refuse_other_than("rope.scaling.factor", factor, 1.0)?;
                self.add_long_factors(&mut rope)?;
                if rope.long.is_none() {
                    let [short, _] = Self::LONG_ROPE_FACTORS;
                    return Err(Cause::Malformed(format!("tensor `{short}` is missing")));
                }
            }
            Some(other) => {
                let other: String = other.chars().take(60).collect();
                return Err(Cause::Unsupported(format!("rope scaling {other:?}")));
            }
        }
        if kind != Some("yarn") {
            let kept = self.float("rope.scaling.yarn_ext_factor")?.filter(|&kept| kept >= 0.0);
            self.refuse_other_than("rope.scaling.yarn_ext_factor", kept, 0.0)?;
        }
        rope.magnitude *= self.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
        Ok(rope)
    }

    /// What YaRN multiplies turned values by. A file's own number must mean the same: it was never used beside a factor.
    fn yarn_magnitude(&self, own: f32, factor: f32, multiplier: Option<f32>) -> Result<f32, Cause> {
        let usual = YarnPlan::magnitude(factor, 1.0);
        if (own - usual).abs() > SAME_MAGNITUDE {
            self.refuse_other_than("rope.scaling.yarn_attn_factor", Some(own), 1.0)?;
        }
        // Where a file has a multiplier, scores get only what theirs takes more than that.
        Ok(usual / multiplier.map_or(1.0, |multiplier| YarnPlan::magnitude(factor, multiplier)))
    }

    /// Refuse a number that would mean another computation than ours beside what else the file says.
    fn refuse_other_than(&self, rest: &str, number: Option<f32>, known: f32) -> Result<(), Cause> {
        match number {
            Some(number) if number != known => {
                let kind = self.str("rope.scaling.type")?.unwrap_or("linear");
                Err(Cause::Unsupported(format!("`{}` of {number} beside {kind} scaling", self.key(rest))))
            }
            _ => Ok(()),
        }
    }

    fn yarn(&self, factor: f32) -> Result<YarnPlan, Cause> {
        let kept = self.float("rope.scaling.yarn_ext_factor")?;
        Ok(YarnPlan {
            factor,
            original_context: self.original_context()?,
            beta_fast: self.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: self.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            // Below 0 it is not set.
            kept: kept.filter(|&kept| kept >= 0.0).unwrap_or(1.0),
        })
    }

    /// Positions that the model was trained for before its rotation was stretched.
    pub(super) fn original_context(&self) -> Result<usize, Cause> {
        let trained = self.count("context_length", None)?;
        let said = self.number("rope.scaling.original_context_length")?;
        Ok(said.filter(|&n_tokens| n_tokens > 0).unwrap_or(trained))
    }

    /// Give `rope` the factors of its frequencies, if the file has such a tensor and none by the length of a context.
    pub(super) fn add_rope_factors(&self, rope: &mut RopePlan) -> Result<(), Cause> {
        if rope.long.is_none() {
            rope.factors = self.rope_factors(rope.n_rot)?;
        }
        Ok(())
    }

    /// The factors of the rotation's frequencies, if the file has such a tensor.
    pub(super) fn rope_factors(&self, n_rot: usize) -> Result<Vec<f32>, Cause> {
        if self.gguf().tensor(Self::ROPE_FACTORS).is_none() {
            return Ok(Vec::new());
        }
        self.factors(Self::ROPE_FACTORS, n_rot)
    }

    /// Give `rope` the factors for contexts up to the original one and those for longer ones, if the file has them.
    pub(super) fn add_long_factors(&self, rope: &mut RopePlan) -> Result<(), Cause> {
        let [short, long] = Self::LONG_ROPE_FACTORS;
        if [short, long].iter().all(|name| self.gguf().tensor(name).is_none()) {
            return Ok(());
        }
        rope.factors = self.factors(short, rope.n_rot)?;
        let factors = self.factors(long, rope.n_rot)?;
        rope.long = Some(LongFactors { original_context: self.original_context()?, factors });
        Ok(())
    }

    fn factors(&self, name: &str, n_rot: usize) -> Result<Vec<f32>, Cause> {
        let factors = self.gguf().floats(name, n_rot / 2)?;
        if factors.iter().any(|&factor| !factor.is_normal()) {
            return Err(Cause::Malformed(format!("tensor `{name}` divides by nothing")));
        }
        Ok(factors)
    }

    /// Refuse a rotation along several axes, interleaved, of which pairs are left that no axis of text turns: those would
    /// stand still, and every other pair of text turns with its position alone.
    pub(super) fn refuse_idle_sections(&self, n_rot: usize) -> Result<(), Cause> {
        let key = self.key("rope.dimension_sections");
        let sections = self.gguf().metadata().find_usizes(&key)?;
        let sections = sections.ok_or_else(|| MetadataError::Missing { key: key.clone() })?;
        let (3 | 4, Some(n_pairs @ 1..)) =
            (sections.len(), sections.iter().try_fold(0, |sum: usize, &n| sum.checked_add(n)))
        else {
            return Err(Cause::Malformed(format!(
                "`{key}` has {} numbers, no axis of which turns",
                sections.len()
            )));
        };
        // Pair i turns along axis i mod 3 as long as that has pairs left.
        let turns = |pair: usize| pair / 3 < sections[pair % 3];
        match (0..n_rot / 2).map(|pair| pair % n_pairs).find(|&pair| !turns(pair)) {
            Some(pair) => {
                Err(Cause::Unsupported(format!("`{key}` of which pair {pair} turns with no axis of text")))
            }
            None => Ok(()),
        }
    }

    /// How queries grow with their position, which the file says in parts of the context that the rotation was trained
    /// on.
    pub(super) fn temperature(&self) -> Result<Option<Temperature>, Cause> {
        let Some(scale) = self.positive("attention.temperature_scale")? else { return Ok(None) };
        let rest = "rope.scaling.original_context_length";
        let original = self.number(rest)?.filter(|&n_tokens| n_tokens > 0);
        let original_context = original.ok_or_else(|| MetadataError::Missing { key: self.key(rest) })?;
        Ok(Some(Temperature { scale, original_context }))
    }
}
