//! Bodies that come compressed, through every API.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;
use crate::config::HttpLimits;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &str) -> Vec<u8> {
    compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
}

fn packed(path: &str, coding: &str, body: Vec<u8>) -> Request<Body> {
    let request = Request::post(path).header("host", "localhost:8642");
    let request = request.header("content-type", "application/json").header("content-encoding", coding);
    request.header("content-length", body.len()).body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn a_compressed_request_gets_the_answer_of_the_plain_one_through_every_api() {
    let rig = Rig::saying(" tea").await;
    let message = r#""messages":[{"role":"user","content":"hi"}]"#;
    for (path, body) in [
        ("/v1/chat/completions", chat("")),
        ("/v1/completions", r#"{"prompt":"hi"}"#.to_owned()),
        ("/v1/responses", r#"{"input":"hi"}"#.to_owned()),
        ("/v1/messages", format!(r#"{{"max_tokens":4,{message}}}"#)),
        ("/v1/messages/count_tokens", format!("{{{message}}}")),
        ("/api/chat", format!(r#"{{"stream":false,{message}}}"#)),
        ("/api/generate", r#"{"stream":false,"prompt":"hi"}"#.to_owned()),
        ("/api/show", r#"{"model":"scripted"}"#.to_owned()),
        ("/admin/resume", "{}".to_owned()),
    ] {
        let plain = rig.post(path, &body).await;
        for (coding, bytes) in [("gzip", gzip(&body)), ("zstd", zstd(&body))] {
            let answer = rig.send(packed(path, coding, bytes)).await;
            assert_eq!(answer.status, plain.status, "{path} {coding}: {}", answer.text);
        }
        let unknown = rig.send(packed(path, "br", b"..".to_vec())).await;
        assert_eq!((unknown.status, unknown.header("accept-encoding")), (415, "gzip, zstd"), "{path}");
        assert!(unknown.text.contains("gzip") && unknown.text.contains("zstd"), "{}", unknown.text);
        let broken = rig.send(packed(path, "gzip", body.into_bytes())).await;
        assert_eq!(broken.status, 400, "{path}: {}", broken.text);
    }
    assert_eq!(rig.engine.state(), State::Ready);
}

#[tokio::test]
async fn what_unpacks_beyond_the_bound_on_bodies_is_413_in_words_of_the_api() {
    let limits = HttpLimits { body_bytes: 10_000, ..HttpLimits::default() };
    let rig = Rig::with("a", |config, _| config.limits = limits);
    rig.ready().await;
    let wide = chat(&format!(r#","user":"{}""#, "x".repeat(10_000)));
    for (coding, bytes) in [("gzip", gzip(&wide)), ("zstd", zstd(&wide))] {
        assert!(bytes.len() < 1_000);
        let answer = rig.send(packed("/v1/chat/completions", coding, bytes)).await;
        let (status, code, _) = answer.error();
        assert_eq!((status, code.as_str()), (413, "request_too_large"), "{coding}");
        assert!(answer.text.contains("10000 bytes"), "{}", answer.text);
    }
    assert_eq!(rig.engine.stats().totals.requests, 0);
}
