//! Answers held to rules: calls in the form of each family, and schemas after thoughts.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

#[allow(dead_code, reason = "of the support only the bytes are used")]
mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::bytes::model;
use text::{
    AnswerReader, AnswerRules, Begins, Calls, ConstraintError, Most, OutputFormat, Spoken, Strictness,
    TextModel, TokenId, Tool,
};

const END: TokenId = 0;

/// Templates, as much of them as tells their families, and their special tokens: control ones, and user-defined ones.
const FORMS: &[(&str, &[(&str, i32)])] = &[
    (
        "<tool_call> <think></think>",
        &[("<think>", 4), ("</think>", 4), ("<tool_call>", 4), ("</tool_call>", 4)],
    ),
    (
        "<tool_call> <function=f> <parameter=p> <think></think>",
        &[("<think>", 4), ("</think>", 4), ("<tool_call>", 4), ("</tool_call>", 4)],
    ),
    (
        "<tool_call><arg_key><arg_value> <think></think>",
        &[
            ("<think>", 4),
            ("</think>", 4),
            ("<tool_call>", 4),
            ("</tool_call>", 4),
            ("<arg_key>", 4),
            ("</arg_key>", 4),
            ("<arg_value>", 4),
            ("</arg_value>", 4),
        ],
    ),
    ("Environment: ipython <|python_tag|> \"parameters\"", &[("<|python_tag|>", 3)]),
    (
        "[TOOL_CALLS] [ARGS] [THINK][/THINK]",
        &[("[TOOL_CALLS]", 3), ("[ARGS]", 3), ("[THINK]", 3), ("[/THINK]", 3)],
    ),
    ("[TOOL_CALLS]", &[("[TOOL_CALLS]", 3)]),
    (
        "<|tool_call>call: <tool_call|> <|channel>thought <channel|>",
        &[("<|tool_call>", 3), ("<tool_call|>", 3), ("<|channel>", 3), ("<channel|>", 3), ("<|\"|>", 3)],
    ),
    (
        "<|tool_call_start|> <think></think>",
        &[("<|tool_call_start|>", 3), ("<|tool_call_end|>", 3), ("<think>", 4), ("</think>", 4)],
    ),
    (
        "<|channel|> <|message|> functions.",
        &[
            ("<|start|>", 3),
            ("<|channel|>", 3),
            ("<|message|>", 3),
            ("<|constrain|>", 3),
            ("<|end|>", 3),
            ("<|call|>", 3),
            ("<|return|>", 3),
        ],
    ),
    ("<|tool_call|>", &[("<|tool_call|>", 3)]),
    (
        "<｜tool▁call▁begin｜><｜tool▁sep｜> <think></think>",
        &[
            ("<｜tool▁calls▁begin｜>", 3),
            ("<｜tool▁call▁begin｜>", 3),
            ("<｜tool▁sep｜>", 3),
            ("<｜tool▁call▁end｜>", 3),
            ("<｜tool▁calls▁end｜>", 3),
            ("<think>", 4),
            ("</think>", 4),
        ],
    ),
    ("<function name= <param name= <think></think>", &[("<think>", 4), ("</think>", 4)]),
    ("<|tools_prefix|> <|tools_suffix|>", &[("<|tools_prefix|>", 3), ("<|tools_suffix|>", 3)]),
    ("<TOOLCALL> <think></think>", &[]),
    ("start_tag => `<function`", &[]),
    ("<minimax:tool_call> <invoke name=", &[("<minimax:tool_call>", 4), ("</minimax:tool_call>", 4)]),
];

fn tools(strict: bool) -> Vec<Tool> {
    let weather = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Bonn", "Köln"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "note": {"type": "string", "maxLength": 3},
        },
        "required": ["city", "days"],
        "additionalProperties": false,
    });
    let tool = |name: &str, parameters| Tool { name: name.into(), parameters, strict, ..Tool::default() };
    vec![tool("get_weather", Some(weather)), tool("now", None)]
}

fn rules(model: &TextModel, begins: Begins, calls: Calls, most: Most, tools: Vec<Tool>) -> AnswerRules {
    let form = Arc::clone(model.answer_form().unwrap());
    AnswerRules { form, begins, tools, calls, most, format: None, most_thoughts: None }
}

/// What a model writes that wants to write `wanted` and is held to the rules: where it may not, it takes what comes
/// first of what ends a string, an object or a number, and then of all else.
fn written(model: &TextModel, rules: &AnswerRules, wanted: &str) -> Vec<TokenId> {
    let wanted = model.encode_raw(wanted);
    let mut constraint = model.answer_constraint(rules).unwrap().expect("the rules hold something");
    let mut ids = Vec::new();
    let mut at = 0;
    while ids.len() < 600 && !constraint.is_finished() {
        let next = wanted.get(at).copied().unwrap_or(END);
        let id = if constraint.holds() {
            let mask = constraint.mask().unwrap();
            let preferred = [next].into_iter().chain("\"})]<1/".bytes().map(TokenId::from));
            let any = preferred.chain(mask.allowed()).find(|&id| mask.allows(id));
            any.expect("something may come")
        } else {
            next
        };
        at += usize::from(id == next);
        constraint.commit(id).unwrap();
        if id == END {
            break;
        }
        ids.push(id);
    }
    ids
}

/// What is said with these tokens: thoughts, text, and calls with their arguments.
fn said(model: &TextModel, rules: &AnswerRules, ids: &[TokenId]) -> (String, String, Vec<(String, Value)>) {
    let mut reader = AnswerReader::new(Arc::clone(&rules.form), rules.tools.clone(), rules.begins);
    let mut detokenizer = model.detokenizer_with_markers(&[]);
    let mut spoken: Vec<Spoken> = ids.iter().flat_map(|&id| reader.push(&detokenizer.push(id))).collect();
    spoken.extend(reader.push(&detokenizer.finish()));
    spoken.extend(reader.finish());
    let (mut thoughts, mut text, mut calls) = (String::new(), String::new(), Vec::<(String, String)>::new());
    for piece in spoken {
        match piece {
            Spoken::Thoughts(more) => thoughts.push_str(&more),
            Spoken::Text { text: more, .. } => text.push_str(&more),
            Spoken::Call(name) => calls.push((name, String::new())),
            Spoken::Arguments(more) => calls.last_mut().unwrap().1.push_str(&more),
        }
    }
    let calls = calls.into_iter().map(|(name, arguments)| {
        let value = serde_json::from_str(&arguments).unwrap_or_else(|e| panic!("{e}: {arguments:?}"));
        (name, value)
    });
    (thoughts, text, calls.collect())
}

fn begins(model: &TextModel) -> Begins {
    model.answer_form().unwrap().begins("<|start|>assistant")
}

fn check_arguments(name: &str, arguments: &Value) {
    if name == "now" {
        assert_eq!(*arguments, json!({}));
        return;
    }
    let object = arguments.as_object().unwrap();
    assert!(["Bonn", "Köln"].contains(&object["city"].as_str().unwrap()), "{arguments}");
    assert!((1..=9).contains(&object["days"].as_i64().unwrap()), "{arguments}");
    let note = object.get("note").map_or("", |note| note.as_str().unwrap());
    assert!(note.chars().count() <= 3 && object.len() <= 3, "{arguments}");
}

#[test]
fn a_call_is_made_in_the_form_of_each_family_whatever_the_model_wants() {
    for (template, special) in FORMS {
        let model = model(template, special);
        let name = model.answer_form().unwrap().name();
        for n in [1, 2] {
            let tools: Vec<Tool> = tools(true).into_iter().take(n).collect();
            let rules = rules(&model, begins(&model), Calls::Must, Most::One, tools);
            let ids = written(&model, &rules, "No, I will not.");
            let (_, text, calls) = said(&model, &rules, &ids);
            assert_eq!(
                (calls.len(), text.as_str()),
                (1, ""),
                "{name}: {:?}",
                String::from_utf8_lossy(&model.raw_text(&ids))
            );
            check_arguments(&calls[0].0, &calls[0].1);
            assert!(n == 2 || calls[0].0 == "get_weather", "{name}");
        }
    }
}

#[test]
fn as_many_calls_are_made_as_the_model_wants_where_it_may() {
    let model = model(FORMS[0].0, FORMS[0].1);
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let twice = format!("{call}\n{call} and more");
    let calls = |most| {
        let rules = rules(&model, Begins::Text, Calls::Must, most, tools(true));
        said(&model, &rules, &written(&model, &rules, &twice)).2.len()
    };
    assert_eq!((calls(Most::Any), calls(Most::One)), (2, 1));
}

#[test]
fn a_model_may_think_before_it_must_call() {
    for (begins, wanted) in
        [(Begins::Text, "<think>Hm, {hm}.</think>\n\nNo."), (Begins::Thoughts, "Hm, {hm}.</think>\n\nNo.")]
    {
        let model = model(FORMS[1].0, FORMS[1].1);
        let rules = rules(&model, begins, Calls::Must, Most::One, tools(true));
        let (thoughts, text, calls) = said(&model, &rules, &written(&model, &rules, wanted));
        assert_eq!((thoughts.as_str(), text.as_str(), calls.len()), ("Hm, {hm}.", "", 1));
        check_arguments(&calls[0].0, &calls[0].1);
    }
    let (template, special) = FORMS[8];
    let harmony = model(template, special);
    let rules = rules(&harmony, Begins::Header, Calls::Must, Most::One, tools(true));
    let wanted = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>No.";
    let (thoughts, text, calls) = said(&harmony, &rules, &written(&harmony, &rules, wanted));
    assert_eq!((thoughts.as_str(), text.as_str(), calls.len()), ("Hm.", "", 1));
}

#[test]
fn a_schema_holds_what_follows_thoughts() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    let format = OutputFormat::JsonSchema { schema, strictness: Strictness::Strict };
    for (form, begins, wanted, thoughts) in [
        (0, Begins::Text, "<think>Hm.</think>\n\nNo", "Hm."),
        (0, Begins::Thoughts, "Hm.</think>No", "Hm."),
        (0, Begins::AfterThoughts, "<think>No", ""),
        (4, Begins::Text, "[THINK]Hm.[/THINK]No", "Hm."),
        (6, Begins::Text, "<|channel>thought\nHm.<channel|>No", "Hm."),
        (
            8,
            Begins::Header,
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>No",
            "Hm.",
        ),
    ] {
        let model = model(FORMS[form].0, FORMS[form].1);
        let rules = AnswerRules {
            format: Some(format.clone()),
            ..rules(&model, begins, Calls::May, Most::Any, Vec::new())
        };
        let (thought, text, _) = said(&model, &rules, &written(&model, &rules, wanted));
        assert_eq!(thought, thoughts, "{wanted}");
        let value: Value =
            serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text} {wanted}"));
        assert!(value["a"].is_i64(), "{text}");
    }
}

/// How many of the tokens a reader of the answer takes for thoughts, and for what ends them.
fn n_thoughts(model: &TextModel, rules: &AnswerRules, ids: &[TokenId]) -> usize {
    let mut reader = AnswerReader::new(Arc::clone(&rules.form), rules.tools.clone(), rules.begins);
    let mut detokenizer = model.detokenizer_with_markers(&[]);
    let is_thought = |id: &&TokenId| {
        let was_thinking = reader.is_thinking();
        reader.push(&detokenizer.push(**id));
        was_thinking || reader.is_thinking()
    };
    ids.iter().filter(is_thought).count()
}

#[test]
fn thoughts_end_within_their_bound_and_the_answer_follows() {
    let long = "Hm, so it is. ".repeat(9);
    let thoughtful = |form: usize, open: &str| (form, open.to_owned() + &long);
    let harmony = "<|channel|>analysis<|message|>";
    for ((form, wanted), begins) in [
        (thoughtful(0, "<think>"), Begins::Text),
        (thoughtful(0, ""), Begins::Thoughts),
        (thoughtful(4, "[THINK]"), Begins::Text),
        (thoughtful(6, "<|channel>thought\n"), Begins::Text),
        (thoughtful(13, "<think>"), Begins::Text),
        (thoughtful(13, ""), Begins::Thoughts),
        (thoughtful(8, harmony), Begins::Header),
    ] {
        let model = model(FORMS[form].0, FORMS[form].1);
        let free = rules(&model, begins, Calls::May, Most::Any, tools(false));
        for most in [1, 9, 30] {
            let rules = AnswerRules { most_thoughts: Some(most), ..free.clone() };
            let ids = written(&model, &rules, &wanted);
            let (thoughts, text, _) = said(&model, &rules, &ids);
            // Without special tokens each byte is one.
            let n_closing = if form == 13 { "</think>".len() } else { 1 };
            let n = n_thoughts(&model, &rules, &ids);
            // No less than what ends them, and what begins them where the model does.
            assert!(n <= most.max(n_closing + 1), "{n} {thoughts:?} {wanted}");
            assert!(most < 9 || form == 13 || !thoughts.is_empty(), "{wanted}");
            if form != 8 {
                assert!(long.ends_with(text.trim_start()) && text.len() > 60, "{text:?} {wanted}");
            }
        }
    }
}

#[test]
fn what_is_held_after_thoughts_follows_those_that_were_ended_too() {
    let long = "Hm, so it is. ".repeat(9);
    let cases = [
        (0, Begins::Text, "<think>"),
        (1, Begins::Thoughts, ""),
        (6, Begins::Text, "<|channel>thought\n"),
        (8, Begins::Header, "<|channel|>analysis<|message|>"),
    ];
    for ((form, begins, open), most) in cases.into_iter().flat_map(|case| [(case, 20), (case, 1)]) {
        let model = model(FORMS[form].0, FORMS[form].1);
        let rules = AnswerRules {
            most_thoughts: Some(most),
            ..rules(&model, begins, Calls::Must, Most::One, tools(true))
        };
        let ids = written(&model, &rules, &format!("{open}{long}"));
        let (thoughts, text, calls) = said(&model, &rules, &ids);
        assert!(long.starts_with(&thoughts) && thoughts.len() < most, "{thoughts:?} {open}");
        assert!(most == 1 || thoughts.len() > 9, "{thoughts:?} {open}");
        assert_eq!((text.as_str(), calls.len()), ("", 1), "{open}");
        check_arguments(&calls[0].0, &calls[0].1);
    }
}

#[test]
fn thoughts_that_begin_before_what_is_held_have_all_of_their_opening_marker() {
    let model = model(FORMS[6].0, FORMS[6].1);
    for most_thoughts in [None, Some(40)] {
        let rules =
            AnswerRules { most_thoughts, ..rules(&model, Begins::Text, Calls::Must, Most::One, tools(true)) };
        let mut constraint = model.answer_constraint(&rules).unwrap().unwrap();
        let [opening] = model.encode_raw("<|channel>")[..] else { panic!("it is a token") };
        assert!(constraint.mask().unwrap().allows(opening), "{most_thoughts:?}");
        constraint.commit(opening).unwrap();
        // No space comes before the rest, as the vocabulary may have it before the words of a prompt.
        let mut rest = Vec::new();
        while rest.len() < "thought\n".len() {
            let allowed: Vec<TokenId> = constraint.mask().unwrap().allowed().collect();
            let [token] = allowed[..] else { panic!("{allowed:?} after {rest:?}, {most_thoughts:?}") };
            rest.extend_from_slice(model.token_bytes(token));
            constraint.commit(token).unwrap();
        }
        assert_eq!(rest, b"thought\n");
        assert!(constraint.mask().unwrap().n_allowed() > 100, "{most_thoughts:?}");
    }
}

#[test]
fn thoughts_within_their_bound_are_left_alone_and_there_are_no_more_beyond_it() {
    let model = model(FORMS[4].0, FORMS[4].1);
    let free = rules(&model, Begins::Text, Calls::May, Most::Any, Vec::new());
    let bound = |most| AnswerRules { most_thoughts: Some(most), ..free.clone() };
    let wanted = "[THINK]Hm.[/THINK]It rains, [THINK]so it is.[/THINK]I think.";
    let of = |most| {
        let ids = written(&model, &bound(most), wanted);
        said(&model, &bound(most), &ids)
    };
    let (thoughts, text, _) = of(100);
    assert_eq!((thoughts.as_str(), text.as_str()), ("Hm.so it is.", "It rains, I think."));
    // Three letters and two markers, and of the next ones the opening marker and what ends them.
    let (thoughts, text, _) = of(8);
    assert_eq!((thoughts.as_str(), text.as_str()), ("Hm.s", "It rains, o it is.[/THINK]I think."));
    assert!(model.answer_constraint(&free).unwrap().is_none(), "without a bound there is nothing to hold");
}

#[test]
fn free_text_is_not_held_and_a_strict_call_is_from_its_marker_on() {
    let cases = [
        (0, "Well.\n<tool_call>\n{\"name\": \"nope\", \"arguments\": 7}\n</tool_call> So."),
        (
            1,
            "Well.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n</tool_call> So.",
        ),
        (4, "Well.[TOOL_CALLS]get_weather[ARGS]{\"city\": 7} So."),
        (6, "Well.<|tool_call>call:get_weather{days:77}<tool_call|> So."),
        (7, "Well.<|tool_call_start|>[get_weather(days='x')]<|tool_call_end|> So."),
        (
            8,
            "<|channel|>commentary<|message|>Well.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather<|message|>{\"city\": 7}",
        ),
    ];
    for (form, wanted) in cases {
        let (template, special) = FORMS[form];
        let model = model(template, special);
        let rules = rules(&model, begins(&model), Calls::May, Most::Any, tools(true));
        let constraint = model.answer_constraint(&rules).unwrap().unwrap();
        assert!(!constraint.holds(), "{wanted}");
        let (_, text, calls) = said(&model, &rules, &written(&model, &rules, wanted));
        assert!(text.starts_with("Well."), "{text} {wanted}");
        assert!(!calls.is_empty(), "{wanted}");
        calls.iter().for_each(|(name, arguments)| check_arguments(name, arguments));
    }
    let model = model(FORMS[0].0, FORMS[0].1);
    let lenient = rules(&model, Begins::Text, Calls::May, Most::Any, tools(false));
    assert!(model.answer_constraint(&lenient).unwrap().is_none(), "nothing is strict");
}

#[test]
fn thoughts_that_speak_of_a_call_make_none() {
    let model = model(FORMS[0].0, FORMS[0].1);
    let rules = rules(&model, Begins::Text, Calls::May, Most::Any, tools(true));
    let wanted = "<think>A <tool_call> is {it}.</think>Yes.";
    let (thoughts, text, calls) = said(&model, &rules, &written(&model, &rules, wanted));
    assert_eq!((thoughts.as_str(), text.as_str(), calls.len()), ("A <tool_call> is {it}.", "Yes.", 0));
}

#[test]
fn thoughts_begin_in_the_middle_of_an_answer_only_where_no_text_can_spell_their_marker() {
    let spelled = model(FORMS[0].0, FORMS[0].1);
    let rules_of = |model: &TextModel| rules(model, Begins::Text, Calls::May, Most::Any, tools(true));
    let rules = rules_of(&spelled);
    let wanted = "Well, <think> is a tag.\n<tool_call>\n{\"name\": \"nope\"}\n</tool_call>";
    let (thoughts, text, calls) = said(&spelled, &rules, &written(&spelled, &rules, wanted));
    assert_eq!((thoughts.as_str(), calls.len()), ("", 1));
    assert!(text.starts_with("Well, <think> is a tag."), "{text}");
    calls.iter().for_each(|(name, arguments)| check_arguments(name, arguments));

    let controlled = model(FORMS[4].0, FORMS[4].1);
    let rules = rules_of(&controlled);
    let wanted = "Well.[THINK]A [TOOL_CALLS] is one.[/THINK]Yes.";
    let (thoughts, text, calls) = said(&controlled, &rules, &written(&controlled, &rules, wanted));
    assert_eq!((thoughts.as_str(), calls.len()), ("A [TOOL_CALLS] is one.", 0));
    assert!(text.starts_with("Well.") && text.ends_with("Yes."), "{text}");
}

#[test]
fn a_call_whose_block_was_forgotten_is_held_too() {
    for (form, wanted) in [
        (1, "Well.\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>"),
        (10, "Well.<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": 7}<｜tool▁call▁end｜>"),
    ] {
        let model = model(FORMS[form].0, FORMS[form].1);
        let rules = rules(&model, Begins::Text, Calls::May, Most::One, tools(true));
        let (_, text, calls) = said(&model, &rules, &written(&model, &rules, wanted));
        assert_eq!((text.as_str(), calls.len()), ("Well.", 1), "{wanted}");
        check_arguments(&calls[0].0, &calls[0].1);
    }
}

#[test]
fn texts_without_quotes_are_held_to_what_can_be_said_of_them() {
    let model = model(FORMS[1].0, FORMS[1].1);
    let tool = |city: Value| {
        let parameters = json!({
            "type": "object",
            "properties": {"city": city},
            "required": ["city"],
            "additionalProperties": false,
            "$defs": {"city": {"enum": ["Bonn", "Köln"]}},
        });
        vec![Tool { name: "f".into(), parameters: Some(parameters), strict: true, ..Tool::default() }]
    };
    let of = |city| rules(&model, Begins::Text, Calls::Must, Most::One, tool(city));
    let listed = of(json!({"$ref": "#/$defs/city"}));
    let (_, _, calls) = said(&model, &listed, &written(&model, &listed, "No."));
    assert!(["Bonn", "Köln"].contains(&calls[0].1["city"].as_str().unwrap()), "{calls:?}");
    match model.answer_constraint(&of(json!({"type": "string", "pattern": "^a+$"}))) {
        Err(ConstraintError::Tool { tool: 0, fault }) => {
            assert_eq!(fault.pointer, "#/properties/city/pattern");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_call_at_most_ends_the_answer() {
    let model = model(FORMS[0].0, FORMS[0].1);
    let rules = rules(&model, Begins::Text, Calls::May, Most::One, tools(false));
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let ids = written(&model, &rules, &format!("Well.{call}\n{call}"));
    assert_eq!(String::from_utf8(model.raw_text(&ids)).unwrap(), format!("Well.{call}"));
}

#[test]
fn the_schema_that_cannot_be_held_to_is_named_by_its_tool() {
    let model = model(FORMS[0].0, FORMS[0].1);
    let mut tools = tools(true);
    tools[1].parameters = Some(json!({"type": "object", "properties": {"a": {"type": "objekt"}}}));
    let strict = rules(&model, Begins::Text, Calls::Must, Most::One, tools.clone());
    match model.answer_constraint(&strict) {
        Err(ConstraintError::Tool { tool, fault }) => {
            assert_eq!((tool, fault.pointer.as_str()), (1, "#/properties/a/type"));
        }
        other => panic!("{other:?}"),
    }
    // One that is not strict is held to what can be.
    tools[1].strict = false;
    let lenient = rules(&model, Begins::Text, Calls::Must, Most::One, tools);
    assert!(model.answer_constraint(&lenient).is_ok());
}
