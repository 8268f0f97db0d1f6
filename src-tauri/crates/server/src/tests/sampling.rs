//! What a request is sampled with, who chose it, and what is said of the tokens that were drawn.

use serde_json::json;

use super::*;

/// A rig whose model recommends `file`, under the settings `settings`.
async fn rig(says: &str, file: SamplingChoices, settings: SamplingChoices) -> Rig {
    let model =
        ScriptedModel { script: Script::Says(says.to_owned()), sampling: file, ..ScriptedModel::default() };
    let steering = Steering::free();
    let loader = Arc::new(ScriptedLoader::new(model, steering.clone()));
    let rig = Rig::around(steering, loader, |config, _| config.sampling = settings);
    rig.ready().await;
    rig
}

#[tokio::test]
async fn what_nobody_names_is_ours_and_each_value_says_whose_it_is() {
    let none = SamplingChoices::default;
    let from = |value: f64, from: &str| json!({"value": value, "from": from});
    let (ours, model) = ("default", "model");
    let file = SamplingChoices { temperature: Some(0.6), top_k: Some(20), min_p: Some(0.0), ..none() };
    for (file, settings, want) in [
        (
            none(),
            none(),
            json!({"temperature": from(0.7, ours), "top_p": from(0.95, ours), "min_p": from(0.05, ours)}),
        ),
        (
            file.clone(),
            none(),
            json!({"temperature": from(0.6, model), "top_p": from(0.95, ours), "min_p": from(0.0, model),
                "top_k": {"value": 20, "from": model}}),
        ),
        (
            file.clone(),
            SamplingChoices { temperature: Some(0.2), repetition_penalty: Some(1.1), ..none() },
            json!({"temperature": from(0.2, "settings"), "top_p": from(0.95, ours), "min_p": from(0.0, model),
                "top_k": {"value": 20, "from": model}, "repetition_penalty": from(1.1, "settings")}),
        ),
        (
            file,
            SamplingChoices { temperature: Some(0.0), ..none() },
            json!({"temperature": from(0.0, "settings")}),
        ),
        (
            SamplingChoices { penalty_window: Some(128), presence_penalty: Some(0.5), ..none() },
            none(),
            json!({"temperature": from(0.7, ours), "top_p": from(0.95, ours), "min_p": from(0.05, ours),
                "presence_penalty": from(0.5, model), "penalty_window": {"value": 128, "from": model}}),
        ),
    ] {
        let rig = rig("a", file, settings).await;
        assert_eq!(rig.get("/admin/status").await.json()["model"]["sampling"], want);
        assert_eq!(rig.get("/v1/models").await.json()["data"][0]["sampling"], want);
    }
}

/// The text that the rig answers.
async fn said(rig: &Rig, more: &str) -> String {
    let answer = rig.post("/v1/chat/completions", &chat(more)).await.json();
    answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_wins_over_the_file_field_by_field_and_zero_is_greedy() {
    let text = "word word word word";
    // So hot that the script is only one wish among many, and with a penalty that no word survives.
    let file = SamplingChoices {
        temperature: Some(2.0),
        top_p: Some(1.0),
        min_p: Some(0.0),
        repetition_penalty: Some(10.0),
        penalty_window: Some(usize::MAX),
        ..SamplingChoices::default()
    };
    let rig = rig(text, file, SamplingChoices::default()).await;
    assert_ne!(said(&rig, r#","seed":1,"max_tokens":40"#).await, text, "the file's choices count");
    for more in [
        r#","temperature":0"#,
        r#","temperature":0.0,"top_p":1,"seed":3"#,
        r#","temperature":1,"top_k":1,"repetition_penalty":1"#,
        r#","top_p":0,"repetition_penalty":1.0"#,
        r#","min_p":1,"repetition_penalty":1,"presence_penalty":0"#,
    ] {
        assert_eq!(said(&rig, more).await, text, "{more}");
    }
    let own =
        said(&rig, r#","temperature":0,"presence_penalty":2,"frequency_penalty":2,"max_tokens":40"#).await;
    assert_ne!(own, text, "its own penalties are the request's wish");
}

#[tokio::test]
async fn log_probabilities_end_with_the_text_whole_and_streamed() {
    let greedy = SamplingChoices { temperature: Some(0.0), ..SamplingChoices::default() };
    let rig = rig("Grüße und mehr und Ende", SamplingChoices::default(), greedy).await;
    for (stop, want) in [
        ("null", "Grüße und mehr und Ende"),
        (r#"" und""#, "Grüße"),
        (r#"["mehr","x"]"#, "Grüße und "),
        (r#""ß""#, "Grü"),
        (r#"["Gr"]"#, ""),
        (r#""Ende!""#, "Grüße und mehr und Ende"),
    ] {
        let body = chat(&format!(r#","logprobs":true,"top_logprobs":2,"stop":{stop}"#));
        let whole = rig.post("/v1/chat/completions", &body).await.json();
        let choice = &whole["choices"][0];
        assert_eq!(choice["message"]["content"], want, "{stop}");
        assert_eq!(spelt(choice["logprobs"]["content"].as_array().unwrap()), want, "{stop}");

        let body = chat(&format!(r#","logprobs":true,"stream":true,"stop":{stop}"#));
        let answer = rig.post("/v1/chat/completions", &body).await;
        let frames = answer.text.lines().filter_map(|line| line.strip_prefix("data: {"));
        let tokens: Vec<Value> = frames
            .map(|frame| serde_json::from_str::<Value>(&format!("{{{frame}")).unwrap())
            .flat_map(|chunk| {
                chunk["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default()
            })
            .collect();
        assert_eq!(spelt(&tokens), want, "streamed, {stop}");

        let body = format!(r#"{{"prompt":"a","max_tokens":99,"logprobs":3,"stop":{stop}}}"#);
        let logprobs = &rig.post("/v1/completions", &body).await.json()["choices"][0]["logprobs"];
        assert_eq!(logprobs["tokens"].as_array().unwrap().len(), want.len(), "a byte is a token, {stop}");
        for top in logprobs["top_logprobs"].as_array().unwrap() {
            assert_eq!(top.as_object().unwrap().len(), 3, "{top}");
        }
        let last = logprobs["text_offset"].as_array().unwrap().last().map_or(0, |at| at.as_u64().unwrap());
        assert_eq!(last, (want.chars().count() as u64).saturating_sub(1), "{stop}");
    }
}

/// The text that the tokens' bytes spell.
fn spelt(tokens: &[Value]) -> String {
    let bytes = tokens.iter().flat_map(|token| token["bytes"].as_array().unwrap());
    String::from_utf8(bytes.map(|byte| byte.as_u64().unwrap() as u8).collect()).unwrap()
}

#[tokio::test]
async fn variables_reach_the_template_and_replace_nothing() {
    let model = ScriptedModel {
        script: Script::Says("a".to_owned()),
        text: engine::testing::thinking_text,
        ..ScriptedModel::default()
    };
    let steering = Steering::free();
    let loader = Arc::new(ScriptedLoader::new(model, steering.clone()));
    let rig = Rig::around(steering, loader, |_, _| {});
    rig.ready().await;
    let n_prompt = async |more: &str| {
        let answer = rig.post("/v1/chat/completions", &chat(more)).await;
        assert_eq!(answer.status, OK, "{more}: {}", answer.text);
        answer.json()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let plain = n_prompt("").await;
    for (more, n_more) in [
        (r#","chat_template_kwargs":{"enable_thinking":false}"#, "/no".len()),
        (r#","chat_template_kwargs":{"enable_thinking":true}"#, 0),
        (r#","chat_template_kwargs":{"enable_thinking":null,"other":[1]}"#, "/no".len()),
        (r#","chat_template_kwargs":null"#, 0),
        (r#","reasoning_effort":"none""#, "/no".len()),
        (r#","reasoning_effort":"high","verbosity":"low""#, 0),
        // A control token in a value is plain text: its letters, not the token.
        (r#","chat_template_kwargs":{"tone":"<|end|>"}"#, "<|end|>".len()),
    ] {
        assert_eq!(n_prompt(more).await, plain + n_more as u64, "{more}");
    }
    for (kwargs, param) in [
        (r#"{"messages":[]}"#, "chat_template_kwargs.messages"),
        (r#"{"add_generation_prompt":false}"#, "chat_template_kwargs.add_generation_prompt"),
        (r#"{"tools":[]}"#, "chat_template_kwargs.tools"),
        ("7", "chat_template_kwargs"),
    ] {
        let body = chat(&format!(r#","chat_template_kwargs":{kwargs}"#));
        let error = rig.post("/v1/chat/completions", &body).await.error();
        assert_eq!(error, (400, "invalid_value".into(), param.into()), "{kwargs}");
    }
}
