//! The way of a generation call: gate, body, parse, model, tokens, permit, engine, answer.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use engine::{Event, EventStream, ModelCard, Refusal, RequestId, Sampling, State};
use futures_util::stream;
use text::OutputFormat;

use super::answer::{Dialect, Envelope, Piece, usage};
use super::models::is_name_of;
use super::parameters::{Delivery, Parameters};
use super::prompt::{Prepared, Prompt, off_the_runtime, prepare};
use super::stream::Streaming;
use crate::calls::agent_name::session_header;
use crate::calls::fault::ApiError;
use crate::dialects::sse;
use crate::edge::access_log::AccessEntry;
use crate::edge::body::{self, WholeBody, discard};
use crate::generate::kept_answers::is_to_be_kept;
use crate::router::App;

/// A call as its dialect has parsed it.
#[derive(Debug)]
pub(crate) struct Call<D> {
    pub(crate) parameters: Parameters,
    pub(crate) prompt: Prompt,
    /// What the answer must be.
    pub(crate) format: Option<OutputFormat>,
    /// Report log-probabilities with this many rivals.
    pub(crate) top_logprobs: Option<usize>,
    pub(crate) dialect: D,
}

/// Takes a body apart.
type Parse<D> = fn(&[u8]) -> Result<Call<D>, ApiError>;

/// Answer a call.
pub(crate) async fn generate<D: Dialect>(app: Arc<App>, request: Request, parse: Parse<D>) -> Response {
    let answer = match begin(&app, request, parse).await {
        Ok(begun) if begun.keep => begun.kept(&app),
        Ok(begun) => begun.answer().await,
        Err(error) => Err(error),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// A call that the engine has taken.
struct Begun<D> {
    events: EventStream,
    envelope: Envelope,
    dialect: D,
    delivery: Delivery,
    /// Whether the answer goes on without its client.
    keep: bool,
    id: RequestId,
    /// What a complaint about the prompt names.
    param: &'static str,
    entry: Arc<AccessEntry>,
}

async fn begin<D: Dialect>(app: &App, request: Request, parse: Parse<D>) -> Result<Begun<D>, ApiError> {
    let (head, body) = request.into_parts();
    // The edge gives every request both.
    let id = head.extensions.get::<RequestId>().cloned().unwrap_or_else(|| RequestId("unnamed".into()));
    let entry = head.extensions.get::<Arc<AccessEntry>>().cloned();
    let entry = entry.unwrap_or_else(|| AccessEntry::new(id.clone(), &head.method, String::new(), true));

    let state = app.engine.state();
    let headers = session_header(&head.headers)
        .and_then(|session| is_to_be_kept(&head.headers).map(|keep| (session, keep)));
    let admitted = match headers {
        Ok(admitted) if state == State::Ready => Ok(admitted),
        Ok(_) => Err(Refusal::unavailable(&state, Instant::now()).into()),
        Err(error) => Err(error),
    };
    let (session, keep) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            discard(body, &app.config.limits).await;
            return Err(error);
        }
    };

    let WholeBody { bytes, share } = body::read(body, &app.config.limits, &app.body_budget).await?;
    let received = Instant::now();
    let seat = app.prompt_seats.take(bytes.len()).await;
    // The bytes go with the closure: what is made of them is as large as they are.
    let parsed = off_the_runtime(&id, move || parse(&bytes));
    let Call { parameters, prompt, format, top_logprobs, dialect } = parsed.await?;
    let card = loaded_model(app, parameters.model.as_deref())?;
    let sampling = parameters.sampling.over(&app.config.sampling, &card);
    check_logit_bias(&sampling, &card)?;
    if keep && parameters.delivery == Delivery::Whole {
        return Err(ApiError::invalid("X-Samovar-Keep", "only a streamed answer can be kept"));
    }

    let param = prompt.param();
    let prepared = prepare(app, &card, prompt, format, (seat, share), &id);
    let Prepared { tokens, notes, constraint } = prepared.await?;
    let permit = app.engine.try_permit()?;
    let request = engine::Request {
        id: id.clone(),
        prompt: tokens,
        notes,
        max_tokens: parameters.max_tokens,
        sampling,
        constraint,
        stop: parameters.stop,
        ignore_end_of_turn: parameters.ignore_end_of_turn,
        top_logprobs,
        agent: session.or(parameters.agent),
    };
    let events = app.engine.submit(permit, request, received);
    let envelope = Envelope::new::<D>(card);
    Ok(Begun { events, envelope, dialect, delivery: parameters.delivery, keep, id, param, entry })
}

/// The loaded model, if that is the one that is meant; an absent or empty name means whichever there is.
fn loaded_model(app: &App, name: Option<&str>) -> Result<Arc<ModelCard>, ApiError> {
    let card = app.engine.card().ok_or_else(|| Refusal::unavailable(&app.engine.state(), Instant::now()))?;
    match name {
        Some(name) if !name.is_empty() && !is_name_of(app, &card, name) => Err(ApiError::unknown_model(name)),
        _ => Ok(card),
    }
}

fn check_logit_bias(sampling: &Sampling, card: &ModelCard) -> Result<(), ApiError> {
    let n_vocab = card.text.n_vocab();
    match sampling.logit_bias.iter().find(|(token, _)| *token as usize >= n_vocab) {
        Some((token, _)) => {
            let message = format!("token {token} is not in the vocabulary of {n_vocab}");
            Err(ApiError::invalid("logit_bias", message))
        }
        None => Ok(()),
    }
}

impl<D: Dialect> Begun<D> {
    async fn answer(self) -> Result<Response, ApiError> {
        match self.delivery {
            Delivery::Whole => self.whole().await,
            Delivery::Streamed { include_usage } => self.streamed(include_usage).await,
        }
    }

    /// The answer in one piece.
    async fn whole(mut self) -> Result<Response, ApiError> {
        let mut all = Piece::default();
        while let Some(event) = self.events.recv().await {
            match event {
                Event::Text { text, logprobs, .. } => {
                    all.text.push_str(&text);
                    all.logprobs.extend(logprobs);
                }
                Event::Finished { reason, usage: took } => {
                    let choice = self.dialect.whole(self.envelope.text(), &all, &reason);
                    let mut answer = self.envelope.wrap(D::WHOLE, vec![choice]);
                    answer["usage"] = usage(&took);
                    self.entry.set_usage(took);
                    return Ok(Json(answer).into_response());
                }
                Event::Failed { error, usage } => {
                    self.entry.set_usage(usage);
                    return Err(self.refused(error));
                }
                Event::Admitted { .. } | Event::Prefilled { .. } => {}
            }
        }
        // The engine promises a terminal event.
        Err(ApiError::fault("the engine's stream"))
    }

    /// The answer as a stream that goes on without its client. What goes wrong before the first token is in the
    /// stream too: a client that comes back later must find it.
    fn kept(self, app: &App) -> Result<Response, ApiError> {
        let Some(kept) = app.kept_answers.begin(&self.id)? else {
            return Err(Refusal::Busy { n_waiting: app.engine.stats().n_waiting }.into());
        };
        let include_usage = matches!(self.delivery, Delivery::Streamed { include_usage: true });
        let streaming =
            Streaming::new(self.events, None, self.envelope, self.dialect, include_usage, self.entry);
        let response = sse::response(kept.follow());
        tokio::spawn(kept.write(stream::unfold(streaming, Streaming::next)));
        Ok(response)
    }

    /// The answer as a stream, once the engine has admitted it: until then a refusal is a status of its own,
    /// which clients know how to wait and retry on.
    async fn streamed(mut self, include_usage: bool) -> Result<Response, ApiError> {
        let first = match self.events.recv().await {
            Some(Event::Failed { error, usage }) => {
                self.entry.set_usage(usage);
                return Err(self.refused(error));
            }
            Some(event) => event,
            None => return Err(ApiError::fault("the engine's stream")),
        };
        let streaming =
            Streaming::new(self.events, Some(first), self.envelope, self.dialect, include_usage, self.entry);
        Ok(sse::response(stream::unfold(streaming, Streaming::next)))
    }

    fn refused(&self, refusal: Refusal) -> ApiError {
        let about_the_prompt =
            matches!(refusal, Refusal::TooLong { .. } | Refusal::Invalid { param: "prompt", .. });
        let error = ApiError::from(refusal);
        if about_the_prompt { error.with_param(self.param) } else { error }
    }
}
