//! Functions that real models are made to call, with arguments that fit their schema.

use serde_json::{Value, json};

use crate::harness::answer::chat;
use crate::harness::gguf::with_chat_template;
use crate::harness::{SMOLLM2, Samovar, Setup, model};

fn tools() -> Value {
    let parameters = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 40},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city", "unit", "days"],
        "additionalProperties": false,
    });
    let function = |name: &str, parameters: Value| {
        json!({"type": "function", "function": {
            "name": name, "description": "Tells it", "parameters": parameters, "strict": true,
        }})
    };
    json!([
        function("get_weather", parameters),
        function("get_time", json!({"type": "object", "properties": {}, "additionalProperties": false})),
    ])
}

fn body(prompt: &str, choice: &Value) -> Value {
    let mut body = chat(prompt, 300);
    body["tools"] = tools();
    body["tool_choice"] = choice.clone();
    body["parallel_tool_calls"] = json!(false);
    body
}

/// The one call of an answer, whose arguments fit its function.
fn call_of(server: &Samovar, body: &Value) -> Value {
    let answer = server.post("/v1/chat/completions", body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    assert_eq!(choice["message"]["content"], Value::Null, "{answer}");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 1, "{answer}");
    let function = &calls[0]["function"];
    let arguments: Value = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
    if function["name"] == "get_time" {
        assert_eq!(arguments, json!({}));
    } else {
        assert_eq!(function["name"], "get_weather", "{answer}");
        assert!(arguments["city"].as_str().unwrap().chars().count() <= 40, "{answer}");
        assert!(["celsius", "fahrenheit"].contains(&arguments["unit"].as_str().unwrap()), "{answer}");
        assert!((1..=9).contains(&arguments["days"].as_i64().unwrap()), "{answer}");
        assert_eq!(arguments.as_object().unwrap().len(), 3, "{answer}");
    }
    calls[0].clone()
}

/// A template that shows tools and calls, in the form of a family that writes arguments between tags.
const TAGGED: &str = "{% if tools %}<|im_start|>system\n{{ tools | tojson }}\n<tool_call>\n<function=f>\n\
    <parameter=p>\nv\n</parameter>\n</function>\n</tool_call><|im_end|>\n{% endif %}{% for m in messages %}\
    <|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls %}<tool_call>\n<function={{ c.function.name }}>\n\
    {% for k, v in c.function.arguments | items %}<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}\
    </function>\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn a_real_model_calls_what_it_must_with_arguments_that_fit_and_goes_on_with_the_result() {
    for template in [None, Some(TAGGED)] {
        let mut setup = Setup::new(SMOLLM2);
        if let Some(template) = template {
            let file = with_chat_template(&model(SMOLLM2), template, &setup.data().join("tagged.gguf"));
            setup = setup.with("--model", &file.display().to_string());
        }
        let server = setup.ready();
        let prompt = "How is the weather in Paris?";
        call_of(&server, &body(prompt, &json!("required")));
        let named = json!({"type": "function", "function": {"name": "get_weather"}});
        let body = body(prompt, &named);
        let call = call_of(&server, &body);
        assert_eq!(call["function"]["name"], "get_weather");

        let mut next = chat(prompt, 8);
        next["tools"] = tools();
        next["messages"].as_array_mut().unwrap().extend([
            json!({"role": "assistant", "content": null, "tool_calls": [call]}),
            json!({"role": "tool", "tool_call_id": call["id"], "content": "21 degrees and sunny"}),
        ]);
        let answer = server.post("/v1/chat/completions", &next);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let remarks = server.get("/admin/requests").json()["requests"][0]["remarks"].clone();
        let is_in_words =
            remarks.as_array().unwrap().iter().any(|remark| remark.as_str().unwrap().contains("in words"));
        assert_eq!(is_in_words, template.is_none(), "{remarks}");
    }
}

#[test]
fn several_answers_of_a_real_model_share_their_prompt_and_are_those_of_their_seeds() {
    let server = Setup::new(SMOLLM2).ready();
    let ask = |more: Value| {
        let mut body = chat("Tell a story of a tea kettle.", 12);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body["temperature"] = json!(1.0);
        let answer = server.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let texts = |answer: &Value| -> Vec<String> {
        let choices = answer["choices"].as_array().unwrap().iter();
        choices.map(|choice| choice["message"]["content"].as_str().unwrap().to_owned()).collect()
    };
    let three = ask(json!({"n": 3, "seed": 40}));
    let alone: Vec<String> = (40..43).flat_map(|seed| texts(&ask(json!({"seed": seed})))).collect();
    assert_eq!(texts(&three), alone);
}
