//! `POST /api/embed` and the older `/api/embeddings`.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::calls::embed_answer::EmbedAnswer;
use crate::calls::embed_call::{EmbedCall, EmbedNames, Input, Inputs, TooLong, VectorLength};
use crate::calls::fault::Fault;
use crate::dialects::dialect::{AskedEmbed, EmbedWriter};
use crate::dialects::embed_inputs::take_inputs;
use crate::dialects::fields::Fields;
use crate::dialects::sse::json;

const NAMES: EmbedNames =
    EmbedNames { input: "input", dimensions: "dimensions", cut: "\"truncate\": true", cut_to: "truncate" };

/// A body of `/api/embed` as a call. Texts that are too long are cut, unless the request says not to.
pub(crate) fn parse(body: &[u8]) -> Result<AskedEmbed, Fault> {
    let mut fields = Fields::of_body(body)?;
    let call = EmbedCall {
        model: fields.take("model")?,
        inputs: take_inputs(&mut fields, NAMES.input)?,
        too_long: match fields.take::<bool>("truncate")? {
            Some(false) => TooLong::Refuse,
            Some(true) | None => TooLong::Cut,
        },
        dimensions: fields.take_count(NAMES.dimensions, 1)?,
        length: VectorLength::One,
        names: NAMES,
    };
    take_hints(&mut fields)?;
    fields.finish()?;
    Ok(AskedEmbed { call, writer: Box::new(Vectors) })
}

/// A body of `/api/embeddings` as a call: one text, whose vector is as the model gives it.
pub(crate) fn parse_older(body: &[u8]) -> Result<AskedEmbed, Fault> {
    let mut fields = Fields::of_body(body)?;
    let prompt = fields.take_large::<String>("prompt")?.ok_or_else(|| Fault::missing("prompt"))?;
    let call = EmbedCall {
        model: fields.take("model")?,
        inputs: Inputs::One(Input::Text(prompt)),
        too_long: TooLong::Cut,
        dimensions: None,
        length: VectorLength::Own,
        names: EmbedNames { input: "prompt", ..NAMES },
    };
    take_hints(&mut fields)?;
    fields.finish()?;
    Ok(AskedEmbed { call, writer: Box::new(OneVector) })
}

/// How long the model stays, and how it is run: hints, none of which changes a vector.
fn take_hints(fields: &mut Fields<'_>) -> Result<(), Fault> {
    fields.take::<Value>("keep_alive")?;
    fields.take::<serde_json::Map<String, Value>>("options")?;
    Ok(())
}

/// The vectors of texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaVectors {
    model: String,
    /// In the order of the texts, each of length 1.
    embeddings: Vec<Vec<f32>>,
    /// In nanoseconds.
    total_duration: u64,
    /// Always 0.
    load_duration: u64,
    prompt_eval_count: usize,
}

/// The vector of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaVector {
    embedding: Vec<f32>,
}

/// Writes vectors.
struct Vectors;

impl EmbedWriter for Vectors {
    fn open(&mut self, answer: &EmbedAnswer, out: &mut String) {
        *out += &format!("{{\"model\":{},\"embeddings\":[", json(&answer.model));
    }

    fn vector(&mut self, idx: usize, vector: Vec<f32>, out: &mut String) {
        if idx > 0 {
            out.push(',');
        }
        out.push_str(&json(&vector));
    }

    fn close(&mut self, answer: &EmbedAnswer, out: &mut String) {
        let took = answer.took.as_nanos();
        *out += &format!(
            "],\"total_duration\":{took},\"load_duration\":0,\"prompt_eval_count\":{}}}",
            answer.n_tokens
        );
    }
}

/// Writes the vector of the only text.
struct OneVector;

impl EmbedWriter for OneVector {
    fn open(&mut self, _: &EmbedAnswer, out: &mut String) {
        out.push_str("{\"embedding\":");
    }

    fn vector(&mut self, _: usize, vector: Vec<f32>, out: &mut String) {
        out.push_str(&json(&vector));
    }

    fn close(&mut self, _: &EmbedAnswer, out: &mut String) {
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_unless_the_request_says_not_to_and_hints_pass() {
        let call = |body: &str| parse(body.as_bytes()).map(|asked| asked.call);
        let plain = call(r#"{"model":"m","input":["a","b"],"options":{},"keep_alive":"5m"}"#).unwrap();
        assert_eq!((plain.too_long, plain.length), (TooLong::Cut, VectorLength::One));
        assert_eq!(call(r#"{"input":"a","truncate":false}"#).unwrap().too_long, TooLong::Refuse);
        assert_eq!(call(r#"{"input":"a","dimensions":8}"#).unwrap().dimensions, Some(8));
        for (body, place) in [
            ("{}", "input"),
            (r#"{"input":7}"#, "input"),
            (r#"{"input":"a","dimensions":0}"#, "dimensions"),
            (r#"{"input":"a","encoding_format":"float"}"#, "encoding_format"),
        ] {
            assert_eq!(call(body).unwrap_err().place.as_deref(), Some(place), "{body}");
        }
        let older = parse_older(br#"{"model":"m","prompt":"a"}"#).map(|asked| asked.call).unwrap();
        assert_eq!((older.length, older.inputs), (VectorLength::Own, Inputs::One(Input::Text("a".into()))));
        assert_eq!(parse_older(b"{}").err().unwrap().place.as_deref(), Some("prompt"));
    }
}
