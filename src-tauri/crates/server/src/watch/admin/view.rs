//! What the engine is doing, as status and events show it.

use std::collections::BTreeMap;
use std::time::Instant;

use engine::{
    ActiveRequest, EngineHandle, GpuRefusal, ModelCard, Readiness, State as EngineState, Stats, StoreCounts,
    Trouble, readiness,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::requests::EndedRequest;
use crate::calls::default_sampling::DefaultSampling;
use crate::calls::served_model::EmbeddingInfo;
use crate::name_lists::{
    afters, backends, failure_kinds, gpu_refusal_kinds, not_ready_reasons, phases, purposes, states, troubles,
};
use crate::watch::rounding::{one_decimal, seconds, three_decimals};

/// What changes while the engine works: state, load progress, model, pool, queue, the requests in flight and the last
/// one that ended, totals, drain.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EngineView {
    #[schema(schema_with = states)]
    state: &'static str,
    /// Of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// What kind of failure it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = failure_kinds)]
    failure: Option<&'static str>,
    /// What a drain leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = afters)]
    then: Option<&'static str>,
    /// Whether `/health/ready` is 200.
    ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = not_ready_reasons)]
    reason: Option<&'static str>,
    load: LoadView,
    pub(crate) model: Option<ModelView>,
    pool: PoolView,
    store: StoreView,
    /// Sequences with rows in steps.
    running: usize,
    /// Requests that are taken and not running yet.
    waiting: usize,
    /// The requests in flight, in the order in which they came.
    active: Vec<ActiveView>,
    /// The last request that ended.
    last: Option<EndedRequest>,
    totals: TotalsView,
    drain: Option<DrainView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct LoadView {
    /// 0 to 1.
    progress: f64,
    bytes_done: u64,
    bytes_total: u64,
}

/// The loaded model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelView {
    id: String,
    /// What it is for.
    #[schema(schema_with = purposes)]
    purpose: &'static str,
    /// What its vectors are like; only where it gives some.
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<EmbeddingInfo>,
    context_length: usize,
    file_bytes: u64,
    /// What computes it.
    #[schema(schema_with = backends)]
    backend: &'static str,
    /// Why the GPU that there is does not.
    gpu_refusal: Option<GpuRefusalView>,
    /// What a request is sampled with that says nothing; in `/admin/status` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sampling: Option<DefaultSampling>,
}

/// Why a GPU does not serve the model.
#[derive(Debug, Serialize, ToSchema)]
struct GpuRefusalView {
    #[schema(schema_with = gpu_refusal_kinds)]
    kind: &'static str,
    text: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct PoolView {
    /// Percent of the blocks that are held.
    utilization: f64,
    blocks: BlocksView,
    block_bytes: usize,
    block_tokens: usize,
    states: StatesView,
}

/// What recurrent layers have of the pool; nothing where the model has none.
#[derive(Debug, Serialize, ToSchema)]
struct StatesView {
    /// Blocks of running sequences' states, which are held.
    live_blocks: usize,
    live_bytes: u64,
    /// States that are kept for later requests.
    checkpoints: usize,
    /// Their blocks, held or cached.
    checkpoint_blocks: usize,
    checkpoint_bytes: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct BlocksView {
    free: usize,
    held: usize,
    /// Those of the held ones that are pinned.
    pinned: usize,
    cached: usize,
    total: usize,
}

/// The disk's part: what it holds, what it may hold, and whether it takes anything now.
#[derive(Debug, Serialize, ToSchema)]
struct StoreView {
    on: bool,
    saving: DiskState,
    /// Why nothing is saved now.
    #[schema(schema_with = troubles)]
    trouble: Option<&'static str>,
    bytes: u64,
    max_bytes: u64,
    queued_bytes: u64,
    written_today_bytes: u64,
    blocks: u64,
    /// Checkpoints, the kept states of recurrent layers, that can be restored.
    checkpoints: u64,
    checkpoint_bytes: u64,
    not_saved_blocks: u64,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
enum DiskState {
    #[serde(rename = "saving")]
    Saved,
    #[serde(rename = "not saved")]
    NotSaved,
    #[serde(rename = "off")]
    Off,
}

/// A request in flight.
#[derive(Debug, Serialize, ToSchema)]
struct ActiveView {
    id: String,
    agent: Option<String>,
    /// It waits, its prompt is read, or its answer is written.
    #[schema(schema_with = phases)]
    phase: &'static str,
    prompt_tokens: usize,
    done_tokens: usize,
    generated_tokens: usize,
}

/// Counts since the start.
#[derive(Debug, Serialize, ToSchema)]
struct TotalsView {
    requests: u64,
    prefilled_tokens: u64,
    reused_tokens: u64,
    generated_tokens: u64,
    /// Texts that got their vectors.
    embedded_texts: u64,
    embedded_tokens: u64,
    steps: u64,
    preemptions: u64,
    evictions: u64,
    /// Prompt tokens that were in the pool and were read again for want of a checkpoint at their end.
    tokens_without_state: u64,
    /// Places at which there was no room for a checkpoint.
    checkpoints_skipped: u64,
    restored_blocks: u64,
    restore_misses: BTreeMap<&'static str, u64>,
    cancelled: u64,
    worker_failures: u64,
    drains: u64,
    drain_timeouts: u64,
    last_drain_s: Option<f64>,
}

/// A drain under way.
#[derive(Debug, Serialize, ToSchema)]
struct DrainView {
    active: usize,
    unsaved_bytes: u64,
    deadline_s: f64,
}

impl EngineView {
    /// The engine as it says it is, at `now`.
    pub(crate) fn new(engine: &EngineHandle, state: &EngineState, stats: &Stats, now: Instant) -> EngineView {
        let reason = match readiness(state, stats, now) {
            Readiness::Ready { .. } => None,
            Readiness::NotReady(reason) => Some(reason.reason().name()),
        };
        EngineView {
            state: state.name(),
            cause: match state {
                EngineState::Failed(failure) => Some(failure.to_string()),
                _ => None,
            },
            failure: match state {
                EngineState::Failed(failure) => Some(failure.kind.name()),
                _ => None,
            },
            then: match state {
                EngineState::Draining { then, .. } => Some(then.name()),
                _ => None,
            },
            ready: reason.is_none(),
            reason,
            load: LoadView {
                progress: three_decimals(stats.load.fraction()),
                bytes_done: stats.load.bytes_done,
                bytes_total: stats.load.bytes_total,
            },
            model: engine.card().map(|card| ModelView::new(&card)),
            pool: PoolView::new(stats),
            store: StoreView::new(&stats.store),
            running: stats.n_running,
            waiting: stats.n_waiting,
            active: stats.active.iter().map(ActiveView::from).collect(),
            last: engine.last_record().as_ref().map(EndedRequest::from),
            totals: TotalsView::new(stats),
            drain: stats.drain.map(|drain| DrainView {
                active: drain.n_active,
                unsaved_bytes: drain.unsaved_bytes,
                deadline_s: seconds(drain.deadline.saturating_duration_since(now)),
            }),
        }
    }
}

impl ModelView {
    fn new(card: &ModelCard) -> ModelView {
        let refusal =
            |GpuRefusal { kind, text }: &GpuRefusal| GpuRefusalView { kind: kind.name(), text: text.clone() };
        ModelView {
            id: card.name.clone(),
            purpose: card.purpose.name(),
            embedding: card.embedding().map(EmbeddingInfo::from),
            context_length: card.effective_context,
            file_bytes: card.file_bytes,
            backend: card.served_by.backend.name(),
            gpu_refusal: card.served_by.gpu_refusal.as_ref().map(refusal),
            sampling: None,
        }
    }
}

impl PoolView {
    fn new(stats: &Stats) -> PoolView {
        let pool = stats.pool;
        let bytes = |n_blocks: usize| n_blocks as u64 * pool.block_bytes as u64;
        PoolView {
            utilization: one_decimal(pool.utilization()),
            blocks: BlocksView {
                free: pool.free,
                held: pool.held,
                pinned: pool.pinned,
                cached: pool.cached,
                total: pool.total,
            },
            block_bytes: pool.block_bytes,
            block_tokens: pool.block_tokens,
            states: StatesView {
                live_blocks: pool.live_states,
                live_bytes: bytes(pool.live_states),
                checkpoints: pool.checkpoints,
                checkpoint_blocks: pool.checkpoint_blocks,
                checkpoint_bytes: bytes(pool.checkpoint_blocks),
            },
        }
    }
}

impl StoreView {
    fn new(store: &StoreCounts) -> StoreView {
        StoreView {
            on: store.is_on,
            saving: match (store.is_on, store.trouble) {
                (_, Some(_)) => DiskState::NotSaved,
                (true, None) => DiskState::Saved,
                (false, None) => DiskState::Off,
            },
            trouble: store.trouble.map(Trouble::name),
            bytes: store.stored_bytes,
            max_bytes: store.max_bytes,
            queued_bytes: store.queued_bytes,
            written_today_bytes: store.written_today_bytes,
            blocks: store.n_blocks,
            checkpoints: store.n_checkpoints,
            checkpoint_bytes: store.checkpoint_bytes,
            not_saved_blocks: store.n_not_saved,
        }
    }
}

impl From<&ActiveRequest> for ActiveView {
    fn from(request: &ActiveRequest) -> ActiveView {
        ActiveView {
            id: request.id.to_string(),
            agent: request.agent.clone(),
            phase: request.phase.name(),
            prompt_tokens: request.n_prompt,
            done_tokens: request.n_done,
            generated_tokens: request.n_generated,
        }
    }
}

impl TotalsView {
    fn new(stats: &Stats) -> TotalsView {
        let totals = &stats.totals;
        TotalsView {
            requests: totals.requests,
            prefilled_tokens: totals.prefilled_tokens,
            reused_tokens: totals.reused_tokens,
            generated_tokens: totals.generated_tokens,
            embedded_texts: totals.embedded_texts,
            embedded_tokens: totals.embedded_tokens,
            steps: totals.steps,
            preemptions: totals.preemptions,
            evictions: totals.evictions,
            tokens_without_state: totals.tokens_without_state,
            checkpoints_skipped: totals.checkpoints_skipped,
            restored_blocks: totals.restored_blocks,
            restore_misses: totals.restore_misses.clone(),
            cancelled: totals.cancelled,
            worker_failures: totals.worker_failures,
            drains: totals.drains,
            drain_timeouts: totals.drain_timeouts,
            last_drain_s: totals.last_drain.map(|took| three_decimals(took.as_secs_f64())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn checkpoints_on_disk_are_told_by_number_and_bytes() {
        let counts = StoreCounts { n_checkpoints: 5, checkpoint_bytes: 4_096, ..StoreCounts::default() };
        let told = serde_json::to_value(StoreView::new(&counts)).unwrap();
        assert_eq!((&told["checkpoints"], &told["checkpoint_bytes"]), (&json!(5), &json!(4_096)));
    }
}
