//! Answers that are held to a format.

use text::{OutputFormat, Strictness};

use super::rig::*;
use crate::testing::{Script, ScriptedModel, tiny_text};
use crate::{FinishReason, Request, Sampling};

fn weekday() -> OutputFormat {
    let schema = r#"{"type": "object", "properties": {"day": {"enum": ["mon", "tue"]}}, "required": ["day"],
        "additionalProperties": false}"#;
    OutputFormat::JsonSchema { schema: schema.parse().unwrap(), strictness: Strictness::Strict }
}

fn held_to(format: &OutputFormat, request: Request) -> Request {
    Request { constraint: Some(tiny_text().constraint(format).unwrap()), ..request }
}

fn says(text: &str) -> ScriptedModel {
    ScriptedModel { script: Script::Says(text.to_owned()), ..ScriptedModel::default() }
}

#[tokio::test]
async fn an_answer_ends_where_its_document_does_whatever_the_model_would_say_then() {
    let rig = Rig::new(says(r#"{"a": 1} and more"#)).await;
    for ignore_end_of_turn in [false, true] {
        let request = Request { ignore_end_of_turn, ..greedy(prompt(1, 10), 100) };
        let answer = rig.answer(held_to(&OutputFormat::JsonObject, request)).await;
        assert_eq!((answer.text.as_str(), answer.end), (r#"{"a": 1}"#, Ok(FinishReason::EndOfTurn)));
    }
    rig.close().await;
}

#[tokio::test]
async fn what_the_schema_forbids_is_never_said_greedily_or_sampled_alone_or_in_company() {
    let rig = Rig::new(says(r#"{"day":"wed"}"#)).await;
    let free = rig.ask(greedy(prompt(9, 10), 100));
    let streams: Vec<_> = (0..6)
        .map(|seed| {
            let temperature = if seed == 0 { 0.0 } else { 2.0 };
            let sampling = Sampling {
                temperature,
                seed: Some(seed),
                frequency_penalty: 1.0,
                top_p: 0.9,
                ..Sampling::default()
            };
            rig.ask(held_to(&weekday(), Request { sampling, ..greedy(prompt(seed as u32, 10), 400) }))
        })
        .collect();
    for stream in streams {
        let answer = outcome(stream).await;
        assert_eq!(answer.end, Ok(FinishReason::EndOfTurn), "{answer:?}");
        let text: String = answer.text.split_whitespace().collect();
        assert!([r#"{"day":"mon"}"#, r#"{"day":"tue"}"#].contains(&text.as_str()), "{answer:?}");
    }
    assert_eq!(outcome(free).await.text, r#"{"day":"wed"}"#, "the others are free");
    rig.close().await;
}

#[tokio::test]
async fn length_and_stop_strings_end_a_document_early() {
    let rig = Rig::new(says(r#"{"a": 1}"#)).await;
    let answer = rig.answer(held_to(&OutputFormat::JsonObject, greedy(prompt(1, 10), 3))).await;
    assert_eq!((answer.text.as_str(), answer.end), (r#"{"a"#, Ok(FinishReason::Length)));
    let stop = Request { stop: vec![": ".to_owned()], ..greedy(prompt(1, 10), 100) };
    let answer = rig.answer(held_to(&OutputFormat::JsonObject, stop)).await;
    assert_eq!(
        (answer.text.as_str(), answer.end),
        (r#"{"a""#, Ok(FinishReason::StopString(": ".to_owned())))
    );
    rig.close().await;
}

#[tokio::test]
async fn log_probabilities_are_those_of_a_model_that_is_free() {
    let rig = Rig::new(says("no JSON")).await;
    let first_logprob = async |request: Request| {
        let mut stream = rig.ask(Request { top_logprobs: Some(1), ..request });
        loop {
            if let crate::Event::Text { logprobs, .. } = stream.recv().await.unwrap() {
                return logprobs[0].clone();
            }
        }
    };
    let free = first_logprob(greedy(prompt(1, 10), 1)).await;
    let held = first_logprob(held_to(&OutputFormat::JsonObject, greedy(prompt(1, 10), 1))).await;
    assert_eq!(free.top, held.top, "the likeliest token is the one that the model would have said");
    assert_eq!(free.token, free.top[0].0);
    assert!(held.token != free.token && held.logprob < free.logprob, "{held:?}");
    rig.close().await;
}
