//! What is streamed, put together, against the same answer in one piece: byte for byte, in every dialect, wherever the
//! answer is cut.

use super::tools::{rig, thoughtful, tools};
use super::*;
use serde_json::json;

/// Answers as a model writes them, sound ones and others.
const ANSWERS: [&str; 7] = [
    "Well — “yes”, naïve\r\n\tand 好 👍🏽.",
    "<think>\nHm, “so”: 好.\n</think>\n\nIt is so.  ",
    "<think>\nLook.\n</think>\n\nI'll look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\":  \"K\\u00f6ln\", \
     \"n\": 1.0}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
    "<tool_call>\n{\"arguments\": {\"city\": \"Bonn <tool_call> } \\\" \"}, \"name\": \"get_weather\"}\n</tool_call>",
    "A tag, <tool_call, is none, nor are </think> and <think>.",
    "<tool_call>\n{\"name\": \"nobody\", \"arguments\": [1]}\n</tool_call> so be it",
    "<think>\nOn and on",
];

/// What an answer comes to: what is thought, what is said, and each call's name and arguments.
#[derive(Debug, Default, PartialEq)]
struct Said {
    thoughts: String,
    text: String,
    calls: Vec<(String, String)>,
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The data of a stream's events.
fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The objects that stand behind `name` in a body, in the bytes that they are sent in.
fn objects_at(body: &str, name: &str) -> Vec<String> {
    let starts = body.match_indices(name).map(|(at, _)| &body[at + name.len()..]);
    let object = |rest| {
        serde_json::Deserializer::from_str(rest).into_iter::<Box<serde_json::value::RawValue>>().next()
    };
    starts.map(|rest| object(rest).unwrap().unwrap().get().to_owned()).collect()
}

fn of_chat(answer: &Answer) -> Said {
    let message = &answer.json()["choices"][0]["message"];
    let calls = message["tool_calls"].as_array().into_iter().flatten().map(|call| &call["function"]);
    Said {
        thoughts: string(&message["reasoning_content"]).to_owned(),
        text: string(&message["content"]).to_owned(),
        calls: calls
            .map(|call| (string(&call["name"]).to_owned(), string(&call["arguments"]).to_owned()))
            .collect(),
    }
}

fn of_chunks(answer: &Answer) -> Said {
    let mut said = Said::default();
    for chunk in events(&answer.text) {
        let delta = &chunk["choices"][0]["delta"];
        said.thoughts += string(&delta["reasoning_content"]);
        said.text += string(&delta["content"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let at = call["index"].as_u64().unwrap() as usize;
            if at == said.calls.len() {
                said.calls.push((string(&call["function"]["name"]).to_owned(), String::new()));
            }
            said.calls[at].1 += string(&call["function"]["arguments"]);
        }
    }
    said
}

fn of_message(answer: &Answer) -> Said {
    let mut said = Said::default();
    let mut inputs = objects_at(&answer.text, "\"input\":").into_iter();
    for block in answer.json()["content"].as_array().unwrap() {
        said.thoughts += string(&block["thinking"]);
        said.text += string(&block["text"]);
        if block["type"] == "tool_use" {
            said.calls.push((string(&block["name"]).to_owned(), inputs.next().unwrap()));
        }
    }
    said
}

fn of_message_events(answer: &Answer) -> Said {
    let mut said = Said::default();
    for event in events(&answer.text) {
        let (block, delta) = (&event["content_block"], &event["delta"]);
        if block["type"] == "tool_use" {
            said.calls.push((string(&block["name"]).to_owned(), String::new()));
        }
        said.thoughts += string(&delta["thinking"]);
        said.text += string(&delta["text"]);
        if delta["type"] == "input_json_delta" {
            said.calls.last_mut().unwrap().1 += string(&delta["partial_json"]);
        }
    }
    // What was cut is no object: in one piece it stands in one by itself.
    for (_, arguments) in &mut said.calls {
        match serde_json::from_str::<Value>(arguments) {
            Ok(_) => {}
            Err(_) if arguments.is_empty() => *arguments = "{}".to_owned(),
            Err(_) => *arguments = json!({"INVALID_JSON": arguments}).to_string(),
        }
    }
    said
}

fn of_response(answer: &Answer) -> Said {
    let mut said = Said::default();
    for item in answer.json()["output"].as_array().unwrap() {
        let all = |parts: &Value| -> String {
            parts.as_array().into_iter().flatten().map(|part| string(&part["text"])).collect()
        };
        said.thoughts += &all(&item["summary"]);
        said.text += &all(&item["content"]);
        if item["type"] == "function_call" {
            said.calls.push((string(&item["name"]).to_owned(), string(&item["arguments"]).to_owned()));
        }
    }
    said
}

fn of_response_events(answer: &Answer) -> Said {
    let mut said = Said::default();
    for event in events(&answer.text) {
        let delta = string(&event["delta"]);
        match string(&event["type"]) {
            "response.output_item.added" if event["item"]["type"] == "function_call" => {
                said.calls.push((string(&event["item"]["name"]).to_owned(), String::new()));
            }
            "response.reasoning_summary_text.delta" => said.thoughts += delta,
            "response.output_text.delta" => said.text += delta,
            "response.function_call_arguments.delta" => said.calls.last_mut().unwrap().1 += delta,
            _ => {}
        }
    }
    said
}

/// Of Ollama's chats, whole or in lines.
fn of_lines(answer: &Answer) -> Said {
    let mut said = Said::default();
    let mut arguments = objects_at(&answer.text, "\"arguments\":").into_iter();
    for line in answer.text.lines() {
        let message = &serde_json::from_str::<Value>(line).unwrap()["message"];
        said.thoughts += string(&message["thinking"]);
        said.text += string(&message["content"]);
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let name = string(&call["function"]["name"]).to_owned();
            said.calls.push((name, arguments.next().unwrap()));
        }
    }
    said
}

/// A body, with so many tokens for the answer, and whether it is streamed.
type BodyOf = fn(usize, bool) -> Value;
type Read = fn(&Answer) -> Said;

fn functions() -> impl Iterator<Item = Value> {
    let functions = tools().as_array().unwrap().clone();
    functions.into_iter().map(|tool| tool["function"].clone())
}

const DIALECTS: [(&str, BodyOf, Read, Read); 4] = [
    (
        "/v1/chat/completions",
        |most, stream| {
            let messages = json!([{"role": "user", "content": "hi"}]);
            json!({"messages": messages, "tools": tools(), "max_tokens": most, "stream": stream})
        },
        of_chat,
        of_chunks,
    ),
    (
        "/v1/messages",
        |most, stream| {
            let tool = |tool: Value| json!({"name": tool["name"], "input_schema": tool["parameters"]});
            let tools: Vec<Value> = functions().map(tool).collect();
            let messages = json!([{"role": "user", "content": "hi"}]);
            json!({
                "messages": messages, "tools": tools, "max_tokens": most, "stream": stream,
                "thinking": {"type": "adaptive"},
            })
        },
        of_message,
        of_message_events,
    ),
    (
        "/v1/responses",
        |most, stream| {
            let tool = |tool: Value| json!({"type": "function", "name": tool["name"], "parameters": tool["parameters"]});
            let tools: Vec<Value> = functions().map(tool).collect();
            json!({"input": "hi", "tools": tools, "max_output_tokens": most, "stream": stream})
        },
        of_response,
        of_response_events,
    ),
    (
        "/api/chat",
        |most, stream| {
            let messages = json!([{"role": "user", "content": "hi"}]);
            json!({
                "messages": messages, "tools": tools(), "options": {"num_predict": most}, "stream": stream,
                "think": true,
            })
        },
        of_lines,
        of_lines,
    ),
];

#[tokio::test]
async fn deltas_put_together_are_the_whole_answer_wherever_it_is_cut() {
    for answer in ANSWERS {
        let rig = rig(thoughtful, Script::Says(answer.to_owned())).await;
        let mut longest = Vec::new();
        for most in [1, 8, 9, 10, 20, 33, 47, 70, 101, 149, 400] {
            let mut said = Vec::new();
            for (path, body, read_whole, read_stream) in DIALECTS {
                let whole = rig.post(path, &body(most, false).to_string()).await;
                let streamed = rig.post(path, &body(most, true).to_string()).await;
                assert_eq!((whole.status, streamed.status), (OK, OK), "{} {}", whole.text, streamed.text);
                let (whole, streamed) = (read_whole(&whole), read_stream(&streamed));
                assert_eq!(streamed, whole, "{path}, {most} tokens of {answer}");
                said.push(whole);
            }
            longest = said;
        }
        // What an answer comes to is no matter of the API that it is told by.
        assert!(longest.iter().all(|said| *said == longest[0]), "{longest:#?}");
    }
}
