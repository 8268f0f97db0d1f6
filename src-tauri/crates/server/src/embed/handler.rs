//! One call for vectors, from its head to its answer.

use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use engine::Refusal;

use super::body::written;
use crate::app::App;
use crate::calls::answer::Usage;
use crate::calls::embed_answer::EmbedAnswer;
use crate::calls::embed_prepare::PreparedEmbed;
use crate::calls::fault::Fault;
use crate::calls::prepare::off_the_runtime;
use crate::dialects::dialect::{AskedEmbed, ParseEmbed};
use crate::edge::access_log::of_head;
use crate::edge::body::WholeBody;

/// Answer a call whose body `parse` takes apart. It ends with its connection.
///
/// # Errors
/// The call cannot be taken or understood, or there are no vectors.
pub(crate) async fn embed(app: &App, request: Request, parse: ParseEmbed) -> Result<Response, Fault> {
    let (head, body) = request.into_parts();
    let (id, entry) = of_head(&head);
    if let Err(fault) = app.preparer.check_ready() {
        app.gate.discard(body).await;
        return Err(fault);
    }
    let WholeBody { bytes, share } = app.gate.read(&head.headers, body).await?;
    let received = Instant::now();
    let seat = app.prompt_seats.take(bytes.len()).await;
    // The bytes go with the closure: what is made of them is as large as they are.
    let AskedEmbed { call, writer } = off_the_runtime(&id, move || parse(&bytes)).await?;
    let names = call.names;
    let PreparedEmbed { card, mut request, shape } =
        app.preparer.prepare_embed(call, (seat, share), &id).await?;
    request.trace = entry.trace();
    let of_refusal = |refusal: Refusal| match &refusal {
        Refusal::TooLong { .. } | Refusal::Invalid { .. } => Fault::from(refusal).at(names.input),
        _ => refusal.into(),
    };
    let n_texts = request.texts.len();
    let embedded = match app.engine.embed(request, received) {
        Ok(pending) => pending.recv().await,
        Err(refusal) => Err(refusal),
    };
    let answer = EmbedAnswer::new(&card, embedded.map_err(of_refusal)?, shape);
    entry.set_usage(Usage { n_prompt: answer.n_tokens, ..Usage::default() });
    debug_assert!(answer.vector(n_texts).is_none(), "one vector for each text");
    Ok(written(answer, writer))
}
