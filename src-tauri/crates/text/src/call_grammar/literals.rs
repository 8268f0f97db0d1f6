//! Arguments as literals with their names.

use super::held::{HeldArgument, HeldTool};
use super::lark::Lark;
use crate::parameters::{Kind, kind};

/// The arguments of a tool, in the order of its schema, between commas. Text has this quote around it, if there is one;
/// all else is JSON.
pub(crate) fn literal_arguments(lark: &mut Lark<'_>, quote: Option<&str>, held: &HeldTool<'_>) -> String {
    // From the last to the first: what follows an argument that stands, and one that nothing stands before.
    let (mut after_some, mut after_none) = ("\"\"".to_owned(), "\"\"".to_owned());
    for argument in held.arguments.iter().rev() {
        let value = value(lark, quote, held, argument);
        let comma = lark.text(if quote.is_some() { "," } else { ", " });
        let (some, none) = if argument.is_required {
            (format!("{comma} {value} {after_some}"), format!("{value} {after_some}"))
        } else {
            (format!("({comma} {value})? {after_some}"), format!("({value} {after_some}) | {after_none}"))
        };
        after_some = lark.rule(&some);
        after_none = lark.rule(&none);
    }
    after_none
}

fn value(lark: &mut Lark<'_>, quote: Option<&str>, held: &HeldTool<'_>, argument: &HeldArgument) -> String {
    let kind = kind(Some(held.tool), &argument.name);
    match quote {
        Some(quote) if matches!(kind, Kind::Text | Kind::TextOrNull) => {
            let open = lark.text(&format!("{}:{quote}", argument.name));
            let text = argument.texts.rule(lark, quote);
            lark.rule(&format!("{open} {text}"))
        }
        _ => {
            let equals = if quote.is_some() { ":" } else { "=" };
            let open = lark.text(&format!("{}{equals}", argument.name));
            let json = lark.json(&argument.schema);
            lark.rule(&format!("{open} {json}"))
        }
    }
}
