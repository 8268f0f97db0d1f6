//! Texts' vectors: their order, who waits for whom, and how requests for them end.

use std::time::Duration;

use scheduler::{BATCH_TOKENS, EmbedSpec, Pooling, Step, TokenId, Wanted};

use super::rig::{HOUR, Rig, greedy, outcome, prompt};
use crate::readiness::readiness;
use crate::testing::{
    N_VOCAB, Outcome as StepOutcome, Script, ScriptedEmbedder, ScriptedLoader, ScriptedModel, Steering,
    enclosing_text, tiny_text,
};
use crate::{
    After, CheckedPrompt, EmbedRequest, Embedded, EngineConfig, ModelState, Outcome, PendingVectors, Phase,
    Readiness, Refusal, Request, RequestId,
};

const ENCODER: &str = "encoder";

const N_PARTS: usize = 8;

fn spec() -> EmbedSpec {
    EmbedSpec { width: 5, max_tokens: 600, n_vocab: N_VOCAB, pooling: Pooling::Mean, n_parts: N_PARTS }
}

fn encoder() -> ScriptedModel {
    ScriptedModel {
        name: ENCODER,
        fingerprint: [11; 32],
        embeds: Some(spec()),
        text: enclosing_text,
        ..ScriptedModel::default()
    }
}

/// A model for chats under one steering, and an encoder beside it under another.
async fn beside_chat(of_chat: &Steering, of_encoder: &Steering, config: EngineConfig) -> Rig {
    let loader = ScriptedLoader::new(ScriptedModel::default(), of_chat.clone()).and(
        ENCODER,
        encoder(),
        of_encoder.clone(),
    );
    let rig = Rig::of(loader, of_chat.clone(), config);
    rig.reach("ready").await;
    rig.handle.load_model(ENCODER.into()).await.unwrap();
    rig.see(|stats| state_of_encoder(stats) == Some("ready")).await;
    rig
}

fn state_of_encoder(stats: &crate::Stats) -> Option<&'static str> {
    stats.models.iter().find(|model| &*model.name.0 == ENCODER).map(|model| model.state.name())
}

/// A text of `n` letters that is like no other, if it has four at least.
fn text(salt: u32, idx: u32, n: usize) -> Vec<TokenId> {
    let number = salt * 1000 + idx;
    (0..n as u32).map(|i| 97 + (number / 26_u32.pow(i % 4) + i) % 26).collect()
}

/// A request for the vectors of texts that are like no others of another salt.
fn request(salt: u32, lens: &[usize]) -> EmbedRequest {
    let checked =
        |(idx, len): (u32, &usize)| CheckedPrompt::new(text(salt, idx, *len), tiny_text().n_vocab()).unwrap();
    EmbedRequest {
        id: RequestId(format!("e-{salt}").into()),
        trace: None,
        model: ENCODER.into(),
        texts: (0..).zip(lens).map(checked).collect(),
    }
}

/// What comes of it.
fn vectors(salt: u32, lens: &[usize]) -> Vec<f32> {
    let vector = |(idx, len): (u32, &usize)| ScriptedEmbedder::vector(&text(salt, idx, *len), spec().width);
    (0..).zip(lens).flat_map(vector).collect()
}

fn ask(rig: &Rig, salt: u32, lens: &[usize]) -> PendingVectors {
    rig.handle.embed(request(salt, lens), rig.clock.now()).unwrap()
}

fn check(embedded: Result<Embedded, Refusal>, salt: u32, lens: &[usize]) {
    let embedded = embedded.unwrap();
    assert_eq!(embedded.vectors.values, vectors(salt, lens), "{salt}");
    assert_eq!(embedded.vectors.width, spec().width);
    assert_eq!(embedded.usage.n_tokens, lens.iter().sum::<usize>());
}

fn is_of_encoder(step: &Step) -> bool {
    step.rows.iter().all(|row| row.wanted == Wanted::LastHidden)
}

#[tokio::test]
async fn vectors_come_in_the_order_of_their_texts_however_these_fall_into_batches() {
    let rig = Rig::new(encoder()).await;
    let lens: Vec<usize> = (0..60).map(|i| 1 + i * 97 % 600).collect();
    let pending =
        rig.handle.embed(EmbedRequest { model: "default".into(), ..request(1, &lens) }, rig.clock.now());
    check(pending.unwrap().recv().await, 1, &lens);
    for step in rig.steering.steps() {
        let n_tokens: usize = step.rows.iter().map(scheduler::Row::len).sum();
        assert!(n_tokens <= BATCH_TOKENS || step.rows.len() == 1, "{n_tokens}");
    }
    rig.close().await;
}

#[tokio::test]
async fn many_callers_at_once_are_read_together_and_each_gets_its_own_vectors() {
    let steering = Steering::holding_steps();
    let rig = beside_chat(&Steering::free(), &steering, EngineConfig::default()).await;
    let first = ask(&rig, 0, &[3]);
    steering.held_step();
    let lens = |salt: u32| -> Vec<usize> { (0..1 + salt as usize % 7).map(|i| 5 + i * 11).collect() };
    let pending: Vec<_> = (1..30).map(|salt| (salt, ask(&rig, salt, &lens(salt)))).collect();
    steering.free_steps();
    check(first.recv().await, 0, &[3]);
    for (salt, pending) in pending {
        check(pending.recv().await, salt, &lens(salt));
    }
    let together = &steering.steps()[1..];
    let n_batches = together.iter().filter(|step| step.rows[0].start == 0).count();
    let n_tokens: usize = (1..30).flat_map(lens).sum();
    assert!(n_batches <= n_tokens.div_ceil(BATCH_TOKENS / 2), "{n_batches} batches of {n_tokens} tokens");
    rig.close().await;
}

#[tokio::test]
async fn a_short_text_does_not_wait_for_a_long_list_that_came_before_it() {
    let steering = Steering::holding_steps();
    let rig = beside_chat(&Steering::free(), &steering, EngineConfig::default()).await;
    let long = ask(&rig, 1, &[500; 40]);
    steering.held_step();
    let short = ask(&rig, 2, &[7]);
    let of_short = text(2, 0, 7);
    let mut n_long = 0;
    loop {
        let step = steering.let_run();
        n_long += usize::from(step.rows[0].start == 0);
        if step.rows.iter().any(|row| row.tokens() == of_short) {
            break;
        }
    }
    assert!(n_long <= 2 + 1, "{n_long} batches before it");
    steering.free_steps();
    check(short.recv().await, 2, &[7]);
    check(long.recv().await, 1, &[500; 40]);
    rig.close().await;
}

#[tokio::test]
async fn a_chat_of_another_model_goes_on_between_the_parts_of_a_long_list_and_says_what_it_says_alone() {
    // One steering for both: it has their steps in the order in which they were computed.
    let steering = Steering::holding_steps();
    let config = EngineConfig { step_token_budget: 64, ..EngineConfig::default() };
    let rig = beside_chat(&steering, &steering, config).await;
    let chat = rig.ask(greedy(prompt(1, 40), 100));
    steering.held_step();
    let list = ask(&rig, 2, &[512; 40]);
    steering.free_steps();
    assert_eq!(outcome(chat).await.tokens, Script::Hash.answer(&prompt(1, 40), 100));
    check(list.recv().await, 2, &[512; 40]);

    let steps = steering.steps();
    let last_of_chat = steps.iter().rposition(|step| !is_of_encoder(step)).unwrap();
    let n_of_encoder = steps[..last_of_chat].iter().filter(|step| is_of_encoder(step)).count();
    assert!(n_of_encoder >= 90, "the texts are read meanwhile: {n_of_encoder} parts");
    for pair in steps[..last_of_chat].windows(2) {
        assert!(
            !(is_of_encoder(&pair[0]) && is_of_encoder(&pair[1])),
            "two parts without a token between them"
        );
    }
    // No part is more work than a step's budget.
    let starts: Vec<usize> =
        steps.iter().filter(|step| is_of_encoder(step)).map(|step| step.rows[0].start).collect();
    assert_eq!(starts, (0..N_PARTS).cycle().take(40 * N_PARTS).collect::<Vec<_>>());
    rig.close().await;
}

#[tokio::test]
async fn a_drain_lets_texts_end_that_are_being_read_and_refuses_those_that_wait() {
    let steering = Steering::holding_steps();
    let rig = beside_chat(&Steering::free(), &steering, EngineConfig::default()).await;
    let running = ask(&rig, 1, &[500, 500, 500]);
    steering.held_step();
    let waiting = ask(&rig, 2, &[500]);
    let handle = rig.handle.clone();
    let drain = tokio::spawn(async move { handle.drain(After::Exit, HOUR).await });
    while rig.handle.state().name() != "draining" {
        steering.let_run();
        tokio::task::yield_now().await;
        if drain.is_finished() {
            break;
        }
    }
    let refused = rig.handle.embed(request(3, &[5]), rig.clock.now());
    assert!(matches!(refused, Err(Refusal::Unavailable { .. })), "{refused:?}");
    steering.free_steps();
    check(running.recv().await, 1, &[500, 500, 500]);
    let waiting = waiting.recv().await;
    let report = drain.await.unwrap().unwrap();
    let n_refused = usize::from(matches!(waiting, Err(Refusal::Unavailable { .. })));
    assert_eq!(n_refused, usize::from(waiting.is_err()), "{waiting:?}");
    assert_eq!((report.n_drained + report.n_refused, report.n_interrupted), (2, 0));
    rig.engine.join();
}

#[tokio::test]
async fn at_a_drains_deadline_what_is_left_is_told_that_it_was_interrupted() {
    let steering = Steering::holding_steps();
    let rig = beside_chat(&Steering::free(), &steering, EngineConfig::default()).await;
    let running = ask(&rig, 1, &[500; 9]);
    steering.held_step();
    let handle = rig.handle.clone();
    let drain = tokio::spawn(async move { handle.drain(After::Exit, Duration::ZERO).await });
    tokio::task::yield_now().await;
    steering.free_steps();
    assert!(matches!(running.recv().await, Err(Refusal::Interrupted { .. })));
    assert_eq!(drain.await.unwrap().unwrap().n_interrupted, 1);
    rig.engine.join();
}

#[tokio::test]
async fn texts_whose_client_is_gone_are_not_read_on_and_those_of_others_are() {
    let steering = Steering::holding_steps();
    let rig = beside_chat(&Steering::free(), &steering, EngineConfig::default()).await;
    let gone = ask(&rig, 1, &[200; 50]);
    steering.held_step();
    let stays = ask(&rig, 2, &[200; 5]);
    drop(gone);
    steering.free_steps();
    check(stays.recv().await, 2, &[200; 5]);
    let n_of_gone = |step: &Step| {
        (0..50).filter(|i| step.rows.iter().any(|row| row.tokens() == text(1, *i, 200))).count()
    };
    let n_read: usize = steering.steps().iter().filter(|step| step.rows[0].start == 0).map(n_of_gone).sum();
    assert!(n_read <= 2, "{n_read} texts of one who is gone");
    let record = rig.handle.record("e-1").unwrap();
    assert_eq!((record.outcome, record.n_texts), (Outcome::Cancelled, Some(50)));
    assert_eq!(rig.handle.stats().totals.cancelled, 1);

    // The same where nobody else waits: the part under way is the last one.
    steering.hold_steps();
    let gone = ask(&rig, 3, &[600; 9]);
    steering.held_step();
    let n_steps = steering.steps().len();
    drop(gone);
    steering.free_steps();
    rig.see(|stats| stats.totals.cancelled == 2 && stats.n_running == 0).await;
    assert_eq!(steering.steps().len(), n_steps);
    rig.close().await;
}

#[tokio::test]
async fn an_encoder_that_fails_or_panics_is_built_anew_and_a_chat_beside_it_goes_on() {
    for fault in [StepOutcome::Panic, StepOutcome::Error, StepOutcome::OutOfMemory] {
        let steering = Steering::holding_steps();
        let rig = beside_chat(&Steering::free(), &steering, EngineConfig::default()).await;
        let lost = ask(&rig, 1, &[9, 9]);
        let lives = rig.ask(greedy(prompt(2, 10), 900));
        steering.held_step();
        let waits = ask(&rig, 3, &[9]);
        steering.release(fault);
        steering.free_steps();
        assert!(matches!(lost.recv().await, Err(Refusal::Fault { id }) if id == "e-1"), "{fault:?}");
        let waits = waits.recv().await;
        assert!(matches!(waits, Err(Refusal::Unavailable { .. })), "{fault:?}: {waits:?}");
        assert_eq!(outcome(lives).await.tokens, Script::Hash.answer(&prompt(2, 10), 900), "{fault:?}");
        rig.see(|stats| state_of_encoder(stats) == Some("ready") && steering.n_loads() == 2).await;
        check(ask(&rig, 1, &[9, 9]).recv().await, 1, &[9, 9]);
        assert_eq!(rig.handle.state().name(), "ready");
        rig.close().await;
    }
}

#[tokio::test]
async fn a_vector_that_is_not_finite_fails_its_own_request_and_no_other() {
    let steering = Steering::holding_steps();
    let rig = beside_chat(&Steering::free(), &steering, EngineConfig::default()).await;
    let first = ask(&rig, 1, &[4]);
    steering.held_step();
    let good = ask(&rig, 2, &[5, 6]);
    let bad = ask(&rig, 3, &[7, 8, 500]);
    steering.let_run();
    check(first.recv().await, 1, &[4]);
    // Requests take turns: the second text is the other's first one.
    steering.held_step();
    steering.release(StepOutcome::NotFinite(1));
    steering.free_steps();
    check(good.recv().await, 2, &[5, 6]);
    assert!(matches!(bad.recv().await, Err(Refusal::Fault { .. })));
    check(ask(&rig, 4, &[9]).recv().await, 4, &[9]);
    assert_eq!((state_of_encoder(&rig.handle.stats()), steering.n_loads()), (Some("ready"), 1));
    rig.close().await;
}

#[tokio::test]
async fn an_encoder_that_computes_no_numbers_at_all_is_failed_and_not_loaded_again() {
    let broken = ScriptedModel { script: Script::NotFinite, ..encoder() };
    let steering = Steering::free();
    let loader = ScriptedLoader::new(ScriptedModel::default(), Steering::free()).and(
        ENCODER,
        broken,
        steering.clone(),
    );
    let rig = Rig::of(loader, Steering::free(), EngineConfig::default());
    rig.reach("ready").await;
    rig.handle.load_model(ENCODER.into()).await.unwrap();
    rig.see(|stats| state_of_encoder(stats) == Some("ready")).await;
    assert!(matches!(ask(&rig, 1, &[4, 5]).recv().await, Err(Refusal::Fault { .. })));
    rig.see(|stats| state_of_encoder(stats) == Some("failed")).await;
    let stats = rig.handle.stats();
    let ModelState::Failed(failure) = &stats.models[1].state else { panic!("{:?}", stats.models) };
    assert!(failure.text.contains("not finite"), "{}", failure.text);
    assert_eq!(steering.n_loads(), 1);
    rig.close().await;
}

#[tokio::test]
async fn what_a_model_is_not_for_is_refused_by_its_name() {
    let rig = beside_chat(&Steering::free(), &Steering::free(), EngineConfig::default()).await;
    let to_chat = EmbedRequest { model: "default".into(), ..request(1, &[4]) };
    let refusal = rig.handle.embed(to_chat, rig.clock.now()).unwrap().recv().await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::WrongPurpose { message } if message.contains("'scripted' generates")),
        "{refusal}"
    );
    let to_encoder = Request { model: ENCODER.into(), ..greedy(prompt(1, 10), 3) };
    let refusal = rig.answer(to_encoder).await.end.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::WrongPurpose { message } if message.contains("'encoder' gives texts their vectors")),
        "{refusal}"
    );
    rig.close().await;
}

#[tokio::test]
async fn texts_that_were_made_for_another_model_do_not_reach_the_encoder() {
    let rig = beside_chat(&Steering::free(), &Steering::free(), EngineConfig::default()).await;
    let long = ask(&rig, 1, &[4, 601]).recv().await.unwrap_err();
    assert_eq!(long, Refusal::TooLong { n_tokens: 601, limit: 600 });
    let text = CheckedPrompt::new(vec![N_VOCAB as TokenId], N_VOCAB + 1).unwrap();
    let foreign = EmbedRequest { texts: vec![text], ..request(2, &[]) };
    let foreign = rig.handle.embed(foreign, rig.clock.now()).unwrap().recv().await;
    assert!(matches!(foreign, Err(Refusal::Invalid { .. })), "{foreign:?}");
    let none = ask(&rig, 3, &[]).recv().await;
    assert!(matches!(none, Err(Refusal::Invalid { .. })), "{none:?}");
    check(ask(&rig, 4, &[600]).recv().await, 4, &[600]);
    rig.close().await;
}

#[tokio::test]
async fn a_request_that_has_waited_too_long_for_its_turn_is_told_to_come_back() {
    let steering = Steering::holding_steps();
    let rig = beside_chat(&Steering::free(), &steering, EngineConfig::default()).await;
    let running = ask(&rig, 1, &[500, 500]);
    steering.held_step();
    let late = ask(&rig, 2, &[5]);
    rig.clock.advance(2 * HOUR);
    steering.free_steps();
    assert!(matches!(late.recv().await, Err(Refusal::Busy { .. })));
    check(running.recv().await, 1, &[500, 500]);
    rig.close().await;
}

#[tokio::test]
async fn requests_beyond_the_places_or_the_memory_for_vectors_are_told_to_come_back() {
    let steering = Steering::holding_steps();
    let config = EngineConfig { max_requests: 3, ..EngineConfig::default() };
    let wide = ScriptedModel { embeds: Some(EmbedSpec { width: 1 << 20, ..spec() }), ..encoder() };
    let loader =
        ScriptedLoader::new(ScriptedModel::default(), Steering::free()).and(ENCODER, wide, steering.clone());
    let rig = Rig::of(loader, Steering::free(), config);
    rig.reach("ready").await;
    rig.handle.load_model(ENCODER.into()).await.unwrap();
    rig.see(|stats| state_of_encoder(stats) == Some("ready")).await;
    // Vectors of 4 MiB each, and 256 MiB for all.
    let first = ask(&rig, 1, &[4; 40]);
    steering.held_step();
    let refused = rig.handle.embed(request(2, &[4; 30]), rig.clock.now());
    assert!(matches!(refused, Err(Refusal::Busy { .. })), "{refused:?}");
    let small: Vec<_> = (3..5).map(|salt| ask(&rig, salt, &[4])).collect();
    let refused = rig.handle.embed(request(5, &[4]), rig.clock.now());
    assert!(matches!(refused, Err(Refusal::Busy { .. })), "{refused:?}");
    drop((first, small));
    steering.free_steps();
    rig.see(|stats| stats.totals.cancelled == 3).await;
    drop(ask(&rig, 6, &[4; 30]));
    rig.close().await;
}

#[tokio::test]
async fn an_encoder_alone_is_a_server_that_is_ready_and_its_requests_are_counted_and_written_down() {
    let steering = Steering::holding_steps();
    let rig = Rig::with(encoder(), steering.clone(), EngineConfig::default()).await;
    let of_default = |salt, lens: &[usize]| EmbedRequest { model: "default".into(), ..request(salt, lens) };
    let pending = rig.handle.embed(of_default(1, &[500, 500]), rig.clock.now()).unwrap();
    steering.let_run();
    steering.held_step();
    let stats = rig.handle.stats();
    assert_eq!((stats.n_running, stats.n_waiting, stats.pool.total), (1, 0, 0));
    assert_eq!(
        readiness(&rig.handle.state(), &stats, rig.clock.now()),
        Readiness::Ready { pool_utilization: 0.0 }
    );
    let [active] = &*stats.active else { panic!("{:?}", stats.active) };
    assert_eq!((active.phase, active.n_prompt), (Phase::Reading, 1000));
    steering.free_steps();
    check(pending.recv().await, 1, &[500, 500]);
    let totals = rig.handle.stats().totals;
    assert_eq!((totals.requests, totals.embedded_texts, totals.embedded_tokens), (1, 2, 1000));
    let record = rig.handle.record("e-1").unwrap();
    assert_eq!(
        (record.outcome, record.n_texts, record.n_prompt, record.n_prefilled),
        (Outcome::Embedded, Some(2), 1000, 1000)
    );
    rig.close().await;
}

#[tokio::test]
async fn an_encoder_leaves_when_its_texts_are_read_and_can_come_back() {
    let steering = Steering::holding_steps();
    let rig = beside_chat(&Steering::free(), &steering, EngineConfig::default()).await;
    let running = ask(&rig, 1, &[500, 500]);
    steering.held_step();
    let handle = rig.handle.clone();
    let leaving = tokio::spawn(async move { handle.leave_model(ENCODER.into(), HOUR).await });
    tokio::task::yield_now().await;
    steering.free_steps();
    check(running.recv().await, 1, &[500, 500]);
    let report = leaving.await.unwrap().unwrap();
    assert_eq!((report.n_drained, report.n_interrupted), (1, 0));
    assert!(rig.handle.card_of(&ENCODER.into()).is_none());
    rig.handle.load_model(ENCODER.into()).await.unwrap();
    rig.see(|stats| state_of_encoder(stats) == Some("ready")).await;
    check(ask(&rig, 2, &[3]).recv().await, 2, &[3]);
    rig.close().await;
}

#[tokio::test]
async fn vectors_that_nobody_can_compute_any_more_are_refused_and_not_waited_for() {
    let rig = Rig::new(encoder()).await;
    let handle = rig.handle.clone();
    let received = rig.clock.now();
    rig.close().await;
    let request = EmbedRequest { model: "default".into(), ..request(1, &[4]) };
    let refused = match handle.embed(request, received) {
        Ok(pending) => pending.recv().await.map(drop),
        Err(refusal) => Err(refusal),
    };
    assert!(matches!(refused, Err(Refusal::Unavailable { .. })), "{refused:?}");
}
