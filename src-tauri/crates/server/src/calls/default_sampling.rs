//! What a request is sampled with that says nothing, and who chose it, for those who ask.

use engine::{ModelCard, SamplingChoices};
use serde_json::{Map, Value, json};

/// Each field that somebody chooses, as `{"value": …, "from": "settings" | "model" | "default"}`.
pub(crate) fn sampling_by_default(settings: &SamplingChoices, card: &ModelCard) -> Value {
    let mut fields = Map::new();
    let by_priority =
        [("settings", settings), ("model", &card.sampling), ("default", &SamplingChoices::HOUSE)];
    for (from, choices) in by_priority {
        for (name, value) in chosen(choices) {
            if let Some(value) = value
                && !fields.contains_key(name)
            {
                fields.insert(name.to_owned(), json!({"value": value, "from": from}));
            }
        }
        // After that nobody else is asked.
        if choices.is_greedy() {
            break;
        }
    }
    Value::Object(fields)
}

fn chosen(choices: &SamplingChoices) -> [(&'static str, Option<Value>); 8] {
    // In the digits of an `f32`: 0.7 and not 0.699999988.
    let float =
        |value: Option<f32>| value.and_then(|value| Some(json!(value.to_string().parse::<f64>().ok()?)));
    let count = |value: Option<usize>| value.map(|value| json!(value));
    [
        ("temperature", float(choices.temperature)),
        ("top_p", float(choices.top_p)),
        ("top_k", count(choices.top_k)),
        ("min_p", float(choices.min_p)),
        ("frequency_penalty", float(choices.frequency_penalty)),
        ("presence_penalty", float(choices.presence_penalty)),
        ("repetition_penalty", float(choices.repetition_penalty)),
        ("penalty_window", count(choices.penalty_window)),
    ]
}
