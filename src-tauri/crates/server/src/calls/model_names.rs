//! What the loaded model may be called.

/// Names besides its id, and patterns of names in which `*` stands for any text.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelNames {
    pub(crate) aliases: Vec<String>,
    pub(crate) patterns: Vec<String>,
}

impl ModelNames {
    /// Whether `name` means the model whose id is `id`.
    pub(crate) fn mean(&self, id: &str, name: &str) -> bool {
        name == id
            || self.aliases.iter().any(|alias| alias == name)
            || self.patterns.iter().any(|pattern| fits(pattern, name))
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
