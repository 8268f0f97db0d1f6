//! Real connections: what only the wire can show.

use std::time::Duration;

use engine::testing::{Outcome, ScriptedLoader, ScriptedModel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::bound::Server;
use crate::config::HttpLimits;

/// A server on a port of its own.
struct Live {
    address: SocketAddr,
    engine: EngineHandle,
    steering: Steering,
    serving: JoinHandle<()>,
    _owner: BatchEngine,
}

async fn live(text: &str, limits: HttpLimits) -> Live {
    let config = ServerConfig {
        port: 0,
        limits,
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        ..ServerConfig::default()
    };
    let bound = Server::bind(config).await.unwrap();
    let address = bound.address();
    let steering = Steering::free();
    let model = ScriptedModel { script: Script::Says(text.to_owned()), ..ScriptedModel::default() };
    let owner =
        BatchEngine::start(EngineConfig::default(), Arc::new(ScriptedLoader::new(model, steering.clone())));
    let engine = owner.handle();
    engine.watch_state().wait_for(|state| *state == State::Ready).await.unwrap();
    let serving = tokio::spawn(bound.serve(engine.clone()));
    Live { address, engine, steering, serving, _owner: owner }
}

impl Live {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Write a request; `head` is everything before the empty line.
async fn write(stream: &mut TcpStream, head: &str, body: &str) {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let request =
        format!("{head}\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Read until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(end) {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the connection ended before {end:?}: {text}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    text
}

/// Read to the connection's end.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is an end too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_streams_end_answers_new_clients_and_waits_for_no_idle_one() {
    let live = live(" ok", HttpLimits::default()).await;
    live.steering.hold_steps();
    let mut idle = live.connect().await;
    write(&mut idle, "GET /health HTTP/1.1", "").await;
    read_until(&mut idle, "alive").await;
    let mut events = live.connect().await;
    write(&mut events, "GET /admin/events HTTP/1.1", "").await;
    read_until(&mut events, "\"ready\"").await;
    let mut streaming = live.connect().await;
    write(&mut streaming, "POST /v1/chat/completions HTTP/1.1", &chat(r#","stream":true"#)).await;
    read_until(&mut streaming, "\"role\"").await;

    let mut stopping = live.connect().await;
    write(&mut stopping, "POST /admin/stop HTTP/1.1", "").await;
    assert!(read_until(&mut stopping, "draining").await.starts_with("HTTP/1.1 202"));
    // The engine hears of it between two steps.
    live.steering.release(Outcome::Run);
    live.engine.watch_state().wait_for(|state| matches!(state, State::Draining { .. })).await.unwrap();
    let mut late = live.connect().await;
    write(&mut late, "POST /v1/chat/completions HTTP/1.1", &chat("")).await;
    let refused = read_until(&mut late, "shutting_down").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: "), "{refused}");

    live.steering.free_steps();
    assert!(read_until(&mut streaming, "[DONE]").await.contains("finish_reason"));
    assert!(read_all(&mut events).await.contains("\"stopped\""));
    // Idle connections would hold a server that waits for them for ever.
    live.serving.await.unwrap();
    assert_eq!(live.engine.state(), State::Stopped);
    assert!(TcpStream::connect(live.address).await.is_err(), "the listener is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_cut_after_the_last_words() {
    let live = live(" ok", HttpLimits::default()).await;
    live.steering.hold_steps();
    let mut stuck = live.connect().await;
    write(&mut stuck, "POST /v1/completions HTTP/1.1", r#"{"prompt":"so","stream":true}"#).await;
    let steering = live.steering.clone();
    blocking(move || steering.held_step()).await;
    // Half a request, and nothing more.
    let mut half = live.connect().await;
    half.write_all(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    live.engine.begin_drain(engine::After::Exit, Duration::ZERO);
    live.steering.release(Outcome::Run);
    live.steering.free_steps();
    live.serving.await.unwrap();
    let text = read_all(&mut stuck).await;
    assert!(text.contains(r#""code":"interrupted""#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_that_nobody_wants_still_gets_its_answer() {
    let limits = HttpLimits { body_bytes: 4 << 20, ..HttpLimits::default() };
    let live = live(" ok", limits).await;
    live.engine.drain(engine::After::Park, Duration::ZERO).await.unwrap();
    for (n_bytes, status) in [(3 << 20, "503"), (10 << 20, "503")] {
        let mut client = live.connect().await;
        let body = chat(&format!(r#","user":"{}""#, "x".repeat(n_bytes)));
        write(&mut client, "POST /v1/chat/completions HTTP/1.1", &body).await;
        let answer = read_until(&mut client, "\"parked\"").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    live.engine.resume().await.unwrap();
    let mut client = live.connect().await;
    write(&mut client, "POST /v1/chat/completions HTTP/1.1", &"x".repeat(10 << 20)).await;
    assert!(read_until(&mut client, "request_too_large").await.starts_with("HTTP/1.1 413"));
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_headers_are_cut_off_by_the_connection_itself() {
    let live = live(" ok", HttpLimits::default()).await;
    let mut many = live.connect().await;
    let head = format!("GET / HTTP/1.1{}", "\r\nx: y".repeat(150));
    write(&mut many, &head, "").await;
    let answer = read_until(&mut many, "headers_too_large").await;
    assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("x-request-id: "), "{answer}");

    let mut flood = live.connect().await;
    let head = format!("GET / HTTP/1.1{}", "\r\nx: y".repeat(5000));
    write(&mut flood, &head, "").await;
    assert!(read_all(&mut flood).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_closes_its_connection() {
    let limits = HttpLimits { header_timeout: Duration::from_millis(20), ..HttpLimits::default() };
    let live = live(" ok", limits).await;
    let mut slow = live.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.unwrap();
    let text = read_all(&mut slow).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_wait_their_turn() {
    let live = live(" ok", HttpLimits { connections: 1, ..HttpLimits::default() }).await;
    let mut first = live.connect().await;
    write(&mut first, "GET /health HTTP/1.1", "").await;
    read_until(&mut first, "alive").await;
    let mut second = live.connect().await;
    write(&mut second, "GET /health HTTP/1.1", "").await;
    drop(first);
    read_until(&mut second, "alive").await;
}
