//! What a request is answered, alone and in company.

use super::rig::*;
use crate::testing::{Script, ScriptedModel, Steering, tiny_text};
use crate::{DifferenceReason, EngineConfig, Event, FinishReason, Request, Sampling};

const TINY_STEPS: EngineConfigPatch = EngineConfigPatch { prefill_chunk: 16, step_token_budget: 40 };

struct EngineConfigPatch {
    prefill_chunk: usize,
    step_token_budget: usize,
}

impl EngineConfigPatch {
    fn config(&self) -> EngineConfig {
        EngineConfig {
            prefill_chunk: self.prefill_chunk,
            step_token_budget: self.step_token_budget,
            ..EngineConfig::default()
        }
    }
}

#[tokio::test]
async fn an_answer_is_the_one_that_all_its_tokens_lead_to() {
    let rig = Rig::new(ScriptedModel::default()).await;
    for n in [1, 15, 16, 17, 100, 333] {
        let prompt = prompt(n as u32, n);
        let answer = rig.answer(greedy(prompt.clone(), 40)).await;
        assert_eq!(answer.tokens, Script::Hash.answer(&prompt, 40), "prompt of {n}");
        assert_eq!(answer.end, Ok(FinishReason::Length));
        assert_eq!((answer.usage.n_prompt, answer.usage.n_generated), (n, 40));
    }
    rig.close().await;
}

#[tokio::test]
async fn answers_are_the_same_alone_and_in_a_batch_of_eight_in_any_chunks_and_windows() {
    for window in [None, Some(24), Some(64)] {
        for config in [EngineConfig::default(), TINY_STEPS.config()] {
            let model = ScriptedModel { window, ..ScriptedModel::default() };
            let rig = Rig::with(model, Steering::free(), config).await;
            let prompts: Vec<_> = (0..8).map(|i| prompt(i, 20 + 37 * i as usize)).collect();
            let streams: Vec<_> = prompts.iter().map(|p| rig.ask(greedy(p.clone(), 50))).collect();
            for (stream, prompt) in streams.into_iter().zip(&prompts) {
                assert_eq!(outcome(stream).await.tokens, Script::Hash.answer(prompt, 50));
            }
            rig.close().await;
        }
    }
}

#[tokio::test]
async fn a_seed_gives_the_same_answer_alone_and_in_a_batch() {
    let rig = Rig::new(ScriptedModel::default()).await;
    let request = |seed| Request {
        sampling: Sampling { seed: Some(seed), temperature: 1.5, top_p: 0.95, ..Sampling::default() },
        ..greedy(prompt(1, 50), 30)
    };
    let mut alone = Vec::new();
    for seed in 0..8 {
        alone.push(rig.answer(request(seed)).await.tokens);
    }
    let streams: Vec<_> = (0..8).map(|seed| rig.ask(request(seed))).collect();
    let mut together = Vec::new();
    for stream in streams {
        together.push(outcome(stream).await.tokens);
    }
    assert_eq!(alone, together);
    assert_ne!(alone[0], alone[1]);
    assert_ne!(alone[0], Script::Hash.answer(&prompt(1, 50), 30));
    rig.close().await;
}

#[tokio::test]
async fn a_prompt_seen_before_is_reused_but_for_its_last_token_and_answered_the_same() {
    let rig = Rig::new(ScriptedModel::default()).await;
    let first = rig.answer(greedy(prompt(3, 100), 20)).await;
    let second = rig.answer(greedy(prompt(3, 100), 20)).await;
    assert_eq!((first.usage.n_reused, second.usage.n_reused), (0, 99));
    assert_eq!(first.tokens, second.tokens);

    let mut conversation = prompt(3, 100);
    conversation.extend(&first.tokens);
    conversation.extend(prompt(9, 30));
    let third = rig.answer(greedy(conversation.clone(), 20)).await;
    // The last token sampled never went through the model.
    assert_eq!(third.usage.n_reused, 100 + 19);
    assert_eq!(third.tokens, Script::Hash.answer(&conversation, 20));

    let records = rig.handle.records();
    let seen: Vec<_> =
        records.iter().map(|r| (r.n_prompt, r.n_prefilled, r.n_reused, r.first_difference)).collect();
    assert_eq!(seen, [(100, 100, 0, Some(0)), (100, 1, 99, None), (150, 31, 119, Some(119))]);
    assert_eq!(rig.handle.stats().totals.reused_tokens, 218);
    rig.close().await;
}

#[tokio::test]
async fn the_model_ends_its_turn_itself_unless_it_is_told_not_to() {
    let model =
        ScriptedModel { script: Script::Says("Grüße 🌍!".to_owned()), ..ScriptedModel::default() };
    let rig = Rig::new(model).await;
    let answer = rig.answer(greedy(prompt(1, 10), 100)).await;
    assert_eq!((answer.text.as_str(), answer.end), ("Grüße 🌍!", Ok(FinishReason::EndOfTurn)));
    assert_eq!(answer.usage.n_generated, "Grüße 🌍!".len() + 1);

    let on = rig.answer(Request { ignore_end_of_turn: true, ..greedy(prompt(1, 10), 100) }).await;
    assert_eq!((on.end, on.usage.n_generated), (Ok(FinishReason::Length), 100));
    assert!(on.text.starts_with("Grüße 🌍!"));
    rig.close().await;
}

#[tokio::test]
async fn no_event_ever_carries_half_a_character() {
    let model = ScriptedModel { script: Script::Says("é🌍é".to_owned()), ..ScriptedModel::default() };
    let rig = Rig::new(model).await;
    let mut stream = rig.ask(greedy(prompt(1, 10), 5));
    let mut pieces = Vec::new();
    while let Some(event) = stream.recv().await {
        if let Event::Text { text, .. } = event {
            pieces.push(text);
        }
    }
    // Cut by its length in the middle of the globe, which is then said to be incomplete.
    assert_eq!(pieces, ["", "é", "", "", "", "\u{FFFD}"]);
    rig.close().await;
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_and_no_part_of_it_is_shown() {
    let model =
        ScriptedModel { script: Script::Says("one two three two".to_owned()), ..ScriptedModel::default() };
    let rig = Rig::new(model).await;
    let stop = |stop: &[&str]| Request {
        stop: stop.iter().map(|s| (*s).to_owned()).collect(),
        ..greedy(prompt(1, 10), 100)
    };
    let answer = rig.answer(stop(&["", "two thx", "o thr"])).await;
    assert_eq!(
        (answer.text.as_str(), answer.end),
        ("one tw", Ok(FinishReason::StopString("o thr".to_owned())))
    );
    // A beginning of a stop string that never came is shown after all.
    let answer = rig.answer(stop(&["two!"])).await;
    assert_eq!((answer.text.as_str(), answer.end), ("one two three two", Ok(FinishReason::EndOfTurn)));
    rig.close().await;
}

#[tokio::test]
async fn log_probabilities_come_with_the_tokens_that_they_are_of() {
    let rig = Rig::new(ScriptedModel::default()).await;
    let mut stream = rig.ask(Request { top_logprobs: Some(3), ..greedy(prompt(1, 10), 4) });
    let mut n = 0;
    while let Some(event) = stream.recv().await {
        if let Event::Text { tokens, logprobs, .. } = event {
            n += 1;
            assert_eq!(logprobs.len(), 1);
            assert_eq!((logprobs[0].token, logprobs[0].top.len()), (tokens[0], 3));
            assert_eq!(logprobs[0].top[0], (tokens[0], logprobs[0].logprob));
            assert!(logprobs[0].logprob < 0.0);
        }
    }
    assert_eq!(n, 4);
    rig.close().await;
}

/// The tokens, as text, whose log-probabilities come with an answer of a model that says `says`, and the text.
async fn with_logprobs(says: &str, stop: &[&str], max_tokens: usize) -> (String, String) {
    let model = ScriptedModel { script: Script::Says(says.to_owned()), ..ScriptedModel::default() };
    let rig = Rig::new(model).await;
    let mut stream = rig.ask(Request {
        top_logprobs: Some(0),
        stop: stop.iter().map(|s| (*s).to_owned()).collect(),
        ..greedy(prompt(1, 10), max_tokens)
    });
    let (mut bytes, mut shown) = (Vec::new(), String::new());
    while let Some(event) = stream.recv().await {
        if let Event::Text { text, logprobs, .. } = event {
            shown.push_str(&text);
            bytes.extend(logprobs.iter().flat_map(|l| tiny_text().token_bytes(l.token).to_vec()));
            // None comes before its text, and no text before its tokens' are there.
            assert!(bytes.len() >= shown.len(), "{shown:?}");
        }
    }
    rig.close().await;
    (String::from_utf8_lossy(&bytes).into_owned(), shown)
}

#[tokio::test]
async fn log_probabilities_end_where_a_stop_string_cuts_the_text() {
    for (says, stop, want) in [
        ("one two three", &["two"][..], "one "),
        ("one two three", &["one"], ""),
        ("one two three", &["e t", "three"], "on"),
        ("12, 13, 14", &[", 14", "\n"], "12, 13"),
        ("Grüße 🌍 an alle", &["🌍"], "Grüße "),
        ("Grüße an alle", &["üße"], "Gr"),
        // A beginning of a stop string that never came is text like any other.
        ("one two", &["two!"], "one two"),
        ("aaab", &["aab"], "a"),
    ] {
        let (tokens, text) = with_logprobs(says, stop, 100).await;
        assert_eq!((tokens.as_str(), text.as_str()), (want, want), "{says:?} {stop:?}");
    }
    // Cut by its length within what may become a stop string.
    assert_eq!(with_logprobs("one two", &["two!"], 6).await, ("one tw".to_owned(), "one tw".to_owned()));
}

#[tokio::test]
async fn a_long_prompt_reports_its_progress_and_does_not_hold_up_the_others() {
    let steering = Steering::holding_steps();
    let rig = Rig::with(ScriptedModel::default(), steering.clone(), TINY_STEPS.config()).await;
    let short = rig.ask(greedy(prompt(1, 10), 20));
    steering.let_run();
    let mut long = rig.ask(greedy(prompt(2, 200), 1));
    steering.free_steps();
    assert_eq!(outcome(short).await.tokens.len(), 20);
    let mut done = Vec::new();
    while let Some(event) = long.recv().await {
        match event {
            Event::Admitted { n_prompt, n_reused, n_restored, difference, .. } => {
                assert_eq!((n_prompt, n_reused, n_restored), (200, 0, 0));
                assert_eq!(difference.map(|difference| difference.why), Some(DifferenceReason::New));
            }
            Event::Prefilled { done: so_far, total: 200 } => done.push(so_far),
            Event::Text { .. } | Event::Finished { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(done.last(), Some(&200));
    assert!(done.is_sorted() && done.len() >= 200 / 16, "{done:?}");
    // Decodes come first: the short one has a row in every step until it ends.
    let steps = steering.steps();
    assert!(steps[1..20].iter().all(|step| step.rows[0].len() == 1), "{steps:?}");
    assert!(steps.iter().all(|step| step.rows.iter().all(|row| row.len() <= 16)));
    rig.close().await;
}

#[tokio::test]
async fn an_answer_without_a_bound_ends_where_the_context_ends() {
    let model = ScriptedModel { max_context: 64, ..ScriptedModel::default() };
    let rig = Rig::new(model).await;
    let answer = rig.answer(Request { max_tokens: None, ..greedy(prompt(1, 40), 0) }).await;
    assert_eq!((answer.end, answer.usage.n_generated), (Ok(FinishReason::Length), 24));
    let answer = rig.answer(greedy(prompt(1, 40), 1000)).await;
    assert_eq!((answer.end, answer.usage.n_generated), (Ok(FinishReason::Length), 24));
    rig.close().await;
}

#[tokio::test]
async fn distributions_count_every_token_and_step() {
    let rig = Rig::new(ScriptedModel::default()).await;
    rig.answer(greedy(prompt(1, 10), 8)).await;
    rig.answer(greedy(prompt(2, 10), 8)).await;
    rig.see(|stats| stats.n_running == 0 && stats.totals.steps == 16).await;
    let histograms = rig.handle.histograms();
    let counts = [
        &histograms.time_to_first_token,
        &histograms.inter_token,
        &histograms.queue_time,
        &histograms.step_rows,
    ]
    .map(|h| h.snapshot().count);
    assert_eq!(counts, [2, 14, 2, 16]);
    assert_eq!(histograms.step_tokens.snapshot().sum, 34.0);
    let totals = rig.handle.stats().totals;
    assert_eq!((totals.requests, totals.prefilled_tokens, totals.generated_tokens), (2, 20, 16));
    rig.close().await;
}
