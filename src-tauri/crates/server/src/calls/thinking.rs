//! Whether a model is to think before it answers, and how much: what a call wishes, as its template is told.

use serde_json::{Map, Value};

/// What a call says of thinking. Where it is silent, the model's template decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Thinking {
    /// Whether to think at all.
    pub(crate) wanted: Option<bool>,
    /// How hard.
    pub(crate) effort: Option<Effort>,
    /// How many tokens that may take: the answer is held to it, and templates that know such a bound are told.
    pub(crate) budget: Option<usize>,
}

/// Declares the efforts, the list of them and their names in one place.
macro_rules! efforts {
    ($($effort:ident => $name:expr,)+) => {
        /// How hard to think.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Effort {
            $($effort,)+
        }

        impl Effort {
            /// All of them, the least first.
            pub(crate) const ALL: &[Effort] = &[$(Effort::$effort,)+];

            /// The word for it in every API that has one, and in templates.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Effort::$effort => $name,)+
                }
            }
        }
    };
}

efforts! {
    None => "none",
    Minimal => "minimal",
    Low => "low",
    Medium => "medium",
    High => "high",
    XHigh => "xhigh",
    Max => "max",
}

impl Effort {
    /// The one of that name.
    pub(crate) fn named(name: &str) -> Option<Effort> {
        Effort::ALL.iter().copied().find(|effort| effort.name() == name)
    }
}

impl Thinking {
    /// Tell the template, in the words that templates know, unless the client has told it the same itself. For a
    /// template that knows none of them they mean nothing.
    pub(crate) fn tell(self, variables: &mut Map<String, Value>) {
        // Templates that only know whether to think are told that.
        let wanted = self.wanted.or(match self.effort {
            None | Some(Effort::Minimal) => None,
            Some(effort) => Some(effort != Effort::None),
        });
        let is_told = ["enable_thinking", "thinking"].iter().any(|name| variables.contains_key(*name));
        let wanted = wanted.filter(|_| !is_told);
        let mut tell = |name: &str, value: Value| {
            variables.entry(name).or_insert(value);
        };
        if let Some(wanted) = wanted {
            tell("enable_thinking", wanted.into());
            tell("thinking", wanted.into());
        }
        if let Some(effort) = self.effort {
            tell("reasoning_effort", effort.name().into());
        }
        if let Some(budget) = self.budget {
            tell("thinking_budget", budget.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(thinking: Thinking, client: Value) -> Value {
        let mut variables = client.as_object().cloned().unwrap_or_default();
        thinking.tell(&mut variables);
        Value::Object(variables)
    }

    #[test]
    fn a_template_is_told_in_the_words_that_templates_know() {
        let effort = |effort| Thinking { effort: Some(effort), ..Thinking::default() };
        assert_eq!(told(Thinking::default(), json!({})), json!({}));
        assert_eq!(told(effort(Effort::Minimal), json!({})), json!({"reasoning_effort": "minimal"}));
        assert_eq!(
            told(effort(Effort::Low), json!({})),
            json!({"enable_thinking": true, "thinking": true, "reasoning_effort": "low"})
        );
        assert_eq!(
            told(effort(Effort::None), json!({})),
            json!({"enable_thinking": false, "thinking": false, "reasoning_effort": "none"})
        );
        let wanted = Thinking { wanted: Some(true), budget: Some(9), ..Thinking::default() };
        assert_eq!(
            told(wanted, json!({})),
            json!({"enable_thinking": true, "thinking": true, "thinking_budget": 9})
        );
    }

    #[test]
    fn what_a_client_says_to_the_template_itself_counts() {
        let none = Thinking { effort: Some(Effort::None), ..Thinking::default() };
        let told = told(none, json!({"enable_thinking": true}));
        assert_eq!(told, json!({"enable_thinking": true, "reasoning_effort": "none"}));
    }
}
