//! `POST /v1/embeddings`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

use crate::calls::embed_answer::EmbedAnswer;
use crate::calls::embed_call::{EmbedCall, EmbedNames, TooLong, VectorLength};
use crate::calls::fault::Fault;
use crate::dialects::dialect::{AskedEmbed, EmbedWriter};
use crate::dialects::embed_inputs::take_inputs;
use crate::dialects::fields::Fields;
use crate::dialects::sse::json;

const NAMES: EmbedNames = EmbedNames {
    input: "input",
    dimensions: "dimensions",
    cut: "\"truncate\": true",
    cut_to: "truncate_prompt_tokens",
};

/// A body as a call.
pub(crate) fn parse(body: &[u8]) -> Result<AskedEmbed, Fault> {
    let mut fields = Fields::of_body(body)?;
    let call = EmbedCall {
        model: fields.take("model")?,
        inputs: take_inputs(&mut fields, NAMES.input)?,
        too_long: take_too_long(&mut fields)?,
        dimensions: fields.take_whole_within(NAMES.dimensions, 1..=usize::MAX)?,
        length: VectorLength::One,
        names: NAMES,
    };
    let encoding = take_encoding(&mut fields)?;
    // Who the end user is, is a matter of a company's service.
    fields.pass(|name| matches!(name, "user" | "safety_identifier"));
    fields.finish()?;
    Ok(AskedEmbed { call, writer: Box::new(Vectors { encoding }) })
}

/// How the values of a vector are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Float,
    Base64,
}

fn take_encoding(fields: &mut Fields<'_>) -> Result<Encoding, Fault> {
    match fields.take::<String>("encoding_format")?.as_deref() {
        None | Some("float") => Ok(Encoding::Float),
        Some("base64") => Ok(Encoding::Base64),
        Some(_) => Err(Fault::invalid("encoding_format", "must be float or base64")),
    }
}

/// `truncate`, and `truncate_prompt_tokens` as vLLM has it: -1 is as many as the model can read.
fn take_too_long(fields: &mut Fields<'_>) -> Result<TooLong, Fault> {
    let cuts = fields.take::<bool>("truncate")?;
    let most = match fields.take_whole(NAMES.cut_to)? {
        None => None,
        Some(-1) => Some(TooLong::Cut),
        Some(most) => {
            let most = usize::try_from(most).ok().filter(|most| *most > 0);
            let most = most.ok_or_else(|| Fault::invalid(NAMES.cut_to, "must be -1 or more than 0"))?;
            Some(TooLong::CutTo(most))
        }
    };
    match (cuts, most) {
        (Some(false), Some(_)) => {
            Err(Fault::invalid(NAMES.cut_to, "only allowed where 'truncate' is not false"))
        }
        (_, Some(most)) => Ok(most),
        (Some(true), None) => Ok(TooLong::Cut),
        (Some(false) | None, None) => Ok(TooLong::Refuse),
    }
}

/// The vectors of a call's texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingList {
    object: &'static str,
    /// In the order of the texts.
    data: Vec<Embedding>,
    model: String,
    usage: EmbeddingUsage,
}

/// The vector of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Values,
}

/// A vector of length 1.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Values {
    Float(Vec<f32>),
    /// 32-bit floats, little-endian, in base64.
    Base64(String),
}

/// What a call took.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Writes a list of vectors, which may be long.
struct Vectors {
    encoding: Encoding,
}

impl Vectors {
    /// What stands before and after the vectors.
    fn around(answer: &EmbedAnswer) -> (String, String) {
        let usage = EmbeddingUsage { prompt_tokens: answer.n_tokens, total_tokens: answer.n_tokens };
        let list = EmbeddingList { object: "list", data: Vec::new(), model: answer.model.clone(), usage };
        let list = json(&list);
        let at = list.find("[]").map_or(list.len(), |at| at + 1);
        (list[..at].to_owned(), list[at..].to_owned())
    }
}

impl EmbedWriter for Vectors {
    fn open(&mut self, answer: &EmbedAnswer, out: &mut String) {
        out.push_str(&Vectors::around(answer).0);
    }

    fn vector(&mut self, idx: usize, vector: Vec<f32>, out: &mut String) {
        if idx > 0 {
            out.push(',');
        }
        let embedding = match self.encoding {
            Encoding::Float => Values::Float(vector),
            Encoding::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                Values::Base64(STANDARD.encode(bytes))
            }
        };
        out.push_str(&json(&Embedding { object: "embedding", index: idx, embedding }));
    }

    fn close(&mut self, answer: &EmbedAnswer, out: &mut String) {
        out.push_str(&Vectors::around(answer).1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::status;
    use super::*;

    fn call(more: &str) -> Result<EmbedCall, Fault> {
        parse(format!(r#"{{"input":"hi"{more}}}"#).as_bytes()).map(|asked| asked.call)
    }

    #[test]
    fn long_texts_are_refused_unless_it_is_said_how_they_are_cut() {
        let too_long = |more: &str| call(more).unwrap().too_long;
        for (more, want) in [
            ("", TooLong::Refuse),
            (r#","truncate":null,"truncate_prompt_tokens":null"#, TooLong::Refuse),
            (r#","truncate":false"#, TooLong::Refuse),
            (r#","truncate":true"#, TooLong::Cut),
            (r#","truncate_prompt_tokens":-1"#, TooLong::Cut),
            (r#","truncate_prompt_tokens":12"#, TooLong::CutTo(12)),
            (r#","truncate":true,"truncate_prompt_tokens":12.0"#, TooLong::CutTo(12)),
        ] {
            assert_eq!(too_long(more), want, "{more}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_and_hints_pass() {
        for (more, param) in [
            (r#","model":7"#, "model"),
            (r#","dimensions":0"#, "dimensions"),
            (r#","dimensions":-1"#, "dimensions"),
            (r#","dimensions":1.5"#, "dimensions"),
            (r#","encoding_format":"int8""#, "encoding_format"),
            (r#","encoding_format":7"#, "encoding_format"),
            (r#","truncate":"yes""#, "truncate"),
            (r#","truncate_prompt_tokens":0"#, "truncate_prompt_tokens"),
            (r#","truncate_prompt_tokens":-2"#, "truncate_prompt_tokens"),
            (r#","truncate":false,"truncate_prompt_tokens":5"#, "truncate_prompt_tokens"),
            (r#","stream":true"#, "stream"),
            (r#","input_type":"query""#, "input_type"),
        ] {
            let fault = call(more).unwrap_err();
            assert_eq!((status(fault.kind).as_u16(), fault.place.as_deref()), (400, Some(param)), "{more}");
        }
        assert!(call(r#","user":"u","encoding_format":null,"dimensions":null,"model":null"#).is_ok());
        assert_eq!(parse(b"{}").err().unwrap().place.as_deref(), Some("input"));
    }
}
