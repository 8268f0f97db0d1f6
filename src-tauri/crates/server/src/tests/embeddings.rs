//! `/v1/embeddings` as a client sees it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::testing::{N_VOCAB, Outcome as StepOutcome, START, ScriptedEmbedder, enclosing_text};
use engine::{After, EmbedSpec, Pooling};
use serde_json::json;

use super::*;

const PATH: &str = "/v1/embeddings";

const WIDTH: usize = 6;

fn spec() -> EmbedSpec {
    EmbedSpec { width: WIDTH, max_tokens: 40, n_vocab: N_VOCAB, pooling: Pooling::Mean, n_parts: 4 }
}

fn encoder() -> ScriptedModel {
    ScriptedModel {
        name: "encoder",
        fingerprint: [5; 32],
        embeds: Some(spec()),
        text: enclosing_text,
        ..ScriptedModel::default()
    }
}

/// A server that hosts an encoder and nothing else.
async fn alone() -> Rig {
    let steering = Steering::free();
    let loader = ScriptedLoader::new(encoder(), steering.clone());
    let rig = Rig::around(steering, Arc::new(loader), |_, _| {});
    rig.ready().await;
    rig
}

/// One that hosts an encoder under a steering of its own beside a model for chats, which is the default one.
async fn beside_chat() -> (Rig, Steering) {
    let (steering, of_encoder) = (Steering::free(), Steering::free());
    let chats = ScriptedModel { script: Script::Says("yes".to_owned()), ..ScriptedModel::default() };
    let loader = ScriptedLoader::new(chats, steering.clone()).and("encoder", encoder(), of_encoder.clone());
    let rig = Rig::around(steering, Arc::new(loader), |_, _| {});
    rig.ready().await;
    load_encoder(&rig).await;
    (rig, of_encoder)
}

async fn load_encoder(rig: &Rig) {
    rig.engine.load_model("encoder".into()).await.unwrap();
    encoder_becomes(rig, "ready").await;
}

async fn encoder_becomes(rig: &Rig, state: &str) {
    let is_so = |stats: &engine::Stats| {
        stats.models.iter().any(|model| &*model.name.0 == "encoder" && model.state.name() == state)
    };
    rig.engine.watch_stats().wait_for(is_so).await.unwrap();
}

/// The first `dimensions` values of a vector, brought to a length of 1.
fn unit(tokens: &[u32], dimensions: usize) -> Vec<f32> {
    let vector = &ScriptedEmbedder::vector(tokens, WIDTH)[..dimensions];
    let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    vector.iter().map(|&value| (f64::from(value) / length) as f32).collect()
}

/// A text as its bytes' tokens, between those that enclose it.
fn enclosed(text: &str) -> Vec<u32> {
    enclosing_text().encode_closed(text, text::EncodeLimits::NONE).unwrap()
}

fn vectors(answer: &Answer) -> Vec<Vec<f32>> {
    assert_eq!(answer.status, OK, "{}", answer.text);
    let body = answer.json();
    assert_eq!((&body["object"], &body["model"]), (&json!("list"), &json!("encoder")));
    let data = body["data"].as_array().unwrap().iter().enumerate();
    data.map(|(idx, one)| {
        assert_eq!((&one["object"], &one["index"]), (&json!("embedding"), &json!(idx)));
        match &one["embedding"] {
            Value::String(base64) => {
                let bytes = STANDARD.decode(base64).unwrap();
                bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
            }
            floats => serde_json::from_value(floats.clone()).unwrap(),
        }
    })
    .collect()
}

#[tokio::test]
async fn a_text_its_tokens_and_lists_of_both_have_their_vectors_in_order() {
    let rig = alone().await;
    for (input, want) in [
        (json!("good day"), vec![enclosed("good day")]),
        (json!(["b", "a", "b"]), vec![enclosed("b"), enclosed("a"), enclosed("b")]),
        // Tokens are taken as they are.
        (json!([START, 97, 98]), vec![vec![START, 97, 98]]),
        (json!([[97], [98, 99]]), vec![vec![97], vec![98, 99]]),
        (json!(["a", [97]]), vec![enclosed("a"), vec![97]]),
        (json!([" "]), vec![enclosed(" ")]),
    ] {
        let answer = rig.post(PATH, &json!({"input": input, "model": "encoder"}).to_string()).await;
        let wanted: Vec<_> = want.iter().map(|tokens| unit(tokens, WIDTH)).collect();
        assert_eq!(vectors(&answer), wanted, "{input}");
        let n_tokens: usize = want.iter().map(Vec::len).sum();
        assert_eq!(answer.json()["usage"], json!({"prompt_tokens": n_tokens, "total_tokens": n_tokens}));
    }
}

#[tokio::test]
async fn an_answer_is_written_so() {
    let rig = alone().await;
    let body = |more: &str| format!(r#"{{"input":["a","the"],"dimensions":2{more}}}"#);
    assert_eq!(
        rig.post(PATH, &body("")).await.text,
        include_str!("embeddings/floats.json").trim_end(),
        "src-tauri/crates/server/src/tests/embeddings/floats.json"
    );
    assert_eq!(
        rig.post("/embeddings", &body(r#","encoding_format":"base64","user":"u""#)).await.text,
        include_str!("embeddings/base64.json").trim_end(),
        "src-tauri/crates/server/src/tests/embeddings/base64.json"
    );
}

#[tokio::test]
async fn base64_has_the_same_bits_as_floats_and_fewer_dimensions_are_those_of_length_one() {
    let rig = alone().await;
    for dimensions in 1..=WIDTH {
        let ask = |format: &str| {
            let body = json!({"input": ["x", "yz"], "dimensions": dimensions, "encoding_format": format});
            body.to_string()
        };
        let floats = vectors(&rig.post(PATH, &ask("float")).await);
        assert_eq!(floats, [unit(&enclosed("x"), dimensions), unit(&enclosed("yz"), dimensions)]);
        assert_eq!(vectors(&rig.post(PATH, &ask("base64")).await), floats);
    }
}

#[tokio::test]
async fn a_long_list_comes_in_pieces_and_is_one_body_all_the_same() {
    let rig = alone().await;
    let texts: Vec<String> = (0..2048).map(|i| format!("{i:x}")).collect();
    let answer = rig.post(PATH, &json!({"input": texts}).to_string()).await;
    assert!(answer.text.len() > 128 << 10, "{}", answer.text.len());
    assert_eq!(answer.header("content-type"), "application/json");
    let wanted: Vec<_> = texts.iter().map(|text| unit(&enclosed(text), WIDTH)).collect();
    assert_eq!(vectors(&answer), wanted);
}

#[tokio::test]
async fn a_text_that_is_too_long_is_refused_with_both_lengths_or_cut_where_that_is_asked_for() {
    let rig = alone().await;
    let long = "x".repeat(100);
    let ask = |more: Value| {
        let mut body = json!({"input": ["a", long]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let refused = rig.post(PATH, &ask(json!({}))).await;
    assert_eq!(refused.error(), (400, "context_length_exceeded".into(), "input.1".into()));
    let error = &refused.json()["error"];
    assert_eq!((&error["prompt_tokens"], &error["context_length"]), (&json!(102), &json!(40)));
    for words in ["40 tokens", "102 tokens", "\"truncate\": true"] {
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    let cut = |n: usize| unit(&[&[START], &enclosed(&long)[1..n - 1], &enclosed("")[1..]].concat(), WIDTH);
    for (more, n) in [
        (json!({"truncate": true}), 40),
        (json!({"truncate_prompt_tokens": -1}), 40),
        (json!({"truncate_prompt_tokens": 12}), 12),
        (json!({"truncate_prompt_tokens": 3}), 3),
    ] {
        let answer = rig.post(PATH, &ask(more.clone())).await;
        assert_eq!(vectors(&answer), [unit(&enclosed("a"), WIDTH), cut(n)], "{more}");
        assert_eq!(answer.json()["usage"]["prompt_tokens"], 3 + n);
    }
    for n in [1, 2, 41] {
        let refused = rig.post(PATH, &ask(json!({"truncate_prompt_tokens": n}))).await;
        assert_eq!(refused.error(), (400, "invalid_value".into(), "truncate_prompt_tokens".into()), "{n}");
    }
    let tokens: Vec<u32> = enclosed(&long);
    let refused = rig.post(PATH, &json!({"input": tokens}).to_string()).await;
    assert_eq!(refused.error(), (400, "context_length_exceeded".into(), "input".into()));
    let answer = rig.post(PATH, &json!({"input": tokens, "truncate": true}).to_string()).await;
    assert_eq!(vectors(&answer), [cut(40)]);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_its_place() {
    let rig = alone().await;
    let too_many = vec!["x"; 2049];
    for (body, code, param) in [
        (json!({"model": "encoder"}), "missing_required_parameter", "input"),
        (json!({"input": ""}), "invalid_value", "input"),
        (json!({"input": []}), "invalid_value", "input"),
        (json!({"input": too_many}), "invalid_value", "input"),
        (json!({"input": ["a", ""]}), "invalid_value", "input.1"),
        (json!({"input": ["a", []]}), "invalid_value", "input.1"),
        (json!({"input": ["a", "b", "c", 7]}), "invalid_value", "input.3"),
        (json!({"input": [[97], [N_VOCAB]]}), "invalid_value", "input.1"),
        (json!({"input": [4_294_967_295_u32]}), "invalid_value", "input"),
        (json!({"input": "a", "dimensions": WIDTH + 1}), "invalid_value", "dimensions"),
        (json!({"input": "a", "dimensions": 0}), "invalid_value", "dimensions"),
        (json!({"input": "a", "encoding_format": "int8"}), "invalid_value", "encoding_format"),
        (json!({"input": "a", "model": "nobody"}), "model_not_found", "model"),
        (json!({"input": "a", "messages": []}), "unknown_parameter", "messages"),
    ] {
        let answer = rig.post(PATH, &body.to_string()).await;
        let status = if code == "model_not_found" { 404 } else { 400 };
        assert_eq!(answer.error(), (status, code.into(), param.into()), "{:.80}", body.to_string());
    }
    let foreign = rig.post(PATH, &json!({"input": [100_257]}).to_string()).await;
    assert!(foreign.text.contains("must be those of the model 'encoder' itself"), "{}", foreign.text);
}

#[tokio::test]
async fn a_model_that_is_for_something_else_says_what_it_is_for() {
    let (rig, _) = beside_chat().await;
    let ask = json!({"input": "a", "model": "scripted"}).to_string();
    let refused = rig.post(PATH, &ask).await;
    assert_eq!(refused.error(), (400, "model_not_suitable".into(), "model".into()));
    assert!(refused.text.contains("'scripted' generates text and gives no embeddings"), "{}", refused.text);
    for (path, body) in [
        ("/v1/chat/completions", chat(r#","model":"encoder""#)),
        ("/v1/chat/completions", chat(r#","model":"encoder","stream":true"#)),
        ("/v1/completions", r#"{"prompt":"a","model":"encoder"}"#.to_owned()),
    ] {
        let refused = rig.post(path, &body).await;
        assert_eq!(refused.error(), (400, "model_not_suitable".into(), "model".into()), "{path}");
        assert!(refused.text.contains("'encoder' gives texts their vectors"), "{}", refused.text);
        assert!(refused.text.contains("/v1/embeddings"), "{}", refused.text);
    }
    // Without a name it is the one that can.
    assert_eq!(vectors(&rig.post(PATH, r#"{"input":"a"}"#).await).len(), 1);
    assert_eq!(vectors(&rig.post(PATH, r#"{"input":"a","model":""}"#).await).len(), 1);
    assert_eq!(rig.post("/v1/chat/completions", &chat("")).await.status, OK);
}

#[tokio::test]
async fn where_nobody_gives_vectors_a_call_without_a_name_says_so() {
    let rig = Rig::saying("a").await;
    let refused = rig.post(PATH, r#"{"input":"a"}"#).await;
    assert_eq!(refused.error(), (400, "model_not_suitable".into(), "model".into()));
}

#[tokio::test]
async fn what_a_model_is_for_is_shown_wherever_models_are() {
    let (rig, _) = beside_chat().await;
    let models = rig.get("/v1/models").await.json();
    let [chats, encoder] = models["data"].as_array().unwrap().as_slice() else { panic!("{models}") };
    assert_eq!((&chats["purpose"], chats.get("embedding")), (&json!("generate"), None));
    assert!(chats["sampling"].is_object(), "{chats}");
    assert_eq!(encoder["purpose"], "embed");
    assert_eq!(encoder["embedding"], json!({"dimensions": WIDTH, "pooling": "mean", "max_input_tokens": 40}));
    assert_eq!((&encoder["context_length"], &encoder["has_chat_template"]), (&json!(40), &json!(false)));
    assert_eq!(encoder.get("sampling"), None, "nothing is sampled: {encoder}");

    let rig = alone().await;
    let status = rig.get("/admin/status").await.json();
    assert_eq!(status["model"]["purpose"], "embed");
    assert_eq!(status["model"]["embedding"]["dimensions"], WIDTH);
    assert_eq!(status["model"].get("sampling"), None);
    let health = rig.get("/health/ready").await;
    assert_eq!((health.status, &health.json()["pool_utilization"]), (OK, &json!(0.0)));
}

#[tokio::test]
async fn a_call_is_counted_and_written_down_as_others_are() {
    let rig = alone().await;
    let answer = rig.post(PATH, r#"{"input":["a","bc"]}"#).await;
    let ended = rig.get(&format!("/admin/requests/{}", answer.header("x-request-id"))).await.json();
    let outcome = (&ended["outcome"], &ended["texts"], &ended["prompt_tokens"], &ended["prefilled_tokens"]);
    assert_eq!(outcome, (&json!("embedded"), &json!(2), &json!(7), &json!(7)));
    let totals = &rig.get("/admin/status").await.json()["totals"];
    assert_eq!((&totals["embedded_texts"], &totals["embedded_tokens"]), (&json!(2), &json!(7)));
    let metrics = rig.get("/metrics").await.text;
    for line in ["samovar_embedded_texts_total 2", "samovar_embedded_tokens_total 7"] {
        assert!(metrics.lines().any(|other| other == line), "{line}");
    }
    // Those of generations have none.
    let rig = Rig::saying("a").await;
    let answer = rig.post("/v1/completions", r#"{"prompt":"a"}"#).await;
    let ended = rig.get(&format!("/admin/requests/{}", answer.header("x-request-id"))).await.json();
    assert_eq!(ended.get("texts"), None);
}

#[tokio::test]
async fn many_callers_at_once_get_what_each_gets_alone() {
    let (rig, _) = beside_chat().await;
    let texts = |salt: usize| -> Vec<String> { (0..=salt).map(|i| format!("{salt} {i}")).collect() };
    let bodies: Vec<String> = (0..24).map(|salt| json!({"input": texts(salt)}).to_string()).collect();
    let answers = futures_util::future::join_all(bodies.iter().map(|body| rig.post(PATH, body))).await;
    for (salt, answer) in answers.iter().enumerate() {
        let wanted: Vec<_> = texts(salt).iter().map(|text| unit(&enclosed(text), WIDTH)).collect();
        assert_eq!(vectors(answer), wanted, "{salt}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_its_call() {
    let (rig, steering) = beside_chat().await;
    steering.hold_steps();
    let router = rig.router.clone();
    // More than one batch.
    let texts = vec!["x".repeat(38); 30];
    let call = tokio::spawn(router.oneshot(post(PATH, &json!({"input": texts}).to_string())));
    let held = steering.clone();
    blocking(move || held.held_step()).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    steering.free_steps();
    let is_gone = |stats: &engine::Stats| stats.totals.cancelled == 1 && stats.n_running == 0;
    rig.engine.watch_stats().wait_for(is_gone).await.unwrap();
    assert_eq!(rig.engine.last_record().unwrap().outcome.name(), "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_fails_is_an_internal_error_and_answers_again_when_it_is_back() {
    let (rig, steering) = beside_chat().await;
    steering.release(StepOutcome::Panic);
    let answer = rig.post(PATH, r#"{"input":"a"}"#).await;
    assert_eq!(answer.error(), (500, "internal_error".into(), "-".into()));
    encoder_becomes(&rig, "ready").await;
    assert_eq!(vectors(&rig.post(PATH, r#"{"input":"a"}"#).await).len(), 1);
    assert_eq!(rig.post("/v1/chat/completions", &chat("")).await.status, OK);
}

#[tokio::test]
async fn a_server_that_drains_or_has_no_place_says_when_to_come_back() {
    let (rig, _) = beside_chat().await;
    rig.engine.drain(After::Park, Duration::from_secs(60)).await.unwrap();
    let refused = rig.post(PATH, r#"{"input":"a"}"#).await;
    assert_eq!((refused.error().0, refused.header("retry-after")), (503, "30"));

    let steering = Steering::free();
    let loader = ScriptedLoader::new(encoder(), steering.clone());
    let rig = Rig::around(steering, Arc::new(loader), |_, engine| engine.max_requests = 1);
    rig.ready().await;
    let _taken = rig.engine.try_permit().unwrap();
    let refused = rig.post(PATH, r#"{"input":"a"}"#).await;
    assert_eq!(refused.error(), (429, "rate_limit_exceeded".into(), "-".into()));
    assert!(!refused.header("retry-after").is_empty());
}

#[tokio::test]
async fn a_body_is_bounded_as_every_other() {
    let steering = Steering::free();
    let loader = ScriptedLoader::new(encoder(), steering.clone());
    let rig = Rig::around(steering, Arc::new(loader), |server, _| server.limits.body_bytes = 1000);
    rig.ready().await;
    let refused = rig.post(PATH, &json!({"input": "x".repeat(1000)}).to_string()).await;
    assert_eq!(refused.error().0, 413);
    assert_eq!(rig.get(PATH).await.error().0, 405);
}

#[tokio::test]
async fn ollamas_clients_get_vectors_of_length_one_and_older_ones_as_the_model_gives_them() {
    let rig = alone().await;
    let answer =
        rig.post("/api/embed", r#"{"model":"encoder:latest","input":["good day","a"],"options":{}}"#).await;
    assert_eq!(answer.status, OK, "{}", answer.text);
    let body = answer.json();
    let embeddings: Vec<Vec<f32>> = serde_json::from_value(body["embeddings"].clone()).unwrap();
    let texts = [enclosed("good day"), enclosed("a")];
    assert_eq!(embeddings, texts.clone().map(|tokens| unit(&tokens, WIDTH)));
    assert_eq!(body["prompt_eval_count"], texts[0].len() + texts[1].len());
    assert!(body["total_duration"].is_u64() && body["model"] == "encoder", "{body}");

    let older = rig.post("/api/embeddings", r#"{"model":"encoder","prompt":"a"}"#).await.json();
    let vector: Vec<f32> = serde_json::from_value(older["embedding"].clone()).unwrap();
    assert_eq!(vector, ScriptedEmbedder::vector(&texts[1], WIDTH));

    // Too long is cut, unless the request says not to.
    let long = json!({"input": "a".repeat(60)});
    assert_eq!(rig.post("/api/embed", &long.to_string()).await.json()["prompt_eval_count"], 40);
    let whole = json!({"input": "a".repeat(60), "truncate": false});
    assert_eq!(rig.post("/api/embed", &whole.to_string()).await.status, 400);

    let shown = rig.post("/api/show", r#"{"model":"encoder"}"#).await.json();
    assert_eq!(shown["capabilities"], json!(["embedding"]));
    let chat =
        rig.post("/api/chat", r#"{"model":"encoder","messages":[{"role":"user","content":"hi"}]}"#).await;
    assert_eq!((chat.status, chat.json()["error"].is_string()), (400, true));
    let message = r#"{"model":"encoder","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let refused = rig.post("/v1/messages", message).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["details"]["error_code"]),
        (400, &json!("model_not_suitable"))
    );
}
