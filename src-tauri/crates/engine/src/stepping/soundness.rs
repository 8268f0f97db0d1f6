//! Whether a model computes numbers at all, which is asked when nothing of a step could be used.
//!
//! A row whose logits are not finite ends its own request. Only where no row of a step can be used is the model
//! asked; one that computes no numbers then either is failed until somebody loads it again.

use scheduler::{ModelRunner, RunError, Scheduler, StepOutput, TokenId};

/// Read single tokens from different parts of the vocabulary, each alone, until one has logits that are finite.
///
/// Where no memory is free for that, the model is taken for sound: what held it is about to go.
///
/// # Errors
/// The runner fails.
pub(crate) fn is_sound(scheduler: &mut Scheduler, runner: &mut dyn ModelRunner) -> Result<bool, RunError> {
    let last = runner.cache_spec().n_vocab.saturating_sub(1);
    let mut out = StepOutput::default();
    for token in [last / 2, last.min(1), last / 4, last] {
        let Some(step) = scheduler.lone_step(token as TokenId) else { return Ok(true) };
        runner.run(&step, &mut out)?;
        if !out.logits.values.is_empty() && out.logits.values.iter().all(|logit| logit.is_finite()) {
            return Ok(true);
        }
    }
    Ok(false)
}
