//! One set of greedy requests on both models, run every way that a scheduler can run them: the same bytes each time.

use std::thread;

use serde_json::{Value, json};

use crate::harness::{Connection, GEMMA3, SMOLLM2, Samovar, Setup, eventually};

/// One model, and what makes the cases happen on it.
struct Case {
    model: &'static str,
    /// Tokens that the two prompts of a pair share, for even and for odd pairs.
    n_shared: [usize; 2],
    n_answer: usize,
    /// Bytes of a pool that holds the prompts and not all of what they generate.
    tight_pool: usize,
}

/// Eight prompts of token ids in four pairs; the two of a pair share all but their ends.
fn prompts(case: &Case) -> Vec<Value> {
    (0..8)
        .map(|i| {
            let (pair, member) = (i / 2, i % 2);
            let shared = (0..case.n_shared[pair % 2]).map(|k| 1_000 + (k * 37 + pair * 7_919) % 20_000);
            let own = (0..20 + 5 * pair).map(|k| 30_000 + k * 11 + member * 701);
            let prompt: Vec<usize> = shared.chain(own).collect();
            json!({"prompt": prompt, "max_tokens": case.n_answer, "temperature": 0, "ignore_eos": true, "logprobs": 2})
        })
        .collect()
}

/// Text, log-probabilities and reason of a request, and how many tokens it reused.
fn ask(connection: &mut Connection, body: &Value) -> (Value, u64) {
    connection.send("POST", "/v1/completions", &[], Some(&body.to_string()));
    let answer = connection.receive();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let n_reused = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
    (answer["choices"].clone(), n_reused.expect("cached_tokens"))
}

/// One after the other, in this order of the prompts.
fn in_turn(server: &Samovar, bodies: &[Value], order: impl Iterator<Item = usize>) -> Vec<(Value, u64)> {
    let mut answers = vec![(Value::Null, 0); bodies.len()];
    let mut connection = server.connect();
    for i in order {
        answers[i] = ask(&mut connection, &bodies[i]);
    }
    answers
}

/// All together: none begins before all are in.
fn together(server: &Samovar, bodies: &[Value]) -> Vec<Value> {
    let address = server.address;
    server.hold("step");
    let asking: Vec<_> = bodies
        .iter()
        .map(|body| {
            let body = body.clone();
            thread::spawn(move || ask(&mut Connection::open(address), &body).0)
        })
        .collect();
    eventually("all are in", || {
        (server.get("/admin/status").json()["waiting"] == bodies.len()).then_some(())
    });
    server.release("step");
    asking.into_iter().map(|asking| asking.join().expect("an answer")).collect()
}

fn assert_same(how: &str, wanted: &[Value], got: impl Iterator<Item = Value>) {
    for (i, (wanted, got)) in wanted.iter().zip(got).enumerate() {
        assert_eq!(*wanted, got, "prompt {i} {how}");
    }
}

fn check(case: &Case) {
    let bodies = prompts(case);
    // One of each pair runs cold and the other takes up what both share.
    let assert_reused = |answers: &[(Value, u64)], cold: usize| {
        for (i, (_, n_reused)) in answers.iter().enumerate() {
            let n_shared = if i % 2 == cold { 0 } else { case.n_shared[i / 2 % 2] };
            assert_eq!(*n_reused as usize, n_shared, "prompt {i}");
        }
    };
    let server = Setup::new(case.model).ready();
    let alone = in_turn(&server, &bodies, 0..8);
    assert_reused(&alone, 0);
    let wanted: Vec<Value> = alone.into_iter().map(|(choices, _)| choices).collect();
    drop(server);

    // The other way round, and in chunks of three more sizes.
    for chunk in ["17", "64", "150"] {
        let server = Setup::new(case.model).with("--prefill-chunk", chunk).ready();
        let chunked = in_turn(&server, &bodies, (0..8).rev());
        assert_reused(&chunked, 1);
        assert_same(&format!("in chunks of {chunk}"), &wanted, chunked.into_iter().map(|(c, _)| c));
    }

    let server = Setup::new(case.model).ready();
    assert_same("in a batch of eight", &wanted, together(&server, &bodies).into_iter());
    assert_eq!(server.metric("samovar_preemptions_total"), 0.0);
    let below_8 = server.metric("samovar_step_rows_bucket{le=\"6\"}");
    assert!(server.metric("samovar_step_rows_count") > below_8, "the eight never ran together");
    drop(server);

    let tight = Setup::new(case.model).with("--kv-pool", &case.tight_pool.to_string());
    let server = tight.ready();
    assert_same("after preemption", &wanted, together(&server, &bodies).into_iter());
    assert!(server.metric("samovar_preemptions_total") > 0.0, "nobody was preempted");
}

#[test]
fn alone_batched_chunked_preempted_and_shared_give_the_same_bytes() {
    // 22 blocks: a prompt takes 5 or 6 and its answer 2 or 3 more.
    check(&Case { model: SMOLLM2, n_shared: [130, 130], n_answer: 72, tight_pool: 22 * 737_280 });
}

#[test]
fn alone_batched_chunked_preempted_and_shared_give_the_same_bytes_with_windows() {
    // Even pairs come past a window of 512 in their answers, odd ones in their prompts. 500 blocks: all prompts
    // take about 490, and with their answers 560.
    check(&Case { model: GEMMA3, n_shared: [400, 560], n_answer: 120, tight_pool: 500 * 98_304 });
}
