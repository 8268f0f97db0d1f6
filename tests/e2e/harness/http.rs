//! A small blocking HTTP/1.1 client: full control over headers, streams, and when a connection is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::HANG_GUARD;

/// One connection, kept open between requests.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.body))
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Connection {
        Connection::try_open(address).unwrap_or_else(|e| panic!("connect to {address}: {e}"))
    }

    pub(crate) fn try_open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(HANG_GUARD))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::new(stream), address })
    }

    /// Write a request. `headers` replace the default `Host`, and `Content-Type` of a body, of the same name.
    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) {
        self.try_send(method, path, headers, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"));
    }

    fn try_send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> std::io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !given("host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        if let Some(body) = body {
            head += &format!("Content-Length: {}\r\n", body.len());
            if !given("content-type") {
                head += "Content-Type: application/json\r\n";
            }
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        head += body.unwrap_or_default();
        self.stream.get_mut().write_all(head.as_bytes())
    }

    /// Read a whole answer.
    pub(crate) fn receive(&mut self) -> Response {
        self.try_receive().expect("an answer")
    }

    pub(crate) fn try_receive(&mut self) -> std::io::Result<Response> {
        let (status, headers) = self.receive_head()?;
        let mut body = Body::new(&mut self.stream, &headers);
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes)?;
        Ok(Response { status, headers, body: String::from_utf8_lossy(&bytes).into_owned() })
    }

    fn receive_head(&mut self) -> std::io::Result<(u16, Vec<(String, String)>)> {
        let broken = |what: &str| std::io::Error::other(format!("no HTTP answer: {what}"));
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(broken("the connection was closed"));
        }
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| broken(&line))?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(line))?;
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }

    /// Read an answer's head and go on reading it as events; an answer that is no stream comes back whole.
    pub(crate) fn receive_events(mut self) -> Result<Events, Response> {
        let (status, headers) = self.receive_head().expect("an answer");
        let is_stream = find(&headers, "content-type").is_some_and(|t| t.starts_with("text/event-stream"));
        let body = Body::new(self.stream, &headers);
        if is_stream {
            return Ok(Events { body: BufReader::new(body), comments: Vec::new() });
        }
        let mut bytes = Vec::new();
        let mut body = body;
        body.read_to_end(&mut bytes).expect("the body");
        Err(Response { status, headers, body: String::from_utf8_lossy(&bytes).into_owned() })
    }
}

/// A stream of server-sent events; dropping it closes the connection.
pub(crate) struct Events {
    body: BufReader<Body<BufReader<TcpStream>>>,
    /// The comments that have passed by.
    pub(crate) comments: Vec<String>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Empty when it has no name.
    pub(crate) name: String,
    pub(crate) data: String,
}

impl Events {
    /// The next event; nothing when the stream has ended in good order.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<Event>> {
        let mut event = Event { name: String::new(), data: String::new() };
        let mut has_data = false;
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                if has_data {
                    return Ok(Some(event));
                }
            } else if let Some(comment) = line.strip_prefix(':') {
                self.comments.push(comment.trim().to_owned());
            } else if let Some(name) = line.strip_prefix("event:") {
                event.name = name.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data:") {
                if has_data {
                    event.data.push('\n');
                }
                event.data.push_str(data.strip_prefix(' ').unwrap_or(data));
                has_data = true;
            }
        }
    }
}

/// An answer's body, whichever way its end is marked.
struct Body<R: BufRead> {
    stream: R,
    framing: Framing,
}

enum Framing {
    Length(u64),
    /// Bytes left of the chunk under way.
    Chunked(u64),
    Ended,
    UntilClosed,
}

impl<R: BufRead> Body<R> {
    fn new(stream: R, headers: &[(String, String)]) -> Body<R> {
        let framing = match (find(headers, "transfer-encoding"), find(headers, "content-length")) {
            (Some(_), _) => Framing::Chunked(0),
            (None, Some(length)) => Framing::Length(length.parse().expect("a content length")),
            (None, None) => Framing::UntilClosed,
        };
        Body { stream, framing }
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim().to_owned())
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self.framing {
            Framing::Ended | Framing::Length(0) => Ok(0),
            Framing::UntilClosed => self.stream.read(out),
            Framing::Length(left) => {
                let n = (&mut self.stream).take(left).read(out)?;
                if n == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                self.framing = Framing::Length(left - n as u64);
                Ok(n)
            }
            Framing::Chunked(0) => {
                let line = self.line()?;
                let size = u64::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
                    .map_err(|_| std::io::Error::other(format!("chunk size `{line}`")))?;
                if size == 0 {
                    self.line()?;
                    self.framing = Framing::Ended;
                    return Ok(0);
                }
                self.framing = Framing::Chunked(size);
                self.read(out)
            }
            Framing::Chunked(left) => {
                let n = (&mut self.stream).take(left).read(out)?;
                if n == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                let left = left - n as u64;
                if left == 0 {
                    self.line()?;
                }
                self.framing = Framing::Chunked(left);
                Ok(n)
            }
        }
    }
}
