//! [`Encoder`]: the layers of a model that reads whole texts, behind the scheduler's interface.
//!
//! A batch goes through all layers, of which as many are done at a time as the caller likes; in between, its stream is
//! kept. Keys and values last for a layer, so there is no pool: a text sees itself, and nothing beside it.

use scheduler::{BatchIs, EmbedSpec, Embedder, RunError, TokenId, Vectors};

use super::backend::{Backend, Piece, VectorEnding};
use super::layer::Layer;
use super::runner::resize;
use super::texts::Texts;
use crate::plan::model_plan::ModelPlan;
use crate::plan::weights::{Ending, ModelWeights};

/// Reads batches of texts on a backend. One thread owns it, and every call leaves the backend idle.
///
/// Fields are dropped in their order: weights go before the device that they lie on.
pub(crate) struct Encoder<B: Backend> {
    plan: ModelPlan,
    weights: ModelWeights<B::Matrix, B::Vector>,
    spec: EmbedSpec,
    batch: Option<UnderWay<B>>,
    backend: B,
}

/// A batch that is not done.
struct UnderWay<B: Backend> {
    texts: Texts,
    /// Layers that are done.
    n_done: usize,
    /// What the layers work on; there is none before the first.
    pass: Option<Pass<B>>,
}

/// The stream of a batch, and what its chunks were prepared with.
struct Pass<B: Backend> {
    x: B::Stream,
    prepared: Vec<B::Prepared>,
}

impl<B: Backend> Encoder<B> {
    /// Run a model of `plan`, which `spec` says what it gives.
    pub(crate) fn new(
        plan: ModelPlan,
        spec: EmbedSpec,
        weights: ModelWeights<B::Matrix, B::Vector>,
        backend: B,
    ) -> Encoder<B> {
        Encoder { plan, weights, spec, batch: None, backend }
    }

    #[cfg(test)]
    pub(crate) fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// The vectors of a text's tokens, each as if the text were pooled to it.
    #[cfg(test)]
    pub(crate) fn of_tokens(&mut self, text: &[TokenId]) -> Vec<f32> {
        self.start(&[text]).unwrap();
        let Encoder { plan, weights, spec, batch, backend } = self;
        let batch = batch.as_mut().unwrap();
        batch.run(backend, (plan, weights), usize::MAX).unwrap();
        let Ending::Vectors(weights) = &weights.ending else { panic!("an encoder's weights") };
        let tokens: Vec<std::ops::Range<usize>> = (0..text.len()).map(|i| i..i + 1).collect();
        let ending = VectorEnding { pooling: scheduler::Pooling::First, weights };
        let mut out = vec![0.0; text.len() * spec.width];
        backend.vectors(&batch.pass.as_ref().unwrap().x, &tokens, &ending, &mut out).unwrap();
        out
    }

    fn start(&mut self, texts: &[&[TokenId]]) -> Result<(), RunError> {
        let texts = Texts::new(texts, &self.spec, B::CHUNK_TOKENS)?;
        self.drop_batch()?;
        self.batch = Some(UnderWay { texts, n_done: 0, pass: None });
        Ok(())
    }

    /// Forget the batch under way, if there is one.
    fn drop_batch(&mut self) -> Result<(), RunError> {
        match self.batch.take().and_then(|batch| batch.pass) {
            Some(Pass { x, prepared }) => self.backend.end_pass(x, prepared),
            None => Ok(()),
        }
    }
}

impl<B: Backend> UnderWay<B> {
    /// Do the next `n_layers`, or those that are left.
    fn run(
        &mut self,
        backend: &mut B,
        (plan, weights): (&ModelPlan, &ModelWeights<B::Matrix, B::Vector>),
        n_layers: usize,
    ) -> Result<(), RunError> {
        let chunks = self.texts.chunks();
        let is_new = self.pass.is_none();
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None => {
                backend.make_room(plan, self.texts.size())?;
                let pieces = self.texts.pieces();
                let x = backend.embed(&pieces, &weights.embeddings, plan.embedding_scale)?;
                let prepared = chunks.iter().map(|chunk| backend.prepare(chunk));
                Pass { x, prepared: prepared.collect::<Result<_, _>>()? }
            }
        };
        let pieces = chunks.iter().zip(&pass.prepared).map(|(chunk, prepared)| Piece {
            chunk,
            tokens: chunk.tokens.clone(),
            prepared,
        });
        let pieces: Vec<Piece<'_, B::Prepared>> = pieces.collect();
        if let (true, Some(entry)) = (is_new, &weights.entry) {
            pieces.iter().try_for_each(|piece| backend.enter_texts(&mut pass.x, piece, entry))?;
        }
        let layers = plan.layers.iter().zip(&weights.layers).enumerate();
        let before = self.n_done;
        for (idx, (plan, weights)) in layers.skip(before).take(n_layers) {
            Layer { idx, plan, weights, per_layer: None }.run(backend, &mut pass.x, &pieces)?;
            self.n_done += 1;
        }
        drop(pieces);
        self.pass = Some(pass);
        Ok(())
    }
}

impl<B: Backend> Embedder for Encoder<B>
where
    Encoder<B>: Send,
{
    fn spec(&self) -> &EmbedSpec {
        &self.spec
    }

    fn begin(&mut self, texts: &[&[TokenId]]) -> Result<(), RunError> {
        self.start(texts)
    }

    fn advance(&mut self, n_parts: usize, out: &mut Vectors) -> Result<BatchIs, RunError> {
        // What fails is gone.
        let batch = self.batch.take();
        let mut batch =
            batch.ok_or_else(|| RunError::InvalidStep("no batch of texts is under way".to_owned()))?;
        let Encoder { plan, weights, spec, backend, .. } = self;
        let Ending::Vectors(ending) = &weights.ending else {
            return Err(RunError::InvalidStep(format!("a {} model has no vectors", plan.architecture)));
        };
        backend.guarded(|backend| batch.run(backend, (plan, weights), n_parts))?;
        if batch.n_done < plan.layers.len() {
            self.batch = Some(batch);
            return Ok(BatchIs::UnderWay);
        }
        out.width = spec.width;
        resize(&mut out.values, batch.texts.len(), spec.width)?;
        if let Some(Pass { x, prepared }) = batch.pass {
            let ending = VectorEnding { pooling: spec.pooling, weights: ending };
            backend.guarded(|backend| {
                backend.vectors(&x, &batch.texts.ranges(), &ending, &mut out.values)?;
                backend.end_pass(x, prepared)
            })?;
        }
        Ok(BatchIs::Done)
    }
}

impl<B: Backend> Drop for Encoder<B> {
    fn drop(&mut self) {
        // Memory must not go while a device uses it; that the device has failed is known by then.
        let _ = self.backend.guarded(|_| Ok(()));
    }
}
