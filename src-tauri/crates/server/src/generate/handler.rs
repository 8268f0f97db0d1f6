//! One generation call, from its head to its answer.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use engine::{Refusal, RequestId};
use futures_util::stream;

use super::headers::{is_to_be_kept, not_kept, session};
use super::stream::Streaming;
use crate::app::App;
use crate::calls::answering::Answering;
use crate::calls::fault::Fault;
use crate::calls::prepare::off_the_runtime;
use crate::calls::prompt_seats::PromptSeat;
use crate::calls::run::{CacheUse, Happening};
use crate::dialects::dialect::{Asked, Delivery, Parse, Writer};
use crate::edge::access_log::{AccessEntry, of_head};
use crate::edge::body::WholeBody;
use crate::edge::body_budget::Share;
use crate::edge::frames::streamed;

/// What of an answer's prompt was there, and what was not.
const X_SAMOVAR_CACHE: HeaderName = HeaderName::from_static("x-samovar-cache");

/// A call that the engine has taken.
struct Begun {
    answering: Answering,
    writer: Box<dyn Writer>,
    delivery: Delivery,
    /// Whether the answer goes on without its client.
    keep: bool,
    id: RequestId,
    entry: Arc<AccessEntry>,
}

/// Answer a call whose body `parse` takes apart.
///
/// # Errors
/// The call cannot be taken or understood, or ends before its answer has begun.
pub(crate) async fn generate(app: &App, request: Request, parse: impl Parse) -> Result<Response, Fault> {
    let understood = understand(app, request, parse).await?;
    answer(app, understood).await
}

/// Answer a call that was read.
///
/// # Errors
/// It cannot be taken, or ends before its answer has begun.
pub(crate) async fn answer(app: &App, understood: Understood<Asked>) -> Result<Response, Fault> {
    let begun = begin(app, understood).await?;
    match (begun.delivery, begun.keep) {
        (Delivery::Whole, _) => begun.whole().await,
        (Delivery::Streamed, false) => begun.streamed().await,
        (Delivery::Streamed, true) => begun.kept(app),
    }
}

/// How many tokens the prompt of a call has whose body `parse` takes apart. Nothing is computed for it.
///
/// # Errors
/// The call cannot be taken or understood.
pub(crate) async fn count(app: &App, request: Request, parse: impl Parse) -> Result<usize, Fault> {
    let Understood { asked, session, held, id, .. } = understand(app, request, parse).await?;
    let prepared = app.preparer.prepare(asked.call, session, held, &id).await?;
    Ok(prepared.request.prompt.tokens().len())
}

/// A request that was read.
pub(crate) struct Understood<T> {
    pub(crate) asked: T,
    session: Option<String>,
    keep: bool,
    id: RequestId,
    entry: Arc<AccessEntry>,
    received: Instant,
    /// Its place among the prompts that are worked on, and its share of the memory for bodies.
    held: (Option<PromptSeat>, Share),
}

impl<T> Understood<T> {
    /// What it asks for, and the rest of it.
    pub(crate) fn take(self) -> (T, Understood<()>) {
        let Understood { asked, session, keep, id, entry, received, held } = self;
        (asked, Understood { asked: (), session, keep, id, entry, received, held })
    }
}

impl Understood<()> {
    /// The same, asking for this.
    pub(crate) fn with<T>(self, asked: T) -> Understood<T> {
        let Understood { asked: (), session, keep, id, entry, received, held } = self;
        Understood { asked, session, keep, id, entry, received, held }
    }
}

/// Let a request in, and read what it asks for.
///
/// # Errors
/// Nothing is taken now, or the head or the body cannot be understood.
pub(crate) async fn understand<T: Send + 'static>(
    app: &App,
    request: Request,
    parse: impl FnOnce(&[u8]) -> Result<T, Fault> + Send + 'static,
) -> Result<Understood<T>, Fault> {
    let (head, body) = request.into_parts();
    let (id, entry) = of_head(&head);

    let headers = session(&head.headers).and_then(|name| Ok((name, is_to_be_kept(&head.headers)?)));
    let admitted = headers.and_then(|headers| app.preparer.check_ready().map(|()| headers));
    let (session, keep) = match admitted {
        Ok(admitted) => admitted,
        Err(fault) => {
            app.gate.discard(body).await;
            return Err(fault);
        }
    };

    let WholeBody { bytes, share } = app.gate.read(&head.headers, body).await?;
    let received = Instant::now();
    let seat = app.prompt_seats.take(bytes.len()).await;
    // The bytes go with the closure: what is made of them is as large as they are.
    let asked = off_the_runtime(&id, move || parse(&bytes)).await?;
    Ok(Understood { asked, session, keep, id, entry, received, held: (seat, share) })
}

async fn begin(app: &App, understood: Understood<Asked>) -> Result<Begun, Fault> {
    let Understood { asked, session, keep, id, entry, received, held } = understood;
    let Asked { call, delivery, writer } = asked;
    if keep && delivery == Delivery::Whole {
        return Err(not_kept("only a streamed answer can be kept"));
    }
    let names = call.names;
    let mut prepared = app.preparer.prepare(call, session, held, &id).await?;
    for request in prepared.requests_mut() {
        request.notes.trace = entry.trace();
    }
    let answering = Answering::start(&app.engine, prepared, names, received)?;
    Ok(Begun { answering, writer, delivery, keep, id, entry })
}

impl Begun {
    /// The answer in one piece.
    async fn whole(mut self) -> Result<Response, Fault> {
        let (answers, usage) = self.answering.whole().await;
        let cache_use = self.answering.cache_use;
        self.entry.set_usage(usage);
        let body = self.writer.whole_of(&self.answering.head, answers?, usage);
        let response = ([(CONTENT_TYPE, "application/json")], body).into_response();
        Ok(with_cache_use(response, cache_use))
    }

    /// The answer as a stream that goes on without its client. What goes wrong before the first token is in the
    /// stream too: a client that comes back later must find it.
    fn kept(self, app: &App) -> Result<Response, Fault> {
        let Some(kept) = app.kept_answers.begin(&self.id)? else {
            return Err(Refusal::Busy { n_waiting: app.engine.stats().n_waiting }.into());
        };
        let response = streamed(self.writer.media_type(), kept.follow());
        let streaming = Streaming::new(self.answering, None, self.writer, self.id, self.entry);
        tokio::spawn(kept.write(stream::unfold(streaming, Streaming::next)));
        Ok(response)
    }

    /// The answer as a stream, once the engine has admitted it: until then a refusal is a status of its own,
    /// which clients know how to wait and retry on.
    async fn streamed(mut self) -> Result<Response, Fault> {
        let first = match self.answering.next().await {
            Some((_, Happening::Failed { fault, usage })) => {
                self.entry.set_usage(usage);
                return Err(fault);
            }
            Some(first) => first,
            None => return Err(self.answering.broken_off()),
        };
        let (media_type, cache_use) = (self.writer.media_type(), self.answering.cache_use);
        let streaming = Streaming::new(self.answering, Some(first), self.writer, self.id, self.entry);
        let response = streamed(media_type, stream::unfold(streaming, Streaming::next));
        Ok(with_cache_use(response, cache_use))
    }
}

/// The response, with what its prompt took in its head.
fn with_cache_use(mut response: Response, cache_use: Option<CacheUse>) -> Response {
    let value = cache_use.and_then(|cache_use| HeaderValue::try_from(cache_use.to_string()).ok());
    if let Some(value) = value {
        response.headers_mut().insert(X_SAMOVAR_CACHE, value);
    }
    response
}
