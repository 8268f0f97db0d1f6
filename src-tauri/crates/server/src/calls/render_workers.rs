//! Processes that render chats.
//!
//! A chat template comes with a model's file, and its language can ask for any amount of stack, memory and time. So
//! it runs where that costs a process of its own and nothing else: this program again, as `samovar render-chats`.
//! A worker stays for the next chat as long as all goes well.
//!
//! A worker is killed at a deadline or when its client is gone. Tests and benchmarks render in their own process, on
//! templates that they trust.

use std::io::{self, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use text::{
    Asked, Chat, ChatMessage, ChatTemplate, RenderRequest, RenderedText, TextError, TextModel, read_frame,
    write_frame,
};

/// How long one chat may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// How often somebody looks whether a chat's client is still there.
const LOOK: Duration = Duration::from_millis(20);
/// Workers that wait for the next chat.
const MAX_IDLE: usize = 2;

/// Renders chats, each in a worker.
#[derive(Debug)]
pub struct RenderWorkers {
    worker: Option<WorkerProgram>,
    /// Guards the workers that wait; held for a push or a removal.
    idle: Mutex<Vec<Worker>>,
}

#[derive(Debug)]
struct WorkerProgram {
    program: PathBuf,
    argument: &'static str,
}

/// A running worker.
#[derive(Debug)]
struct Worker {
    child: Child,
    pipes: Option<(ChildStdin, BufReader<ChildStdout>)>,
    /// The template that it has.
    template: Option<Arc<ChatTemplate>>,
}

/// Whether somebody still wants the text.
pub(crate) type IsGone<'a> = &'a (dyn Fn() -> bool + Sync);

impl RenderWorkers {
    /// Renders in workers: `program argument` must answer as `text::serve_renderings` does.
    pub fn new(program: PathBuf, argument: &'static str) -> RenderWorkers {
        RenderWorkers { worker: Some(WorkerProgram { program, argument }), idle: Mutex::default() }
    }

    /// Renders in this process: for templates that are trusted with it.
    pub fn in_this_process() -> RenderWorkers {
        RenderWorkers { worker: None, idle: Mutex::default() }
    }

    /// What is wrong with a model's template, tried with one plain message; nothing where it has none, or where it
    /// wants other messages. Blocks for as long as that takes.
    pub fn template_fault(&self, model: &TextModel) -> Option<String> {
        let chat = Chat {
            messages: vec![ChatMessage::new("user", "Hello")],
            add_generation_prompt: true,
            ..Chat::default()
        };
        match self.render(model, &chat, Asked::Text, &|| false) {
            Err(TextError::Template(fault)) => Some(fault),
            _ => None,
        }
    }

    /// Renders a chat. Blocks for as long as that takes, at most [`DEADLINE`]; a client that `is_gone` ends it.
    ///
    /// # Errors
    /// As `ChatRenderer::render`, and `Template` where the worker went beyond its bounds.
    pub(crate) fn render(
        &self,
        model: &TextModel,
        chat: &Chat,
        asked: Asked,
        is_gone: IsGone<'_>,
    ) -> Result<RenderedText, TextError> {
        let template = model.chat_template().ok_or(TextError::NoChatTemplate)?;
        let Some(program) = &self.worker else { return model.render_asked(chat, asked) };
        let failed = |error: io::Error| TextError::Template(format!("its worker cannot be used: {error}"));
        let mut worker = match self.take_idle(template) {
            Some(worker) => worker,
            None => Worker::start(program).map_err(failed)?,
        };
        let request = RenderRequest { template: None, chat, now: model.now(), asked };
        match worker.render(template, request, is_gone).map_err(failed)? {
            Ended::Rendered(rendered) => {
                self.keep(worker);
                rendered
            }
            Ended::Gone => Err(TextError::Template("its client is gone".into())),
            Ended::TooLate => {
                Err(TextError::Template(format!("it takes longer than {} seconds", DEADLINE.as_secs())))
            }
            Ended::Died => {
                Err(TextError::Template("it takes more memory, or lies deeper, than it may".into()))
            }
        }
    }

    /// A worker that waits: one that has the template, if there is one.
    fn take_idle(&self, template: &Arc<ChatTemplate>) -> Option<Worker> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = idle.iter().position(|worker| worker.has(template));
        fitting.map(|at| idle.swap_remove(at)).or_else(|| idle.pop())
    }

    fn keep(&self, worker: Worker) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(worker);
        }
    }
}

/// How a rendering ended.
enum Ended {
    Rendered(Result<RenderedText, TextError>),
    /// Nobody wants it any more.
    Gone,
    TooLate,
    /// The worker is no more.
    Died,
}

impl Worker {
    fn start(program: &WorkerProgram) -> io::Result<Worker> {
        let mut child = Command::new(&program.program)
            .arg(program.argument)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A terminal's Ctrl-C is for the server, which may still have chats to render.
            .process_group(0)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        Ok(Worker { child, pipes: pipes.map(|(to, from)| (to, BufReader::new(from))), template: None })
    }

    fn has(&self, template: &Arc<ChatTemplate>) -> bool {
        self.template.as_ref().is_some_and(|ours| Arc::ptr_eq(ours, template) || ours == template)
    }

    /// Asks for a chat by its model's template and waits. A worker that did not answer is killed, and is of no further use.
    fn render(
        &mut self,
        template: &Arc<ChatTemplate>,
        asked: RenderRequest<'_>,
        is_gone: IsGone<'_>,
    ) -> io::Result<Ended> {
        let until = Instant::now() + DEADLINE;
        let new_template = (!self.has(template)).then(|| template.as_ref());
        let mut request = Vec::new();
        write_frame(&mut request, &RenderRequest { template: new_template, ..asked })?;
        self.template = Some(Arc::clone(template));
        let Some((mut to, mut from)) = self.pipes.take() else { return Ok(Ended::Died) };
        let (sender, answer) = sync_channel(1);
        // Reading and writing cannot be given up; killing the worker ends both.
        let talking = thread::Builder::new().name("render-chats".into()).spawn(move || {
            let answered = to.write_all(&request).and_then(|()| to.flush());
            drop(request);
            let answered = answered.and_then(|()| read_frame::<Result<RenderedText, TextError>>(&mut from));
            // Who asked may have gone.
            let _ = sender.send((answered, (to, from)));
        })?;
        let ended = loop {
            match answer.recv_timeout(LOOK) {
                Ok((Ok(Some(rendered)), pipes)) => {
                    self.pipes = Some(pipes);
                    return Ok(Ended::Rendered(rendered));
                }
                Ok(_) | Err(RecvTimeoutError::Disconnected) => break Ended::Died,
                Err(RecvTimeoutError::Timeout) if is_gone() => break Ended::Gone,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => break Ended::TooLate,
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        self.end();
        // A panic of that thread would be in its own log line.
        let _ = talking.join();
        Ok(ended)
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.pipes = None;
        self.end();
    }
}
