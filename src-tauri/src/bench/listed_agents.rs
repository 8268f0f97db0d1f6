//! What a long list of agents costs those who write: the gaps between a stream's tokens, beside a client that asks for
//! the list twice a second and without it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use engine::{EngineConfig, ModelCard, ModelLoader};
use futures_util::future::{Either, select, try_join_all};
use scheduler::{BlockKey, ChainHash, GroupId};
use store::{AgentManifest, BlockBytes, BlockRecord, BlockStore, Pin, SaveReason, Store, StoreConfig};

use super::report::{Report, median, sorted};
use super::rig::{Arrivals, Rig};
use super::served::Scratch;

/// Agents, and tokens of each.
const AGENTS: (usize, usize) = (1_000, 4_000);
/// Time between two questions for the list.
const EVERY: Duration = Duration::from_millis(500);
/// Streams, and tokens of prompt and answer.
const STREAMS: (usize, usize, usize) = (2, 64, 3_000);
/// Tokens of a block.
const BLOCK: usize = 32;
/// Bytes of a block's content: the list looks at addresses, so the thousand agents need not take the hundred gigabytes
/// that they would.
const CONTENT_BYTES: usize = 64;

/// Measure both.
///
/// # Errors
/// The store refuses, or a request does not end as it should; one line.
pub(super) async fn listed_agents(
    loader: &Arc<dyn ModelLoader>,
    parent: &Path,
    report: &mut Report,
) -> Result<(), String> {
    let scratch = Scratch::new(parent)?;
    let config = StoreConfig { free_space_floor: 0, ..StoreConfig::new(scratch.path().to_owned(), 1 << 30) };
    let store: Arc<dyn BlockStore> = Arc::new(Store::open(config).map_err(|error| error.to_string())?);
    let rig =
        Rig::open(loader, EngineConfig { store: Arc::clone(&store), ..EngineConfig::default() }).await?;
    let card = rig.handle.card().ok_or("no model is loaded")?;
    fill(store.as_ref(), &card)?;
    let listed = rig.handle.agents().await.map_err(|error| error.to_string())?;
    if listed.len() != AGENTS.0 || listed.iter().any(|agent| agent.sum.saved_tokens != AGENTS.1) {
        return Err(format!("{} agents are listed, and not each with all that it has saved", listed.len()));
    }
    // Not the first streams of an engine, which measures its steps.
    streams(&rig, 0).await?;
    let quiet = streams(&rig, 1).await?;
    let mut took = Vec::new();
    let asking = async {
        loop {
            let began = Instant::now();
            let listed = rig.handle.agents().await;
            took.push(1e3 * began.elapsed().as_secs_f64());
            if listed.is_err() {
                return;
            }
            tokio::time::sleep(EVERY.saturating_sub(began.elapsed())).await;
        }
    };
    let asked = match select(Box::pin(streams(&rig, 2)), Box::pin(asking)).await {
        Either::Left((streams, _)) => streams?,
        Either::Right(((), _)) => return Err("the engine ended".to_owned()),
    };
    rig.close().await?;
    for (name, arrivals) in [("nobody asks", &quiet), ("asked for twice a second", &asked)] {
        let gaps = sorted(&arrivals.iter().flat_map(gaps_ms).collect::<Vec<_>>());
        let name = format!("gap of a stream, {} agents of {}, {name}", AGENTS.0, AGENTS.1);
        report.add(&name, "ms", median(&gaps));
        report.add(&format!("{name}, 99 of 100"), "ms", gaps[gaps.len() * 99 / 100]);
        report.add(&format!("{name}, longest"), "ms", gaps[gaps.len() - 1]);
    }
    report.add(&format!("a list of {} agents", AGENTS.0), "ms", median(&took));
    Ok(())
}

async fn streams(rig: &Rig, salt: usize) -> Result<Vec<Arrivals>, String> {
    let (n, n_prompt, n_answer) = STREAMS;
    try_join_all((0..n).map(|i| async move {
        let seed = 7_000 + 10 * salt + i;
        rig.stream(seed, rig.prompt(seed, n_prompt)?, n_answer).await
    }))
    .await
}

/// Times between the tokens of a stream.
fn gaps_ms(arrivals: &Arrivals) -> Vec<f64> {
    arrivals.tokens.windows(2).map(|pair| 1e3 * (pair[1].0 - pair[0].0).as_secs_f64()).collect()
}

/// Put the agents on disk, with all blocks that they rest on.
fn fill(store: &dyn BlockStore, card: &ModelCard) -> Result<(), String> {
    let (n_agents, n_tokens) = AGENTS;
    for agent in 0..n_agents {
        let address = |block_idx: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&(agent as u64 + 1).to_le_bytes());
            hash[8..16].copy_from_slice(&(block_idx as u64 + 1).to_le_bytes());
            ChainHash(hash)
        };
        let tokens: Vec<u32> =
            (0..n_tokens).map(|i| ((agent * 31 + i * 7) % card.text.n_vocab()) as u32).collect();
        let blocks: Vec<ChainHash> = (0..n_tokens / BLOCK).map(address).collect();
        for (block_idx, hash) in blocks.iter().enumerate() {
            save(
                store,
                BlockRecord {
                    key: BlockKey { hash: *hash, group: GroupId::full(0) },
                    parent: if block_idx == 0 { ChainHash([0; 32]) } else { blocks[block_idx - 1] },
                    fingerprint: card.fingerprint,
                    tokens: tokens[block_idx * BLOCK..][..BLOCK].to_vec(),
                    reason: SaveReason::BlockFull,
                    bytes: BlockBytes::from(vec![agent as u8; CONTENT_BYTES]),
                },
            )?;
        }
        store.put_agent(AgentManifest {
            name: format!("agent-{agent}"),
            fingerprint: card.fingerprint,
            block_tokens: BLOCK as u32,
            tokens,
            generated: Vec::new(),
            blocks,
            tail: None,
            last_used: agent as u64,
            pin: Pin::Unpinned,
            former: Vec::new(),
        });
    }
    flush(store)
}

/// Queue a record; where the queue is full, wait until it is not.
fn save(store: &dyn BlockStore, record: BlockRecord) -> Result<(), String> {
    let Err(record) = store.save(record) else { return Ok(()) };
    flush(store)?;
    store.save(*record).map_err(|_| "the store takes no block although its queue is empty".to_owned())
}

fn flush(store: &dyn BlockStore) -> Result<(), String> {
    let (done, flushed) = channel();
    store.flush(Box::new(move |report| {
        let _ = done.send(report);
    }));
    let report = flushed.recv().map_err(|_| "the store has ended".to_owned())?;
    if report.n_failed > 0 { Err(format!("{} blocks could not be written", report.n_failed)) } else { Ok(()) }
}
