//! Server-sent events, as a client reads them: bytes in, whole events out.
//!
//! Our own although there are crates: those keep an event that has no end for as long as there is memory.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its name; `message` when it has none.
    pub(crate) event: String,
    /// Its data lines, joined.
    pub(crate) data: String,
}

/// Bytes that may wait for the end of their event.
const MAX_PENDING_BYTES: usize = 4 << 20;

/// Cuts a byte stream into events. Comments, which only keep the connection alive, are dropped.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    pending: Vec<u8>,
}

impl SseParser {
    /// Take in more bytes.
    ///
    /// # Errors
    /// An event grows without end.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        if self.pending.len() + bytes.len() > MAX_PENDING_BYTES {
            return Err("an event is too long");
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole event, if it is there.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let end = self.pending.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.pending.drain(..end + 2).collect();
            if let Some(frame) = parse(&String::from_utf8_lossy(&block)) {
                return Some(frame);
            }
        }
    }
}

fn parse(block: &str) -> Option<Frame> {
    let mut event = "message".to_owned();
    let mut data: Vec<&str> = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event = value.to_owned(),
            "data" => data.push(value),
            _ => {}
        }
    }
    if data.is_empty() { None } else { Some(Frame { event, data: data.join("\n") }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&str], want: &[(&str, &str)]) {
        let mut parser = SseParser::default();
        let mut got = Vec::new();
        for chunk in chunks {
            parser.push(chunk.as_bytes()).unwrap();
            while let Some(frame) = parser.next_frame() {
                got.push((frame.event, frame.data));
            }
        }
        let want: Vec<_> = want.iter().map(|(e, d)| ((*e).to_owned(), (*d).to_owned())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn events_come_whole_however_the_bytes_are_cut() {
        check(&["data: a\n\nda", "ta: b\n", "\n"], &[("message", "a"), ("message", "b")]);
    }

    #[test]
    fn comments_are_dropped_and_names_kept() {
        check(&[": still here\n\nevent: state\ndata: {}\n\n"], &[("state", "{}")]);
    }

    #[test]
    fn data_lines_are_joined() {
        check(&["data: a\ndata:b\n\n"], &[("message", "a\nb")]);
    }

    #[test]
    fn an_event_without_end_is_an_error() {
        let mut parser = SseParser::default();
        assert!(parser.push(&vec![b'x'; MAX_PENDING_BYTES + 1]).is_err());
    }
}
