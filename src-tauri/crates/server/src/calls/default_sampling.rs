//! What a request is sampled with that says nothing, and who chose it, for those who ask.

use engine::{ModelCard, SamplingChoices};
use serde::Serialize;
use utoipa::ToSchema;

/// Each field of sampling that somebody chooses, and who does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, ToSchema)]
pub(crate) struct DefaultSampling {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Chosen<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<Chosen<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<Chosen<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<Chosen<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<Chosen<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<Chosen<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repetition_penalty: Option<Chosen<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    penalty_window: Option<Chosen<usize>>,
}

/// A value, and who chose it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
struct Chosen<T: Copy> {
    value: T,
    from: Chooser,
}

/// Who chooses where a request does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Chooser {
    /// The server's settings.
    Settings,
    /// The model's file.
    Model,
    /// This program.
    Default,
}

impl DefaultSampling {
    /// What a request to the model is sampled with that says nothing.
    pub(crate) fn new(settings: &SamplingChoices, card: &ModelCard) -> DefaultSampling {
        let mut all = DefaultSampling::default();
        let by_priority = [
            (Chooser::Settings, settings),
            (Chooser::Model, &card.sampling),
            (Chooser::Default, &SamplingChoices::BUILT_IN),
        ];
        for (from, choices) in by_priority {
            choose(&mut all.temperature, choices.temperature, from);
            choose(&mut all.top_p, choices.top_p, from);
            choose(&mut all.top_k, choices.top_k, from);
            choose(&mut all.min_p, choices.min_p, from);
            choose(&mut all.frequency_penalty, choices.frequency_penalty, from);
            choose(&mut all.presence_penalty, choices.presence_penalty, from);
            choose(&mut all.repetition_penalty, choices.repetition_penalty, from);
            choose(&mut all.penalty_window, choices.penalty_window, from);
            // After that nobody else is asked.
            if choices.is_greedy() {
                break;
            }
        }
        all
    }
}

fn choose<T: Copy>(chosen: &mut Option<Chosen<T>>, choice: Option<T>, from: Chooser) {
    if chosen.is_none() {
        *chosen = choice.map(|value| Chosen { value, from });
    }
}
