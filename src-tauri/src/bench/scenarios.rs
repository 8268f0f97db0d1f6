//! The scenarios, each a few lines: what runs together, and what is read off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{EngineConfig, ModelLoader};
use futures_util::future::{join, try_join_all};

use super::report::Report;
use super::rig::{Arrivals, Rig};

/// Tokens of a chat's prompt and of its answer.
const CHAT: (usize, usize) = (64, 160);
/// Streams that a long prompt arrives among.
const N_OTHERS: usize = 4;
/// Tokens of the long prompt, as far as the model's context and the pool allow.
const LONG_PROMPT: usize = 6_000;
/// Prefill chunk of the scenario that chunks.
const CHUNK: usize = 128;

/// One chat alone and eight together: aggregate decode rates, and the engine's own share of a step.
pub(super) async fn batching(loader: &Arc<dyn ModelLoader>, report: &mut Report) -> Result<(), String> {
    let rig = Rig::open(loader, EngineConfig::default()).await?;
    let alone = decode_rate(&rig, 1, report).await?;
    let eight = decode_rate(&rig, 8, report).await?;
    report.add("decode, 1 chat", "tokens/s", alone);
    report.add("decode, 8 chats, aggregate", "tokens/s", eight);
    report.add("8 chats over 1", "×", eight / alone);
    rig.close().await
}

/// Tokens a second while all of `n` chats decode.
async fn decode_rate(rig: &Rig, n: usize, report: &mut Report) -> Result<f64, String> {
    let chats: Vec<Arrivals> = try_join_all((0..n).map(|i| async move {
        let seed = n * 100 + i;
        rig.stream(seed, rig.prompt(seed, CHAT.0)?, CHAT.1).await
    }))
    .await?;
    let from = chats.iter().map(Arrivals::first).max().unwrap_or_else(Instant::now);
    let to = chats.iter().map(Arrivals::last).min().unwrap_or_else(Instant::now);
    let n_tokens: usize = chats.iter().map(|chat| chat.n_between(from, to)).sum();
    if n == 8 {
        let passes = rig.passes.between(from, to);
        if let (Some(first), Some(last)) = (passes.first(), passes.last()) {
            let forward: Duration = passes.iter().map(|pass| pass.ended - pass.began).sum();
            let all = last.ended - first.began;
            report.add(
                "engine outside the forward pass, 8 chats",
                "% of a step",
                100.0 * (1.0 - forward.div_duration_f64(all)),
            );
        }
    }
    Ok(n_tokens as f64 / to.duration_since(from).as_secs_f64())
}

/// A long prompt among running streams: what the streams feel, and what the prompt loses by being cut up.
pub(super) async fn long_prompt(loader: &Arc<dyn ModelLoader>, report: &mut Report) -> Result<(), String> {
    let chunked = EngineConfig {
        prefill_chunk: CHUNK,
        step_token_budget: CHUNK + N_OTHERS,
        step_target: Duration::from_secs(3_600),
        ..EngineConfig::default()
    };
    let whole =
        EngineConfig { prefill_chunk: usize::MAX / 2, step_token_budget: usize::MAX / 2, ..chunked.clone() };

    let rig = Rig::open(loader, whole).await?;
    let n = long_prompt_tokens(&rig)?;
    // An engine that has measured no step yet begins with small ones.
    rig.stream(2, rig.prompt(2, n)?, 1).await?;
    let alone = rig.stream(1, rig.prompt(1, n)?, 1).await?;
    let unchunked = n as f64 / (alone.first() - alone.submitted).as_secs_f64();
    rig.close().await?;

    let rig = Rig::open(loader, chunked).await?;
    rig.stream(2, rig.prompt(2, 4 * CHUNK)?, 1).await?;
    let others = try_join_all((0..N_OTHERS).map(|i| rig.stream_while(10 + i)));
    let newcomer = async {
        rig.all_decode(N_OTHERS).await?;
        rig.stream(1, rig.prompt(1, n)?, 1).await
    };
    let (others, newcomer) = join(others, newcomer).await;
    let (others, newcomer) = (others?, newcomer?);
    let (from, to) = (newcomer.submitted, newcomer.first());
    let rate = n as f64 / (to - from).as_secs_f64();
    let passes = rig.passes.between(from, to);
    let mut steps: Vec<Duration> = passes.windows(2).map(|pair| pair[1].began - pair[0].began).collect();
    steps.sort();
    let step = steps.get(steps.len() / 2).copied().unwrap_or_default();
    let gap = others.iter().map(|other| other.longest_gap(from, to)).max().unwrap_or_default();
    rig.close().await?;

    report.add(&format!("prefill, {n} tokens at once, alone"), "tokens/s", unchunked);
    report.add(
        &format!("prefill, {n} tokens in chunks of {CHUNK} among {N_OTHERS} streams"),
        "tokens/s",
        rate,
    );
    report.add("chunked over unchunked", "×", rate / unchunked);
    report.add("median step while the prompt is read", "ms", step.as_secs_f64() * 1e3);
    report.add("longest gap between tokens of the streams", "ms", gap.as_secs_f64() * 1e3);
    report.add("longest gap in median steps", "×", gap.div_duration_f64(step));
    Ok(())
}

fn long_prompt_tokens(rig: &Rig) -> Result<usize, String> {
    let card = rig.handle.card().ok_or("no model is loaded")?;
    Ok(LONG_PROMPT.min(card.effective_context - 1))
}

impl Rig {
    /// A stream that lasts for the long prompt's prefill.
    async fn stream_while(&self, seed: usize) -> Result<Arrivals, String> {
        let n_steps = LONG_PROMPT / CHUNK + 40;
        self.stream(seed, self.prompt(seed, CHAT.0)?, n_steps).await
    }

    /// Wait until `n` sequences run.
    async fn all_decode(&self, n: usize) -> Result<(), String> {
        let mut stats = self.handle.watch_stats();
        let before = stats.borrow().totals.generated_tokens;
        while {
            let stats = stats.borrow_and_update();
            stats.n_running < n || stats.totals.generated_tokens < before + 4 * n as u64
        } {
            stats.changed().await.map_err(|_| "the engine ended".to_owned())?;
        }
        Ok(())
    }
}
