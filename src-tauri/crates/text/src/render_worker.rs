//! Rendering in a process of its own, which may run out of stack, memory or time without anybody else noticing.
//!
//! The one side writes requests to the worker's standard input, the other answers on its standard output; each is a
//! frame of four bytes of length, little-endian, and that many bytes of JSON. A worker keeps the template that it
//! was given last.

use std::io::{self, Read, Write};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::chat_points::Asked;
use crate::chat_template::ChatTemplate;
use crate::rendered_text::RenderedText;
use crate::renderer::ChatRenderer;
use crate::{Chat, TextError};

/// Stack that compiling and rendering may take at the bounds on a template; `tests/bounds.rs` measures it.
pub const RENDER_STACK_BYTES: usize = 64 << 20;
/// Bytes of one frame: a request's body, a template and what a template writes are shorter.
const MAX_FRAME_BYTES: usize = 256 << 20;

/// What a worker is asked. Borrowed where it is sent, owned where it is received.
#[derive(Debug, Serialize)]
pub struct RenderRequest<'a> {
    /// The template, if it is not the one that the worker has.
    pub template: Option<&'a ChatTemplate>,
    /// What to render.
    pub chat: &'a Chat,
    /// When that is: a worker has no clock.
    pub now: SystemTime,
    /// What of it.
    pub asked: Asked,
}

#[derive(Debug, Deserialize)]
struct OwnedRequest {
    template: Option<ChatTemplate>,
    chat: Chat,
    now: SystemTime,
    asked: Asked,
}

/// Writes one frame.
///
/// # Errors
/// The other end is gone, or the value is too large.
pub fn write_frame(output: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(value)?;
    let n_bytes = u32::try_from(json.len()).ok().filter(|_| json.len() <= MAX_FRAME_BYTES);
    let n_bytes = n_bytes.ok_or_else(|| io::Error::other(format!("a frame of {} bytes", json.len())))?;
    output.write_all(&n_bytes.to_le_bytes())?;
    output.write_all(&json)?;
    output.flush()
}

/// Reads one frame; nothing where the other end has closed between two.
///
/// # Errors
/// The other end is gone within a frame, or the frame is too large or not what is expected.
pub fn read_frame<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut n_bytes = [0; 4];
    match input.read_exact(&mut n_bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let n_bytes = u32::from_le_bytes(n_bytes) as usize;
    if n_bytes > MAX_FRAME_BYTES {
        return Err(io::Error::other(format!("a frame of {n_bytes} bytes")));
    }
    // What is announced is believed only as it comes.
    let mut json = Vec::new();
    input.take(n_bytes as u64).read_to_end(&mut json)?;
    if json.len() < n_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_slice(&json)?))
}

/// Answers requests until their end is closed. `around` is told before and after each piece of work.
///
/// # Errors
/// The other end is gone within a frame, or speaks another language.
pub fn serve_renderings(
    input: &mut impl Read,
    output: &mut impl Write,
    mut around: impl FnMut(WorkerIs),
) -> io::Result<()> {
    let mut renderer: Result<ChatRenderer, TextError> = Err(TextError::NoChatTemplate);
    while let Some(OwnedRequest { template, chat, now, asked }) = read_frame(input)? {
        around(WorkerIs::Busy);
        if let Some(template) = template {
            renderer = ChatRenderer::new(&template);
        }
        let rendered: Result<RenderedText, TextError> = renderer
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|renderer| renderer.render_asked(&chat, now, asked));
        write_frame(output, &rendered)?;
        around(WorkerIs::Idle);
    }
    Ok(())
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerIs {
    /// It renders.
    Busy,
    /// It waits for a request.
    Idle,
}
