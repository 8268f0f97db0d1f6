//! `samovar models check`: what a model file is, what it needs, and why it cannot run here where it cannot.

use std::process::ExitCode;

use model::EncoderOutline;
use serde_json::{Value, json};

use super::exit_codes::{CLEAN, FAILED};
use super::printing::{fail, one_line, say};
use super::{CheckArguments, ModelsCommand, settings};
use crate::app::render_workers;
use crate::description::{
    CheckpointDescription, Description, GpuAnswer, KvDescription, Share, Template, describe,
};
use crate::model_file;

/// Look at model files; nothing is asked of a server.
pub(crate) fn models(command: ModelsCommand) -> ExitCode {
    match command {
        ModelsCommand::Check(arguments) => check(arguments),
    }
}

fn check(arguments: CheckArguments) -> ExitCode {
    let settings = match settings(arguments.settings.0) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let described = model_file::find(Some(&arguments.file), &settings.folders.models)
        .and_then(|path| describe(&settings, &path, &render_workers()));
    match described {
        Ok(model) => {
            let code = if model.runs() { CLEAN } else { FAILED };
            match arguments.json {
                true => say(&format!("{:#}", in_json(&model)), code),
                false => say(&in_words(&model), code),
            }
        }
        Err(failure) => fail(&failure.text),
    }
}

/// One line for each thing that there is to say, its name first.
fn in_words(model: &Description) -> String {
    let mut lines = Vec::new();
    let mut add = |name: &str, what: &str| lines.push(format!("{name:<13}{}", one_line(what)));
    add("model", &model.name);
    let files = if model.n_files == 1 { String::new() } else { format!(" in {} files", model.n_files) };
    add("size", &format!("{}{files}", bytes(model.file_bytes)));
    add("architecture", model.architecture.as_deref().unwrap_or("not said"));
    if let Some(kind) = &model.not_a_model {
        add("kind", &format!("{kind}, which is no model by itself"));
    }
    for share in &model.types {
        add("tensors", &tensors(share));
    }
    for share in &model.ignored {
        add("ignored", &tensors(share));
    }
    if let Some(weights_bytes) = model.weights_bytes {
        add("weights", &format!("{} in memory, packed for the CPU", bytes(weights_bytes)));
    }
    for line in model.encoder.iter().flat_map(encoder_lines) {
        add(line.0, &line.1);
    }
    for line in model.kv.iter().flat_map(kv_lines) {
        add(line.0, &line.1);
    }
    let kind = model.tokenizer.kind.as_deref().unwrap_or("none");
    let pre = model.tokenizer.pre.as_ref().map_or_else(String::new, |pre| format!(" ({pre})"));
    add("tokenizer", &format!("{kind}{pre}, {} tokens", model.tokenizer.n_tokens));
    add(
        "template",
        &match &model.template {
            Template::Absent if model.encoder.is_some() => "not there, and not needed".to_owned(),
            Template::Absent => "not there: completions only".to_owned(),
            Template::Present { fault: None } => "present".to_owned(),
            Template::Present { fault: Some(fault) } => format!("present, and it fails: {fault}"),
        },
    );
    // Of what no backend knows there is nothing to say.
    if model.kv.is_some() || model.encoder.is_some() {
        add("GPU", &gpu_line(&model.gpu));
    }
    for reason in &model.reasons {
        add("cannot run", &reason.text);
    }
    if model.runs() {
        add("runs", if model.gpu.why_not_here.is_none() { "on the GPU" } else { "on the CPU" });
    }
    lines.join("\n")
}

fn kv_lines(kv: &KvDescription) -> Vec<(&'static str, String)> {
    let late = match kv.bytes_per_late_token {
        late if late == kv.bytes_per_token => String::new(),
        late => format!(", {late} beyond the windows"),
    };
    let unused = format!("{:.1} % of its blocks unused", 100.0 * kv.unused_share);
    let mut lines = vec![
        ("context", format!("{} tokens", kv.max_context)),
        ("KV", format!("{} bytes a token{late}, as {}; {unused}", kv.bytes_per_token, kv.dtype)),
    ];
    if let Some(CheckpointDescription { n_bytes, unused_share }) = kv.checkpoint {
        let unused = format!("{:.1} % of its blocks unused", 100.0 * unused_share);
        lines.push(("checkpoint", format!("{}; {unused}", bytes(n_bytes))));
    }
    for (n_tokens, n_bytes) in &kv.memory {
        lines.push(("memory", format!("{} with {n_tokens} tokens", bytes(*n_bytes))));
    }
    if let Some(context) = kv.context_here {
        lines.push(("fits here", format!("{context} tokens")));
    }
    lines
}

fn encoder_lines(encoder: &EncoderOutline) -> Vec<(&'static str, String)> {
    let EncoderOutline { spec, work_bytes } = encoder;
    let (width, pooling) = (spec.width, spec.pooling.name());
    vec![
        ("serves", "/v1/embeddings: it reads texts, and neither chats nor completes".to_owned()),
        ("vectors", format!("{width} values, pooling {pooling}")),
        ("texts", format!("up to {} tokens", spec.max_tokens)),
        ("memory", format!("{} beside its weights, with the longest text", bytes(*work_bytes))),
    ]
}

fn gpu_line(gpu: &GpuAnswer) -> String {
    match (&gpu.why_not_here, &gpu.why_no_other) {
        (None, _) => "computes".to_owned(),
        (Some(here), None) => format!("does not compute here: {here}; one with Metal can run this model"),
        (Some(_), Some(why)) => format!("cannot run this model: {why}"),
    }
}

fn tensors(share: &Share) -> String {
    format!("{}: {} of them, {}", share.what, share.n_tensors, bytes(share.n_bytes))
}

/// A size in the unit that makes it readable, and exactly.
fn bytes(n_bytes: u64) -> String {
    let in_units = |unit: u32, name: &str| format!("{:.1} {name}", n_bytes as f64 / f64::from(1 << unit));
    match n_bytes {
        0..1_048_576 => format!("{n_bytes} bytes"),
        1_048_576..1_073_741_824 => in_units(20, "MiB"),
        _ => in_units(30, "GiB"),
    }
}

fn in_json(model: &Description) -> Value {
    let share =
        |share: &Share| json!({"what": share.what, "tensors": share.n_tensors, "bytes": share.n_bytes});
    let shares = |of: &[Share]| of.iter().map(share).collect::<Vec<_>>();
    let kv = model.kv.as_ref().map(|kv| {
        let memory = |(n_tokens, n_bytes): &(usize, u64)| json!({"context": n_tokens, "bytes": n_bytes});
        let checkpoint = |CheckpointDescription { n_bytes, unused_share }: CheckpointDescription| {
            json!({"bytes": n_bytes, "unused_share": unused_share})
        };
        json!({
            "dtype": kv.dtype,
            "bytes_per_token": kv.bytes_per_token,
            "bytes_per_token_beyond_windows": kv.bytes_per_late_token,
            "unused_share": kv.unused_share,
            "checkpoint": kv.checkpoint.map(checkpoint),
            "max_context": kv.max_context,
            "memory": kv.memory.iter().map(memory).collect::<Vec<_>>(),
            "context_here": kv.context_here,
        })
    });
    let encoder = model.encoder.as_ref().map(|EncoderOutline { spec, work_bytes }| {
        json!({
            "width": spec.width,
            "pooling": spec.pooling.name(),
            "max_tokens": spec.max_tokens,
            "work_bytes": work_bytes,
        })
    });
    let fault = match &model.template {
        Template::Present { fault } => fault.as_deref(),
        Template::Absent => None,
    };
    let reasons = model.reasons.iter().map(|reason| json!({"kind": reason.kind.name(), "text": reason.text}));
    json!({
        "model": model.name,
        "files": model.n_files,
        "file_bytes": model.file_bytes,
        "architecture": model.architecture,
        "not_a_model": model.not_a_model,
        "types": shares(&model.types),
        "ignored": shares(&model.ignored),
        "weights_bytes": model.weights_bytes,
        "kv": kv,
        "encoder": encoder,
        "tokenizer": {
            "kind": model.tokenizer.kind,
            "pre": model.tokenizer.pre,
            "tokens": model.tokenizer.n_tokens,
        },
        "template": {"present": model.template != Template::Absent, "fault": fault},
        "gpu": {
            "computes": model.gpu.why_not_here.is_none(),
            "why_not_here": model.gpu.why_not_here,
            "can_run_the_model": model.gpu.why_no_other.is_none(),
            "why_not_the_model": model.gpu.why_no_other,
        },
        "runs": model.runs(),
        "reasons": reasons.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (n_bytes, want) in [
            (0, "0 bytes"),
            (1_048_575, "1048575 bytes"),
            (98_362_432, "93.8 MiB"),
            (5 << 30, "5.0 GiB"),
            (110 << 30, "110.0 GiB"),
        ] {
            assert_eq!(bytes(n_bytes), want);
        }
    }
}
