//! What recurrent layers add to keeping: the bytes of a checkpoint of their state, how many conversations a gibibyte
//! holds with their checkpoints, and what a conversation writes to disk turn by turn.

use scheduler::Residency;
use serde_json::json;

use super::keeping_plan::{Plan, WARM_UP_AGENT};
use super::report::Report;
use super::served::Scratch;

const GIB: usize = 1 << 30;
/// Tokens of the conversations that are counted.
const LENGTHS: [usize; 3] = [4_096, 8_192, 16_384];
/// Tokens of a system prompt, which conversations may share.
const SYSTEM: usize = 4_000;
/// Turns of the conversation that writes, tokens of a message, and of an answer.
const CONVERSATION: (usize, usize, usize) = (6, 200, 64);
/// What a turn may write besides the blocks of what is new in it: its return point and its answer's end.
const CHECKPOINTS_A_TURN: usize = 2;

/// Note all of it.
///
/// # Errors
/// The model has no recurrent layers, the text is too short, or a server does not do what it should; one line.
pub(super) async fn checkpoints(plan: &Plan<'_>, report: &mut Report) -> Result<(), String> {
    if plan.layout.state.n_pieces == 0 {
        return Err("the model has no recurrent layers, so there are no checkpoints".to_owned());
    }
    sizes(plan, report);
    written(plan, report).await
}

/// From the layout alone.
fn sizes(plan: &Plan<'_>, report: &mut Report) {
    let layout = plan.layout;
    report.add("a checkpoint, in blocks", "MB", layout.state_bytes() as f64 / 1e6);
    report.add("a checkpoint, of these bytes in use", "MB", layout.state.used_bytes as f64 / 1e6);
    report.add("a token's keys and values", "kB", layout.bytes_per_token() as f64 / 1e3);
    for n_tokens in LENGTHS {
        // No window is kept where there are no windows, and one that is kept gives way to more conversations.
        let residency = Residency::new(layout, n_tokens, &[], usize::MAX);
        let mut agents = |how: &str, n: usize| {
            report.add(&format!("agents of {n_tokens} tokens, {how}"), "a GiB", n as f64);
        };
        agents("each with a checkpoint", residency.agents(GIB));
        if n_tokens > SYSTEM {
            let n = residency.agents_that_share(GIB, layout, SYSTEM);
            agents(&format!("that share a system prompt of {SYSTEM}"), n);
        }
    }
}

/// A conversation with a system prompt, whose turns rest until all of them is on disk.
async fn written(plan: &Plan<'_>, report: &mut Report) -> Result<(), String> {
    let (n_turns, n_message, n_answer) = CONVERSATION;
    let layout = plan.layout;
    let scratch = Scratch::new(plan.parent)?;
    let served = plan.start(scratch.path(), &[]).await?;
    // What it writes is no turn's.
    served.until_saved(WARM_UP_AGENT).await?;
    let agent = "writes";
    let mut messages = vec![json!({"role": "system", "content": plan.words(0, SYSTEM)?})];
    for turn in 0..n_turns {
        let question = plan.words(SYSTEM + turn * n_message, n_message)?;
        messages.push(json!({"role": "user", "content": question}));
        let before = served.written_bytes().await?;
        let timed = served.chat(agent, &json!(messages), n_answer).await?;
        served.until_saved(agent).await?;
        let after = served.written_bytes().await?;
        let n_bytes =
            after.checked_sub(before).ok_or("the day ended, and the count of what it wrote with it")?;
        let (thoughts, answer) = timed.said;
        messages.push(json!({"role": "assistant", "content": answer, "reasoning_content": thoughts}));

        let which = if turn == 0 { "the first turn, with its system prompt" } else { "a later turn" };
        // What is read again after the return point is new too.
        let n_new = timed.n_prompt - timed.n_cached + timed.n_generated;
        report.add(&format!("{which}: tokens read and generated"), "tokens", n_new as f64);
        report.add(&format!("{which}: written"), "MB", n_bytes as f64 / 1e6);
        if turn > 0 {
            // A last block that is not whole is written twice.
            let n_blocks = (n_new.div_ceil(layout.block_tokens) + 1) * layout.groups.len();
            let bound = CHECKPOINTS_A_TURN * layout.state_bytes() + n_blocks * layout.block_bytes;
            let name = format!("{which}: two checkpoints and its new tokens' blocks");
            report.add(&name, "MB", bound as f64 / 1e6);
            report.add(&format!("{which}: written over these"), "×", n_bytes as f64 / bound as f64);
        }
    }
    served.stop().await
}
