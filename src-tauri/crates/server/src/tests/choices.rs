//! Several answers to a call: to one prompt, and to each of several.

use engine::SamplingChoices;
use futures_util::StreamExt;
use serde_json::json;

use super::*;

/// A rig whose model would say something, and says what comes when nothing is greedy.
async fn hot() -> Rig {
    let rig = Rig::with("word word word word", |config, _| {
        config.sampling = SamplingChoices {
            temperature: Some(2.0),
            top_p: Some(1.0),
            min_p: Some(0.0),
            ..SamplingChoices::default()
        };
    });
    rig.ready().await;
    rig
}

fn contents(answer: &Value) -> Vec<String> {
    let choices = answer["choices"].as_array().unwrap();
    let indices: Vec<u64> = choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
    assert!(indices.iter().copied().eq(0..choices.len() as u64), "{indices:?}");
    let text = |choice: &Value| {
        choice["message"]["content"].as_str().or(choice["text"].as_str()).unwrap().to_owned()
    };
    choices.iter().map(text).collect()
}

#[tokio::test]
async fn each_answer_is_that_of_a_call_with_its_own_seed_and_the_prompt_counts_once() {
    let rig = hot().await;
    let ask = async |more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 12});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = rig.post("/v1/chat/completions", &body.to_string()).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        answer.json()
    };
    let three = ask(json!({"n": 3, "seed": 7})).await;
    let (mut alone, mut n_generated) = (Vec::new(), 0);
    for seed in 7..10 {
        let one = ask(json!({"seed": seed})).await;
        alone.extend(contents(&one));
        n_generated += one["usage"]["completion_tokens"].as_u64().unwrap();
        assert_eq!(three["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"]);
    }
    assert_eq!(contents(&three), alone);
    assert_eq!(three["usage"]["completion_tokens"], n_generated);
    assert_ne!(alone[0], alone[1], "nothing would show here");
    let without_seed = contents(&ask(json!({"n": 2, "max_tokens": 40})).await);
    assert_ne!(without_seed[0], without_seed[1]);
}

#[tokio::test]
async fn streamed_answers_are_the_whole_ones_by_their_index_and_each_ends_for_itself() {
    let rig = hot().await;
    let body = |stream: bool| {
        let mut body = json!({
            "messages": [{"role": "user", "content": "hi"}], "max_tokens": 12, "n": 4, "seed": 3,
        });
        if stream {
            body["stream"] = true.into();
            body["stream_options"] = json!({"include_usage": true});
        }
        body.to_string()
    };
    let whole = rig.post("/v1/chat/completions", &body(false)).await.json();
    let streamed = rig.post("/v1/chat/completions", &body(true)).await;
    assert!(streamed.text.ends_with("data: [DONE]\n\n"), "{}", streamed.text);
    let frames = streamed.text.split("\n\n").filter_map(|frame| frame.strip_prefix("data: {"));
    let frames: Vec<Value> =
        frames.map(|frame| serde_json::from_str(&format!("{{{frame}")).unwrap()).collect();
    let (usage, frames) = frames.split_last().unwrap();
    assert_eq!(
        (&usage["choices"], &usage["usage"]["completion_tokens"]),
        (&json!([]), &whole["usage"]["completion_tokens"])
    );
    let mut texts = vec![String::new(); 4];
    let mut roles = vec![0; 4];
    let mut ends = vec![Value::Null; 4];
    for frame in frames {
        let [choice] = frame["choices"].as_array().unwrap().as_slice() else { panic!("{frame}") };
        let index = choice["index"].as_u64().unwrap() as usize;
        assert_eq!(ends[index], Value::Null, "nothing comes after its end: {frame}");
        roles[index] += usize::from(choice["delta"]["role"] == "assistant");
        texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        ends[index] = choice["finish_reason"].clone();
    }
    assert_eq!(texts, contents(&whole));
    assert_eq!(roles, [1; 4]);
    let wanted: Vec<Value> =
        whole["choices"].as_array().unwrap().iter().map(|choice| choice["finish_reason"].clone()).collect();
    assert_eq!(ends, wanted);
}

#[tokio::test]
async fn what_answers_share_is_computed_once() {
    let rig = hot().await;
    let prompt = "A long story. ".repeat(40);
    let body = json!({"prompt": prompt, "n": 8, "max_tokens": 3, "session_id": "research"});
    let answer = rig.post("/v1/completions", &body.to_string()).await.json();
    let n_prompt = answer["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    let records = rig.engine.records();
    assert_eq!(records.len(), 8);
    let first = &records.iter().find(|record| record.n_reused == 0).unwrap();
    assert_eq!((first.n_prefilled, first.agent.as_deref()), (n_prompt, Some("research")));
    for record in records.iter().filter(|record| record.id != first.id) {
        // Less than a block of them, which is not whole yet in the first one's hands.
        assert!(record.n_prefilled <= 32 && record.n_reused + record.n_prefilled == n_prompt, "{record:?}");
        assert_eq!(record.agent, None, "an agent's conversation has one answer");
    }
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

#[tokio::test]
async fn each_of_several_answers_is_held_to_the_schema() {
    let rig = hot().await;
    let schema = json!({"type": "object", "properties": {"a": {"enum": [1, 22, 333]}}, "required": ["a"],
        "additionalProperties": false});
    let body = json!({
        "messages": [{"role": "user", "content": "hi"}], "n": 5, "seed": 1, "max_tokens": 60,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}},
    });
    let answer = rig.post("/v1/chat/completions", &body.to_string()).await.json();
    for text in contents(&answer) {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!([1, 22, 333].contains(&value["a"].as_i64().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn each_prompt_of_a_list_is_answered_and_repeated_where_that_is_asked_for() {
    let rig = Rig::saying(" ok").await;
    let ask = async |body: Value| {
        let answer = rig.post("/v1/completions", &body.to_string()).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        answer.json()
    };
    let both = ask(json!({"prompt": ["so", "and then"], "n": 2})).await;
    assert_eq!(contents(&both), [" ok", " ok", " ok", " ok"]);
    let usage = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    let alone = usage(&ask(json!({"prompt": "so"})).await) + usage(&ask(json!({"prompt": "and then"})).await);
    assert_eq!(usage(&both), alone);

    let echoed = ask(json!({"prompt": ["so", "and then"], "echo": true})).await;
    assert_eq!(contents(&echoed), ["so ok", "and then ok"]);
    let body = json!({"prompt": ["so", "and then"], "echo": true, "stream": true}).to_string();
    let streamed = rig.post("/v1/completions", &body).await.text;
    let mut texts = [String::new(), String::new()];
    for frame in streamed.lines().filter_map(|line| line.strip_prefix("data: {")) {
        let frame: Value = serde_json::from_str(&format!("{{{frame}")).unwrap();
        let choice = &frame["choices"][0];
        texts[choice["index"].as_u64().unwrap() as usize].push_str(choice["text"].as_str().unwrap());
    }
    assert_eq!(texts, ["so ok", "and then ok"]);
}

#[tokio::test]
async fn more_answers_than_there_may_be_are_refused_with_the_bound() {
    let rig = Rig::saying("a").await;
    let answer = rig.post("/v1/chat/completions", &chat(r#","n":17"#)).await;
    assert_eq!(answer.error(), (400, "invalid_value".into(), "n".into()));
    assert!(answer.text.contains("1 to 16"), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_begin_together_or_not_at_all_and_end_with_their_client() {
    let rig = Rig::with("a long story", |_, engine| engine.max_requests = 4);
    rig.ready().await;
    rig.steering.hold_steps();
    let request = |n: usize| post("/v1/chat/completions", &chat(&format!(r#","stream":true,"n":{n}"#)));
    let response = rig.call(request(3)).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body().into_data_stream();
    body.next().await.unwrap().unwrap();
    let refused = rig.post("/v1/chat/completions", &chat(r#","n":2"#)).await;
    assert_eq!(refused.error(), (429, "rate_limit_exceeded".into(), "-".into()));
    drop(body);
    rig.steering.free_steps();
    let mut stats = rig.engine.watch_stats();
    stats.wait_for(|stats| stats.totals.cancelled == 3 && stats.n_running == 0).await.map(drop).unwrap();
    assert_eq!(rig.post("/v1/chat/completions", &chat(r#","n":4"#)).await.status, OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_answer_breaks_off_there_is_none() {
    let rig = Rig::saying(&"a long story ".repeat(40)).await;
    rig.steering.hold_steps();
    let router = rig.router.clone();
    let body = chat(r#","n":3"#);
    let call =
        tokio::spawn(async move { router.oneshot(post("/v1/chat/completions", &body)).await.unwrap() });
    let (steering, engine) = (rig.steering.clone(), rig.engine.clone());
    blocking(move || {
        // Whoever has not begun when a step fails is told that nothing is taken then.
        while engine.stats().n_running < 3 {
            steering.let_run();
        }
        steering.held_step();
        steering.release(engine::testing::Outcome::Error);
    })
    .await;
    let response = call.await.unwrap();
    assert_eq!(response.status(), 500);
    rig.steering.free_steps();
}
