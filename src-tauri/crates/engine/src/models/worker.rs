//! A runner on a thread of its own: for a device that computes while the engine thread steps other models.
//!
//! One that has not answered for 30 s fails its model alone.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use scheduler::{
    Begun, Bell, BlockId, KvLayout, LentBlock, ModelCacheSpec, ModelRunner, RunError, Step, StepOutput,
};

use crate::told::readiness::STEP_LIMIT;

/// Something to do on the runner's thread.
type Job = Box<dyn FnOnce(&mut dyn ModelRunner) + Send>;

/// Owns the thread on which a runner lives and dies.
pub struct WorkerRunner {
    cache_spec: ModelCacheSpec,
    layout: KvLayout,
    n_blocks: usize,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Where the output of the step under way come from.
    under_way: Option<Receiver<Result<StepOutput, RunError>>>,
    /// Whether it has not answered for longer than a step may take.
    has_hung: bool,
}

impl WorkerRunner {
    /// Move a runner to a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(runner: Box<dyn ModelRunner>) -> std::io::Result<WorkerRunner> {
        let (cache_spec, layout) = (runner.cache_spec().clone(), runner.layout().clone());
        let n_blocks = runner.n_blocks();
        let (jobs, inbox) = channel::<Job>();
        let thread = std::thread::Builder::new().name("device".to_owned()).spawn(move || {
            let mut runner = runner;
            // A job that panics ends the thread, and every answer that is waited for with it.
            for job in inbox {
                job(runner.as_mut());
            }
        })?;
        let (jobs, thread) = (Some(jobs), Some(thread));
        Ok(WorkerRunner { cache_spec, layout, n_blocks, jobs, thread, under_way: None, has_hung: false })
    }

    fn post(&self, job: Job) -> Result<(), RunError> {
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(job));
        if let Some(Ok(())) = sent { Ok(()) } else { Err(gone()) }
    }

    /// Do something on the thread and wait for it.
    fn ask<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut dyn ModelRunner) -> Result<T, RunError> + Send + 'static,
    ) -> Result<T, RunError> {
        if self.under_way.is_some() {
            return Err(RunError::InvalidStep("a step is under way".to_owned()));
        }
        let (reply, answer) = channel();
        self.post(Box::new(move |runner| {
            // Whoever asked may have given up.
            let _ = reply.send(job(runner));
        }))?;
        match answer.recv_timeout(STEP_LIMIT) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                self.has_hung = true;
                Err(RunError::Device(format!("it has not answered within {} s", STEP_LIMIT.as_secs())))
            }
        }
    }
}

fn gone() -> RunError {
    RunError::Device("the thread that computes has ended".to_owned())
}

impl ModelRunner for WorkerRunner {
    fn cache_spec(&self) -> &ModelCacheSpec {
        &self.cache_spec
    }

    fn layout(&self) -> &KvLayout {
        &self.layout
    }

    fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    fn begin(&mut self, step: &Arc<Step>, mut out: StepOutput, bell: Bell) -> Result<Begun, RunError> {
        let (reply, answer) = channel();
        let step = Arc::clone(step);
        self.post(Box::new(move |runner| {
            // Rung also when the step panics: then there is a thread that has ended to be found.
            let bell = RingAtDrop(bell);
            let result = runner.run(&step, &mut out).map(|()| out);
            let _ = reply.send(result);
            drop(bell);
        }))?;
        self.under_way = Some(answer);
        Ok(Begun::UnderWay)
    }

    fn poll(&mut self) -> Result<Option<StepOutput>, RunError> {
        use std::sync::mpsc::TryRecvError;
        let Some(answer) = &self.under_way else {
            return Err(RunError::InvalidStep("no step is under way".to_owned()));
        };
        let result = match answer.try_recv() {
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone()),
            Ok(result) => result,
        };
        self.under_way = None;
        result.map(Some)
    }

    fn run(&mut self, step: &Step, out: &mut StepOutput) -> Result<(), RunError> {
        let (step, mut logits) = (step.clone(), std::mem::take(out));
        *out = self.ask(move |runner| runner.run(&step, &mut logits).map(|()| logits))?;
        Ok(())
    }

    fn give_up(&mut self) {
        self.has_hung |= self.under_way.is_some();
    }

    fn export_block(&mut self, block: BlockId, out: &mut [u8]) -> Result<(), RunError> {
        let mut bytes = vec![0; out.len()];
        let bytes = self.ask(move |runner| runner.export_block(block, &mut bytes).map(|()| bytes))?;
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), RunError> {
        let bytes = bytes.to_vec();
        self.ask(move |runner| runner.import_block(block, &bytes))
    }

    fn lend_block(&mut self, block: BlockId) -> Option<LentBlock> {
        self.ask(move |runner| Ok(runner.lend_block(block))).ok()?
    }
}

/// Rings when it is dropped.
struct RingAtDrop(Bell);

impl Drop for RingAtDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Drop for WorkerRunner {
    /// What lies on a device is gone when this returns, unless the device hangs: then its thread is left to itself.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && !self.has_hung
        {
            // A panic is in the log and in the error of the step already.
            let _ = thread.join();
        }
    }
}
