//! Who chooses how tokens are sampled, field by field: the request, then others, what is built in last.

use scheduler::TokenId;

use super::request::Sampling;

/// What somebody chooses of [`Sampling`]; what is absent is left to whoever comes next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingChoices {
    /// See [`Sampling::temperature`].
    pub temperature: Option<f32>,
    /// See [`Sampling::top_p`].
    pub top_p: Option<f32>,
    /// See [`Sampling::top_k`].
    pub top_k: Option<usize>,
    /// See [`Sampling::min_p`].
    pub min_p: Option<f32>,
    /// See [`Sampling::frequency_penalty`].
    pub frequency_penalty: Option<f32>,
    /// See [`Sampling::presence_penalty`].
    pub presence_penalty: Option<f32>,
    /// See [`Sampling::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
    /// See [`Sampling::penalty_window`].
    pub penalty_window: Option<usize>,
}

impl SamplingChoices {
    /// No choice at all.
    pub const NONE: SamplingChoices = SamplingChoices {
        temperature: None,
        top_p: None,
        top_k: None,
        min_p: None,
        frequency_penalty: None,
        presence_penalty: None,
        repetition_penalty: None,
        penalty_window: None,
    };

    /// What is chosen where nobody else does: hot enough for prose, without the tail that leads small models astray,
    /// and without a penalty, which forbids a model to copy what it was asked to copy.
    pub const BUILT_IN: SamplingChoices = SamplingChoices {
        temperature: Some(0.7),
        top_p: Some(0.95),
        min_p: Some(0.05),
        ..SamplingChoices::NONE
    };

    /// Whether they make the choice greedy, after which nobody else has a say.
    pub fn is_greedy(&self) -> bool {
        self.temperature.is_some_and(|temperature| temperature <= 0.0)
    }

    /// These choices, and where they are silent those of `next`. Greedy is greedy: a penalty that somebody else
    /// recommends for sampling does not change it.
    #[must_use]
    pub fn or(self, next: &SamplingChoices) -> SamplingChoices {
        if self.is_greedy() {
            return self;
        }
        SamplingChoices {
            temperature: self.temperature.or(next.temperature),
            top_p: self.top_p.or(next.top_p),
            top_k: self.top_k.or(next.top_k),
            min_p: self.min_p.or(next.min_p),
            frequency_penalty: self.frequency_penalty.or(next.frequency_penalty),
            presence_penalty: self.presence_penalty.or(next.presence_penalty),
            repetition_penalty: self.repetition_penalty.or(next.repetition_penalty),
            penalty_window: self.penalty_window.or(next.penalty_window),
        }
    }

    /// Sampling as chosen; what nobody chose is neutral.
    pub fn into_sampling(self, logit_bias: Vec<(TokenId, f32)>, seed: Option<u64>) -> Sampling {
        let neutral = Sampling::default();
        Sampling {
            temperature: self.temperature.unwrap_or(neutral.temperature),
            top_p: self.top_p.unwrap_or(neutral.top_p),
            top_k: self.top_k.unwrap_or(neutral.top_k),
            min_p: self.min_p.unwrap_or(neutral.min_p),
            frequency_penalty: self.frequency_penalty.unwrap_or(neutral.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(neutral.presence_penalty),
            repetition_penalty: self.repetition_penalty.unwrap_or(neutral.repetition_penalty),
            penalty_window: self.penalty_window.unwrap_or(neutral.penalty_window),
            logit_bias,
            seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(layers: &[&SamplingChoices]) -> Sampling {
        let all = layers.iter().fold(SamplingChoices::default(), |chosen, next| chosen.or(next));
        all.into_sampling(Vec::new(), None)
    }

    #[test]
    fn each_field_is_the_first_ones_who_names_it() {
        let request = SamplingChoices { top_p: Some(0.5), ..SamplingChoices::default() };
        let file = SamplingChoices {
            temperature: Some(0.25),
            top_p: Some(0.75),
            repetition_penalty: Some(1.125),
            ..SamplingChoices::default()
        };
        let want = Sampling {
            temperature: 0.25,
            top_p: 0.5,
            min_p: 0.05,
            repetition_penalty: 1.125,
            ..Sampling::default()
        };
        assert_eq!(chosen(&[&request, &file, &SamplingChoices::BUILT_IN]), want);
        assert_eq!(chosen(&[&SamplingChoices::default()]), Sampling::default());
    }

    #[test]
    fn what_is_built_in_has_no_penalty() {
        let built_in = chosen(&[&SamplingChoices::BUILT_IN]);
        assert_eq!(
            (built_in.temperature, built_in.top_p, built_in.min_p, built_in.top_k),
            (0.7, 0.95, 0.05, 0)
        );
        assert_eq!(
            (built_in.repetition_penalty, built_in.presence_penalty, built_in.frequency_penalty),
            (1.0, 0.0, 0.0)
        );
    }

    #[test]
    fn greedy_is_greedy_whatever_others_recommend() {
        let recommended = SamplingChoices {
            temperature: Some(1.5),
            repetition_penalty: Some(1.5),
            presence_penalty: Some(1.5),
            ..SamplingChoices::BUILT_IN
        };
        let greedy = SamplingChoices { temperature: Some(0.0), ..SamplingChoices::default() };
        let pure = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(chosen(&[&greedy, &recommended]), pure);
        assert_eq!(chosen(&[&SamplingChoices::default(), &greedy, &recommended]), pure);
        // Its own penalties are its own wish.
        let own = SamplingChoices { frequency_penalty: Some(0.5), ..greedy };
        assert_eq!(chosen(&[&own, &recommended]), Sampling { frequency_penalty: 0.5, ..pure });
    }
}
