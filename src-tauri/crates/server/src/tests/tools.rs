//! Tools and thoughts in chats: a scripted model plays its side in the form of each family.

mod anthropic;
mod ollama;
mod responses;
mod rounds;

use engine::testing::{ScriptedLoader, text_with_template};
use serde_json::json;
use text::TextModel;

use super::*;

/// A model's text, with a template of a family.
type Form = fn() -> TextModel;

/// A template in the manner of ChatML that shows tools and calls, and what else `$signs` says of its family's form.
macro_rules! templates {
    ($($name:ident => $signs:expr,)+) => {
        $(fn $name() -> TextModel {
            text_with_template(concat!(
                "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}",
                "{% for c in m.tool_calls %}({{ c.function.name }} {{ c.function.arguments | tojson }}){% endfor %}",
                "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
                "{# ", $signs, " #}"
            ))
        })+
    };
}

templates! {
    hermes => "<tool_call></tool_call> <think></think>",
    qwen3_coder => "<tool_call> <function=f> <parameter=p> <think></think>",
    llama3 => "Environment: ipython <|python_tag|> \"parameters\"",
    mistral => "[TOOL_CALLS] [ARGS] [THINK][/THINK]",
    gemma4 => "<|tool_call>call: <tool_call|> <|channel>thought <channel|>",
    glm => "<tool_call><arg_key><arg_value> <think></think>",
    lfm2 => "<|tool_call_start|> <think></think>",
    granite3 => "<|tool_call|>",
    deepseek => "<｜tool▁call▁begin｜><｜tool▁sep｜> <think></think>",
}

/// One whose messages are channels.
fn harmony() -> TextModel {
    text_with_template(
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|start|>{{ m.role }}{{ m.content }}<|end|>\
         {% for c in m.tool_calls %}{{ c.function.arguments }}{% endfor %}{% endfor %}\
         {% if add_generation_prompt %}<|start|>assistant{% endif %}{# <|channel|> <|message|> functions. #}",
    )
}

/// One that shows in what it was thought before, and knows whether to think.
pub(super) fn thoughtful() -> TextModel {
    text_with_template(
        "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}<|start|>{{ m.role }}\n\
         {% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}\
         {% for c in m.tool_calls %}{{ '\\n' }}<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": \
         {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|end|>\n{% endfor %}\
         {% if enable_thinking is defined and not enable_thinking %}/no\n{% endif %}\
         {% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    )
}

/// What that one writes: thoughts, text and two calls, the first with [`ARGUMENTS`].
const ALL_KINDS: &str = "<think>\nHm, hm.\n</think>\n\nI'll look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": \
                         {\"city\": \"Köln\",  \"days\":3}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": \
                         {}}\n</tool_call>";
const ARGUMENTS: &str = "{\"city\": \"Köln\",  \"days\":3}";

/// A rig around a model that writes `script`.
pub(super) async fn rig(text: Form, script: Script) -> Rig {
    let steering = Steering::free();
    let model = ScriptedModel { script, text, ..ScriptedModel::default() };
    let rig = Rig::around(steering.clone(), Arc::new(ScriptedLoader::new(model, steering)), |_, _| {});
    rig.ready().await;
    rig
}

async fn says(text: Form, said: &str) -> Rig {
    rig(text, Script::Says(said.to_owned())).await
}

pub(super) fn tools() -> Value {
    let tool = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "description": "d", "parameters": parameters}});
    let weather = json!({
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": false,
    });
    json!([tool("get_weather", weather), tool("now", json!({"type": "object", "properties": {}}))])
}

fn body(more: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "Köln?"}], "tools": tools()});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The message of an answer, and why it ended; streamed, it must be the same.
async fn message(rig: &Rig, more: Value) -> (Value, String) {
    let body = body(more);
    let whole = rig.post("/v1/chat/completions", &body.to_string()).await;
    assert_eq!(whole.status, OK, "{whole:?}");
    let choice = whole.json()["choices"][0].clone();
    let finish = choice["finish_reason"].as_str().unwrap().to_owned();

    let mut streaming = body;
    streaming["stream"] = true.into();
    let streamed = rig.post("/v1/chat/completions", &streaming.to_string()).await;
    let (mut content, mut thoughts, mut calls, mut end) =
        (String::new(), String::new(), Vec::new(), Value::Null);
    for line in streamed.text.lines() {
        let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") else { continue };
        let chunk: Value = serde_json::from_str(data).unwrap();
        let delta = &chunk["choices"][0]["delta"];
        content.push_str(delta["content"].as_str().unwrap_or_default());
        thoughts.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                assert!(call["id"].as_str().unwrap().starts_with("call_"));
                calls.push((call["function"]["name"].as_str().unwrap().to_owned(), String::new()));
            }
            calls[index].1.push_str(call["function"]["arguments"].as_str().unwrap());
        }
        if !chunk["choices"][0]["finish_reason"].is_null() {
            end = chunk["choices"][0]["finish_reason"].clone();
        }
    }
    let message = choice["message"].clone();
    assert_eq!(content, message["content"].as_str().unwrap_or_default());
    assert_eq!(thoughts, message["reasoning_content"].as_str().unwrap_or_default());
    assert_eq!(json!(calls), json!(calls_of(&message)));
    assert_eq!(end, json!(finish));
    (message, finish)
}

fn calls_of(message: &Value) -> Vec<(String, String)> {
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    calls.map(|call| (text(&call["function"]["name"]), text(&call["function"]["arguments"]))).collect()
}

fn call(name: &str, arguments: &str) -> (String, String) {
    (name.to_owned(), arguments.to_owned())
}

#[tokio::test]
async fn calls_are_read_in_the_form_of_each_family_streamed_and_whole() {
    let weather = r#"{"city": "Köln",  "days":3}"#;
    let plain = r#"{"city": "Köln", "days": 3}"#;
    let cases: [(Form, String, &str); 10] = [
        (hermes, format!("Hm.\n<tool_call>\n{{\"name\": \"get_weather\", \"arguments\": {weather}}}\n</tool_call>"), weather),
        (
            qwen3_coder,
            "Hm.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n3\n\
             </parameter>\n</function>\n</tool_call>"
                .into(),
            plain,
        ),
        (llama3, format!("Hm.\n<|python_tag|>{{\"name\": \"get_weather\", \"parameters\": {weather}}}"), weather),
        (mistral, format!("Hm.[TOOL_CALLS]get_weather[ARGS]{weather}"), weather),
        (gemma4, "Hm.<|tool_call>call:get_weather{city:<|\"|>Köln<|\"|>,days:3}<tool_call|>".into(), plain),
        (
            glm,
            "Hm.<tool_call>get_weather<arg_key>city</arg_key><arg_value>Köln</arg_value><arg_key>days</arg_key>\
             <arg_value>3</arg_value></tool_call>"
                .into(),
            plain,
        ),
        (lfm2, "Hm.<|tool_call_start|>[get_weather(city='Köln', days=3)]<|tool_call_end|>".into(), plain),
        (granite3, format!("Hm.<|tool_call|>[{{\"name\": \"get_weather\", \"arguments\": {weather}}}]"), weather),
        (
            deepseek,
            format!(
                "Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{weather}<｜tool▁call▁end｜>\
                 <｜tool▁calls▁end｜>"
            ),
            weather,
        ),
        (
            harmony,
            format!(
                "<|channel|>commentary<|message|>Hm.<|call|>assistant<|channel|>commentary \
                 to=functions.get_weather <|constrain|>json<|message|>{weather}"
            ),
            weather,
        ),
    ];
    for (text, said, arguments) in cases {
        let rig = says(text, &said).await;
        let (message, finish) = message(&rig, json!({})).await;
        assert_eq!(calls_of(&message), [call("get_weather", arguments)], "{said}");
        assert_eq!((message["content"].as_str(), finish.as_str()), (Some("Hm."), "tool_calls"), "{said}");
    }
}

#[tokio::test]
async fn an_answer_of_calls_alone_has_no_content_and_one_that_is_cut_ends_with_its_length() {
    let said = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_weather\", \
                \"arguments\": {\"city\": \"Köln\"}}\n</tool_call>";
    let rig = says(hermes, said).await;
    let (both, finish) = message(&rig, json!({})).await;
    assert_eq!(calls_of(&both), [call("now", "{}"), call("get_weather", "{\"city\": \"Köln\"}")]);
    assert_eq!((&both["content"], finish.as_str()), (&Value::Null, "tool_calls"));
    let (cut, finish) = message(&rig, json!({"max_tokens": said.find("\"Köln\"")})).await;
    assert_eq!(calls_of(&cut)[1].1, "{\"city\": ");
    assert_eq!(finish, "length");
    let (one, _) = message(&rig, json!({"parallel_tool_calls": false})).await;
    assert_eq!(calls_of(&one), [call("now", "{}")]);
}

#[tokio::test]
async fn a_name_that_was_not_offered_is_text() {
    let said = "<tool_call>\n{\"name\": \"rm\", \"arguments\": {}}\n</tool_call>";
    let rig = says(hermes, said).await;
    let (message, finish) = message(&rig, json!({})).await;
    assert_eq!((message["content"].as_str(), finish.as_str()), (Some(said), "stop"));
    assert_eq!(message["tool_calls"], Value::Null);
}

#[tokio::test]
async fn without_tools_or_with_none_to_choose_nothing_is_a_call() {
    let said = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let rig = says(hermes, said).await;
    for more in [json!({"tools": []}), json!({"tool_choice": "none"})] {
        let (message, finish) = message(&rig, more).await;
        assert_eq!((message["content"].as_str(), finish.as_str()), (Some(said), "stop"));
    }
    let tokens = async |more: Value| {
        let answer = rig.post("/v1/chat/completions", &body(more).to_string()).await.json();
        answer["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let none = tokens(json!({"tools": []})).await;
    assert_eq!(tokens(json!({"tool_choice": "none"})).await, none, "they are not shown either");
    assert!(tokens(json!({})).await > none + 100);
}

#[tokio::test]
async fn a_call_is_made_where_one_is_required_though_the_model_would_say_something_else() {
    let forms: [Form; 10] =
        [hermes, qwen3_coder, llama3, mistral, gemma4, glm, lfm2, granite3, deepseek, harmony];
    for text in forms {
        let rig = says(text, "No. I will not, whatever you want of me.").await;
        for choice in [json!("required"), json!({"type": "function", "function": {"name": "get_weather"}})] {
            let mut tools = tools();
            tools[0]["function"]["strict"] = true.into();
            let more = json!({
                "tool_choice": choice, "tools": tools, "parallel_tool_calls": false, "max_tokens": 400,
            });
            let answer = rig.post("/v1/chat/completions", &body(more).to_string()).await;
            assert_eq!(answer.status, OK, "{answer:?}");
            let answer = answer.json();
            let choice_of = &answer["choices"][0];
            let calls = calls_of(&choice_of["message"]);
            assert_eq!(calls.len(), 1, "{answer}");
            assert_eq!(choice_of["message"]["content"], Value::Null, "{answer}");
            if choice_of["finish_reason"] == "length" {
                continue;
            }
            assert_eq!(choice_of["finish_reason"], "tool_calls");
            let arguments: Value =
                serde_json::from_str(&calls[0].1).unwrap_or_else(|e| panic!("{e}: {answer}"));
            match calls[0].0.as_str() {
                "get_weather" => assert!(arguments["city"].is_string(), "{answer}"),
                other => assert_eq!((other, choice.is_string()), ("now", true), "{answer}"),
            }
        }
    }
}

#[tokio::test]
async fn a_function_that_is_named_is_called_once_though_the_model_would_call_it_twice() {
    let said = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let rig = says(hermes, &format!("{said}\n{said}")).await;
    let named = json!({"type": "function", "function": {"name": "now"}});
    for more in [json!({"tool_choice": named}), json!({"tool_choice": named, "parallel_tool_calls": true})] {
        let (answer, finish) = message(&rig, more).await;
        assert_eq!((calls_of(&answer), finish.as_str()), (vec![call("now", "{}")], "tool_calls"));
    }
    // What is required is one at least.
    let (answer, _) = message(&rig, json!({"tool_choice": "required"})).await;
    assert_eq!(calls_of(&answer), [call("now", "{}"), call("now", "{}")]);
}

#[tokio::test]
async fn strict_arguments_fit_their_schema_from_the_opening_marker_on_and_text_before_it_is_free() {
    let mut tools = tools();
    tools[0]["function"]["strict"] = true.into();
    tools[0]["function"]["parameters"]["properties"] = json!({"city": {"enum": ["Bonn", "Köln"]}});
    let wrong = r#"{"days": "no"}"#;
    let cases: [(Form, String); 4] = [
        (hermes, format!("Hm.\n<tool_call>\n{{\"name\": \"get_weather\", \"arguments\": {wrong}}}\n</tool_call>")),
        (qwen3_coder, "Hm.\n<tool_call>\n<function=get_weather>\n<parameter=city>\n7\n</parameter>\n</function>\n</tool_call>".into()),
        (mistral, format!("Hm.[TOOL_CALLS]get_weather[ARGS]{wrong}")),
        (gemma4, "Hm.<|tool_call>call:get_weather{city:7}<tool_call|>".into()),
    ];
    for (text, said) in cases {
        let rig = says(text, &said).await;
        let answer = rig
            .post("/v1/chat/completions", &body(json!({"tools": tools, "max_tokens": 300})).to_string())
            .await;
        assert_eq!(answer.status, OK, "{answer:?}");
        let message = &answer.json()["choices"][0]["message"];
        assert_eq!(message["content"].as_str().map(|text| &text[..3]), Some("Hm."), "{message}");
        let calls = calls_of(message);
        let arguments: Value = serde_json::from_str(&calls[0].1).unwrap_or_else(|e| panic!("{e}: {message}"));
        assert!(arguments == json!({"city": "Bonn"}) || arguments == json!({"city": "Köln"}), "{message}");
    }
}

#[tokio::test]
async fn a_tool_that_cannot_be_held_to_is_refused_where_its_schema_is_wrong() {
    let rig = says(hermes, "x").await;
    let mut tools = tools();
    tools[1]["function"]["strict"] = true.into();
    tools[1]["function"]["parameters"]["properties"] = json!({"a": {"type": "objekt"}});
    let error = rig.post("/v1/chat/completions", &body(json!({"tools": tools})).to_string()).await.error();
    let place = "tools[1].function.parameters#/properties/a/type";
    assert_eq!(error, (400, "invalid_value".into(), place.into()));
    let choice = json!({"tool_choice": {"type": "function", "function": {"name": "f"}}});
    let error = rig.post("/v1/chat/completions", &body(choice).to_string()).await.error();
    assert_eq!(error, (400, "invalid_value".into(), "tool_choice".into()));
}

#[tokio::test]
async fn thoughts_are_split_off_and_counted_and_a_schema_holds_what_follows_them() {
    let rig = says(hermes, "<think>\nHm, hm.\n</think>\n\nIt rains.").await;
    let (message, _) = message(&rig, json!({"tools": []})).await;
    assert_eq!(message["reasoning_content"], "Hm, hm.");
    assert_eq!(message["content"], "It rains.");
    let answer = rig.post("/v1/chat/completions", &chat("")).await.json();
    let details = &answer["usage"]["completion_tokens_details"];
    // From where the opening marker is complete to where the closing one is.
    assert_eq!(details["reasoning_tokens"], ">\nHm, hm.\n</think>".len());

    let schema = json!({"type": "object", "properties": {"rain": {"type": "boolean"}}, "required": ["rain"], "additionalProperties": false});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    let format = json!({"messages": [{"role": "user", "content": "hi"}], "response_format": format});
    let rig = says(hermes, "It rains.").await;
    let answer = rig.post("/v1/chat/completions", &format.to_string()).await.json();
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    let value: Value = serde_json::from_str(content).unwrap_or_else(|e| panic!("{e}: {answer}"));
    assert!(value["rain"].is_boolean(), "{answer}");
}

#[tokio::test]
async fn a_marker_that_is_a_control_token_is_read_and_not_shown() {
    let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<u32>>();
    const START: u32 = 258;
    let mut answer = bytes("<|channel|>analysis<|message|>Hm.");
    answer.push(START);
    answer.extend(bytes("assistant<|channel|>final<|message|>It rains, <|start|> says."));
    let rig = rig(harmony, Script::Writes(answer)).await;
    let (message, _) = message(&rig, json!({"tools": []})).await;
    assert_eq!(message["reasoning_content"], "Hm.");
    assert_eq!(message["content"], "It rains, <|start|> says.", "what ordinary tokens spell is text");
}

/// One whose template shows tools, and does not say how the model calls them.
fn untold() -> TextModel {
    text_with_template(
        "{{ tools | tojson }}{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    )
}

#[tokio::test]
async fn calls_of_a_model_that_does_not_say_how_it_writes_them_are_read_in_the_common_form() {
    let rig = says(untold, "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>").await;
    let (answer, finish) = message(&rig, json!({})).await;
    assert_eq!((calls_of(&answer), finish.as_str()), (vec![call("now", "{}")], "tool_calls"));
    let record = rig.get("/admin/requests").await.json()["requests"][0].clone();
    assert!(record["remarks"][0].as_str().unwrap().contains("not known"), "{record}");
}

#[tokio::test]
async fn a_template_without_tools_gets_them_in_words_and_the_record_says_so() {
    let rig = says(
        engine::testing::chatml_text,
        "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
    )
    .await;
    let (answer, finish) = message(&rig, json!({})).await;
    assert_eq!((calls_of(&answer), finish.as_str()), (vec![call("now", "{}")], "tool_calls"));
    let record = rig.get("/admin/requests").await.json()["requests"][0].clone();
    let remark = record["remarks"][0].as_str().unwrap();
    assert!(remark.contains("in words"), "{remark}");

    // The whole round: the calls and their results are in words too.
    let mut body = body(json!({}));
    body["messages"] = json!([
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": null, "tool_calls": answer["tool_calls"]},
        {"role": "tool", "tool_call_id": answer["tool_calls"][0]["id"], "content": "noon"},
    ]);
    assert_eq!(rig.post("/v1/chat/completions", &body.to_string()).await.status, OK);
}

#[tokio::test]
async fn the_older_wording_is_answered_in_its_own() {
    let rig = says(hermes, "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>").await;
    let body = json!({
        "messages": [{"role": "user", "content": "When?"}],
        "functions": [{"name": "now", "parameters": {"type": "object", "properties": {}}}],
    });
    let answer = rig.post("/v1/chat/completions", &body.to_string()).await.json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["function_call"], json!({"name": "now", "arguments": "{}"}));
    assert_eq!(choice["finish_reason"], "function_call");
}
