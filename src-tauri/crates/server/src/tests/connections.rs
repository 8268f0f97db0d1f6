//! Real connections: what only the wire can show.

use std::time::Duration;

use engine::testing::{Outcome, ScriptedLoader, ScriptedModel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::config::HttpLimits;
#[cfg(target_os = "linux")]
use crate::listen::gone_client::looks;
use crate::listen::listening::Server;

/// How often it is looked whether something has happened that sends no word.
#[cfg(target_os = "linux")]
const POLL: Duration = Duration::from_millis(5);

/// Nothing that is waited for takes this long unless it hangs.
#[cfg(target_os = "linux")]
const HANG_GUARD: Duration = Duration::from_secs(180);

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
        sampling: SamplingChoices { temperature: Some(0.0), ..SamplingChoices::default() },
        ..ServerConfig::default()
    };
    let listening = Server::bind(config).await.unwrap();
    let address = listening.address();
    let steering = Steering::free();
    let model = ScriptedModel { script: Script::Says(text.to_owned()), ..ScriptedModel::default() };
    let owner =
        BatchEngine::start(EngineConfig::default(), Arc::new(ScriptedLoader::new(model, steering.clone())));
    let engine = owner.handle();
    engine.watch_state().wait_for(|state| *state == State::Ready).await.unwrap();
    let serving = tokio::spawn(listening.serve(engine.clone()));
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

/// The head and body of the next answer on a connection that stays open.
async fn ask(stream: &mut TcpStream, path: &str) -> String {
    write(stream, &format!("GET {path} HTTP/1.1"), "").await;
    let mut text = read_until(stream, "\r\n\r\n").await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut rest = vec![0; length.parse::<usize>().unwrap() - body.len()];
    stream.read_exact(&mut rest).await.unwrap();
    text.push_str(std::str::from_utf8(&rest).unwrap());
    text
}

/// Whether the other side has closed.
async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_idle_and_dripping_connections_give_way_to_new_ones_the_longest_idle_first() {
    let live = live(" ok", HttpLimits { connections: 8, ..HttpLimits::default() }).await;
    let mut kept = live.connect().await;
    ask(&mut kept, "/health").await;
    let mut dripping = live.connect().await;
    dripping.write_all(b"GET / HTT").await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(live.connect().await);
        dripping.write_all(b"P").await.ok();
    }
    let mut new = live.connect().await;
    assert!(ask(&mut new, "/health/live").await.contains("alive"));
    assert!(is_closed(&mut kept).await && is_closed(&mut dripping).await && is_closed(&mut silent[0]).await);
    // The last ones are there still, and served.
    let mut last = silent.pop().unwrap();
    assert!(ask(&mut last, "/v1/models").await.contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_never_cut_and_health_is_answered_when_all_seats_are_taken() {
    let live = live(" ok", HttpLimits { connections: 3, ..HttpLimits::default() }).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut events = live.connect().await;
        write(&mut events, "GET /admin/events HTTP/1.1", "").await;
        read_until(&mut events, "\"ready\"").await;
        streams.push(events);
    }
    // A body on its way is a request in flight too.
    let mut half = live.connect().await;
    let body = chat("");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    half.write_all(head.as_bytes()).await.unwrap();
    // Before its head has been read it is idle, and would give way.
    read_until(&mut half, "100 Continue").await;
    half.write_all(&body.as_bytes()[..5]).await.unwrap();

    let mut refused = live.connect().await;
    let answer = ask(&mut refused, "/v1/models").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    for part in ["too_many_requests_in_flight", "retry-after: 1", "x-request-id: ", "application/json"] {
        assert!(answer.contains(part), "{answer}");
    }
    let mut flood = Vec::new();
    for i in 0..100 {
        let mut connection = live.connect().await;
        if i % 10 == 0 {
            assert!(ask(&mut connection, "/health/ready").await.contains("200 OK"));
            assert!(ask(&mut connection, "/health/live").await.contains("alive"));
        }
        flood.push(connection);
    }
    half.write_all(&body.as_bytes()[5..]).await.unwrap();
    assert!(read_until(&mut half, "\"usage\"").await.starts_with("HTTP/1.1 200"));
    // Its seat has come back.
    let mut late = live.connect().await;
    while !ask(&mut late, "/v1/models").await.contains("200 OK") {}
    live.engine.begin_drain(engine::After::Exit, Duration::ZERO);
    for mut events in streams {
        assert!(read_all(&mut events).await.contains("\"stopped\""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_with_an_id_and_in_the_shape_of_the_api() {
    let live = live(" ok", HttpLimits::default()).await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nhost: localhost{}\r\n\r\n", "\r\nx: y".repeat(5_000));
    let large = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    for (bytes, status) in [
        ("GARBAGE\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x7f\x03\x03\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nno colon here\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: localhost\r\nbad name: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: many\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999999\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        (
            "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        (
            "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            400,
        ),
        (&long, 414),
        (&many, 431),
        (&large, 431),
        // After a request that makes sense.
        ("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGARBAGE\r\n\r\n", 400),
    ] {
        let shown = &bytes[..bytes.len().min(120)];
        let mut client = live.connect().await;
        // The server may have had enough before all is written.
        let _ = client.write_all(bytes.as_bytes()).await;
        let text = read_all(&mut client).await;
        let answer = match text.rfind("HTTP/1.1 ") {
            Some(at) => &text[at..],
            None => panic!("{shown:?}: {text:?}"),
        };
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{shown:?}: {text:?}"));
        let head = head.to_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{shown:?}: {text}");
        let field = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
        };
        assert!(field("x-request-id").starts_with("req_"), "{shown:?}: {text}");
        assert_eq!(field("content-type"), "application/json", "{shown:?}: {text}");
        assert_eq!(field("content-length"), body.len().to_string(), "{shown:?}: {text}");
        let error: Value =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{shown:?}: {error}: {text}"));
        assert!(error["error"]["message"].is_string() && error["error"]["code"].is_string(), "{text}");
    }
}

/// Look until it is so.
#[cfg(target_os = "linux")]
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(HANG_GUARD, looking).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ends_its_side_gets_its_answer() {
    let live = live(" ok", HttpLimits::default()).await;
    live.steering.hold_steps();
    let mut clients = Vec::new();
    for more in ["", r#","stream":true"#] {
        let mut client = live.connect().await;
        write(&mut client, "POST /v1/chat/completions HTTP/1.1", &chat(more)).await;
        client.shutdown().await.unwrap();
        clients.push(client);
    }
    #[cfg(target_os = "linux")]
    for client in &clients {
        let address = client.local_addr().unwrap();
        eventually("it is looked for twice", || looks::count(address, false) >= 2).await;
    }
    live.steering.free_steps();
    for mut client in clients {
        let text = read_all(&mut client).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("finish_reason"), "{text}");
    }
    let mut client = live.connect().await;
    write(&mut client, "GET /health HTTP/1.1", "").await;
    client.shutdown().await.unwrap();
    assert!(read_all(&mut client).await.contains("alive"));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_gone_is_noticed_before_its_answer_is_there() {
    for end_first in [false, true] {
        // An answer that lasts longer than the looking: a token at each poll.
        let live = live(&" story".repeat(300), HttpLimits::default()).await;
        live.steering.hold_steps();
        let mut client = live.connect().await;
        write(&mut client, "POST /v1/chat/completions HTTP/1.1", &chat("")).await;
        let steering = live.steering.clone();
        blocking(move || steering.held_step()).await;
        let address = client.local_addr().unwrap();
        if end_first {
            client.shutdown().await.unwrap();
            eventually("it is looked for", || looks::count(address, false) >= 1).await;
        }
        drop(client);
        // A client that has closed with nothing unread may be reset before anybody has to look.
        let is_noticed = || looks::count(address, true) >= 1 || !is_connected(live.address, address);
        eventually("it is found to be gone", is_noticed).await;
        // The engine sees between two steps that nobody waits for the answer.
        eventually("its sequence is cancelled", || {
            live.steering.release(Outcome::Run);
            live.engine.stats().totals.cancelled == 1
        })
        .await;
        assert_eq!(live.engine.stats().n_running, 0);
    }
}

/// Whether the system has a connection from `client` on the server's side.
#[cfg(target_os = "linux")]
fn is_connected(server: SocketAddr, client: SocketAddr) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let [server, client] = [server, client].map(|address| format!(":{:04X}", address.port()));
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        columns.next().is_some_and(|local| local.ends_with(&server))
            && columns.next().is_some_and(|remote| remote.ends_with(&client))
    })
}
