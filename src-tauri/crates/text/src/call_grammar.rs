//! Grammars of answers: calls in a family's form, and what may stand before them.
//!
//! They are in the language of the library llguidance, in which a control token is named by its number. A grammar
//! writes a call as the model's own template does.

pub(crate) mod held;
mod lark;
mod literals;
mod tagged;
mod texts;

use std::collections::HashMap;

use serde_json::Value;

use self::held::HeldTool;
use self::lark::Lark;
use self::literals::literal_arguments;
use self::tagged::tagged_arguments;
use crate::TokenId;
use crate::answer_form::call_form::{Bare, Body, Calls as CallForm, Channels};
use crate::answer_form::wrap::wrap;
use crate::answer_form::{AnswerForm, Begins, MARK};
use crate::answer_rules::{AnswerRules, Calls, Most};

/// Whether the marker of one call within a block is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    No,
    AfterMarker,
}

/// One call, without its wrap.
fn call(lark: &mut Lark<'_>, form: &CallForm<String>, held: &HeldTool<'_>, begun: Begun) -> String {
    let has_block = !form.block_open.is_empty();
    let open = if has_block && begun == Begun::No { form.call_open.as_str() } else { "" };
    let name = held.tool.name.as_str();
    match &form.body {
        Body::Json { name: name_key, arguments } => {
            let key = |key: &str| Value::from(key).to_string();
            let id = if *name_key == "tool_name" { "\"tool_call_id\": \"0\", " } else { "" };
            let open = match *name_key {
                "" => format!("{{{}: ", key(name)),
                name_key => format!("{{{id}{}: {}, {}: ", key(name_key), key(name), key(arguments)),
            };
            format!("{} {} {}", lark.text(&open), lark.json(&held.schema), lark.text("}"))
        }
        Body::Named { before, cut, name_end, .. } => {
            let close = if has_block { form.call_close.as_str() } else { "" };
            // What stands before a closing marker of two lines is a line break.
            let close = if close.starts_with("```") { format!("\n{close}") } else { close.to_owned() };
            let number =
                cut.map_or(String::new(), |cut| format!("{} /[0-9]{{1,4}}/", lark.text(&cut.to_string())));
            let name = lark.text(&format!("{open}{before}{name}"));
            format!(
                "{name} {number} {} {} {}",
                lark.text(name_end),
                lark.json(&held.schema),
                lark.text(&close)
            )
        }
        Body::Tagged(tags) => {
            let arguments = tagged_arguments(lark, tags, held);
            let name = lark.text(&format!("{open}{}{name}{}", tags.name_open, tags.name_end));
            let between = if tags.name_end.is_empty() { "" } else { tags.between };
            format!("{name} {} {arguments} {}", lark.text(between), lark.text(&tags.end))
        }
        Body::Python => {
            let arguments = literal_arguments(lark, None, held);
            format!("{} {arguments} {}", lark.text(&format!("{name}(")), lark.text(")"))
        }
        Body::Braced { quote } => {
            let arguments = literal_arguments(lark, Some(quote), held);
            format!("{} {arguments} {}", lark.text(&format!("call:{name}{{")), lark.text("}"))
        }
        Body::Harmony(channels) => {
            let header = harmony_header(lark, channels);
            format!("{} {header} {}", lark.text(name), lark.json(&held.schema))
        }
    }
}

/// What may stand between a recipient and its message.
fn harmony_header(lark: &mut Lark<'_>, channels: &Channels<String>) -> String {
    let channel = lark.text(&format!("{}commentary", channels.channel));
    let constrain = lark.text(&channels.constrain);
    // Without a space or a marker before it the word would be part of the recipient's name.
    format!(
        "({channel})? (\" \"? {constrain} \"json\" | \" json\" | \" \")? {}",
        lark.text(&channels.message)
    )
}

/// Any of the calls.
fn any_call(lark: &mut Lark<'_>, form: &CallForm<String>, tools: &[HeldTool<'_>], begun: Begun) -> String {
    let calls: Vec<String> = tools
        .iter()
        .map(|held| {
            let call = call(lark, form, held, begun);
            lark.rule(&call)
        })
        .collect();
    lark.rule(&calls.join(" | "))
}

/// As many calls as the rules allow, one at least.
fn calls(lark: &mut Lark<'_>, form: &AnswerForm, tools: &[HeldTool<'_>], most: Most) -> String {
    let any = any_call(lark, &form.calls, tools, Begun::No);
    if let Body::Harmony(channels) = &form.calls.body {
        // A call ends the answer: there is one.
        let to = lark.text(&format!("{}commentary to=functions.", channels.channel));
        let first = lark.text(" to=functions.");
        return lark.rule(&format!("({to} | {first}) {any}"));
    }
    let wrap = wrap(&form.calls);
    let (open, close) = (lark.text(&wrap.open), lark.text(&wrap.close));
    let more = match (wrap.between, most) {
        (Some(between), Most::Any) => format!("({} {any})*", lark.text(between)),
        _ => String::new(),
    };
    let wrapped = lark.rule(&format!("{open} {any} {more} {close}"));
    match most {
        Most::Any if form.calls.bare == Bare::No => {
            let after = lark.text(wrap.after);
            lark.rule(&format!("{wrapped} ({after} {wrapped})*"))
        }
        _ => wrapped,
    }
}

/// The grammar of an answer that is held from its first word after its thoughts. `document` is what it may be where it
/// need not call.
pub(crate) fn of_answer(
    rules: &AnswerRules,
    tools: &[HeldTool<'_>],
    document: Option<&Value>,
    markers: &HashMap<TokenId, Box<str>>,
) -> String {
    let mut lark = Lark::new(markers);
    let mut alternatives = Vec::new();
    if !tools.is_empty() {
        alternatives.push(calls(&mut lark, &rules.form, tools, rules.most));
    }
    if let Some(document) = document.filter(|_| rules.calls == Calls::May) {
        let json = lark.json(document);
        alternatives.push(match &rules.form.calls.body {
            Body::Harmony(channels) if rules.begins == Begins::Header => {
                let header = lark.text(&format!("{}final{}", channels.channel, channels.message));
                format!("({header} {json})")
            }
            _ => json,
        });
    }
    let answer = lark.rule(&alternatives.join(" | "));
    let start = match &rules.form.calls.body {
        Body::Harmony(channels) if rules.begins == Begins::Header => {
            let open = lark.text(&format!("{}analysis{}", channels.channel, channels.message));
            let thoughts = match rules.most_thoughts.filter(|_| channels.end.starts_with(MARK)) {
                // The control token that ends them counts too.
                Some(most) => lark.tokens_until(&channels.end, most.saturating_sub(1)),
                None => lark.text_until(&channels.end, 0, None),
            };
            let next = lark.text(&format!("{}assistant", channels.start));
            format!("({open} {thoughts} {next})? {answer}")
        }
        // White space says nothing there, and models are used to some.
        _ => format!("(/[\\n ]{{1,2}}/)? {answer}"),
    };
    lark.finish(&start)
}

/// A marker at which a call begins, and the grammar of what follows it up to the call's end.
pub(crate) struct Opening {
    pub(crate) marker: String,
    pub(crate) grammar: String,
}

/// The markers at which calls begin in an answer that is free before them.
pub(crate) fn of_openings(
    rules: &AnswerRules,
    tools: &[HeldTool<'_>],
    markers: &HashMap<TokenId, Box<str>>,
) -> Vec<Opening> {
    let form = &rules.form.calls;
    let mut openings = Vec::new();
    let mut add = |marker: &str, rest: &dyn Fn(&mut Lark<'_>) -> String| {
        let mut lark = Lark::new(markers);
        let start = rest(&mut lark);
        openings.push(Opening { marker: marker.to_owned(), grammar: lark.finish(&start) });
    };
    if let Body::Harmony(channels) = &form.body {
        for before in [format!("{}commentary", channels.channel), format!("{}assistant", channels.start)] {
            add(&format!("{before} to=functions."), &|lark| any_call(lark, form, tools, Begun::No));
        }
        return openings;
    }
    let wrap = wrap(form);
    let first = if form.block_open.is_empty() { &form.call_open } else { &form.block_open };
    add(first, &|lark| {
        let any = any_call(lark, form, tools, Begun::No);
        let rest = wrap.open.strip_prefix(first.as_str()).unwrap_or_default();
        let more = match (wrap.between, rules.most) {
            (Some(between), Most::Any) => format!("({} {any})*", lark.text(between)),
            _ => String::new(),
        };
        let (open, close) = (lark.text(rest), lark.text(&wrap.close));
        format!("{open} {any} {more} {close}")
    });
    if !form.block_open.is_empty() {
        // Models forget the block around a call, and readers take it for one all the same.
        add(&form.call_open, &|lark| any_call(lark, form, tools, Begun::AfterMarker));
    }
    openings
}
