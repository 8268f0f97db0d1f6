//! Tools and thoughts in Ollama's chats.

use super::*;

fn body(more: Value) -> Value {
    let mut body = super::body(json!({"model": "scripted", "options": {"num_predict": 400}}));
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A message without the ids of its calls, which are each answer's own.
fn without_ids(message: &Value) -> Value {
    let mut message = message.clone();
    for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
        let id = call.as_object_mut().unwrap().remove("id").unwrap();
        assert!(id.as_str().unwrap().starts_with("call_"), "{id}");
    }
    message
}

/// The message that lines add up to, of which each has a call whole or none, and the last line.
fn added_up(text: &str) -> (Value, Value) {
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (mut content, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for line in &lines {
        let message = &line["message"];
        content.push_str(message["content"].as_str().unwrap());
        thinking.push_str(message["thinking"].as_str().unwrap_or_default());
        calls.extend(message["tool_calls"].as_array().into_iter().flatten().cloned());
    }
    let message = json!({"role": "assistant", "content": content, "thinking": thinking, "tool_calls": calls});
    (message, lines.last().unwrap().clone())
}

#[tokio::test]
async fn thoughts_text_and_calls_are_fields_and_lines_add_up_to_the_whole() {
    let rig = says(thoughtful, ALL_KINDS).await;
    let answer = rig.post("/api/chat", &body(json!({"stream": false})).to_string()).await;
    assert_eq!(answer.status, OK, "{answer:?}");
    assert!(answer.text.contains(&format!("\"arguments\":{ARGUMENTS}")), "as the model wrote it: {answer:?}");
    let whole = answer.json();
    assert_eq!(
        without_ids(&whole["message"]),
        json!({
            "role": "assistant", "content": "I'll look.", "thinking": "Hm, hm.",
            "tool_calls": [
                {"function": {"index": 0, "name": "get_weather", "arguments": {"city": "Köln", "days": 3}}},
                {"function": {"index": 1, "name": "now", "arguments": {}}},
            ],
        })
    );
    assert_eq!((&whole["done"], &whole["done_reason"]), (&true.into(), &"stop".into()));

    let streamed = rig.post("/api/chat", &body(json!({})).to_string()).await;
    assert!(streamed.text.contains(&format!("\"arguments\":{ARGUMENTS}")), "in one line: {streamed:?}");
    let (message, last) = added_up(&streamed.text);
    assert_eq!(without_ids(&message), without_ids(&whole["message"]));
    assert_eq!((&last["done_reason"], &last["eval_count"]), (&"stop".into(), &whole["eval_count"]));
}

#[tokio::test]
async fn whether_to_think_is_said_to_the_template_and_a_prompt_has_thoughts_too() {
    let rig = says(thoughtful, "<think>\nHm.\n</think>\n\nIt rains.").await;
    let count = async |more: Value| {
        let answer =
            rig.post("/api/chat", &body(json!({"stream": false, "think": more})).to_string()).await.json();
        answer["prompt_eval_count"].as_u64().unwrap()
    };
    let silent = count(Value::Null).await;
    assert_eq!(count(true.into()).await, silent);
    assert_eq!(count("high".into()).await, silent);
    assert_eq!(count(false.into()).await, silent + "/no\n".len() as u64);

    let ask = json!({"model": "scripted", "prompt": "Köln?", "stream": false, "think": true});
    let answer = rig.post("/api/generate", &ask.to_string()).await.json();
    assert_eq!((&answer["response"], &answer["thinking"]), (&"It rains.".into(), &"Hm.".into()));
    let shown = rig.post("/api/show", r#"{"model":"scripted"}"#).await.json();
    assert_eq!(shown["capabilities"], json!(["completion", "tools", "thinking"]));
}

#[tokio::test]
async fn a_format_holds_what_follows_the_thoughts() {
    let begun = || {
        text_with_template(
            "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}\
             {% if add_generation_prompt %}<|start|>assistant\n<think>\n{% endif %}{# </think> #}",
        )
    };
    let rig = says(begun, "Hm.\n</think>\n\nIt rains.").await;
    let format = json!({
        "type": "object", "properties": {"rain": {"type": "boolean"}}, "required": ["rain"], "additionalProperties": false,
    });
    let ask = json!({"format": format, "tools": [], "stream": false, "options": {"num_predict": 200}});
    let message = rig.post("/api/chat", &body(ask).to_string()).await.json()["message"].take();
    assert_eq!(message["thinking"], "Hm.");
    let value: Value = serde_json::from_str(message["content"].as_str().unwrap())
        .unwrap_or_else(|error| panic!("{error}: {message}"));
    assert!(value["rain"].is_boolean(), "{message}");
}

#[tokio::test]
async fn a_call_that_is_cut_keeps_what_there_is_of_it() {
    let rig = says(thoughtful, ALL_KINDS).await;
    let ask = json!({"options": {"num_predict": ALL_KINDS.find("\"days\"")}});
    let (message, last) = added_up(&rig.post("/api/chat", &body(ask).to_string()).await.text);
    assert_eq!(last["done_reason"], "length");
    let arguments = &message["tool_calls"][0]["function"]["arguments"];
    assert!(arguments["INVALID_JSON"].as_str().unwrap().contains("Köln"), "{message}");
}

#[tokio::test]
async fn a_schema_that_cannot_be_held_to_is_refused_where_it_is_wrong() {
    let rig = says(hermes, "x").await;
    let mut tools = tools();
    tools[1]["function"]["strict"] = true.into();
    tools[1]["function"]["parameters"]["properties"] = json!({"a": {"type": "objekt"}});
    let answer = rig.post("/api/chat", &body(json!({"tools": tools})).to_string()).await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].take();
    let error = error.as_str().unwrap();
    assert!(error.starts_with("tools[1].function.parameters#/properties/a/type: "), "{error}");
}
