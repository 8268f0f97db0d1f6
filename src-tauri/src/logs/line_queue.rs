//! Lines on their way to a file or a pipe that may take none: whoever logs never waits for it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Where lines are put in; a thread of its own writes them out. Clones put into the same queue.
#[derive(Clone)]
pub(super) struct LineQueue(Arc<Shared>);

struct Shared {
    most_bytes: usize,
    /// Guards the queue; held to put lines in and to take them out, never while something is written.
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    n_bytes: usize,
    /// Lines that found no room, or could not be written, since that was last told.
    n_lost: u64,
    is_writing: bool,
}

impl LineQueue {
    /// A queue of at most `most_bytes` in front of `output`. When lines have been lost, and one can be written again,
    /// `tell` gets their number.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn new(
        most_bytes: usize,
        output: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<LineQueue> {
        let shared = Arc::new(Shared { most_bytes, queue: Mutex::default(), changed: Condvar::new() });
        let queue = LineQueue(Arc::clone(&shared));
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_out(output, tell))?;
        Ok(queue)
    }

    /// Wait until everything is written, and at most `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut queue = self.0.lock();
        while queue.is_writing || !queue.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.0.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.n_bytes + line.len() > self.most_bytes {
            queue.n_lost += 1;
            return;
        }
        queue.n_bytes += line.len();
        queue.lines.push_back(line.to_vec());
        drop(queue);
        self.changed.notify_all();
    }

    /// The thread, to the process's end.
    fn write_out(&self, mut output: impl Write, tell: impl Fn(u64)) {
        loop {
            let line = self.next();
            // The file's appender prints when it cannot begin a new file, which panics where nobody reads stderr.
            let written =
                catch_unwind(AssertUnwindSafe(|| output.write_all(&line).and_then(|()| output.flush())));
            let n_lost = self.wrote(matches!(written, Ok(Ok(()))));
            if n_lost > 0 {
                tell(n_lost);
            }
        }
    }

    /// Wait for a line.
    fn next(&self) -> Vec<u8> {
        let mut queue = self.lock();
        queue.is_writing = false;
        self.changed.notify_all();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.n_bytes -= line.len();
                queue.is_writing = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Book a line that is out or lost; how many were lost before it, if it is out.
    fn wrote(&self, is_out: bool) -> u64 {
        let mut queue = self.lock();
        if is_out {
            take(&mut queue.n_lost)
        } else {
            queue.n_lost += 1;
            0
        }
    }
}

impl Write for LineQueue {
    /// Take a whole line in, or lose it; the caller need not know.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = LineQueue;

    fn make_writer(&'a self) -> LineQueue {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, pipe};
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    /// A queue in front of a real pipe, and what it tells.
    fn queue(most_bytes: usize) -> (LineQueue, BufReader<PipeReader>, Receiver<u64>) {
        let (reader, writer) = pipe().unwrap();
        let (told, telling) = channel();
        let queue = LineQueue::new(most_bytes, writer, move |n| told.send(n).unwrap()).unwrap();
        (queue, BufReader::new(reader), telling)
    }

    fn line(i: usize) -> Vec<u8> {
        format!("{i:0999}\n").into_bytes()
    }

    #[test]
    fn nobody_who_logs_waits_for_a_pipe_that_nobody_reads_and_what_is_lost_is_counted() {
        let (mut queue, reader, telling) = queue(10_000);
        // More than a pipe and the queue hold together. A writer that waited would hang here.
        let n = 2_000;
        for i in 0..n {
            queue.write_all(&line(i)).unwrap();
        }
        let (read, lines) = channel();
        std::thread::spawn(move || reader.lines().try_for_each(|line| read.send(line.unwrap())));
        let (mut last, mut n_read, mut n_lost) = (None, 0, 0);
        let start = Instant::now();
        while n_read + n_lost < n as u64 {
            assert!(start.elapsed() < LONG, "{n_read} read and {n_lost} lost of {n}");
            n_lost += telling.try_iter().sum::<u64>();
            for line in lines.try_iter() {
                assert!(line.len() == 999 && Some(&line) > last.as_ref(), "lines stay whole and in order");
                last = Some(line);
                n_read += 1;
            }
            std::thread::yield_now();
        }
        assert!(n_lost > 0 && n_read + n_lost == n as u64, "each line is read or counted");
        queue.write_all(b"once it flows again\n").unwrap();
        assert_eq!(lines.recv_timeout(LONG).unwrap(), "once it flows again");
    }

    #[test]
    fn a_flush_waits_for_what_flows_and_not_for_what_is_stuck() {
        let (mut flowing, mut reader, _telling) = queue(1 << 20);
        for i in 0..20 {
            flowing.write_all(&line(i)).unwrap();
        }
        flowing.flush(LONG);
        drop(flowing);
        let mut text = String::new();
        for _ in 0..20 {
            reader.read_line(&mut text).unwrap();
        }
        assert_eq!(text.len(), 20_000);

        let (mut stuck, _reader, _telling) = queue(1 << 20);
        for i in 0..500 {
            stuck.write_all(&line(i)).unwrap();
        }
        stuck.flush(Duration::from_millis(1));
        assert!(!stuck.0.lock().lines.is_empty());
    }

    #[test]
    fn an_output_that_fails_or_panics_costs_its_lines_and_nothing_else() {
        struct Bad(Vec<&'static str>);
        impl Write for Bad {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                match self.0.pop() {
                    Some("fails") => Err(io::ErrorKind::StorageFull.into()),
                    Some(_) => panic!("as the appender does"),
                    None => Ok(line.len()),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (told, telling) = channel();
        let output = Bad(vec!["fails", "panics", "fails"]);
        let mut queue = LineQueue::new(1 << 20, output, move |n| told.send(n).unwrap()).unwrap();
        for _ in 0..4 {
            queue.write_all(b"line\n").unwrap();
        }
        assert_eq!(telling.recv_timeout(LONG), Ok(3));
    }
}
