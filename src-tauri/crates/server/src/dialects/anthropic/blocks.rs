//! Content of messages: a string, or blocks of which each kind is shown, left out or refused.

use serde_json::value::RawValue;
use text::ToolCall;

use crate::calls::fault::{Fault, shorten};
use crate::calls::signing_key::SigningKey;
use crate::dialects::fields::{Fields, RawList};
use crate::dialects::remarks::Remarks;

/// Content within content: a result has documents, and a document has blocks.
const MAX_DEPTH: usize = 4;

/// What a block says.
pub(super) enum Block {
    Text(String),
    Thinking(String),
    ToolUse(ToolCall),
    ToolResult {
        id: String,
        text: String,
    },
    /// Nothing that a model here is shown.
    LeftOut,
}

/// What reading blocks takes, and what is noticed on the way.
pub(super) struct BlockReader {
    key: SigningKey,
    depth: usize,
    pub(super) remarks: Remarks,
}

impl BlockReader {
    pub(super) fn new(key: SigningKey) -> BlockReader {
        BlockReader { key, depth: 0, remarks: Remarks::default() }
    }

    /// The blocks of a message's or result's content; a string is one of text.
    ///
    /// # Errors
    /// One is not what it says it is, or of a kind that no model here can be shown.
    pub(super) fn blocks(&mut self, path: &str, content: &RawValue) -> Result<Vec<Block>, Fault> {
        if content.get().starts_with('"') {
            let text = serde_json::from_str(content.get());
            let text =
                text.map_err(|_| Fault::invalid(path, "the string has an escape that is no character"));
            return Ok(vec![Block::Text(text?)]);
        }
        let Ok(RawList(blocks)) = serde_json::from_str::<RawList<'_>>(content.get()) else {
            return Err(Fault::invalid(path, "expected a string or a list of blocks"));
        };
        if self.depth == MAX_DEPTH {
            return Err(Fault::invalid(path, format!("nested deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let blocks = blocks.iter().enumerate().map(|(i, block)| self.block(&format!("{path}.{i}"), block));
        let blocks = blocks.collect();
        self.depth -= 1;
        blocks
    }

    /// The text of content that may hold nothing else, its blocks on lines of their own.
    ///
    /// # Errors
    /// As [`BlockReader::blocks`], or a block is none of text.
    pub(super) fn text(&mut self, path: &str, content: &RawValue) -> Result<String, Fault> {
        let mut lines = Vec::new();
        for (i, block) in self.blocks(path, content)?.into_iter().enumerate() {
            match block {
                Block::Text(text) => lines.push(text),
                Block::LeftOut => {}
                Block::Thinking(_) | Block::ToolUse(_) | Block::ToolResult { .. } => {
                    return Err(Fault::invalid(format!("{path}.{i}.type"), "only text may stand here"));
                }
            }
        }
        Ok(lines.join("\n"))
    }

    fn block(&mut self, path: &str, block: &RawValue) -> Result<Block, Fault> {
        let mut fields = Fields::of_value(path, block)?;
        let kind = fields.need::<String>("type")?;
        // Other fields are notes to other servers, `cache_control` for example.
        match kind.as_str() {
            "text" => need_text(&mut fields, "text").map(Block::Text),
            "thinking" => self.thinking(&mut fields),
            "tool_use" => tool_use(&mut fields).map(Block::ToolUse),
            "tool_result" => self.tool_result(&mut fields),
            "search_result" => self.search_result(&mut fields).map(Block::Text),
            "document" => self.document(&mut fields).map(Block::Text),
            // What only the server can read that wrote it, or what that server's own tools did.
            "redacted_thinking" | "server_tool_use" | "mcp_tool_use" | "tool_reference"
            | "container_upload" | "compaction" => Ok(self.left_out(&kind)),
            result if result.ends_with("_tool_result") => Ok(self.left_out(&kind)),
            other => {
                let message = format!("content of type '{}' is not supported; use 'text'", shorten(other));
                Err(Fault::unsupported(fields.path("type"), message))
            }
        }
    }

    fn left_out(&mut self, kind: &str) -> Block {
        self.remarks.add(format!("content of type '{}' was left out: it means nothing here", shorten(kind)));
        Block::LeftOut
    }

    /// Thinking that this server gave out. Other thinking is another model's, or was changed on its way: a model is not
    /// told that it thought so. The real service refuses it; but a conversation may have begun there.
    fn thinking(&mut self, fields: &mut Fields<'_>) -> Result<Block, Fault> {
        let thinking = need_text(fields, "thinking")?;
        let signature = fields.take_large::<String>("signature")?.unwrap_or_default();
        if self.key.verifies(&thinking, &signature) {
            // Where it was not to be shown, nothing of it comes back.
            return Ok(if thinking.is_empty() { Block::LeftOut } else { Block::Thinking(thinking) });
        }
        self.remarks.add("thinking was left out whose signature is not this server's");
        Ok(Block::LeftOut)
    }

    fn tool_result(&mut self, fields: &mut Fields<'_>) -> Result<Block, Fault> {
        let id = fields.need::<String>("tool_use_id")?;
        let is_error = fields.take::<bool>("is_error")?.unwrap_or(false);
        let text = match fields.take_large::<&RawValue>("content")? {
            Some(content) => self.text(&fields.path("content"), content)?,
            None => String::new(),
        };
        // No template has a place for this but the text.
        let says_so = ["error", "<tool_use_error"].iter().any(|word| {
            text.trim_start().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
        });
        let text = if is_error && !says_so { format!("Error: {text}") } else { text };
        Ok(Block::ToolResult { id, text })
    }

    fn search_result(&mut self, fields: &mut Fields<'_>) -> Result<String, Fault> {
        let title = fields.take_large::<String>("title")?;
        let source = fields.take_large::<String>("source")?;
        let Some(content) = fields.take_large::<&RawValue>("content")? else {
            return Err(Fault::missing(fields.path("content")));
        };
        let text = self.text(&fields.path("content"), content)?;
        let lines: Vec<String> = title.into_iter().chain(source).chain([text]).collect();
        Ok(lines.join("\n"))
    }

    /// A document of text; others would have to be looked at.
    fn document(&mut self, fields: &mut Fields<'_>) -> Result<String, Fault> {
        let title = fields.take_large::<String>("title")?;
        let context = fields.take_large::<String>("context")?;
        let path = fields.path("source");
        let Some(source) = fields.take_large::<&RawValue>("source")? else {
            return Err(Fault::missing(path));
        };
        let mut source = Fields::of_value(&path, source)?;
        let text = match source.need::<String>("type")?.as_str() {
            "text" => need_text(&mut source, "data")?,
            "content" => match source.take_large::<&RawValue>("content")? {
                Some(content) => self.text(&source.path("content"), content)?,
                None => return Err(Fault::missing(source.path("content"))),
            },
            other => {
                let message =
                    format!("a document of type '{}' is not supported; send its text", shorten(other));
                return Err(Fault::unsupported(source.path("type"), message));
            }
        };
        let lines: Vec<String> = title.into_iter().chain(context).chain([text]).collect();
        Ok(lines.join("\n"))
    }
}

fn need_text(fields: &mut Fields<'_>, name: &str) -> Result<String, Fault> {
    fields.take_large(name)?.ok_or_else(|| Fault::missing(fields.path(name)))
}

fn tool_use(fields: &mut Fields<'_>) -> Result<ToolCall, Fault> {
    let (id, name) = (fields.need("id")?, fields.need("name")?);
    let arguments = match fields.take_large::<&RawValue>("input")? {
        Some(input) if input.get().starts_with('{') => input.get().to_owned(),
        Some(_) => return Err(Fault::invalid(fields.path("input"), "an object is wanted")),
        None => return Err(Fault::missing(fields.path("input"))),
    };
    Ok(ToolCall { id, name, arguments })
}
