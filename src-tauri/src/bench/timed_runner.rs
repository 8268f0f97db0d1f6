//! A runner that notes how long each step's forward pass took.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use engine::{Failure, LoadDesk, Loaded, ModelLoader, ModelName, Runner};
use scheduler::{
    BlockId, BlockPart, KvLayout, LentBlock, ModelCacheSpec, ModelRunner, RunError, Step, StepOutput,
};

/// One forward pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

/// The forward passes so far; shared by the runner and the benchmark.
#[derive(Debug, Clone, Default)]
pub(super) struct Passes {
    /// Guards the list between the engine thread and the benchmark; held for a push or a copy only.
    list: Arc<Mutex<Vec<Pass>>>,
}

impl Passes {
    fn push(&self, pass: Pass) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(pass);
    }

    /// The passes that lie wholly between `from` and `to`.
    pub(super) fn between(&self, from: Instant, to: Instant) -> Vec<Pass> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.iter().filter(|pass| pass.began >= from && pass.ended <= to).copied().collect()
    }
}

/// Loads what another loader loads and times its passes.
pub(super) struct TimedLoader {
    pub(super) inner: Arc<dyn ModelLoader>,
    pub(super) passes: Passes,
}

impl ModelLoader for TimedLoader {
    fn load(&self, model: &ModelName, desk: &dyn LoadDesk) -> Result<Loaded, Failure> {
        let Loaded { runner, card } = self.inner.load(model, desk)?;
        let runner = match runner {
            Runner::Generates(inner) => {
                Runner::Generates(Box::new(TimedRunner { inner, passes: self.passes.clone() }))
            }
            // Nothing here measures one.
            Runner::Embeds(embedder) => Runner::Embeds(embedder),
        };
        Ok(Loaded { runner, card })
    }
}

struct TimedRunner {
    inner: Box<dyn ModelRunner>,
    passes: Passes,
}

impl ModelRunner for TimedRunner {
    fn cache_spec(&self) -> &ModelCacheSpec {
        self.inner.cache_spec()
    }

    fn layout(&self) -> &KvLayout {
        self.inner.layout()
    }

    fn n_blocks(&self) -> usize {
        self.inner.n_blocks()
    }

    fn run(&mut self, step: &Step, out: &mut StepOutput) -> Result<(), RunError> {
        let began = Instant::now();
        let result = self.inner.run(step, out);
        self.passes.push(Pass { began, ended: Instant::now() });
        result
    }

    fn export_block(&mut self, block: BlockId, out: &mut [u8]) -> Result<(), RunError> {
        self.inner.export_block(block, out)
    }

    fn part_bytes(&self, part: BlockPart) -> usize {
        self.inner.part_bytes(part)
    }

    fn export_part(&mut self, block: BlockId, part: BlockPart, out: &mut [u8]) -> Result<(), RunError> {
        self.inner.export_part(block, part, out)
    }

    fn import_part(&mut self, block: BlockId, part: BlockPart, bytes: &[u8]) -> Result<(), RunError> {
        self.inner.import_part(block, part, bytes)
    }

    fn lend_block(&mut self, block: BlockId) -> Option<LentBlock> {
        self.inner.lend_block(block)
    }

    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), RunError> {
        self.inner.import_block(block, bytes)
    }
}
