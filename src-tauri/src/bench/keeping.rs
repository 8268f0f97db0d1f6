//! What keeping KV on disk gives and costs: the time to the first text cold, resident and restored after a restart,
//! agents in turn through a pool too small for them, and what saving takes from running streams.
//!
//! Every server is a process of its own, and every figure is what a client of it sees.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use model::Gguf;
use scheduler::KvLayout;

use super::checkpoints::checkpoints;
use super::keeping_plan::{ANSWER, Plan, Prompt, WARM_UP};
use super::page_cache::{cold_read_rate, drop_from_cache, segments};
use super::report::{Report, median, sorted};
use super::served::{Scratch, Served, Timed};
use crate::cli::{BenchStoreArguments, BenchStorePart};
use crate::settings::Settings;
use crate::{model_file, opened_model};

/// Agents that take turns, the tokens that each has, and those that each turn adds.
const IN_TURN: (usize, usize, usize) = (12, 4_000, 50);
/// Turns of each agent, the first of them cold.
const N_TURNS: usize = 5;
/// Of those agents, so many fit the pool.
const N_FIT: f64 = 3.3;
/// Streams that run while the cost of saving is looked at: how many, and tokens of prompt and answer.
const STREAMS: (usize, usize, usize) = (4, 300, 400);
/// How often that cost is measured: pairs of servers, one of each saving, and turns of each pair. Where the system
/// puts a process's memory makes it a percent faster or slower for its life, so one pair would not do.
const PAIRS: (usize, usize) = (20, 4);

/// How often a prompt is asked again while it is resident, for one figure: that takes so little time that what else
/// the machine does shows.
const N_RESIDENT: usize = 5;
/// How often a server is started anew to restore what a round has saved, with the page cache and without it: a short
/// prompt is restored in milliseconds, too few for one measurement.
const N_RESTARTS: usize = 5;

/// Flags of a server that saves nothing.
const OFF: &[&str] = &["--store", "off"];

/// Settings of the benchmark that its servers do not share: each has a folder of its own, and a pool to measure with.
const OWN: [&str; 6] = ["data_dir", "host", "port", "model", "kv_pool", "log"];

/// Measure all of it.
///
/// # Errors
/// A file cannot be read, or a server does not do what it should; one line.
pub(super) async fn measure(arguments: BenchStoreArguments) -> Result<Report, String> {
    let given = arguments.settings.0.clone();
    let settings = Settings::load(arguments.settings.0).map_err(|error| error.to_string())?;
    let model = model_file::find(settings.model.as_deref(), &settings.folders.models)
        .map_err(|failure| failure.text)?;
    let text =
        std::fs::read(&arguments.text).map_err(|error| format!("{}: {error}", arguments.text.display()))?;
    let gguf = Gguf::open(&model).map_err(|error| error.to_string())?;
    let spec = model::plan_of(&gguf).map_err(|error| error.to_string())?.cache_spec();
    let layout = KvLayout::new(&spec, settings.block_tokens, settings.kv_dtype)
        .map_err(|error| format!("model {}: {error}", model.display()))?;
    let words = opened_model::text_of(&gguf).map_err(|failure| failure.text)?;
    let tokens = words.encode_raw(&String::from_utf8_lossy(&text));
    let mut flags = vec!["--model".to_owned(), model.display().to_string()];
    for (key, values) in given.values.into_iter().filter(|(key, _)| !OWN.contains(key)) {
        let flag = format!("--{}", key.replace('_', "-"));
        flags.extend(values.into_iter().flat_map(|value| [flag.clone(), value]));
    }
    let plan = Plan {
        flags,
        tokens: &tokens,
        text: &words,
        layout: &layout,
        parent: &settings.folders.data,
        sizes: arguments.sizes,
    };
    let rounds = usize::from(arguments.rounds);
    let mut report = Report::new(rounds);
    for part in arguments.parts {
        match part {
            BenchStorePart::Restores => {
                for _ in 0..rounds {
                    restores(&plan, &mut report).await?;
                }
            }
            BenchStorePart::InTurn => in_turn(&plan, &mut report).await?,
            BenchStorePart::Saving => saving(&plan, &mut report).await?,
            BenchStorePart::Checkpoints => checkpoints(&plan, &mut report).await?,
        }
    }
    Ok(report)
}

/// Time to the first text: cold, resident, restored with the page cache and without it.
async fn restores(plan: &Plan<'_>, report: &mut Report) -> Result<(), String> {
    let scratch = Scratch::new(plan.parent)?;
    let prompts = plan.prompts()?;
    let mut cold = Vec::new();
    let served = plan.start(scratch.path(), &[]).await?;
    for (n, agent, prompt) in &prompts {
        let first_text = ask(&served, agent, prompt).await?.first_text;
        report.add(&format!("{n} tokens, cold"), "ms", ms(first_text));
        cold.push(first_text);
        served.until_saved(agent).await?;
    }
    served.stop().await?;

    for _ in 0..N_RESTARTS {
        let served = plan.start(scratch.path(), &[]).await?;
        for ((n, agent, prompt), cold) in prompts.iter().zip(&cold) {
            let warm = first_text(&served, agent, prompt).await?;
            let resident = resident_first_text(&served, agent, prompt).await?;
            report.add(&format!("{n} tokens, resident"), "ms", ms(resident));
            report.add(&format!("{n} tokens, restored, page cache warm"), "ms", ms(warm));
            report.add(&format!("{n} tokens, cold over restored warm"), "×", cold.div_duration_f64(warm));
            let over_resident = warm.div_duration_f64(resident);
            report.add(&format!("{n} tokens, restored warm over resident"), "×", over_resident);
        }
        served.stop().await?;
    }

    for _ in 0..N_RESTARTS {
        let served = plan.start(scratch.path(), &[]).await?;
        for (n, agent, prompt) in &prompts {
            restored_without_page_cache((&served, scratch.path()), *n, agent, prompt, report).await?;
        }
        served.stop().await?;
    }
    Ok(())
}

async fn ask(served: &Served, agent: &str, prompt: &Prompt<'_>) -> Result<Timed, String> {
    match prompt {
        Prompt::Tokens(tokens) => served.ask(agent, tokens, ANSWER).await,
        Prompt::Chat(messages) => served.chat(agent, messages, ANSWER).await,
    }
}

/// The time to the first text of a prompt whose KV is there.
async fn first_text(served: &Served, agent: &str, prompt: &Prompt<'_>) -> Result<Duration, String> {
    let timed = ask(served, agent, prompt).await?;
    warm_enough(agent, timed.n_prompt, &timed)?;
    Ok(timed.first_text)
}

/// That time with the KV in the pool, asked right after it was restored, so that a machine that has become slower or
/// faster is the same for both.
async fn resident_first_text(served: &Served, agent: &str, prompt: &Prompt<'_>) -> Result<Duration, String> {
    let mut times = Vec::new();
    for _ in 0..N_RESIDENT {
        times.push(first_text(served, agent, prompt).await?.as_secs_f64());
    }
    Ok(Duration::from_secs_f64(median(&times)))
}

async fn restored_without_page_cache(
    (served, data): (&Served, &Path),
    n: usize,
    agent: &str,
    prompt: &Prompt<'_>,
    report: &mut Report,
) -> Result<(), String> {
    let files = segments(data).map_err(|error| error.to_string())?;
    // Before and after, so that what lies below the system's cache is the same for both.
    let Some(raw_before) = cold_read_rate(&files).map_err(|error| error.to_string())? else { return Ok(()) };
    drop_from_cache(&files).map_err(|error| error.to_string())?;
    let before = served.pool_bytes().await?;
    let restored = first_text(served, agent, prompt).await?;
    let n_bytes = served.pool_bytes().await?.saturating_sub(before);
    let resident = resident_first_text(served, agent, prompt).await?;
    // What the same request takes when all is in the pool is no part of restoring.
    let rate = n_bytes as f64 / restored.saturating_sub(resident).as_secs_f64();
    let raw_after = cold_read_rate(&files).map_err(|error| error.to_string())?;
    let raw = raw_after.map_or(raw_before, |after| after.max(raw_before));
    report.add(&format!("{n} tokens, restored, page cache dropped"), "ms", ms(restored));
    report.add(&format!("{n} tokens, bytes restored"), "MB", n_bytes as f64 / 1e6);
    report.add(&format!("{n} tokens, these over the time beyond resident"), "MB/s", rate / 1e6);
    report.add(&format!("{n} tokens, plain read of the segments"), "MB/s", raw / 1e6);
    report.add(&format!("{n} tokens, restored over plain read"), "%", 100.0 * rate / raw);
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Agents in turn through a pool that holds a quarter of them.
async fn in_turn(plan: &Plan<'_>, report: &mut Report) -> Result<(), String> {
    let (n_agents, n_tokens, n_more) = IN_TURN;
    let scratch = Scratch::new(plan.parent)?;
    let probe = plan.start(scratch.path(), &[]).await?;
    let before = probe.pool_bytes().await?;
    probe.ask("probe", plan.slice(WARM_UP, n_tokens + N_TURNS * n_more)?, ANSWER).await?;
    let agent_bytes = probe.pool_bytes().await?.saturating_sub(before);
    probe.stop().await?;

    let pool = format!("{}", (agent_bytes as f64 * N_FIT) as u64);
    let scratch = Scratch::new(plan.parent)?;
    let served = plan.start(scratch.path(), &["--kv-pool", &pool]).await?;
    let mut cold = Vec::new();
    let mut revisits = Vec::new();
    for turn in 0..N_TURNS {
        for idx in 0..n_agents {
            let agent = format!("agent-{idx}");
            let prompt = plan.slice(WARM_UP + idx * n_tokens, n_tokens + turn * n_more)?;
            let timed = served.ask(&agent, prompt, ANSWER).await?;
            if turn == 0 {
                cold.push(timed.first_text.as_secs_f64());
            } else {
                warm_enough(&agent, prompt.len() - n_more, &timed)?;
                revisits.push(timed.first_text.as_secs_f64());
            }
        }
    }
    served.stop().await?;
    let (cold, revisit) = (median(&cold), median(&revisits));
    let what = format!("{n_agents} agents of {n_tokens} tokens in turn, pool for {}", N_FIT as usize);
    report.add(&format!("{what}: first visit, median"), "ms", cold * 1e3);
    report.add(&format!("{what}: revisit, median"), "ms", revisit * 1e3);
    report.add(&format!("{what}: revisit over first"), "×", revisit / cold);
    Ok(())
}

/// What saving takes from the token rate of running streams.
async fn saving(plan: &Plan<'_>, report: &mut Report) -> Result<(), String> {
    let mut rates = Rates::default();
    let (n_pairs, n_turns) = PAIRS;
    for pair in 0..n_pairs {
        saving_pair(plan, pair, &mut rates).await?;
    }
    let Rates { with, without } = rates;
    let costs: Vec<f64> =
        with.iter().zip(&without).map(|(with, without)| 100.0 * (1.0 - with / without)).collect();
    let costs = sorted(&costs);
    let n_streams = STREAMS.0;
    report.add(&format!("{n_streams} streams, saving"), "tokens/s", median(&with));
    report.add(&format!("{n_streams} streams, not saving"), "tokens/s", median(&without));
    let what =
        format!("what saving costs of the token rate, {n_turns} turns of each of {n_pairs} pairs of servers");
    report.add(&format!("{what}: median"), "%", median(&costs));
    report.add(&format!("{what}: a quarter is below"), "%", costs[costs.len() / 4]);
    report.add(&format!("{what}: a quarter is above"), "%", costs[costs.len() * 3 / 4]);
    Ok(())
}

/// Tokens a second, turn by turn.
#[derive(Default)]
struct Rates {
    with: Vec<f64>,
    without: Vec<f64>,
}

/// The turns of one pair of servers.
async fn saving_pair(plan: &Plan<'_>, pair: usize, rates: &mut Rates) -> Result<(), String> {
    let (n_streams, n_prompt, n_answer) = STREAMS;
    let scratches = (Scratch::new(plan.parent)?, Scratch::new(plan.parent)?);
    // Both are there all the time and work in turns, so close to each other that the machine is the same for both.
    let (saving, not_saving) = if pair.is_multiple_of(2) {
        let saving = plan.start(scratches.0.path(), &[]).await?;
        (saving, plan.start(scratches.1.path(), OFF).await?)
    } else {
        let not_saving = plan.start(scratches.1.path(), OFF).await?;
        (plan.start(scratches.0.path(), &[]).await?, not_saving)
    };
    let mut rest = Duration::ZERO;
    for turn in 0..PAIRS.1 {
        let mut turns = [(&mut rates.with, &saving, true), (&mut rates.without, &not_saving, false)];
        // A machine that slows down or speeds up is not to favour one of them.
        if turn % 2 == 1 {
            turns.reverse();
        }
        let agents: Vec<String> = (0..n_streams).map(|idx| format!("agent-{turn}-{idx}")).collect();
        for (rates, served, is_saving) in turns {
            let streams: Vec<Timed> = try_join_all(agents.iter().enumerate().map(async |(idx, agent)| {
                let prompt = plan.slice(WARM_UP + (turn * n_streams + idx) * n_prompt, n_prompt)?;
                served.ask(agent, prompt, n_answer).await
            }))
            .await?;
            rates.push(rate_of(&streams));
            // What is left to be written is not to be written while the other works, and a machine that has rested is
            // faster for a while: both rest as long.
            let start = Instant::now();
            for agent in agents.iter().filter(|_| is_saving) {
                served.until_saved(agent).await?;
            }
            if is_saving {
                rest = start.elapsed();
            } else {
                tokio::time::sleep(rest).await;
            }
        }
    }
    saving.stop().await?;
    not_saving.stop().await
}

/// Pieces of text a second while all streams run.
fn rate_of(streams: &[Timed]) -> f64 {
    let from = streams.iter().filter_map(|stream| stream.texts.first()).max().copied();
    let to = streams.iter().filter_map(|stream| stream.texts.last()).min().copied();
    let (Some(from), Some(to)) = (from, to) else { return 0.0 };
    let inside = |at: &&Instant| **at > from && **at <= to;
    let n: usize = streams.iter().map(|stream| stream.texts.iter().filter(inside).count()).sum();
    n as f64 / to.saturating_duration_since(from).as_secs_f64()
}

/// A figure of something that was not reused would be a figure of something else.
fn warm_enough(agent: &str, n_had: usize, timed: &Timed) -> Result<(), String> {
    // The last token is always computed, and a last block that is not whole may be.
    const MAX_BLOCK: usize = 256;
    if timed.n_cached + MAX_BLOCK >= n_had {
        return Ok(());
    }
    Err(format!("{agent}: {} of {n_had} tokens were reused", timed.n_cached))
}
