//! Conversations with tools that clients send back turn by turn, in their own words of the same meaning.

mod apis;

use engine::testing::{START, ScriptedLoader, text_with_template};
use serde_json::json;
use text::TextModel;

use self::apis::{Api, Style};
use super::*;

/// Rounds of four messages each: a question, a call, its result, and what the model makes of it.
const N_ROUNDS: usize = 10;

/// A template in the manner of ChatML that shows all of an answer: thoughts, text, and calls as Hermes writes them.
fn hermes() -> TextModel {
    text_with_template(
        "{% if tools %}<|start|>system\n{{ tools | tojson }}<|end|>\n{% endif %}\
         {% for m in messages %}<|start|>{{ m.role }}\n\
         {% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}\
         {% for c in m.tool_calls %}\n<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": \
         {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    )
}

/// The same, where an answer begins within its thoughts, and thoughts before the last question are left out.
fn forgetful() -> TextModel {
    text_with_template(
        "{% if tools %}<|start|>system\n{{ tools | tojson }}<|end|>\n{% endif %}\
         {% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}\
         {% set ns.last = loop.index0 %}{% endif %}{% endfor %}\
         {% for m in messages %}<|start|>{{ m.role }}\n\
         {% if m.reasoning_content and loop.index0 > ns.last %}<think>\n{{ m.reasoning_content }}\n</think>\n\n\
         {% endif %}{{ m.content }}\
         {% for c in m.tool_calls %}\n<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": \
         {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|start|>assistant\n<think>\n{% endif %}",
    )
}

/// One whose calls are in tags, every value in its own.
fn qwen3_coder() -> TextModel {
    text_with_template(
        "{% if tools %}<|start|>system\n{{ tools | tojson }}<|end|>\n{% endif %}\
         {% for m in messages %}<|start|>{{ m.role }}\n\
         {% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}\
         {% for c in m.tool_calls %}\n<tool_call>\n<function={{ c.function.name }}>\n\
         {% for k, v in c.function.arguments | items %}<parameter={{ k }}>\n\
         {{ v if v is string else v | tojson }}\n</parameter>\n{% endfor %}</function>\n</tool_call>{% endfor %}\
         <|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    )
}

/// The tokens of a text as a model may write it: not those that the vocabulary would make of it.
fn written(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// What the model writes in its `n`th turn, from where `opening` ends.
type Writes = fn(n: usize) -> String;

fn in_hermes(n: usize) -> String {
    let thoughts = format!("<think>\nI think of the {n}th thing.\n</think>\n\n");
    match n % 2 {
        0 => format!(
            "{thoughts}Let me look  at the path.\n\n<tool_call>\n{{\"name\": \"look\",\"arguments\":  {{\"path\":\"the/é{n}\", \
             \"depth\": {n}, \"with\": {{\"those\":[1, 2.50,  true,null], \"about\": \"\\u00e9 </th>\\n\"}}}}}}\n</tool_call>\n"
        ),
        _ => format!("{thoughts}\nThere are {n} things there, the others are {}.", "further ".repeat(n)),
    }
}

fn in_thoughts(n: usize) -> String {
    in_hermes(n)["<think>\n".len()..].to_owned()
}

fn in_tags(n: usize) -> String {
    match n % 2 {
        0 => format!(
            "<think>\nI think of it.\n</think>\n\nLet me look.\n<tool_call>\n<function=look>\n<parameter=path>\nthe/é{n}\n\
             </parameter>\n<parameter=with>\n{{\"those\":[1, 2.50,  true,null], \"about\": \"\\u00e9 </th>\\n\"}}\n</parameter>\n\
             <parameter=depth>\n{n}\n</parameter>\n</function>\n</tool_call>"
        ),
        _ => in_hermes(n),
    }
}

/// A rig whose model writes so after what its generation prompt has `begun`.
async fn rig(text: fn() -> TextModel, begun: &str, writes: Writes) -> Rig {
    let of_prompt = |prompt: &str| text().encode_plain(prompt);
    let answer = |n| [of_prompt(begun), written(&writes(n))].concat();
    let script = Script::Plays {
        opening: [vec![START], of_prompt("assistant\n")].concat(),
        answers: (0..2 * N_ROUNDS).map(answer).collect(),
    };
    let steering = Steering::free();
    let model =
        ScriptedModel { script, text, n_blocks: 2048, max_context: 30_000, ..ScriptedModel::default() };
    let rig = Rig::around(steering.clone(), Arc::new(ScriptedLoader::new(model, steering)), |_, _| {});
    rig.ready().await;
    rig
}

/// One turn's numbers: tokens of the prompt, of those reused, and generated.
#[derive(Debug, Clone, Copy)]
struct Turn {
    prompt: u64,
    reused: u64,
    generated: u64,
}

/// Has the whole conversation, and gives each turn's numbers. `system` is the system's message of each turn.
async fn converse(rig: &Rig, (api, style): (Api, Style), system: impl Fn(usize) -> String) -> Vec<Turn> {
    let mut history: Vec<Value> = Vec::new();
    let mut turns = Vec::new();
    for n in 0..2 * N_ROUNDS {
        if n % 2 == 0 {
            history.push(api.question(&format!("What about the {n}th one?")));
        }
        let answer = rig.post(api.path(), &style.body(&api.body(&system(n), &history))).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        let record = rig.get("/admin/requests").await.json()["requests"][0].clone();
        let number = |field: &str| record[field].as_u64().unwrap();
        let turn = Turn {
            prompt: number("prompt_tokens"),
            reused: number("reused_tokens"),
            generated: number("generated_tokens"),
        };
        let in_head = answer.header("x-samovar-cache");
        assert_eq!(
            in_head,
            format!("reused={}; prefilled={}; restored=0", turn.reused, turn.prompt - turn.reused)
        );
        turns.push(turn);
        let answer = answer.json();
        assert!(api.has_thinking(&answer), "{answer}");
        match api.take(&answer, style, &mut history) {
            Some(call) => {
                assert!(n % 2 == 0, "{answer}");
                history.push(api.result(&call, "the other thing and those"));
            }
            None => assert!(n % 2 == 1, "{answer}"),
        }
    }
    turns
}

/// That each turn reuses at least 98 % of what it could: the prompt before it, and what was generated and computed after
/// that. Prints the least share.
fn check_reuse(turns: &[Turn], what: &str) {
    let mut least = 100.0_f64;
    for pair in turns.windows(2) {
        // The token that ends the turn is the template's then, and was never computed.
        let could = pair[0].prompt + pair[0].generated - 1;
        least = least.min(pair[1].reused as f64 * 100.0 / could as f64);
        assert!(pair[1].reused * 100 >= could * 98, "{what}: {} of {could} in {pair:?}", pair[1].reused);
    }
    let last = turns.last().unwrap();
    println!(
        "{what}: {} turns reuse at least {least:.1} % of what they could, the last one {} of {} tokens",
        turns.len(),
        last.reused,
        last.prompt
    );
}

#[tokio::test]
async fn forty_messages_in_other_words_of_the_same_meaning_reuse_all_that_was_computed() {
    let (hermes, in_hermes) = (hermes as fn() -> TextModel, in_hermes as Writes);
    let styles = [(hermes, in_hermes, &Style::ALL[..]), (qwen3_coder, in_tags, &[Style::Sorted])];
    for (text, writes, styles) in styles {
        for (api, &style) in Api::ALL.into_iter().flat_map(|api| styles.iter().map(move |style| (api, style)))
        {
            let rig = rig(text, "", writes).await;
            let turns = converse(&rig, (api, style), |_| "Be brief with that.".to_owned()).await;
            check_reuse(&turns, &format!("{api:?} {style:?}"));
            let record = rig.get("/admin/requests").await.json()["requests"][0].clone();
            assert!(record["spliced_tokens"].as_u64().unwrap() > 1000, "{record}");
            assert_eq!(record["difference"]["why"], "goes_on", "{record}");
        }
    }
}

#[tokio::test]
async fn so_they_do_with_a_line_that_changes_each_turn() {
    let lines: [fn(usize) -> String; 2] = [
        |n| {
            format!(
                "x-anthropic-billing-header: cc_version=2.1.37; cch={:05x};\nBe brief with that.",
                n * 7919
            )
        },
        |n| {
            format!(
                "Be brief.\n<budget>Token usage: {}/200000; {} left</budget>\nBe kind.",
                100 * n,
                200_000 - 100 * n
            )
        },
    ];
    for (line, api) in lines.into_iter().flat_map(|line| Api::ALL.map(|api| (line, api))) {
        let rig = rig(hermes, "", in_hermes).await;
        check_reuse(&converse(&rig, (api, Style::Sorted), line).await, &format!("{api:?} {:?}", line(1)));
    }
}

#[tokio::test]
async fn the_models_own_ids_stand_in_answers_whose_thoughts_a_template_leaves_out() {
    let rig = rig(forgetful, "<think>\n", in_thoughts).await;
    let turns = converse(&rig, (Api::OpenAi, Style::Sorted), |_| "Be brief with that.".to_owned()).await;
    // A result follows its call at once: nothing is left out yet.
    for pair in turns.chunks(2) {
        check_reuse(pair, "within a round");
    }
    let record = rig.get("/admin/requests").await.json()["requests"][0].clone();
    let spliced = record["spliced_tokens"].as_u64().unwrap();
    // All that was written but for the thoughts, whose place in the conversation is past.
    let own: usize =
        (0..2 * N_ROUNDS - 1).map(|n| in_hermes(n).split("</think>\n\n").last().unwrap().trim().len()).sum();
    assert!(spliced >= own as u64 - 100, "{spliced} of {own}: {turns:?}");
}

#[tokio::test]
async fn what_differs_in_value_stays_as_it_was_sent_and_the_record_says_where() {
    let rig = rig(hermes, "", in_hermes).await;
    let user = json!({"role": "user", "content": "What about the 0th one?"});
    let ask = async |messages: Value| {
        let body = json!({"messages": messages, "tools": Api::OpenAi.tools(), "max_tokens": 2000});
        let answer = rig.post("/v1/chat/completions", &body.to_string()).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        let record = rig.get("/admin/requests").await.json()["requests"][0].clone();
        (answer.json()["choices"][0]["message"].clone(), record)
    };
    let (answer, first) = ask(json!([user])).await;
    assert_eq!((&first["difference"]["why"], &first["first_difference"]), (&json!("new"), &json!(0)));
    let arguments = answer["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    let result = json!({"role": "tool", "tool_call_id": answer["tool_calls"][0]["id"], "content": "none"});
    let with = |arguments: &str| {
        let mut answer = answer.clone();
        answer["tool_calls"][0]["function"]["arguments"] = arguments.into();
        json!([user, answer, result])
    };
    let spliced = |record: &Value| record["spliced_tokens"].as_u64().unwrap();
    let (_, same) = ask(with(arguments)).await;
    assert_eq!(spliced(&same), written(&in_hermes(0)).len() as u64);
    assert_eq!(same["difference"]["why"], "goes_on", "{same}");
    assert_eq!(
        (&same["difference"]["place"], &same["difference"]["message"]),
        (&json!("message"), &json!(2))
    );
    assert_eq!(same["difference"]["role"], "tool");
    for other in [
        arguments.replace("2.50", "2.5000001"),
        arguments.replace("null", "false"),
        arguments.replace("\"depth\"", "\"deep\""),
        arguments.replacen('{', "{\"path\": \"x\", ", 1),
    ] {
        let (_, record) = ask(with(&other)).await;
        let text = in_hermes(0);
        let n_before = text.find("\n\n<tool_call>").unwrap() as u64;
        assert!(spliced(&record) <= n_before + 2, "{other}: {record}");
        assert_eq!(record["difference"]["why"], "changed", "{record}");
        assert_eq!(record["difference"]["message"], 1, "{record}");
    }
    let mut edited = user.clone();
    edited["content"] = "What about the 1st one?".into();
    let (_, record) = ask(json!([edited])).await;
    assert_eq!(record["difference"]["why"], "changed");
    assert_eq!(
        (&record["difference"]["role"], &record["difference"]["message"]),
        (&json!("user"), &json!(0))
    );
    assert!(record["difference"]["before"].as_str().unwrap().ends_with("about the "), "{record}");
    assert!(record["difference"]["after"].as_str().unwrap().starts_with("1st one?"), "{record}");
    let (_, record) = ask(json!([{"role": "system", "content": "Be kind."}, user])).await;
    assert_eq!(record["difference"]["place"], "system", "{record}");
}

#[tokio::test]
async fn anthropics_clients_are_told_what_of_a_prompt_was_another_and_not_how_it_was_written() {
    let rig = rig(hermes, "", in_hermes).await;
    let api = Api::Anthropic;
    let note = |cch: &str| format!("x-anthropic-billing-header: cch={cch};\nBe brief with that.");
    let ask = async |body: Value, previous: &Value| {
        let mut body = body;
        body["diagnostics"] = json!({"previous_message_id": previous});
        let answer = rig.post(api.path(), &body.to_string()).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        answer.json()
    };
    let mut history = vec![api.question("What about the 0th one?")];
    let first = ask(api.body(&note("1"), &history), &Value::Null).await;
    assert_eq!(first["diagnostics"], Value::Null);
    let call = api.take(&first, Style::Sorted, &mut history).unwrap();
    history.push(api.result(&call, "the other thing"));
    let second = ask(api.body(&note("2"), &history), &first["id"]).await;
    assert_eq!(second["diagnostics"], Value::Null, "another note, and keys in another order");
    assert!(second["usage"]["cache_read_input_tokens"].as_u64().unwrap() > 200, "{second}");

    let reason = |answer: &Value| answer["diagnostics"]["cache_miss_reason"].clone();
    let n_in = |answer: &Value| {
        let usage = &answer["usage"];
        ["input_tokens", "cache_read_input_tokens"].map(|field| usage[field].as_u64().unwrap())
    };
    let mut edited = history.clone();
    edited[2]["content"][0]["content"] = "the opposite".into();
    let mut tools = api.body(&note("3"), &history);
    tools["tools"][0]["description"] = "a path".into();
    for (body, want) in [
        (api.body(&note("4"), &edited), "messages_changed"),
        (api.body("Be kind.", &history), "system_changed"),
        (tools, "tools_changed"),
    ] {
        let answer = ask(body, &second["id"]).await;
        assert_eq!(reason(&answer)["type"], want, "{answer}");
        let missed = reason(&answer)["cache_missed_input_tokens"].as_u64().unwrap();
        let [n_new, n_reused] = n_in(&answer);
        assert!(n_reused > 0 && 0 < missed && missed <= n_new, "{answer}");
    }
    let unknown = ask(api.body("Be kind.", &history), &json!("msg_0")).await;
    assert_eq!(reason(&unknown)["type"], "previous_message_not_found");
}

#[tokio::test]
async fn where_tools_are_put_into_words_no_place_is_told_rather_than_a_wrong_one() {
    let rig = Rig::saying(" ok").await;
    let mut difference = Value::Null;
    for system in ["Be brief with that, and Token after Token.", "Be brief with those, and kind."] {
        let body = Api::OpenAi.body(system, &[Api::OpenAi.question("What is there?")]);
        let answer = rig.post(Api::OpenAi.path(), &body.to_string()).await;
        assert_eq!(answer.status, OK, "{answer:?}");
        difference = rig.get("/admin/requests").await.json()["requests"][0]["difference"].clone();
    }
    assert_eq!((&difference["why"], &difference["place"]), (&json!("changed"), &Value::Null), "{difference}");
    assert!(difference["after"].as_str().unwrap().contains("ose, and kind"), "{difference}");
}

#[tokio::test]
async fn a_stream_says_in_its_head_what_its_prompt_took() {
    let rig = rig(hermes, "", in_hermes).await;
    let body = chat(r#","stream":true,"max_tokens":3"#);
    let head = async || rig.post("/v1/chat/completions", &body).await.header("x-samovar-cache").to_owned();
    let first = head().await;
    let n: usize =
        first.strip_prefix("reused=0; prefilled=").unwrap().split(';').next().unwrap().parse().unwrap();
    assert_eq!(first, format!("reused=0; prefilled={n}; restored=0"));
    assert_eq!(head().await, format!("reused={}; prefilled=1; restored=0", n - 1));
}
