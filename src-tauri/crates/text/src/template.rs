//! Chat templates: the model's own Jinja source, run in a box.
//!
//! A template comes with the model file and is not trusted: it reads no files, loads no other templates, and
//! its parts, its steps, its depth and the size of its output are limited. That is no prison: a template can make
//! values that lie in each other without end, and minijinja prints, compares and drops those by recursion; methods
//! build strings of any size. So products render in a process that may fail, see `render_worker.rs`.

use std::fmt;
use std::io;
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde_json::Map;

use crate::chat_template::{ChatTemplate, check_parts};
use crate::defusing::unused_noncharacter;
use crate::json::tojson;
use crate::python;
use crate::strftime::strftime;
use crate::{Chat, ChatMessage, TextError};

const NAME: &str = "chat_template";
const MAX_OUTPUT_BYTES: usize = 64 << 20;
const MAX_DEPTH: usize = 100;
/// Steps that a template may take for itself and for each value in the chat.
const FUEL_BASE: u64 = 200_000;
const FUEL_PER_VALUE: u64 = 10_000;
const FUEL_MAX: u64 = 50_000_000;

/// A compiled chat template.
pub(crate) struct Template {
    environment: Environment<'static>,
    source: String,
}

/// A rendered chat.
#[derive(Debug)]
pub(crate) struct Rendering {
    pub(crate) text: String,
    /// The character that marks the client's control-token texts, if there are any.
    pub(crate) mark: Option<char>,
    /// When it was rendered, and when any other rendering of the same chat is.
    pub(crate) now: SystemTime,
}

impl Template {
    pub(crate) fn new(template: &ChatTemplate) -> Result<Template, TextError> {
        check_parts(&template.source).map_err(TextError::Template)?;
        let mut environment = Environment::new();
        environment.set_syntax(syntax()?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_recursion_limit(MAX_DEPTH);
        python::add_to(&mut environment);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        let ChatTemplate { source, bos, eos, unk, pad, .. } = template;
        for (name, text) in [("bos_token", bos), ("eos_token", eos), ("unk_token", unk), ("pad_token", pad)] {
            environment.add_global(name, text.clone().unwrap_or_default());
        }
        let not_compiled = |e: String| TextError::Template(format!("it does not compile: {e}"));
        let source_here = python::respelt(source).map_err(not_compiled)?;
        environment.add_template_owned(NAME, source_here).map_err(|e| not_compiled(e.to_string()))?;
        Ok(Template { environment, source: source.clone() })
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Renders the chat, whose control-token texts carry `mark` if there is one, as of `now`.
    pub(crate) fn render(
        &self,
        chat: &Chat,
        mark: Option<char>,
        now: SystemTime,
    ) -> Result<Rendering, TextError> {
        let end =
            if chat.continue_final { Some(unused_noncharacter(chat, &self.source, mark)?) } else { None };
        let mut messages: Vec<Map<String, serde_json::Value>> =
            chat.messages.iter().map(message_object).collect();
        if let Some(end) = end {
            let Some(last) = messages.last_mut() else {
                return Err(TextError::Refused("there is no message to continue".into()));
            };
            let content = chat.messages.last().map_or("", |message| &message.content);
            last.insert("content".into(), format!("{content}{end}").into());
        }
        let mut output = Limited { bytes: Vec::new() };
        let add_generation_prompt = chat.add_generation_prompt && end.is_none();
        self.run(&messages, &chat.extra, add_generation_prompt, (now, &mut output)).map_err(failure)?;
        let mut text = String::from_utf8(output.bytes).map_err(|e| TextError::Template(e.to_string()))?;
        if let Some(end) = end {
            let Some(at) = text.rfind(end) else {
                return Err(TextError::Refused("the template does not write the message to continue".into()));
            };
            text.truncate(at);
            text = text.replace(end, "");
        }
        Ok(Rendering { text, mark, now })
    }

    /// How many bytes the text of these messages has in common with `rendering`, from the first one on. It is rendered no
    /// further than that.
    pub(crate) fn n_common<'a>(
        &self,
        messages: impl Iterator<Item = &'a ChatMessage>,
        extra: &Map<String, serde_json::Value>,
        add_generation_prompt: bool,
        rendering: &Rendering,
    ) -> Result<usize, TextError> {
        let messages: Vec<Map<String, serde_json::Value>> = messages.map(message_object).collect();
        let mut compared = Compared { with: rendering.text.as_bytes(), n_common: 0, differs: false };
        let output = (rendering.now, &mut compared as &mut dyn io::Write);
        match self.run(&messages, extra, add_generation_prompt, output) {
            Err(error) if !compared.differs => Err(failure(error)),
            Ok(()) | Err(_) => Ok(rendering.text.floor_char_boundary(compared.n_common)),
        }
    }

    fn run(
        &self,
        messages: &[Map<String, serde_json::Value>],
        extra: &Map<String, serde_json::Value>,
        add_generation_prompt: bool,
        (now, output): (SystemTime, &mut dyn io::Write),
    ) -> Result<(), Error> {
        let n_values = messages.len()
            + messages.iter().chain([extra]).map(|object| n_values(object.values())).sum::<usize>();
        let fuel = FUEL_BASE.saturating_add(FUEL_PER_VALUE.saturating_mul(n_values as u64)).min(FUEL_MAX);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        environment.add_function("strftime_now", move |format: &str| strftime(format, now));
        let template = environment.get_template(NAME)?;

        // What transformers passes even when there is none of it, then what the client asked for.
        let defaults = context! { tools => (), documents => () };
        let fixed = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => add_generation_prompt,
        };
        let context = context! { ..fixed, ..Value::from(Serde(extra)), ..defaults };
        template.render_captured_to(context, output).map(drop)
    }
}

/// White space around blocks as transformers sets it.
fn syntax() -> Result<SyntaxConfig, TextError> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    syntax.map_err(|e| TextError::Template(e.to_string()))
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Output with a limit.
struct Limited {
    bytes: Vec<u8>,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other(format!("more than {MAX_OUTPUT_BYTES} bytes of output")));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Output that is compared with another, and refused where it differs from that.
struct Compared<'a> {
    with: &'a [u8],
    n_common: usize,
    differs: bool,
}

impl io::Write for Compared<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let same = self.with[self.n_common..].iter().zip(bytes).take_while(|(a, b)| a == b).count();
        self.n_common += same;
        self.differs = same < bytes.len();
        if self.differs { Err(io::Error::other("it differs")) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a template says about a chat that it does not take.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
}

fn failure(error: Error) -> TextError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(this) = cause {
        if let Some(Refusal(message)) = this.downcast_ref() {
            return TextError::Refused(message.clone());
        }
        cause = this.source();
    }
    TextError::Template(error.to_string())
}

fn message_object(message: &ChatMessage) -> Map<String, serde_json::Value> {
    let mut object = Map::new();
    object.insert("role".into(), message.role.clone().into());
    object.insert("content".into(), message.content.clone().into());
    if let Some(name) = &message.name {
        object.insert("name".into(), name.clone().into());
    }
    for (key, value) in &message.extra {
        object.entry(key).or_insert_with(|| value.clone());
    }
    object
}

fn n_values<'a>(values: impl Iterator<Item = &'a serde_json::Value>) -> usize {
    values
        .map(|value| match value {
            serde_json::Value::Array(values) => 1 + n_values(values.iter()),
            serde_json::Value::Object(object) => 1 + n_values(object.values()),
            _ => 1,
        })
        .sum()
}
