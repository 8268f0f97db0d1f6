//! Which model a request's `model` means.

use std::sync::Arc;

use engine::{EngineHandle, ModelCard, ModelName};

/// The tag that a name without one has for clients of Ollama's API.
pub(crate) const LATEST: &str = ":latest";

/// The models that are here, by all their names.
#[derive(Clone)]
pub(crate) struct ModelNames {
    engine: EngineHandle,
    /// Names of the default model besides its own, in which `*` stands for any text.
    patterns: Vec<String>,
}

impl ModelNames {
    pub(crate) fn new(engine: EngineHandle, patterns: Vec<String>) -> ModelNames {
        ModelNames { engine, patterns }
    }

    /// The model that is called `name`, if it is here. What a model is called itself goes before what the settings call
    /// the default one. Clients of Ollama's API give every name a tag.
    pub(crate) fn find(&self, name: &str) -> Option<(ModelName, Arc<ModelCard>)> {
        self.called(name).or_else(|| self.called(name.strip_suffix(LATEST)?))
    }

    fn called(&self, name: &str) -> Option<(ModelName, Arc<ModelCard>)> {
        let is_called =
            |card: &ModelCard| card.name == name || card.aliases.iter().any(|alias| alias == name);
        let found = self.engine.models().into_iter().find(|(_, card)| is_called(card));
        found.or_else(|| self.default().filter(|_| self.patterns.iter().any(|pattern| fits(pattern, name))))
    }

    /// The model that a request without a name gets, once it is here.
    pub(crate) fn default(&self) -> Option<(ModelName, Arc<ModelCard>)> {
        Some((self.engine.default_model().clone(), self.engine.card()?))
    }
}

/// Whether `name` is what `pattern` says, in which `*` stands for any text. A crate for patterns would give more
/// characters a meaning, and names of models have brackets and question marks.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return name.ends_with(piece);
        }
        // The first place is as good as any: it leaves most for the pieces that follow.
        match name.find(piece) {
            Some(at) => name = &name[at + piece.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_everything_else_for_itself() {
        for (pattern, name, want) in [
            ("gpt-4*", "gpt-4o-mini", true),
            ("gpt-4*", "gpt-4", true),
            ("gpt-4*", "gpt-3.5", false),
            ("gpt-4*", "my-gpt-4", false),
            ("*", "anything", true),
            ("claude-*-latest", "claude-3-5-sonnet-latest", true),
            ("claude-*-latest", "claude-latest", false),
            ("*mini*", "o3-mini-high", true),
            ("a*b*c", "a-c-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("**", "x", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("gpt.4", "gpt-4", false),
            ("modèle*", "modèle-é", true),
        ] {
            assert_eq!(fits(pattern, name), want, "{pattern} {name}");
        }
    }
}
