//! Tools and thoughts in the Responses API.

use super::*;

/// What the model writes: thoughts, text, and a call of each kind of tool.
const SAID: &str = "<think>\nHm, hm.\n</think>\n\nI'll look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": \
                    {\"city\": \"Köln\", \"days\": 3}}\n</tool_call>\n<tool_call>\n{\"name\": \"clock__now\", \"arguments\": \
                    {}}\n</tool_call>\n<tool_call>\n{\"name\": \"apply_patch\", \"arguments\": {\"input\": \"*** Begin\\n\"}}\n\
                    </tool_call>";

/// As the grammar writes them, which holds calls as soon as one tool is strict: a custom tool is.
const ARGUMENTS: &str = "{\"city\": \"Köln\", \"days\": 3}";

/// A function, one in a namespace, a custom tool, and one of the service's own.
fn tools() -> Value {
    let function = &super::tools()[0]["function"];
    json!([
        {"type": "function", "name": "get_weather", "description": "d", "strict": false, "parameters": function["parameters"]},
        {"type": "namespace", "name": "clock", "description": "d", "tools": [
            {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}},
        ]},
        {"type": "custom", "name": "apply_patch", "description": "d"},
        {"type": "web_search", "external_web_access": false},
    ])
}

fn body(more: Value) -> Value {
    let mut body = json!({
        "model": "scripted", "input": "Köln?", "tools": tools(), "store": false, "max_output_tokens": 400,
        "include": ["reasoning.encrypted_content"],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn ask(rig: &Rig, more: Value) -> Value {
    let answer = rig.post("/v1/responses", &body(more).to_string()).await;
    assert_eq!(answer.status, OK, "{answer:?}");
    answer.json()
}

/// Items without their ids, which are each answer's own.
fn without_ids(items: &Value) -> Value {
    let mut items = items.clone();
    for item in items.as_array_mut().unwrap() {
        let fields = item.as_object_mut().unwrap();
        assert!(fields.remove("id").is_some());
        if let Some(id) = fields.remove("call_id") {
            assert!(id.as_str().unwrap().starts_with("call_"), "{id}");
        }
    }
    items
}

fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn every_kind_of_tool_is_called_by_the_name_that_its_client_has_for_it() {
    let rig = says(thoughtful, SAID).await;
    let answer = rig.post("/v1/responses", &body(json!({})).to_string()).await;
    assert_eq!(answer.status, OK, "{answer:?}");
    let whole = answer.json();
    let seal = rig.app.config.signing_key.sign("Hm, hm.");
    assert_eq!(
        without_ids(&whole["output"]),
        json!([
            {"type": "reasoning", "status": "completed", "summary": [{"type": "summary_text", "text": "Hm, hm."}],
             "encrypted_content": seal},
            {"type": "message", "status": "completed", "role": "assistant",
             "content": [{"type": "output_text", "text": "I'll look.", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "status": "completed", "name": "get_weather", "arguments": ARGUMENTS},
            {"type": "function_call", "status": "completed", "name": "now", "namespace": "clock", "arguments": "{}"},
            {"type": "custom_tool_call", "status": "completed", "name": "apply_patch", "input": "*** Begin\n"},
        ])
    );
    assert_eq!((&whole["status"], &whole["tools"]), (&"completed".into(), &tools()));
    assert!(whole["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap() >= 7, "{whole}");
    let record = rig.get(&format!("/admin/requests/{}", answer.header("x-request-id"))).await.json();
    assert!(record["remarks"][0].as_str().unwrap().contains("web_search"), "{record}");

    let streamed = rig.post("/v1/responses", &body(json!({"stream": true})).to_string()).await.text;
    let events = events(&streamed);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let output = &last["response"]["output"];
    assert_eq!(without_ids(output), without_ids(&whole["output"]));
    let done: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "response.output_item.done")
        .map(|event| &event["item"])
        .collect();
    assert_eq!(json!(done), *output, "the items that came are those of the response");
    let deltas = |at: usize| -> String {
        let of_item = events.iter().filter(|event| event["output_index"] == at);
        of_item.filter_map(|event| event["delta"].as_str()).collect()
    };
    let deltas: Vec<String> = (0..5).map(deltas).collect();
    assert_eq!(deltas, ["Hm, hm.", "I'll look.", ARGUMENTS, "{}", "*** Begin\n"]);
}

#[tokio::test]
async fn a_response_goes_on_with_what_its_calls_gave_as_the_whole_conversation_does() {
    let rig = says(thoughtful, SAID).await;
    let first = ask(&rig, json!({"store": true})).await;
    let items = first["output"].as_array().unwrap();
    let output = |at: usize, kind: &str, output: Value| json!({"type": kind, "call_id": items[at]["call_id"], "output": output});
    let results = [
        output(2, "function_call_output", "sun".into()),
        output(3, "function_call_output", json!([{"type": "input_text", "text": "noon"}])),
        output(4, "custom_tool_call_output", "patched".into()),
    ];
    let tokens = async |more: Value| {
        let usage = ask(&rig, more).await["usage"].take();
        usage["input_tokens"].as_u64().unwrap()
    };
    let short = tokens(json!({"previous_response_id": first["id"], "input": results})).await;
    let mut whole = vec![json!({"role": "user", "content": "Köln?"})];
    whole.extend(items.iter().cloned());
    whole.extend(results);
    assert_eq!(tokens(json!({"input": whole})).await, short);

    // What it thought is its own only while the seal says so.
    whole[1]["summary"][0]["text"] = "Hm, ha.".into();
    let other = tokens(json!({"input": whole})).await;
    // As the model wrote them: a token for each byte.
    assert_eq!(short - other, "<think>\nHm, hm.\n</think>\n\n".len() as u64);
}

#[tokio::test]
async fn a_tool_is_called_where_one_must_be_and_no_other_than_those_allowed() {
    let rig = says(thoughtful, "No. I will not, whatever you want of me.").await;
    let parameters = json!({
        "type": "object", "properties": {"city": {"enum": ["Bonn", "Köln"]}}, "required": ["city"],
        "additionalProperties": false,
    });
    let function = json!({"type": "function", "name": "f", "strict": true, "parameters": parameters});
    let in_space = json!({"type": "namespace", "name": "n", "tools": [function]});
    let tools = json!([function, in_space]);
    for (choice, namespace) in [
        (json!({"type": "function", "name": "f"}), Value::Null),
        (json!({"type": "function", "name": "f", "namespace": "n"}), "n".into()),
        (
            json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}),
            Value::Null,
        ),
    ] {
        let more = json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": false});
        let response = ask(&rig, more).await;
        let output = response["output"].as_array().unwrap();
        assert_eq!((output.len(), &output[0]["name"]), (1, &"f".into()), "{response}");
        assert_eq!(output[0]["namespace"], namespace, "{response}");
        let arguments: Value = serde_json::from_str(output[0]["arguments"].as_str().unwrap()).unwrap();
        assert!(["Bonn", "Köln"].map(Value::from).contains(&arguments["city"]), "{response}");
    }

    let rig = says(thoughtful, SAID).await;
    let now = json!({"type": "function", "name": "now", "namespace": "clock"});
    let some = json!({"type": "allowed_tools", "mode": "auto", "tools": [now, {"type": "web_search"}]});
    let response = ask(&rig, json!({"tool_choice": some})).await;
    let kinds: Vec<&str> =
        response["output"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "message"], "others are text: {response}");
}

#[tokio::test]
async fn an_effort_is_said_to_the_template_and_a_call_that_is_cut_is_incomplete() {
    let rig = says(thoughtful, SAID).await;
    let tokens = async |effort: Value| {
        let response = ask(&rig, json!({"reasoning": {"effort": effort, "summary": "auto"}})).await;
        response["usage"]["input_tokens"].as_u64().unwrap()
    };
    let silent = tokens(Value::Null).await;
    assert_eq!(tokens("low".into()).await, silent);
    assert_eq!(tokens("none".into()).await, silent + "/no\n".len() as u64);

    let n_tokens = SAID.find("\"days\"").unwrap();
    let cut = ask(&rig, json!({"max_output_tokens": n_tokens})).await;
    let call = &cut["output"][2];
    assert_eq!((&cut["status"], &call["status"]), (&"incomplete".into(), &"incomplete".into()));
    let arguments = call["arguments"].as_str().unwrap();
    assert!(ARGUMENTS.starts_with(arguments) && arguments.contains("Köln"), "{cut}");
    let text = rig
        .post("/v1/responses", &body(json!({"max_output_tokens": n_tokens, "stream": true})).to_string())
        .await
        .text;
    let last = events(&text).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["output"][2]["arguments"]),
        (&"response.incomplete".into(), &call["arguments"])
    );
}

#[tokio::test]
async fn a_schema_that_cannot_be_held_to_is_refused_where_it_is_wrong() {
    let rig = says(hermes, "x").await;
    let parameters = json!({"type": "object", "properties": {"a": {"type": "objekt"}}});
    let function = json!({"type": "function", "name": "f", "strict": true, "parameters": parameters});
    let tools = json!([{"type": "namespace", "name": "n", "tools": [function]}]);
    let error = rig.post("/v1/responses", &body(json!({"tools": tools})).to_string()).await.error();
    let place = "tools[0].tools[0].parameters#/properties/a/type";
    assert_eq!(error, (400, "invalid_value".into(), place.into()));
}
