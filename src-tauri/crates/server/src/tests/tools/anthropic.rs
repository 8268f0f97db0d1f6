//! Tools and thoughts in Anthropic's messages.

use super::*;

/// A body for `/v1/messages` with the tools of chats in this API's form, and `more` fields.
fn body(more: Value) -> Value {
    let tool = |tool: &Value| {
        let function = &tool["function"];
        json!({"name": function["name"], "description": "d", "input_schema": function["parameters"]})
    };
    let tools: Vec<Value> = tools().as_array().unwrap().iter().map(tool).collect();
    let mut body = json!({
        "model": "scripted", "max_tokens": 400, "tools": tools, "thinking": {"type": "adaptive"},
        "messages": [{"role": "user", "content": "Köln?"}],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn ask(rig: &Rig, more: Value) -> Value {
    let answer = rig.post("/v1/messages", &body(more).to_string()).await;
    assert_eq!(answer.status, OK, "{answer:?}");
    answer.json()
}

/// The message that the events of a stream build, and the input of each tool as it came.
fn built(text: &str) -> (Value, Vec<String>) {
    let (mut message, mut inputs) = (Value::Null, Vec::new());
    for frame in text.split("\n\n").filter(|frame| !frame.is_empty()) {
        let (name, data) = frame.split_once('\n').unwrap_or_else(|| panic!("{frame}"));
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(event["type"], name.strip_prefix("event: ").unwrap());
        let at = event["index"].as_u64().map_or(0, |at| at as usize);
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(at, content.len(), "blocks come one after the other");
                content.push(event["content_block"].clone());
                if event["content_block"]["type"] == "tool_use" {
                    inputs.push(String::new());
                }
            }
            "content_block_delta" => {
                let mut add = |field: &str| {
                    let before = message["content"][at][field].as_str().unwrap();
                    let joined = format!("{before}{}", event["delta"][field].as_str().unwrap());
                    message["content"][at][field] = joined.into();
                };
                match event["delta"]["type"].as_str().unwrap() {
                    "text_delta" => add("text"),
                    "thinking_delta" => add("thinking"),
                    "signature_delta" => add("signature"),
                    "input_json_delta" => {
                        inputs.last_mut().unwrap().push_str(event["delta"]["partial_json"].as_str().unwrap());
                    }
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                if message["content"][at]["type"] == "tool_use" {
                    message["content"][at]["input"] = serde_json::from_str(inputs.last().unwrap()).unwrap();
                }
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => {}
            other => panic!("{other}"),
        }
    }
    (message, inputs)
}

/// Blocks without the ids, which are each answer's own.
fn without_ids(content: &Value) -> Value {
    let mut content = content.clone();
    for block in content.as_array_mut().unwrap() {
        if let Some(id) = block.as_object_mut().unwrap().remove("id") {
            assert!(id.as_str().unwrap().starts_with("toolu_"), "{id}");
        }
    }
    content
}

#[tokio::test]
async fn thoughts_text_and_calls_are_blocks_and_a_stream_adds_up_to_the_whole() {
    let rig = says(thoughtful, ALL_KINDS).await;
    let answer = rig.post("/v1/messages", &body(json!({})).to_string()).await;
    assert_eq!(answer.status, OK, "{answer:?}");
    assert!(answer.text.contains(&format!("\"input\":{ARGUMENTS}")), "as the model wrote it: {answer:?}");
    let whole = answer.json();
    let signature = rig.app.config.signing_key.sign("Hm, hm.");
    assert_eq!(
        without_ids(&whole["content"]),
        json!([
            {"type": "thinking", "thinking": "Hm, hm.", "signature": signature},
            {"type": "text", "text": "I'll look.", "citations": null},
            {"type": "tool_use", "name": "get_weather", "input": {"city": "Köln", "days": 3}},
            {"type": "tool_use", "name": "now", "input": {}},
        ])
    );
    assert_eq!(whole["stop_reason"], "tool_use");
    let n_thinking = whole["usage"]["output_tokens_details"]["thinking_tokens"].as_u64().unwrap();
    assert!(n_thinking >= "Hm, hm.".len() as u64, "{whole}");

    let streamed = rig.post("/v1/messages", &body(json!({"stream": true})).to_string()).await;
    let (streamed, inputs) = built(&streamed.text);
    assert_eq!(inputs, [ARGUMENTS, "{}"]);
    assert_eq!(without_ids(&streamed["content"]), without_ids(&whole["content"]));
    assert_eq!(streamed["stop_reason"], whole["stop_reason"]);
    assert_eq!(streamed["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    assert_eq!(streamed["usage"]["output_tokens_details"], whole["usage"]["output_tokens_details"]);
}

#[tokio::test]
async fn calls_in_the_forms_of_other_families_are_the_same_blocks() {
    let cases: [(Form, &str); 3] = [
        (mistral, "Hm.[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Köln\",  \"days\":3}"),
        (
            qwen3_coder,
            "Hm.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n3\n\
             </parameter>\n</function>\n</tool_call>",
        ),
        (
            harmony,
            "<|channel|>commentary<|message|>Hm.<|call|>assistant<|channel|>commentary \
             to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Köln\",  \"days\":3}",
        ),
    ];
    for (text, said) in cases {
        let rig = says(text, said).await;
        let whole = ask(&rig, json!({})).await;
        let want = json!([
            {"type": "text", "text": "Hm.", "citations": null},
            {"type": "tool_use", "name": "get_weather", "input": {"city": "Köln", "days": 3}},
        ]);
        assert_eq!(without_ids(&whole["content"]), want, "{said}");
        let (streamed, _) =
            built(&rig.post("/v1/messages", &body(json!({"stream": true})).to_string()).await.text);
        assert_eq!(without_ids(&streamed["content"]), want, "{said}");
    }
}

#[tokio::test]
async fn a_tool_is_used_where_one_must_be_and_one_at_most_where_that_is_said() {
    let rig = says(hermes, "No. I will not, whatever you want of me.").await;
    let schema = json!({
        "type": "object", "properties": {"city": {"enum": ["Bonn", "Köln"]}}, "required": ["city"],
        "additionalProperties": false,
    });
    for choice in [json!({"type": "any"}), json!({"type": "tool", "name": "get_weather"})] {
        let mut choice = choice;
        choice["disable_parallel_tool_use"] = true.into();
        let tools = json!([{"name": "get_weather", "input_schema": schema, "strict": true}]);
        let message = ask(&rig, json!({"tool_choice": choice, "tools": tools})).await;
        let content = message["content"].as_array().unwrap();
        assert_eq!((content.len(), &content[0]["type"]), (1, &"tool_use".into()), "{message}");
        assert!(["Bonn", "Köln"].map(Value::from).contains(&content[0]["input"]["city"]), "{message}");
        assert_eq!(message["stop_reason"], "tool_use");
    }

    let rig = says(thoughtful, ALL_KINDS).await;
    let one = ask(&rig, json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}})).await;
    let names: Vec<&str> =
        one["content"].as_array().unwrap().iter().filter_map(|block| block["name"].as_str()).collect();
    assert_eq!(names, ["get_weather"]);
    let none = ask(&rig, json!({"tool_choice": {"type": "none"}})).await;
    assert_eq!(none["stop_reason"], "end_turn");
    assert!(none["content"][1]["text"].as_str().unwrap().contains("<tool_call>"), "{none}");
}

#[tokio::test]
async fn a_call_that_is_cut_keeps_what_there_is_of_it() {
    let rig = says(thoughtful, ALL_KINDS).await;
    let n_tokens = ALL_KINDS.find("\"days\"").unwrap();
    let cut = json!({"max_tokens": n_tokens, "stream": true});
    let streamed = rig.post("/v1/messages", &body(cut).to_string()).await.text;
    let partial: String = streamed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| event["delta"]["partial_json"].as_str().map(str::to_owned))
        .collect();
    assert!(ARGUMENTS.starts_with(&partial) && partial.contains("Köln"), "{partial}");
    assert!(streamed.contains("\"stop_reason\":\"max_tokens\""), "{streamed}");
    let whole = ask(&rig, json!({"max_tokens": n_tokens})).await;
    assert_eq!(whole["content"][2]["input"], json!({"INVALID_JSON": partial}));
}

#[tokio::test]
async fn tokens_are_counted_with_what_the_tools_take() {
    let rig = says(thoughtful, "It rains.").await;
    let count = async |more: Value| {
        let mut body = body(more);
        body.as_object_mut().unwrap().remove("max_tokens");
        rig.post("/v1/messages/count_tokens", &body.to_string()).await.json()["input_tokens"]
            .as_u64()
            .unwrap()
    };
    let with = count(json!({})).await;
    let without = count(json!({"tools": []})).await;
    assert!(with > without + 100, "{with} {without}");
    assert_eq!(count(json!({"tool_choice": {"type": "none"}})).await, without);
    let usage = ask(&rig, json!({})).await["usage"].take();
    assert_eq!(usage["input_tokens"], with);
    // Not thinking is said to the template, which is the API's default.
    assert_eq!(count(json!({"thinking": null})).await, with + "/no\n".len() as u64);
    assert_eq!(count(json!({"thinking": {"type": "disabled"}})).await, with + "/no\n".len() as u64);
}

#[tokio::test]
async fn thinking_comes_back_to_the_model_as_it_was_and_in_no_other_words() {
    let rig = says(thoughtful, ALL_KINDS).await;
    let content = ask(&rig, json!({})).await["content"].take();
    let next = async |content: &Value| {
        let messages = json!([
            {"role": "user", "content": "Köln?"},
            {"role": "assistant", "content": content},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": content[2]["id"], "content": "sun"},
                {"type": "tool_result", "tool_use_id": content[3]["id"], "content": "noon", "is_error": true},
            ]},
        ]);
        let answer = rig.post("/v1/messages", &body(json!({"messages": messages})).to_string()).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        let record = rig.get(&format!("/admin/requests/{}", answer.header("request-id"))).await.json();
        let usage = &answer.json()["usage"];
        let number = |name: &str| usage[name].as_u64().unwrap();
        (number("input_tokens") + number("cache_read_input_tokens"), record["remarks"].clone())
    };
    let (own, remarks) = next(&content).await;
    assert_eq!(remarks, json!([]));
    let mut changed = content.clone();
    changed[0]["thinking"] = "Hm, ha.".into();
    let (other, remarks) = next(&changed).await;
    // As the model wrote them: a token for each byte.
    assert_eq!(own - other, "<think>\nHm, hm.\n</think>\n\n".len() as u64);
    assert!(remarks[0].as_str().unwrap().contains("signature"), "{remarks}");
}

#[tokio::test]
async fn thinking_that_is_not_to_be_shown_is_a_block_without_words() {
    let rig = says(thoughtful, ALL_KINDS).await;
    let omitted = json!({"type": "adaptive", "display": "omitted"});
    for stream in [false, true] {
        let body = body(json!({"thinking": omitted, "stream": stream}));
        let text = rig.post("/v1/messages", &body.to_string()).await.text;
        assert!(!text.contains("Hm") && text.contains("\"thinking\":\"\""), "{text}");
        let message = if stream { built(&text).0 } else { serde_json::from_str(&text).unwrap() };
        assert_eq!(message["content"][0]["signature"], rig.app.config.signing_key.sign("").as_str());
        assert_eq!(message["content"][1]["text"], "I'll look.");
    }
}

/// One that thinks before it says anything.
fn pondering() -> TextModel {
    text_with_template(
        "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|start|>assistant\n<think>\n{% endif %}{# </think> #}",
    )
}

#[tokio::test]
async fn thinking_ends_within_its_budget_and_the_answer_follows() {
    // It never comes to an end by itself.
    let rig = rig(pondering, Script::Hash).await;
    let n_tokens = 60;
    let n_closing = pondering().encode_plain("</think>").len();
    let asked = |thinking: Value| json!({"thinking": thinking, "max_tokens": n_tokens, "temperature": 0});
    for (budget, tools) in [(9, json!([])), (30, json!([])), (30, body(json!({}))["tools"].clone())] {
        let mut asked = asked(json!({"type": "enabled", "budget_tokens": budget}));
        asked["tools"] = tools;
        let whole = ask(&rig, asked.clone()).await;
        let content = &whole["content"];
        let len = |text: &Value| text.as_str().unwrap().len();
        assert_eq!(len(&content[0]["thinking"]), budget - n_closing, "{whole}");
        assert_eq!(len(&content[1]["text"]), n_tokens - budget, "{whole}");
        assert_eq!(whole["usage"]["output_tokens_details"]["thinking_tokens"], budget, "{whole}");
        asked["stream"] = true.into();
        let (streamed, _) = built(&rig.post("/v1/messages", &body(asked).to_string()).await.text);
        assert_eq!(streamed["content"], *content);
    }
    let unbounded = ask(&rig, asked(json!({"type": "adaptive"}))).await;
    assert_eq!(unbounded["content"].as_array().unwrap().len(), 1, "{unbounded}");
}

#[tokio::test]
async fn thinking_that_nobody_asked_for_is_not_shown_though_the_model_thinks() {
    let rig = says(thoughtful, ALL_KINDS).await;
    for thinking in [Value::Null, json!({"type": "disabled"})] {
        let whole = ask(&rig, json!({"thinking": thinking})).await;
        assert_eq!(whole["content"][0]["text"], "I'll look.", "{whole}");
        assert!(whole["usage"]["output_tokens_details"]["thinking_tokens"].as_u64().unwrap() > 0, "{whole}");
        let body = body(json!({"thinking": thinking, "stream": true}));
        let (streamed, _) = built(&rig.post("/v1/messages", &body.to_string()).await.text);
        assert_eq!(without_ids(&streamed["content"]), without_ids(&whole["content"]));
    }
}

#[tokio::test]
async fn a_schema_that_cannot_be_held_to_is_refused_where_it_is_wrong() {
    let rig = says(hermes, "x").await;
    let tools = json!([
        {"name": "a", "input_schema": {"type": "object"}},
        {"name": "b", "strict": true, "input_schema": {"type": "object", "properties": {"c": {"type": "objekt"}}}},
    ]);
    let answer = rig.post("/v1/messages", &body(json!({"tools": tools})).to_string()).await;
    let error = answer.json()["error"].take();
    assert_eq!((answer.status, &error["type"]), (400, &"invalid_request_error".into()));
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("tools.1.input_schema#/properties/c/type: "), "{message}");
}
