//! From a call for vectors to what the engine takes: the model, and each text's tokens.

use std::sync::Arc;

use engine::{
    CheckedPrompt, EmbedRequest, EmbedSpec, ModelCard, ModelName, PromptError, PromptFault, RequestId,
};
use text::{EncodeError, EncodeLimits, TokenId};

use super::embed_answer::Shape;
use super::embed_call::{EmbedCall, EmbedNames, Input, TooLong};
use super::fault::Fault;
use super::prepare::{Preparer, while_awaited};

/// A call that the engine can take.
pub(crate) struct PreparedEmbed {
    /// The model that it is for.
    pub(crate) card: Arc<ModelCard>,
    pub(crate) request: EmbedRequest,
    pub(crate) shape: Shape,
}

impl Preparer {
    /// Make of a call what the engine takes. `held` is let go when the texts are tokens. Ends early when it is dropped.
    ///
    /// # Errors
    /// The model is not here or gives no vectors, or a text or a number is nothing for it.
    pub(crate) async fn prepare_embed(
        &self,
        call: EmbedCall,
        held: impl Send + 'static,
        id: &RequestId,
    ) -> Result<PreparedEmbed, Fault> {
        let EmbedCall { model, inputs, too_long, dimensions, length, names } = call;
        let (model_name, card) = self.encoder(model.as_deref())?;
        let spec = card.embedding().cloned().ok_or_else(|| Fault::from(card.refuses_to_embed()))?;
        let dimensions = dimensions.unwrap_or(spec.width);
        if !(1..=spec.width).contains(&dimensions) {
            let message = format!("{dimensions} where the vectors of '{}' have {}", card.name, spec.width);
            return Err(Fault::invalid(names.dimensions, message));
        }
        let for_work = Arc::clone(&card);
        let texts = while_awaited(id, move |is_abandoned| {
            let _held = held;
            let reader =
                Reader { card: &for_work, names, most: most_tokens(&for_work, &spec, too_long, names)? };
            let inputs = inputs.into_named(names.input).into_iter();
            inputs
                .map(|(place, input)| reader.tokens(input, &place, is_abandoned))
                .collect::<Result<Vec<_>, _>>()
        });
        let request = EmbedRequest { id: id.clone(), trace: None, model: model_name, texts: texts.await? };
        Ok(PreparedEmbed { card, request, shape: Shape { dimensions, length } })
    }

    /// The model that is meant. An absent or empty name means the default one if that gives vectors, else the first one
    /// here that does.
    fn encoder(&self, name: Option<&str>) -> Result<(ModelName, Arc<ModelCard>), Fault> {
        let meant = self.model(name);
        let is_named = name.is_some_and(|name| !name.is_empty());
        match &meant {
            Ok((_, card)) if card.embedding().is_none() && !is_named => {
                self.first_encoder().map_or(meant, Ok)
            }
            Err(_) if !is_named => self.first_encoder().map_or(meant, Ok),
            _ => meant,
        }
    }
}

/// How many tokens a text may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Most {
    /// So many, or the call is refused.
    OrRefuse(usize),
    /// So many, and the others are left out.
    OrCut(usize),
}

fn most_tokens(
    card: &ModelCard,
    spec: &EmbedSpec,
    too_long: TooLong,
    names: EmbedNames,
) -> Result<Most, Fault> {
    let most = match too_long {
        TooLong::Refuse => return Ok(Most::OrRefuse(spec.max_tokens)),
        TooLong::Cut => return Ok(Most::OrCut(spec.max_tokens)),
        TooLong::CutTo(most) => most,
    };
    let n_around = card.text.encode_closed("", EncodeLimits::NONE).map_or(0, |around| around.len());
    if (n_around + 1..=spec.max_tokens).contains(&most) {
        return Ok(Most::OrCut(most));
    }
    let message = format!(
        "{most} is not within {} to {}: the model '{}' puts {n_around} tokens around a text",
        n_around + 1,
        spec.max_tokens,
        card.name
    );
    Err(Fault::invalid(names.cut_to, message))
}

/// Makes tokens of texts.
struct Reader<'a> {
    card: &'a ModelCard,
    names: EmbedNames,
    most: Most,
}

impl Reader<'_> {
    fn tokens(
        &self,
        input: Input,
        place: &str,
        is_abandoned: &(dyn Fn() -> bool + Sync),
    ) -> Result<CheckedPrompt, Fault> {
        let text = &self.card.text;
        let tokens = match (input, self.most) {
            (Input::Text(empty), _) if empty.is_empty() => {
                return Err(Fault::invalid(place, "the text is empty"));
            }
            (Input::Text(input), Most::OrCut(most)) => text
                .encode_closed_cut(&input, most, is_abandoned)
                .map_err(|error| self.failed(error, place))?,
            (Input::Text(input), Most::OrRefuse(_)) => {
                self.card.check_length([input.as_str()]).map_err(|error| self.of_prompt(error, place))?;
                let limits = EncodeLimits { max_tokens: self.card.most_counted(), is_abandoned };
                text.encode_closed(&input, limits).map_err(|error| self.failed(error, place))?
            }
            (Input::Tokens(tokens), Most::OrCut(most)) => text.cut_closed(tokens, most),
            (Input::Tokens(tokens), Most::OrRefuse(_)) => tokens,
        };
        if let Most::OrRefuse(most) = self.most
            && tokens.len() > most
        {
            return Err(Fault::text_too_long(tokens.len(), most, self.names.cut).at(place));
        }
        self.checked(tokens, place)
    }

    fn checked(&self, tokens: Vec<TokenId>, place: &str) -> Result<CheckedPrompt, Fault> {
        CheckedPrompt::new(tokens, self.card.text.n_vocab()).map_err(|fault| {
            let message = match fault {
                PromptFault::Empty => "there are no tokens".to_owned(),
                PromptFault::OutsideVocabulary { .. } => {
                    format!("{fault}: token ids must be those of the model '{}' itself", self.card.name)
                }
            };
            Fault::invalid(place, message)
        })
    }

    fn failed(&self, error: EncodeError, place: &str) -> Fault {
        match error {
            EncodeError::TooLong { at_least } => {
                Fault::text_too_long_at_least(at_least, self.card.effective_context, self.names.cut).at(place)
            }
            // Nobody reads it.
            EncodeError::Abandoned => Fault::bad_request("the client went away"),
        }
    }

    fn of_prompt(&self, error: PromptError, place: &str) -> Fault {
        match error {
            PromptError::TooLong { at_least, .. } => self.failed(EncodeError::TooLong { at_least }, place),
            PromptError::Abandoned => self.failed(EncodeError::Abandoned, place),
            PromptError::Text(error) => Fault::broken_model(error.to_string()),
        }
    }
}
