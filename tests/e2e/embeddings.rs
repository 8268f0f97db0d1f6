//! Vectors of texts, from a real encoder.

use serde_json::{Value, json};

use crate::harness::{Response, Samovar, Setup};

/// all-MiniLM-L6-v2: an encoder with vectors of 384 values, which reads 512 tokens.
const MINILM: &str = "all-MiniLM-L6-v2.f32.gguf";

const PATH: &str = "/v1/embeddings";

fn ready() -> Samovar {
    Setup::new(MINILM).ready()
}

/// The vectors of an answer, each as it was sent.
fn vectors(answer: &Response) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = answer.json();
    let data = body["data"].as_array().unwrap();
    data.iter().map(|one| one["embedding"].clone()).collect()
}

fn floats(vector: &Value) -> Vec<f64> {
    vector.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Texts, and the vectors that llama.cpp gives them.
fn references() -> Vec<(String, Vec<f64>)> {
    let texts = include_str!("../../src-tauri/crates/model/tests/reference/minilm.json");
    let texts: Vec<String> = serde_json::from_str(texts).unwrap();
    let (words, _) =
        include_bytes!("../../src-tauri/crates/model/tests/reference/minilm.vec").as_chunks::<4>();
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
    let mut next = || words.next().expect("as many words as are said");
    let (n_texts, width) = (next(), next());
    assert_eq!(n_texts as usize, texts.len());
    let with_vector = |text| {
        let n_tokens = next();
        for _ in 0..n_tokens {
            next();
        }
        (text, (0..width).map(|_| f64::from(f32::from_bits(next()))).collect())
    };
    texts.into_iter().map(with_vector).collect()
}

#[test]
fn texts_have_the_vectors_that_the_reference_gives_them() {
    let server = ready();
    let (texts, wanted): (Vec<_>, Vec<_>) =
        references().into_iter().filter(|(text, _)| !text.is_empty()).unzip();
    let answer = server.post(PATH, &json!({"input": texts, "truncate": true}));
    let got = vectors(&answer);
    assert_eq!(got.len(), wanted.len());
    for ((text, got), wanted) in texts.iter().zip(&got).zip(&wanted) {
        let got = floats(got);
        let cosine = cosine(&got, wanted);
        assert!(cosine >= 0.9999, "{cosine} of {text:?}");
        let length = got.iter().map(|value| value * value).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}

#[test]
fn a_texts_vector_has_the_same_bits_alone_and_among_others_of_many_callers() {
    let server = ready();
    let texts: Vec<String> =
        (0..24).map(|i| format!("{} {i}", "rain on an iron roof, ".repeat(i * i % 37))).collect();
    let ask = |texts: &[String]| {
        vectors(&server.post(PATH, &json!({"input": texts, "encoding_format": "base64", "truncate": true})))
    };
    let alone: Vec<Value> = texts.iter().flat_map(|text| ask(std::slice::from_ref(text))).collect();
    std::thread::scope(|scope| {
        let callers: Vec<_> = texts
            .chunks(7)
            .zip(alone.chunks(7))
            .map(|some| scope.spawn(move || (ask(some.0), some.1)))
            .collect();
        for caller in callers {
            let (got, wanted) = caller.join().unwrap();
            assert_eq!(got, wanted);
        }
    });
    assert_eq!(ask(&texts), alone);
}

#[test]
fn a_server_of_an_encoder_is_ready_says_what_it_is_for_and_refuses_chats_by_its_name() {
    let server = ready();
    let health = server.get("/health/ready");
    assert_eq!((health.status, &health.json()["pool_utilization"]), (200, &json!(0.0)));
    let models = server.get("/v1/models").json();
    let model = &models["data"][0];
    assert_eq!((&model["purpose"], &model["embedding"]["dimensions"]), (&json!("embed"), &json!(384)));
    let chat = json!({"messages": [{"role": "user", "content": "hi"}]});
    let refused = server.post("/v1/chat/completions", &chat);
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!("model_not_suitable")));
    assert!(refused.body.contains("all-MiniLM-L6-v2.f32"), "{}", refused.body);
    let long = json!({"input": "tea ".repeat(2000)});
    let refused = server.post(PATH, &long);
    assert_eq!((refused.status, &refused.json()["error"]["context_length"]), (400, &model["context_length"]));
}
