//! What is told of models: lists of them, and one in detail.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::calls::fault::Fault;
use crate::calls::model_names::LATEST;
use crate::calls::served_model::ServedModel;
use crate::dialects::fields::Fields;
use crate::dialects::timestamps::rfc3339;

/// The version of Ollama whose API this is: clients refuse to talk to older ones, or leave something out.
const VERSION: &str = "0.13.0";

/// When a model leaves that leaves when its room is needed: as Ollama says it of one that is kept.
const NEVER: &str = "2318-01-01T00:00:00Z";

/// `GET /api/version`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaVersion {
    version: &'static str,
}

/// `GET /api/tags`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaTags {
    models: Vec<OllamaModel>,
}

/// `GET /api/ps`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaRunning {
    models: Vec<OllamaRunningModel>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
struct OllamaModel {
    name: String,
    /// The same.
    model: String,
    /// As RFC 3339 has it.
    modified_at: String,
    /// Bytes of its file.
    size: u64,
    /// What stands for its weights, and how they are computed with; 64 hexadecimal digits.
    digest: String,
    details: OllamaDetails,
}

/// A loaded model.
#[derive(Debug, Serialize, ToSchema)]
struct OllamaRunningModel {
    #[serde(flatten)]
    model: OllamaModel,
    expires_at: &'static str,
    /// Always 0.
    size_vram: u64,
    /// Tokens that one request may have.
    context_length: usize,
}

/// What a model is like.
#[derive(Debug, Serialize, ToSchema)]
struct OllamaDetails {
    /// Always empty.
    parent_model: &'static str,
    /// `gguf`
    format: &'static str,
    family: String,
    families: Vec<String>,
    /// `135M`, for example.
    parameter_size: String,
    quantization_level: String,
}

/// `POST /api/show`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaShown {
    /// As RFC 3339 has it.
    modified_at: String,
    license: String,
    /// The parameters that are set for it, a line each.
    parameters: String,
    /// Always empty: the template is the model's own.
    template: &'static str,
    /// Always empty: there is no such file.
    modelfile: &'static str,
    details: OllamaDetails,
    #[schema(value_type = BTreeMap<String, Value>)]
    model_info: BTreeMap<String, Value>,
    /// What it can do.
    capabilities: Vec<&'static str>,
}

impl OllamaVersion {
    pub(crate) fn new() -> OllamaVersion {
        OllamaVersion { version: VERSION }
    }
}

impl OllamaTags {
    pub(crate) fn new(models: impl IntoIterator<Item = ServedModel>) -> OllamaTags {
        OllamaTags { models: models.into_iter().map(|model| OllamaModel::new(&model)).collect() }
    }
}

impl OllamaRunning {
    pub(crate) fn new(models: impl IntoIterator<Item = ServedModel>) -> OllamaRunning {
        let running = |model: ServedModel| OllamaRunningModel {
            model: OllamaModel::new(&model),
            expires_at: NEVER,
            size_vram: 0,
            context_length: model.context,
        };
        OllamaRunning { models: models.into_iter().map(running).collect() }
    }
}

impl OllamaModel {
    fn new(model: &ServedModel) -> OllamaModel {
        let name = match model.id.contains(':') {
            true => model.id.clone(),
            false => format!("{}{LATEST}", model.id),
        };
        OllamaModel {
            model: name.clone(),
            name,
            modified_at: modified_at(model),
            size: model.file_bytes,
            digest: model.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect(),
            details: OllamaDetails::new(model),
        }
    }
}

impl OllamaDetails {
    fn new(model: &ServedModel) -> OllamaDetails {
        let family = model.about.architecture.clone();
        OllamaDetails {
            parent_model: "",
            format: "gguf",
            families: vec![family.clone()],
            family,
            parameter_size: short_number(model.about.n_parameters),
            quantization_level: model.about.quantization.clone(),
        }
    }
}

impl OllamaShown {
    pub(crate) fn new(model: &ServedModel) -> OllamaShown {
        let about = &model.about;
        let mut model_info = BTreeMap::from([
            ("general.architecture".to_owned(), json!(about.architecture)),
            ("general.basename".to_owned(), json!(about.basename.as_ref().unwrap_or(&model.id))),
            ("general.parameter_count".to_owned(), json!(about.n_parameters)),
        ]);
        model_info.insert(format!("{}.context_length", about.architecture), json!(model.context));
        let has = |name: &'static str, has: bool| has.then_some(name);
        let capabilities = [
            has("embedding", model.embedding.is_some()),
            has("completion", model.embedding.is_none()),
            // Whatever its template knows: where it has no place for tools, they are told in words.
            has("tools", model.has_chat_template),
            has("thinking", model.thinks),
        ];
        OllamaShown {
            modified_at: modified_at(model),
            license: about.license.clone().unwrap_or_default(),
            parameters: String::new(),
            template: "",
            modelfile: "",
            details: OllamaDetails::new(model),
            model_info,
            capabilities: capabilities.into_iter().flatten().collect(),
        }
    }
}

/// The model that a body of `/api/show` names, by the newer name of the field or the older.
///
/// # Errors
/// It names none.
pub(crate) fn parse_show(body: &[u8]) -> Result<String, Fault> {
    let mut fields = Fields::of_body(body)?;
    let model = fields.take::<String>("model")?.filter(|model| !model.is_empty());
    let name = fields.take::<String>("name")?.filter(|name| !name.is_empty());
    // All that there is is always told.
    fields.pass(|name| matches!(name, "verbose" | "options" | "system" | "template"));
    fields.finish()?;
    model.or(name).ok_or_else(|| Fault::missing("model"))
}

/// When the file was written, or the model loaded where that is not known.
fn modified_at(model: &ServedModel) -> String {
    let since = |at: std::time::SystemTime| at.duration_since(UNIX_EPOCH).ok();
    let modified = model.about.modified_at.and_then(since).map(|since| since.as_secs());
    rfc3339(modified.unwrap_or(model.loaded_at), 0)
}

/// A number of weights as people say it.
fn short_number(n: u64) -> String {
    let (unit, letter) = match n {
        0..1_000 => return n.to_string(),
        1_000..1_000_000 => (1_000, 'K'),
        1_000_000..1_000_000_000 => (1_000_000, 'M'),
        _ => (1_000_000_000, 'B'),
    };
    let tenths = (n + unit / 20) / (unit / 10);
    match tenths {
        0..100 if letter == 'B' => format!("{}.{}{letter}", tenths / 10, tenths % 10),
        _ => format!("{}{letter}", (n + unit / 2) / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_counted_as_people_do() {
        for (n, want) in [
            (999, "999"),
            (134_515_008, "135M"),
            (268_098_176, "268M"),
            (1_235_814_400, "1.2B"),
            (7_615_616_512, "7.6B"),
            (70_553_706_496, "71B"),
        ] {
            assert_eq!(short_number(n), want, "{n}");
        }
    }

    #[test]
    fn a_model_is_named_by_either_field() {
        assert_eq!(parse_show(br#"{"model":"m"}"#), Ok("m".to_owned()));
        assert_eq!(parse_show(br#"{"name":"m","verbose":true}"#), Ok("m".to_owned()));
        assert_eq!(parse_show(b"{}").unwrap_err().place.as_deref(), Some("model"));
        assert_eq!(parse_show(br#"{"model":"m","x":1}"#).unwrap_err().place.as_deref(), Some("x"));
    }

    #[test]
    fn the_version_is_one_that_clients_accept() {
        let parts: Vec<u32> = VERSION.split('.').map(|part| part.parse().unwrap()).collect();
        assert!(parts > vec![0, 6, 3], "an editor refuses what is older than 0.6.4");
    }
}
