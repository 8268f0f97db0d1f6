//! How many tokens the next step may compute, so that a step stays short on any machine.

use std::time::Duration;

/// Fewer tokens a step would not make it noticeably shorter: the weights have to be read anyway.
const LEAST: usize = 16;

/// Where an unknown machine starts; a machine that is fast doubles it from step to step.
const FIRST: usize = 64;

/// Follows the measured time of past steps.
#[derive(Debug, Clone)]
pub(crate) struct StepBudget {
    most: usize,
    now: usize,
    target: Duration,
}

impl StepBudget {
    /// At most `most` tokens, and steps of at most about `target`.
    pub(crate) fn new(most: usize, target: Duration) -> StepBudget {
        let most = most.max(1);
        StepBudget { most, now: FIRST.min(most), target }
    }

    /// Tokens for the next step.
    pub(crate) fn n_tokens(&self) -> usize {
        self.now
    }

    /// A step of `n_tokens` took `took`.
    ///
    /// A step that was too long lowers the budget in proportion. One that was well below the target raises it, but
    /// only when it had used most of the budget: a step of few tokens says nothing about one of many.
    pub(crate) fn observe(&mut self, n_tokens: usize, took: Duration) {
        let ratio = self.target.as_secs_f64() / took.as_secs_f64().max(1e-6);
        let fits = n_tokens as f64 * ratio * 0.9;
        let least = LEAST.min(self.most);
        if ratio < 1.0 && n_tokens > least {
            self.now = (fits as usize).clamp(least, self.now);
        } else if ratio > 1.2 && n_tokens * 4 >= self.now * 3 {
            self.now = (fits as usize).clamp(self.now, self.now * 2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(250);

    /// Budget and time of 40 prefill steps on a machine with these costs.
    fn run(fixed_ms: f64, ms_per_token: f64) -> Vec<(usize, f64)> {
        let mut budget = StepBudget::new(512, TARGET);
        (0..40)
            .map(|_| {
                let n = budget.n_tokens();
                let ms = fixed_ms + ms_per_token * n as f64;
                budget.observe(n, Duration::from_secs_f64(ms / 1000.0));
                (n, ms)
            })
            .collect()
    }

    #[test]
    fn a_fast_machine_reaches_the_whole_budget_within_four_steps() {
        let steps = run(5.0, 0.4);
        assert_eq!(steps[0].0, 64);
        assert!(steps[4..].iter().all(|&(n, _)| n == 512), "{steps:?}");
    }

    #[test]
    fn a_slow_machine_settles_below_the_target_and_uses_most_of_it() {
        for (fixed, per_token) in [(10.0, 3.0), (40.0, 1.0), (5.0, 8.0)] {
            let steps = run(fixed, per_token);
            for (n, ms) in &steps[8..] {
                assert!(*ms <= 250.0 && *ms >= 150.0, "{n} tokens took {ms} ms: {steps:?}");
            }
        }
    }

    #[test]
    fn steps_of_few_tokens_never_change_what_a_long_prompt_gets() {
        let mut budget = StepBudget::new(512, TARGET);
        for _ in 0..8 {
            budget.observe(budget.n_tokens(), Duration::from_millis(100));
        }
        let before = budget.n_tokens();
        for _ in 0..100 {
            budget.observe(1, Duration::from_millis(20));
            budget.observe(8, Duration::from_secs(2));
        }
        assert_eq!(budget.n_tokens(), before);
    }

    #[test]
    fn a_budget_below_the_least_stays_as_it_was_set() {
        let mut budget = StepBudget::new(4, TARGET);
        budget.observe(4, Duration::from_secs(9));
        assert_eq!(budget.n_tokens(), 4);
    }
}
