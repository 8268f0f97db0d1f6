//! A server of a test's own: the real binary on a free port, with a data folder that nobody else has.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Connection, Events, Response};
use super::{AnswerStream, SMOLLM2, eventually, model};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_samovar");

/// A command of the binary with a clean environment: nothing that this user has set is seen.
pub(crate) fn samovar(data: &Path) -> Command {
    samovar_in::<&str>(&[], data)
}

/// The same, begun by another program with what comes after that one's own arguments.
pub(crate) fn samovar_in<S: AsRef<str>>(first: &[S], data: &Path) -> Command {
    let mut words = first.iter().map(AsRef::as_ref).chain([BINARY]);
    let mut command = Command::new(words.next().expect("at least the binary"));
    command.args(words);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SAMOVAR_") {
            command.env_remove(name);
        }
    }
    command.env("SAMOVAR_DATA_DIR", data).stdin(Stdio::null());
    command
}

/// Where a server's stderr goes.
#[derive(Clone, Copy)]
enum Stderr {
    /// Into a file of its data folder.
    File,
    /// Into a pipe that is full and that nobody reads.
    FullPipe,
}

/// How a server is to be started.
pub(crate) struct Setup {
    data: Arc<TempDir>,
    begun_by: Vec<String>,
    stderr: Stderr,
    arguments: Vec<String>,
}

impl Setup {
    /// With the model called `name`, a pool that is small enough for several servers at the same time, and a drain and
    /// a queue that no slow machine outlasts.
    pub(crate) fn new(name: &str) -> Setup {
        let data = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(data.path().join("holds")).expect("a folder for hold points");
        let setup =
            Setup { data: Arc::new(data), begun_by: Vec::new(), stderr: Stderr::File, arguments: Vec::new() };
        setup
            .with("--model", &model(name).display().to_string())
            .with("--kv-pool", "256MiB")
            .with("--drain-timeout", "600")
            .with("--queue-timeout", "600")
    }

    /// With a flag; a later one of the same name wins.
    pub(crate) fn with(mut self, flag: &str, value: &str) -> Setup {
        if let Some(at) = self.arguments.iter().position(|a| a == flag) {
            self.arguments.drain(at..at + 2);
        }
        self.arguments.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Begun with a signal set to what it does by default (`SIG_DFL`) or to nothing (`SIG_IGN`), whatever it is for the
    /// tests.
    pub(crate) fn with_signal(mut self, name: &str, action: &str) -> Setup {
        let script = format!(
            "import os, signal, sys; signal.signal(signal.{name}, signal.{action}); os.execv(sys.argv[1], sys.argv[1:])"
        );
        self.begun_by.extend(["python3".to_owned(), "-c".to_owned(), script]);
        self
    }

    /// With a stderr that takes nothing: a pipe that is full when the server starts, and that nobody reads.
    pub(crate) fn with_full_stderr(mut self) -> Setup {
        let script = "import fcntl, os, sys
fcntl.fcntl(2, fcntl.F_SETFL, os.O_NONBLOCK)
for size in (4096, 1):
    try:
        while True:
            os.write(2, b'x' * size)
    except BlockingIOError:
        pass
fcntl.fcntl(2, fcntl.F_SETFL, 0)
os.execv(sys.argv[1], sys.argv[1:])";
        self.begun_by.extend(["python3".to_owned(), "-c".to_owned(), script.to_owned()]);
        self.stderr = Stderr::FullPipe;
        self
    }

    /// Held at a point from the start.
    pub(crate) fn held_at(self, point: &str) -> Setup {
        std::fs::write(self.data.path().join("holds").join(format!("{point}.hold")), b"")
            .expect("a hold file");
        self
    }

    /// Where it keeps its data.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Start it, and wait until it says where it listens.
    pub(crate) fn start(self) -> Samovar {
        let holds = self.data.path().join("holds");
        let stderr_path = self.data.path().join("stderr.txt");
        let stderr: Stdio = match self.stderr {
            Stderr::File => File::create(&stderr_path).expect("a file for stderr").into(),
            Stderr::FullPipe => Stdio::piped(),
        };
        let mut child = samovar_in(&self.begun_by, self.data.path())
            .arg("serve")
            .args(["--port", "0"])
            .args(&self.arguments)
            .env("SAMOVAR_HOLD_DIR", &holds)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("stdout is text");
        // From here on the child is ended even when the line below is not what it should be.
        let mut server = Samovar {
            _full_stderr: child.stderr.take(),
            child,
            address: ([127, 0, 0, 1], 0).into(),
            stdout,
            stderr_path,
            holds,
            data: self.data,
            arguments: self.arguments,
        };
        let address = line.trim_end().strip_prefix("listening on http://");
        server.address = address
            .and_then(|a| a.parse().ok())
            .unwrap_or_else(|| panic!("the first line on stdout is `{}`", line.trim_end()));
        server
    }

    /// Start it, and wait until it is ready.
    pub(crate) fn ready(self) -> Samovar {
        let server = self.start();
        server.wait_until_ready();
        server
    }
}

/// A running server. Dropping it ends it, also when the test has failed.
pub(crate) struct Samovar {
    child: Child,
    pub(crate) address: SocketAddr,
    stdout: BufReader<ChildStdout>,
    stderr_path: PathBuf,
    /// Kept, so that the pipe is not broken.
    _full_stderr: Option<ChildStderr>,
    holds: PathBuf,
    data: Arc<TempDir>,
    arguments: Vec<String>,
}

impl Drop for Samovar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- stderr of the server ---\n{}---", self.stderr());
        }
    }
}

impl Samovar {
    /// SmolLM2, ready.
    pub(crate) fn ready() -> Samovar {
        Setup::new(SMOLLM2).ready()
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// The same once more, on the same folder; this one must have ended.
    pub(crate) fn again(&self) -> Setup {
        Setup {
            data: Arc::clone(&self.data),
            begun_by: Vec::new(),
            stderr: Stderr::File,
            arguments: self.arguments.clone(),
        }
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut connection = self.connect();
        connection.send("GET", path, headers, None);
        connection.receive()
    }

    /// The value of a series of `/metrics`, written as there: name, and labels if it has any.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let page = self.get("/metrics").body;
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        page.lines().find_map(value).unwrap_or_else(|| panic!("no series {series} in\n{page}"))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        self.post_with(path, &[], body)
    }

    pub(crate) fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        let mut connection = self.connect();
        connection.send("POST", path, headers, Some(&body.to_string()));
        connection.receive()
    }

    pub(crate) fn delete(&self, path: &str) -> Response {
        let mut connection = self.connect();
        connection.send("DELETE", path, &[], None);
        connection.receive()
    }

    /// Ask for an answer as a stream; it is an error not to get one.
    pub(crate) fn stream(&self, path: &str, body: &Value) -> AnswerStream {
        self.try_stream(path, body).unwrap_or_else(|r| panic!("no stream: {} {}", r.status, r.body))
    }

    /// Ask for an answer as a stream, and get it or the error.
    pub(crate) fn try_stream(&self, path: &str, body: &Value) -> Result<AnswerStream, Response> {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let mut connection = self.connect();
        connection.send("POST", path, &[], Some(&body.to_string()));
        connection.receive_events().map(AnswerStream::new)
    }

    /// The admin's events.
    pub(crate) fn events(&self) -> Events {
        let mut connection = self.connect();
        connection.send("GET", "/admin/events", &[], None);
        connection.receive_events().unwrap_or_else(|r| panic!("no events: {} {}", r.status, r.body))
    }

    pub(crate) fn wait_until_ready(&self) {
        eventually("the server is ready", || {
            let ready = self.get("/health/ready");
            let cause = ready.json()["cause"].as_str().unwrap_or_default().to_owned();
            assert!(!cause.contains("could not be loaded"), "{cause}");
            (ready.status == 200).then_some(())
        });
    }

    /// Wait until readiness gives `reason`, and return its body.
    pub(crate) fn wait_until_not_ready(&self, reason: &str) -> Value {
        eventually(&format!("not ready: {reason}"), || {
            let ready = self.get("/health/ready");
            (ready.status == 503 && ready.json()["reason"] == reason).then(|| ready.json())
        })
    }

    /// Make the engine wait at `point` from the next time it comes there.
    pub(crate) fn hold(&self, point: &str) {
        std::fs::write(self.holds.join(format!("{point}.hold")), b"").expect("a hold file");
    }

    /// Wait until the engine waits at `point`.
    pub(crate) fn wait_until_held(&self, point: &str) {
        let held = self.holds.join(format!("{point}.held"));
        eventually(&format!("held at {point}"), || held.exists().then_some(()));
    }

    /// Let the engine go on.
    pub(crate) fn release(&self, point: &str) {
        std::fs::remove_file(self.holds.join(format!("{point}.hold"))).expect("a hold file");
    }

    /// Make the next step fail or panic: `step.error`, `step.panic`.
    pub(crate) fn ask_for_fault(&self, name: &str) {
        std::fs::write(self.holds.join(name), b"").expect("a fault file");
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().expect("kill");
        assert!(status.success(), "kill -s {name}");
    }

    /// The process's resident set; only Linux tells.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The largest that the process's resident set has been; only Linux tells.
    pub(crate) fn peak_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of that name");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("kilobytes") * 1024
    }

    /// Whether the process has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Wait for the process's own end, and return its exit code.
    pub(crate) fn wait_for_exit(&mut self) -> i32 {
        let status: ExitStatus =
            eventually("the process ends", || self.child.try_wait().expect("a child of ours"));
        status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"))
    }

    /// What came on stdout after the first line; the process must have ended.
    pub(crate) fn rest_of_stdout(&mut self) -> String {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.stdout, &mut rest).expect("stdout is text");
        rest
    }

    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr_path).unwrap_or_default()
    }

    /// The id of the model that is served.
    pub(crate) fn model_id(&self) -> String {
        self.get("/v1/models").json()["data"][0]["id"].as_str().expect("a model").to_owned()
    }
}
