//! One conversation with thoughts, calls and their results in the words of every API: the model is shown the same.

use engine::RequestId;

use super::*;
use crate::calls::call::Call;
use crate::dialects::anthropic::messages_call;
use crate::dialects::ollama::chat_call;
use crate::dialects::ollama::parameters::Wanted;
use crate::dialects::openai::chat;
use crate::dialects::responses::responses_call;
use crate::kept::diary::RequestDiary;
use crate::kept::kept_responses::{OwnShelf, Owner};

/// The text that the model is shown of a call.
async fn shown(rig: &Rig, call: Call) -> String {
    let id = RequestId("r".into());
    let prepared = rig.app.preparer.prepare(call, None, (), &id).await;
    let prepared = prepared.unwrap_or_else(|fault| panic!("{fault:?}"));
    let text = &prepared.card.text;
    let bytes = prepared.request.prompt.tokens().iter().flat_map(|&token| match text.control_text(token) {
        Some(control) => control.as_bytes(),
        None => text.token_bytes(token),
    });
    String::from_utf8(bytes.copied().collect()).unwrap()
}

fn openai() -> Call {
    let calls = json!([
        {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}},
        {"id": "call_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]);
    let body = json!({"tools": tools(), "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Köln?"},
        {"role": "assistant", "content": "I'll look.", "reasoning_content": "Hm, hm.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
        {"role": "user", "content": "And?"},
    ]});
    chat::parse(body.to_string().as_bytes()).unwrap().call
}

fn anthropic(rig: &Rig) -> Call {
    let key = rig.app.config.signing_key;
    let tool = |tool: &Value| {
        let function = &tool["function"];
        json!({"name": function["name"], "description": "d", "input_schema": function["parameters"]})
    };
    let tools: Vec<Value> = tools().as_array().unwrap().iter().map(tool).collect();
    let arguments: Value = serde_json::from_str(ARGUMENTS).unwrap();
    let body = json!({
        "max_tokens": 9, "system": "Be brief.", "tools": tools, "thinking": {"type": "adaptive"}, "messages": [
            {"role": "user", "content": "Köln?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm, hm.", "signature": key.sign("Hm, hm.")},
                {"type": "text", "text": "I'll look."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": arguments},
                {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sun"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "noon"}]},
                {"type": "text", "text": "And?"},
            ]},
        ],
    });
    messages_call::parse(body.to_string().as_bytes(), key, Arc::new(RequestDiary::default())).unwrap().call
}

fn responses(rig: &Rig) -> Call {
    let tool = |tool: &Value| {
        let function = &tool["function"];
        json!({"type": "function", "name": function["name"], "description": "d", "parameters": function["parameters"]})
    };
    let tools: Vec<Value> = tools().as_array().unwrap().iter().map(tool).collect();
    let body = json!({"instructions": "Be brief.", "tools": tools, "input": [
        {"role": "user", "content": "Köln?"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm, hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I'll look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": ARGUMENTS},
        {"type": "function_call", "call_id": "call_2", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sun"},
        {"type": "function_call_output", "call_id": "call_2", "output": "noon"},
        {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
    ]});
    let shelf = OwnShelf { owner: Owner::of(None), kept: Arc::default() };
    let key = rig.app.config.signing_key;
    responses_call::parse(body.to_string().as_bytes(), key, Arc::new(shelf)).unwrap().call
}

fn ollama() -> Call {
    let arguments: Value = serde_json::from_str(ARGUMENTS).unwrap();
    let calls = json!([
        {"function": {"name": "get_weather", "arguments": arguments}}, {"function": {"name": "now", "arguments": {}}},
    ]);
    let body = json!({"tools": tools(), "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Köln?"},
        {"role": "assistant", "content": "I'll look.", "thinking": "Hm, hm.", "tool_calls": calls},
        {"role": "tool", "tool_name": "get_weather", "content": "sun"},
        {"role": "tool", "tool_name": "now", "content": "noon"},
        {"role": "user", "content": "And?"},
    ]});
    match chat_call::parse(body.to_string().as_bytes()).unwrap() {
        Wanted::Answer(asked) => asked.call,
        Wanted::Model { .. } => panic!("something is asked"),
    }
}

#[tokio::test]
async fn a_round_of_tools_is_shown_to_the_model_in_the_same_words_whichever_api_it_came_by() {
    let rig = says(thoughtful, "").await;
    let prompt = shown(&rig, openai()).await;
    let (tools, chat) = prompt.split_once('\n').unwrap();
    assert!(
        tools.starts_with("[{\"type\": \"function\", \"function\": {\"name\": \"get_weather\""),
        "{tools}"
    );
    let want = "\
<|start|>system
Be brief.<|end|>
<|start|>user
Köln?<|end|>
<|start|>assistant
<think>
Hm, hm.
</think>

I'll look.
<tool_call>
{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Köln\", \"days\": 3}}
</tool_call>
<tool_call>
{\"name\": \"now\", \"arguments\": {}}
</tool_call><|end|>
<|start|>tool
sun<|end|>
<|start|>tool
noon<|end|>
<|start|>user
And?<|end|>
<|start|>assistant
";
    assert_eq!(chat, want);
    for (api, call) in [("Anthropic", anthropic(&rig)), ("Responses", responses(&rig)), ("Ollama", ollama())]
    {
        assert_eq!(shown(&rig, call).await, prompt, "{api}");
    }
}
