//! `samovar bench`: what batching, chunked prefill, the engine itself, idling and a long list of agents cost on this
//! machine, in one run, and how many conversations fit into a gibibyte.
//!
//! The real engine runs in this process on the real model; events are timed where a client would get them.
//! `--kv-quality` measures something else: the perplexity of a text with each form of keys and values.
//!
//! Figures are medians over the rounds. Nothing here is a test: a slow machine prints slow numbers.

mod capacity;
mod checkpoints;
mod idle;
mod keeping;
mod keeping_plan;
mod kv_quality;
mod listed_agents;
mod page_cache;
mod report;
mod rig;
mod scenarios;
mod served;
mod timed_runner;

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use engine::ModelLoader;

use crate::cli::exit_codes::CLEAN;
use crate::cli::printing::{fail, say};
use crate::cli::{self, BenchArguments, BenchStoreArguments};
use crate::gguf_loader::GgufLoader;
use crate::model_file;
use report::Report;

/// Measure, print a table, and write the figures as JSON where that was asked for.
pub(crate) async fn bench(arguments: BenchArguments) -> ExitCode {
    let settings = match cli::settings(arguments.settings.0) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if let Some(text) = &arguments.kv_quality {
        return match kv_quality::measure(settings, text) {
            Ok(quality) => print(&quality, quality.to_json(), arguments.json.as_deref()),
            Err(line) => fail(&line),
        };
    }
    let measured = async {
        let path = model_file::find(settings.model.as_deref(), &settings.folders.models)
            .map_err(|failure| failure.text)?;
        let loader: Arc<dyn ModelLoader> = Arc::new(GgufLoader::trusting(&settings, path)?);
        let folder = settings.folders.data.clone();
        let mut report = measure(&loader, &folder, usize::from(arguments.rounds)).await?;
        for path in &arguments.capacity {
            capacity::capacity(&settings, path, &mut report)?;
        }
        Ok::<Report, String>(report)
    };
    match measured.await {
        Ok(report) => print(&report, report.to_json(), arguments.json.as_deref()),
        Err(line) => fail(&line),
    }
}

/// Measure what keeping KV on disk gives and costs, print a table, and write the figures as JSON.
pub(crate) async fn bench_store(arguments: BenchStoreArguments) -> ExitCode {
    let json = arguments.json.clone();
    match keeping::measure(arguments).await {
        Ok(report) => print(&report, report.to_json(), json.as_deref()),
        Err(line) => fail(&line),
    }
}

/// Print `table`, and write `json` where that was asked for.
fn print(table: &impl Display, json: String, path: Option<&Path>) -> ExitCode {
    // The file first: it must be there also when nobody can see the table.
    if let Some(path) = path
        && let Err(cause) = std::fs::write(path, json)
    {
        return fail(&format!("{}: {cause}", path.display()));
    }
    say(table, CLEAN)
}

/// # Errors
/// The model does not load, or a request does not end as it should; one line.
async fn measure(loader: &Arc<dyn ModelLoader>, folder: &Path, rounds: usize) -> Result<Report, String> {
    let mut report = Report::new(rounds);
    for _ in 0..rounds {
        scenarios::batching(loader, &mut report).await?;
        scenarios::long_prompt(loader, &mut report).await?;
        idle::idle(loader, &mut report).await?;
        listed_agents::listed_agents(loader, folder, &mut report).await?;
    }
    Ok(report)
}
