//! A whole server in front of a scripted engine: chats and vectors without a model, for tools that send it whatever they
//! like.
//!
//! It prints `listening on http://HOST:PORT` and serves until its standard input is closed. With `loading` its model never
//! gets loaded; with `busy` no step ever ends and one call is all that it takes.

use std::error::Error;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use engine::testing::{
    N_VOCAB, Script, ScriptedLoader, ScriptedModel, Steering, enclosing_text, text_with_template,
};
use engine::{BatchEngine, EmbedSpec, EngineConfig, Pooling};
use server::{Server, ServerConfig};
use store::{Store, StoreConfig};
use text::TextModel;

/// What it says to everybody: a thought, words, and a call in the form that its template names.
const SAYS: &str = "<think>\nLet me see.\n</think>\n\nHello there.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {}}\n</tool_call>";

fn thoughtful_with_tools() -> TextModel {
    text_with_template(
        "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}<|start|>{{ m.role }}\n\
         {% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}\
         {% for c in m.tool_calls %}\n<tool_call>\n{\"name\": {{ c.function.name | tojson }}, \"arguments\": \
         {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|end|>\n{% endfor %}\
         {% if enable_thinking is defined and not enable_thinking %}/no\n{% endif %}\
         {% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    )
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let chats = ScriptedModel {
        script: Script::Says(SAYS.to_owned()),
        text: thoughtful_with_tools,
        ..ScriptedModel::default()
    };
    let vectors =
        EmbedSpec { width: 6, max_tokens: 512, n_vocab: N_VOCAB, pooling: Pooling::Mean, n_parts: 4 };
    let encoder = ScriptedModel {
        name: "encoder",
        fingerprint: [5; 32],
        embeds: Some(vectors),
        text: enclosing_text,
        ..ScriptedModel::default()
    };
    let mode = std::env::args().nth(1);
    let steering = match mode.as_deref() {
        None | Some("loading") => Steering::free(),
        Some("busy") => Steering::holding_steps(),
        Some(other) => return Err(format!("'{other}' is none of loading or busy").into()),
    };
    if mode.as_deref() == Some("loading") {
        steering.hold_loads();
    }
    let loader = ScriptedLoader::new(chats, steering.clone()).and("encoder", encoder, steering);
    let folder = tempfile::tempdir()?;
    let kept = StoreConfig { free_space_floor: 0, ..StoreConfig::new(folder.path().to_owned(), 64 << 20) };
    let store = Arc::new(Store::open(kept)?);
    let mut config = EngineConfig { store, ..EngineConfig::default() };
    match mode.as_deref() {
        Some("busy") => config.max_requests = 1,
        Some(_) => config.queue_timeout = Duration::from_millis(1),
        None => {}
    }
    let engine = BatchEngine::start(config, Arc::new(loader));
    if mode.is_none() {
        engine.handle().load_model("encoder".into()).await?;
    }

    let listening = Server::bind(ServerConfig { port: 0, ..ServerConfig::default() }).await?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on http://{}", listening.address())?;
    stdout.flush()?;
    let serving = tokio::spawn(listening.serve(engine.handle()));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    serving.abort();
    Ok(())
}
