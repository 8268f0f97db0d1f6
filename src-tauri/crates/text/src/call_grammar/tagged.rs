//! Arguments between tags.

use super::held::HeldTool;
use super::lark::Lark;
use crate::answer_form::call_form::Tags;
use crate::parameters::{Kind, kind};

/// The arguments of a tool, in the order of its schema.
pub(crate) fn tagged_arguments(lark: &mut Lark<'_>, tags: &Tags<String>, held: &HeldTool<'_>) -> String {
    let arguments = held.arguments.iter().map(|argument| {
        let open =
            format!("{}{}{}{}{}", tags.key_open, argument.name, tags.key_end, tags.value_open, tags.padding);
        let close = format!("{}{}", tags.padding, tags.value_end);
        let value = match kind(Some(held.tool), &argument.name) {
            Kind::Text | Kind::TextOrNull => match tags.quotes {
                Some(quotes) => argument.texts.quoted_rule(lark, quotes, &close),
                None => argument.texts.rule(lark, &close),
            },
            Kind::Json | Kind::Any => {
                let json = lark.json(&argument.schema);
                format!("{json} {}", lark.text(&close))
            }
        };
        let body = format!("{} {value} {}", lark.text(&open), lark.text(tags.between));
        let rule = lark.rule(&body);
        if argument.is_required { rule } else { format!("({rule})?") }
    });
    let arguments: Vec<String> = arguments.collect();
    arguments.join(" ")
}
