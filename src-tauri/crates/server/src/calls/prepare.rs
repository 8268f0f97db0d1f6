//! From a call to what the engine takes: the model, its sampling, tokens, and what holds the answer to its format.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use engine::{
    EngineHandle, ModelCard, ModelName, Refusal, RequestId, Sampling, SamplingChoices, State,
    check_vocabulary,
};
use tokio::task::spawn_blocking;

use super::call::{Call, Names, Prompt, RequestedSampling};
use super::fault::Fault;
use super::grammars::{GrammarBuilder, Wanted};
use super::model_names::ModelNames;
use super::prompt::{Encoded, Encoders};
use super::reading::Reading;
use super::render_workers::RenderWorkers;
use super::tools::ToolChoice;

/// What preparing a call takes.
pub(crate) struct Preparer {
    encoders: Encoders,
    grammars: GrammarBuilder,
    names: ModelNames,
    sampling: SamplingChoices,
}

/// A call that the engine can take.
pub(crate) struct Prepared {
    /// The model that it is for.
    pub(crate) card: Arc<ModelCard>,
    pub(crate) request: engine::Request,
    /// What the engine takes for its other answers, those to one prompt together.
    pub(crate) more: Vec<engine::Request>,
    /// Answers to each prompt.
    pub(crate) n_each: usize,
    /// How its answer is to be read; none where all of it is text.
    pub(crate) reading: Option<Reading>,
}

impl Prepared {
    /// What the engine takes for each of its answers.
    pub(crate) fn requests_mut(&mut self) -> impl Iterator<Item = &mut engine::Request> {
        [&mut self.request].into_iter().chain(&mut self.more)
    }
}

impl Preparer {
    /// For the engine's models by their `names`, with `sampling` where a call does not say.
    pub(crate) fn new(
        engine: EngineHandle,
        render_workers: Arc<RenderWorkers>,
        names: ModelNames,
        sampling: SamplingChoices,
        n_cores: usize,
    ) -> Preparer {
        let encoders = Encoders { engine, render_workers, volatile_lines: Arc::default() };
        Preparer { encoders, grammars: GrammarBuilder::new(n_cores), names, sampling }
    }

    /// That calls are taken now, so far as that is known before one is read.
    ///
    /// # Errors
    /// Nothing is.
    pub(crate) fn check_ready(&self) -> Result<(), Fault> {
        let engine = &self.encoders.engine;
        let state = engine.state();
        let is_ready = |model: &ModelName| engine.state_for(model) == State::Ready;
        if state == State::Ready || engine.models().iter().any(|(name, _)| is_ready(name)) {
            return Ok(());
        }
        Err(Refusal::unavailable(&state, Instant::now()).into())
    }

    /// The model that is called `name`, if it is here.
    pub(crate) fn find(&self, name: &str) -> Option<(ModelName, Arc<ModelCard>)> {
        self.names.find(name)
    }

    /// The model that is meant; an absent or empty name means the default one.
    ///
    /// # Errors
    /// It is not here.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<(ModelName, Arc<ModelCard>), Fault> {
        match name.filter(|name| !name.is_empty()) {
            Some(name) => self.find(name).ok_or_else(|| {
                let engine = &self.encoders.engine;
                match engine.models().is_empty() {
                    true => Refusal::unavailable(&engine.state(), Instant::now()).into(),
                    false => Fault::unknown_model(name),
                }
            }),
            None => self
                .names
                .default()
                .ok_or_else(|| Refusal::unavailable(&self.encoders.engine.state(), Instant::now()).into()),
        }
    }

    /// The first model here that gives vectors.
    pub(super) fn first_encoder(&self) -> Option<(ModelName, Arc<ModelCard>)> {
        self.encoders.engine.models().into_iter().find(|(_, card)| card.embedding().is_some())
    }

    /// Make of a call what the engine takes. `held` is let go when the prompt is tokens: until then it takes its place
    /// in memory twice. Ends early when it is dropped.
    ///
    /// # Errors
    /// The model is not here, or the prompt, a token or the schema is nothing for it.
    pub(crate) async fn prepare(
        &self,
        mut call: Call,
        session: Option<String>,
        held: impl Send + 'static,
        id: &RequestId,
    ) -> Result<Prepared, Fault> {
        let names = call.names;
        let (model_name, card) = self.model(call.model.as_deref())?;
        if card.embedding().is_some() {
            return Err(card.refuses_to_generate().into());
        }
        check_vocabulary(call.sampling.logit_bias.iter().map(|(token, _)| *token), card.text.n_vocab())
            .map_err(|fault| Fault::invalid(names.logit_bias, fault.to_string()))?;

        call.tools.check(names.tools, names.tool_choice)?;
        if let Prompt::Chat(chat) = &mut call.prompt {
            call.thinking.tell(&mut chat.extra);
            if call.tools.choice != ToolChoice::None {
                chat.tools.extend(call.tools.offered.iter().map(|offered| offered.tool.clone()));
            }
        }
        let (encoders, model) = (self.encoders.clone(), Arc::clone(&card));
        let (first, others) = first_and_others(call.prompt, names)?;
        let encoded = while_awaited(id, move |is_abandoned| {
            let _held = held;
            let encode = |prompt| encoders.encode(prompt, names, &model, is_abandoned);
            let first = encode(first)?;
            Ok((first, others.into_iter().map(encode).collect::<Result<Vec<Encoded>, Fault>>()?))
        });
        let (Encoded { prompt, mut notes, mut reading }, others) = encoded.await?;
        notes.remarks.splice(0..0, call.remarks);
        if let Some(reading) = &mut reading {
            reading.tools = call.tools.callable().map(|offered| offered.tool.clone()).collect();
            reading.parallel = call.tools.parallel();
        }
        let constraint = match Wanted::new(call.format, &call.tools, call.thinking.budget, reading.as_ref()) {
            Some(wanted) => self.grammars.build(&card, wanted, (names, &call.tools), id).await?,
            None => None,
        };
        let n_each = 1 + call.sampling.n_more;
        let request = engine::Request {
            id: id.clone(),
            model: model_name,
            prompt,
            notes,
            max_tokens: call.max_tokens,
            sampling: self.sampling_of(call.sampling, &card),
            constraint,
            stop: call.stop,
            markers: Reading::markers(reading.as_ref()),
            ignore_end_of_turn: call.ignore_end_of_turn,
            top_logprobs: call.top_logprobs,
            agent: session.or(call.agent),
        };
        let (request, more) = match n_each == 1 && others.is_empty() {
            true => (request, Vec::new()),
            // What holds an answer to a format is as large as the format allows.
            false => off_the_runtime(id, move || Ok(with_others(request, &others, n_each))).await?,
        };
        Ok(Prepared { card, request, more, n_each, reading })
    }

    /// What the call names, then what the settings do, then what the model's file recommends, then ours.
    fn sampling_of(&self, requested: RequestedSampling, card: &ModelCard) -> Sampling {
        let others = [&self.sampling, &card.sampling, &SamplingChoices::BUILT_IN];
        let chosen = others.into_iter().fold(requested.choices, SamplingChoices::or);
        chosen.into_sampling(requested.logit_bias, requested.seed)
    }
}

/// The first of a call's prompts, and the others.
fn first_and_others(prompt: Prompt, names: Names) -> Result<(Prompt, Vec<Prompt>), Fault> {
    let Prompt::Each(prompts) = prompt else { return Ok((prompt, Vec::new())) };
    let mut prompts = prompts.into_iter();
    let first = prompts.next().ok_or_else(|| Fault::invalid(names.prompt, "there is none"))?;
    Ok((first, prompts.collect()))
}

/// A call's first request, and its others: to the same prompt, and to each of `others`.
fn with_others(
    first: engine::Request,
    others: &[Encoded],
    n_each: usize,
) -> (engine::Request, Vec<engine::Request>) {
    let mut more: Vec<engine::Request> = (1..n_each).map(|turn| another(&first, turn, None, turn)).collect();
    for encoded in others {
        for turn in 0..n_each {
            more.push(another(&first, more.len() + 1, Some(encoded), turn));
        }
    }
    (first, more)
}

/// Another request of the same call, its `idx`-th: to the same prompt or to this one, whose answers it is one of. An
/// agent's conversation goes on with the first.
fn another(first: &engine::Request, idx: usize, prompt: Option<&Encoded>, turn: usize) -> engine::Request {
    let mut sampling = first.sampling.clone();
    sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(turn as u64));
    engine::Request {
        id: RequestId(format!("{}.{idx}", first.id).into()),
        model: first.model.clone(),
        prompt: prompt.map_or_else(|| first.prompt.clone(), |encoded| encoded.prompt.clone()),
        notes: prompt.map_or_else(|| first.notes.clone(), |encoded| encoded.notes.clone()),
        max_tokens: first.max_tokens,
        sampling,
        constraint: first.constraint.clone(),
        stop: first.stop.clone(),
        markers: first.markers,
        ignore_end_of_turn: first.ignore_end_of_turn,
        top_logprobs: first.top_logprobs,
        agent: None,
    }
}

/// The client's end of the wait: dropped with the handler when the connection is gone.
#[derive(Debug, Default)]
struct Client {
    is_gone: Arc<AtomicBool>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }
}

/// As [`off_the_runtime`], for work that can ask whether its caller has been dropped, and end.
pub(super) async fn while_awaited<T: Send + 'static>(
    id: &RequestId,
    work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let client = Client::default();
    let is_gone = Arc::clone(&client.is_gone);
    off_the_runtime(id, move || work(&|| is_gone.load(Ordering::Relaxed))).await
}

/// Do work that takes as long as a request is long where it holds up nobody else.
///
/// # Errors
/// Its own; a fault when it panics.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    id: &RequestId,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Fault::internal(id, format!("preparing a prompt failed: {error}"))))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::calls::fault::FaultKind;

    #[tokio::test]
    async fn work_whose_client_is_gone_can_tell_and_work_that_is_awaited_goes_on() {
        let id = RequestId("r".into());
        let asked = while_awaited(&id, |is_abandoned| Ok(is_abandoned())).await;
        assert_eq!(asked, Ok(false));

        let (begun, has_begun) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let waiting = tokio::spawn(async move {
            while_awaited(&id, move |is_abandoned| {
                let _ = begun.send(());
                while !is_abandoned() {
                    std::thread::yield_now();
                }
                let _ = ended.send(());
                Err::<(), _>(Fault::bad_request("gone"))
            })
            .await
        });
        has_begun.await.unwrap();
        waiting.abort();
        has_ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_off_the_runtime_is_a_fault_and_nothing_more() {
        let id = RequestId("r".into());
        let fault = off_the_runtime::<()>(&id, || panic!("of a template")).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Internal);
        assert!(fault.for_log.is_some_and(|words| words.contains("panic")));
    }
}
