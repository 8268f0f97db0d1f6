//! Quitting: signals and `/admin/stop` drain, the process ends by itself, and its exit code says how it went.

use serde_json::json;

use crate::harness::answer::endless_chat;
use crate::harness::{AnswerStream, Connection, SMOLLM2, Samovar, Setup, eventually};

const STORIES: [&str; 3] = ["Tell me about tea.", "Tell me about the sea.", "Tell me about a bee."];

/// Three streams that have begun, so that a signal meets them half-way.
fn three_streams(server: &Samovar, max_tokens: usize) -> Vec<AnswerStream> {
    let mut streams: Vec<_> = STORIES
        .iter()
        .map(|story| server.stream("/v1/chat/completions", &endless_chat(story, max_tokens)))
        .collect();
    for stream in &mut streams {
        stream.wait_for_text();
    }
    streams
}

#[test]
fn graceful_shutdown_with_active_requests() {
    let mut server = Samovar::ready();
    let whole: Vec<_> = STORIES
        .iter()
        .map(|story| server.stream("/v1/chat/completions", &endless_chat(story, 120)).finish())
        .collect();

    let streams = three_streams(&server, 120);
    server.signal("TERM");
    for (stream, whole) in streams.into_iter().zip(whole) {
        let answer = stream.finish();
        answer.assert_complete();
        assert_eq!(answer.finish_reason.as_deref(), Some("length"));
        assert_eq!(answer.text, whole.text, "quitting changed an answer");
    }
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn every_signal_that_asks_for_an_end_drains_like_sigterm() {
    for name in ["INT", "QUIT", "HUP"] {
        let setup = Setup::new(SMOLLM2).with_signal(&format!("SIG{name}"), "SIG_DFL");
        let mut server = setup.ready();
        let streams = three_streams(&server, 60);
        server.signal(name);
        for stream in streams {
            stream.finish().assert_complete();
        }
        assert_eq!(server.wait_for_exit(), 0, "{name}");
    }
}

#[test]
fn signals_that_ask_for_nothing_end_nothing() {
    let mut server = Samovar::ready();
    let streams = three_streams(&server, 60);
    let mut names = vec!["USR1", "USR2", "ALRM", "PIPE", "VTALRM", "PROF", "IO", "XFSZ"];
    if cfg!(target_os = "linux") {
        // The real-time signals have numbers only.
        names.extend(["PWR", "STKFLT", "34", "35", "50", "64"]);
    }
    for name in names {
        server.signal(name);
        assert_eq!(server.get("/health/live").status, 200, "{name}");
    }
    for stream in streams {
        stream.finish().assert_complete();
    }
    server.signal("TERM");
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn a_hang_up_that_was_ignored_at_the_start_stays_ignored() {
    let mut server = Setup::new(SMOLLM2).with_signal("SIGHUP", "SIG_IGN").ready();
    let streams = three_streams(&server, 60);
    server.signal("HUP");
    for stream in streams {
        stream.finish().assert_complete();
    }
    assert_eq!(server.get("/health/ready").status, 200);
    server.signal("TERM");
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn admin_stop_drains_and_ends_the_process() {
    let mut server = Samovar::ready();
    let streams = three_streams(&server, 60);
    let stopping = server.post("/admin/stop", &json!({}));
    assert!((200..300).contains(&stopping.status), "{} {}", stopping.status, stopping.body);
    for stream in streams {
        stream.finish().assert_complete();
    }
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn open_event_streams_and_idle_connections_do_not_delay_the_exit() {
    let mut server = Samovar::ready();
    let mut events = server.events();
    assert!(events.next().unwrap().is_some(), "a first event tells the state");
    let mut idle = server.connect();
    idle.send("GET", "/health/live", &[], None);
    assert_eq!(idle.receive().status, 200);

    let streams = three_streams(&server, 60);
    server.signal("TERM");
    for stream in streams {
        stream.finish().assert_complete();
    }
    // Both connections are still open on this side; the process ends all the same, and ends them.
    assert_eq!(server.wait_for_exit(), 0);
    let mut last = None;
    while let Ok(Some(event)) = events.next() {
        last = Some(event);
    }
    let last = last.expect("events of the drain");
    assert!(last.data.contains("stopped"), "the last event does not tell the end: {last:?}");
    idle.try_receive().expect_err("the idle connection is closed");
}

#[test]
fn at_the_deadline_each_stream_gets_a_terminal_error_and_the_exit_code_is_3() {
    let mut server = Setup::new(SMOLLM2).with("--drain-timeout", "0").ready();
    let streams = three_streams(&server, 4000);
    server.hold("step");
    server.wait_until_held("step");
    server.signal("TERM");
    for stream in streams {
        let answer = stream.finish();
        let error = answer.error.as_ref().unwrap_or_else(|| panic!("no error event: {answer:?}"));
        assert!(error["message"].as_str().is_some_and(|m| m.contains("interrupted")), "{error}");
        assert!(answer.finish_reason.is_none() && !answer.broken, "{answer:?}");
    }
    assert_eq!(server.wait_for_exit(), 3);
}

#[test]
fn a_request_that_is_not_streamed_gets_503_at_the_deadline() {
    let mut server = Setup::new(SMOLLM2).with("--drain-timeout", "0").ready();
    let address = server.address;
    let answer = std::thread::spawn(move || {
        let mut connection = Connection::open(address);
        let body = endless_chat("Tell me a long story.", 6000).to_string();
        connection.send("POST", "/v1/chat/completions", &[], Some(&body));
        connection.receive()
    });
    eventually("it runs", || (server.get("/admin/status").json()["running"] == 1).then_some(()));
    server.signal("TERM");
    let answer = answer.join().unwrap();
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
    assert_eq!(server.wait_for_exit(), 3);
}

#[test]
fn a_second_signal_moves_the_deadline_to_now() {
    let mut server = Setup::new(SMOLLM2).with("--drain-timeout", "3600").ready();
    let streams = three_streams(&server, 4000);
    server.hold("step");
    server.wait_until_held("step");
    server.signal("TERM");
    server.wait_until_not_ready("shutting_down");
    assert!(server.is_running());
    // Any of them, not only the same once more.
    server.signal("QUIT");
    for stream in streams {
        assert!(stream.finish().error.is_some());
    }
    assert_eq!(server.wait_for_exit(), 3);
}

#[test]
fn a_signal_while_the_model_loads_ends_the_process_cleanly() {
    let mut server = Setup::new(SMOLLM2).held_at("load").start();
    server.wait_until_held("load");
    server.signal("TERM");
    server.release("load");
    assert_eq!(server.wait_for_exit(), 0);
}

#[test]
fn an_idle_server_quits_with_code_0_and_says_nothing_more_on_stdout() {
    let mut server = Samovar::ready();
    server.signal("TERM");
    assert_eq!(server.wait_for_exit(), 0);
    assert_eq!(server.rest_of_stdout(), "");
    assert_eq!(server.stderr(), "");
}
