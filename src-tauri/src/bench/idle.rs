//! What a loaded engine costs that has nothing to do.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{EngineConfig, ModelLoader};

use super::report::Report;
use super::rig::Rig;

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// The process's CPU time while its engine idles after an answer. No figure where the system does not tell.
pub(super) async fn idle(loader: &Arc<dyn ModelLoader>, report: &mut Report) -> Result<(), String> {
    let rig = Rig::open(loader, EngineConfig::default()).await?;
    rig.stream(1, rig.prompt(1, 64)?, 8).await?;
    let before = (Instant::now(), cpu_time());
    tokio::time::sleep(WATCHED).await;
    if let (Some(used), Some(now)) = (before.1, cpu_time()) {
        let share = now.saturating_sub(used).div_duration_f64(before.0.elapsed());
        report.add("CPU while idle", "% of a core", 100.0 * share);
    }
    rig.close().await
}

/// CPU time of all living threads, as Linux's scheduler counts it in nanoseconds.
fn cpu_time() -> Option<Duration> {
    let of_task = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    tasks.map(|task| of_task(task.ok()?)).sum()
}
