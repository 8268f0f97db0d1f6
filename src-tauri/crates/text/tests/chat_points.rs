//! Where later prompts come back to a chat as the reference's templates write it, and that they have what is before it.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

#[allow(dead_code, reason = "of the support only the bytes and the reference are used")]
mod support;

use std::fs;
use std::path::Path;
use std::thread;

use serde_json::json;
use support::{bytes, reference};
use text::{
    Asked, Chat, ChatMessage, EncodeLimits, RENDER_STACK_BYTES, RenderedChat, TextError, TextModel, TokenId,
    Tool, ToolCall,
};

/// Bytes between the return point and where the next turn's prompt differs: a generation prompt, at most.
const MAX_LOST_BYTES: usize = 64;

fn tools() -> Vec<Tool> {
    let parameters =
        json!({"type": "object", "properties": {"city": {"type": "string", "description": "a city"}}});
    vec![Tool {
        name: "get_weather".into(),
        description: Some("about the weather".into()),
        parameters: Some(parameters),
        strict: false,
    }]
}

fn thoughtful(thinking: &str, content: &str, calls: Vec<ToolCall>) -> ChatMessage {
    let answer = ChatMessage::new("assistant", content);
    ChatMessage { thinking: Some(thinking.into()), tool_calls: calls, ..answer }
}

/// The prompts of a conversation: a question, a call's result, and the next question, which the one after follows.
fn prompts(first: &str) -> [Chat; 4] {
    let call = ToolCall {
        id: "abcdefghi".into(),
        name: "get_weather".into(),
        arguments: r#"{"city": "Köln"}"#.into(),
    };
    let round = [
        ChatMessage::new("user", first),
        thoughtful("I could look.", "", vec![call.clone()]),
        ChatMessage { tool_call_id: Some(call.id), ..ChatMessage::new("tool", "RAIN") },
        thoughtful("So it does.", "It rains.", Vec::new()),
        ChatMessage::new("user", "And tomorrow?"),
        thoughtful("Who knows.", "Nobody knows.", Vec::new()),
        ChatMessage::new("user", "A pity."),
    ];
    let chat = |n: usize| Chat {
        messages: round[..n].to_vec(),
        add_generation_prompt: true,
        tools: tools(),
        ..Chat::default()
    };
    [chat(1), chat(3), chat(5), chat(7)]
}

fn render(model: &TextModel, chat: &Chat) -> Result<RenderedChat, TextError> {
    Ok(model.rendered_chat(&model.render_asked(chat, Asked::TextAndPoints)?))
}

/// All tokens of a chat, and for each of its points how many precede it.
fn tokens(model: &TextModel, chat: &RenderedChat) -> (Vec<TokenId>, Vec<(usize, usize)>) {
    let piece = model.encode_piece(chat, 0..chat.text().len(), EncodeLimits::NONE).unwrap();
    (piece.tokens, piece.points)
}

/// Holds that `later` has the tokens that `prompt` has up to `at`.
fn check_common(model: &TextModel, what: &str, (prompt, at): (&RenderedChat, usize), later: &RenderedChat) {
    let (all, points) = tokens(model, prompt);
    let (_, n) = points.into_iter().find(|(place, _)| *place == at).unwrap();
    let (theirs, _) = tokens(model, later);
    assert!(n > 0 && theirs.starts_with(&all[..n]), "{what}: {:?}", &prompt.text()[..at]);
}

/// Whether not many more bytes of the text are in `later` too.
fn is_far((prompt, at): (&RenderedChat, usize), later: &RenderedChat) -> bool {
    let common = prompt.text().bytes().zip(later.text().bytes()).take_while(|(a, b)| a == b).count();
    common <= at + MAX_LOST_BYTES
}

/// What could be seen of one template: how many of its prompts had a return point, and how many of these were as far as
/// could be.
fn look(name: &str, source: &str) -> (usize, usize) {
    let model = bytes::model_of(source);
    let prompts = prompts("How is the weather?");
    let rendered: Vec<RenderedChat> = prompts.iter().filter_map(|chat| render(&model, chat).ok()).collect();
    if rendered.len() < prompts.len() {
        return (0, 0);
    }
    let (mut n_points, mut n_far) = (0, 0);
    // Within a turn and at its end the next turn's prompt has what is before the point.
    for (n, next) in [(0, 2), (1, 2), (2, 3)] {
        let points = rendered[n].points();
        if let Some(at) = points.return_point {
            check_common(&model, &format!("{name} {n}"), (&rendered[n], at), &rendered[next]);
            n_far += usize::from(is_far((&rendered[n], at), &rendered[next]));
            n_points += 1;
        }
        let start = points.generation_start.unwrap_or(0);
        assert!(start <= rendered[n].text().len(), "{name} {n}");
    }
    if let Ok(other) = render(&model, &self::prompts("Something else.")[0])
        && let Some(at) = rendered[0].points().system_end
        && other.points().system_end.is_some()
    {
        check_common(&model, &format!("{name} system"), (&rendered[0], at), &other);
    }
    (n_points, n_far)
}

fn on_a_renderers_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(RENDER_STACK_BYTES).spawn_scoped(scope, work).unwrap();
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn source(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn the_next_turns_prompt_has_what_is_before_the_return_point_whatever_a_template_leaves_out() {
    let (mut n_templates, mut n_points, mut n_far) = (0, 0, 0);
    for path in reference::files("templates", ".jinja", 70) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let source = source(&path);
        let (n, far) = on_a_renderers_stack(|| look(&name, &source));
        if far < n {
            println!("{name}: {far} of {n} are as far as could be");
        }
        n_templates += usize::from(n > 0);
        n_points += n;
        n_far += far;
    }
    println!("{n_points} return points in {n_templates} templates");
    assert!(n_templates >= 40 && n_points >= 3 * n_templates - 6, "{n_points} in {n_templates}");
    // A template may look at what the answer was: then the point is an earlier one, and never a wrong one.
    assert!(n_far * 20 >= n_points * 19, "{n_far} of {n_points}");
}

#[test]
fn the_return_point_is_behind_the_turns_question_where_thoughts_are_left_out_later() {
    let templates = reference::folder("templates");
    for (name, around) in [
        ("Qwen3.5-4B.jinja", ("How is the weather?<|im_end|>\n<|im_start|>", "assistant\n")),
        ("google-gemma-4-31B-it.jinja", ("How is the weather?<turn|>\n<|turn>", "model\n")),
    ] {
        let source = source(&templates.join(name));
        on_a_renderers_stack(|| {
            let model = bytes::model_of(&source);
            let [question, result, ..] = prompts("How is the weather?");
            for chat in [question, result] {
                let rendered = render(&model, &chat).unwrap();
                let at = rendered.points().return_point.unwrap();
                let (before, after) = rendered.text().split_at(at);
                // What the template writes before any answer may stand on either side.
                let before = before.strip_suffix(around.1).unwrap_or(before);
                assert!(before.ends_with(around.0), "{before} ◂▸ {after}");
                let end = rendered.points().system_end.unwrap();
                assert!(rendered.text()[end..].starts_with("user\nHow is"), "{}", &rendered.text()[..end]);
            }
        });
    }
}

#[test]
fn an_answer_that_is_gone_on_with_comes_back_to_before_it_where_it_is_written_anew_later() {
    let source = source(&reference::folder("templates").join("Qwen3.5-4B.jinja"));
    on_a_renderers_stack(|| {
        let model = bytes::model_of(&source);
        let messages = vec![ChatMessage::new("user", "Hi."), ChatMessage::new("assistant", "It is")];
        let chat = Chat { messages, continue_final: true, ..Chat::default() };
        let rendered = render(&model, &chat).unwrap();
        let at = rendered.points().return_point.unwrap();
        assert!(rendered.text()[at..].starts_with("assistant\n<think>\n"), "{}", &rendered.text()[at..]);
        let start = rendered.points().generation_start.unwrap();
        assert!(rendered.text()[..start].ends_with("Hi.<|im_end|>"), "{}", &rendered.text()[..start]);
    });
}

#[test]
fn a_template_that_takes_no_further_turn_says_why_there_is_no_return_point() {
    let model = bytes::model(
        "{% if messages | length > 1 %}{{ raise_exception('one question, please') }}{% endif %}\
         <s>{{ messages[0].content }}</s>",
        &[("<s>", 3), ("</s>", 3)],
    );
    let messages = vec![ChatMessage::new("user", "Hi.")];
    let chat = Chat { messages, add_generation_prompt: true, ..Chat::default() };
    let points = render(&model, &chat).unwrap().points().clone();
    assert_eq!(points.return_point, None);
    assert!(points.fault.unwrap().contains("one question, please"));
}
