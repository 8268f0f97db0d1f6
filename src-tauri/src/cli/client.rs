//! A client of the HTTP API for the commands: one connection a request, plain HTTP/1.1, streams included.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyDataStream, BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sse_stream::{Sse, SseByteStream};
use tokio::net::TcpStream;

/// How long a server on this machine may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of an answer that is read as a whole.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Bytes of a stream that may wait for the end of their event.
const MAX_PENDING_BYTES: usize = 4 << 20;

/// Where the server is and how to be let in.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    api_key: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens there.
    #[error("no server answers at http://{address}: {cause}")]
    NoServer {
        /// Where it was looked for.
        address: SocketAddr,
        /// The system's word.
        cause: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("the connection to http://{address} broke: {cause}")]
    Broken {
        /// The server.
        address: SocketAddr,
        /// What happened.
        cause: String,
    },
    /// An answer that came and cannot be printed.
    #[error("stdout: {0}")]
    Stdout(#[from] io::Error),
    /// The server refused, in its own words.
    #[error("{message}")]
    Refused {
        /// The error body's message.
        message: String,
        /// The error body's code.
        code: Option<String>,
    },
}

impl Client {
    /// A client of the server that `listening` names; an address of all interfaces means this machine.
    pub(crate) fn new(listening: SocketAddr, api_key: Option<String>) -> Client {
        let ip = match listening.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Client { address: SocketAddr::new(ip, listening.port()), api_key }
    }

    /// Whether anybody listens.
    ///
    /// # Errors
    /// [`ClientError::NoServer`] when not.
    pub(crate) async fn connect(&self) -> Result<TcpStream, ClientError> {
        let no_server = |cause| ClientError::NoServer { address: self.address, cause };
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(self.address)).await {
            Ok(connected) => connected.map_err(no_server),
            Err(_) => Err(no_server(io::ErrorKind::TimedOut.into())),
        }
    }

    /// `GET path`, whatever its status.
    pub(crate) async fn get(&self, path: &str) -> Result<(StatusCode, Value), ClientError> {
        let (status, body) = self.send(Method::GET, path, None).await?;
        Ok((status, self.json(body).await?))
    }

    /// `POST path` with a JSON body; a status of 400 or more is an error in the server's words.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// A request without a stream; a status of 400 or more is an error in the server's words.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let (status, answer) = self.send(method, path, body).await?;
        let answer = self.json(answer).await?;
        if status.is_success() { Ok(answer) } else { Err(refused(status, &answer)) }
    }

    /// A request whose answer is a stream of server-sent events.
    pub(crate) async fn stream(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Events, ClientError> {
        let (status, answer) = self.send(method, path, body).await?;
        if !status.is_success() {
            return Err(refused(status, &self.json(answer).await?));
        }
        Ok(Events::new(BodyDataStream::new(answer), self.address))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Incoming), ClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Ends when the answer has been read or dropped.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        if let Some(key) = &self.api_key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let bytes = match body {
            Some(value) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(value.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(bytes)).map_err(|error| self.broken(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        Ok((answer.status(), answer.into_body()))
    }

    async fn json(&self, body: Incoming) -> Result<Value, ClientError> {
        let bytes = http_body_util::Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| ClientError::Broken { address: self.address, cause: error.to_string() })?
            .to_bytes();
        Ok(serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned())))
    }

    fn broken(&self, error: &dyn std::error::Error) -> ClientError {
        ClientError::Broken { address: self.address, cause: error.to_string() }
    }
}

/// The error that an error body stands for; every API of the server has a message in it.
pub(crate) fn refused(status: StatusCode, body: &Value) -> ClientError {
    let message = body["error"]["message"]
        .as_str()
        .or_else(|| body["error"].as_str())
        .or_else(|| body["message"].as_str())
        .map_or_else(|| format!("the server answered {status}"), str::to_owned);
    let code = body["error"]["code"].as_str().map(str::to_owned);
    ClientError::Refused { message, code }
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its data lines, joined.
    pub(crate) data: String,
}

/// A stream of events; dropping it closes the connection.
pub(crate) struct Events {
    blocks: BoxStream<'static, Result<Sse, sse_stream::Error>>,
    /// Bytes that have come since the last event.
    pending: Arc<AtomicUsize>,
    address: SocketAddr,
}

impl Events {
    /// The events in `bytes`. The crate that finds them keeps one that has no end for as long as there is memory, so what
    /// it is given is counted.
    fn new<E>(bytes: impl Stream<Item = Result<Bytes, E>> + Send + 'static, address: SocketAddr) -> Events
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let pending = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&pending);
        let counted = bytes.map(move |bytes| {
            let bytes = bytes.map_err(io::Error::other)?;
            let n_pending = counter.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
            if n_pending > MAX_PENDING_BYTES {
                Err(io::Error::other("an event is too long"))
            } else {
                Ok(bytes)
            }
        });
        Events { blocks: SseByteStream::new(counted).boxed(), pending, address }
    }

    /// The next event, or nothing when the server ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, ClientError> {
        loop {
            let block = match self.blocks.next().await {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(ClientError::Broken { address: self.address, cause: error.to_string() });
                }
                Some(Ok(block)) => block,
            };
            self.pending.store(0, Ordering::Relaxed);
            if let Some(data) = block.data {
                return Ok(Some(Frame { data }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// The data of what `chunks` hold, then how it ended.
    async fn read(chunks: Vec<Vec<u8>>) -> (Vec<String>, Result<(), String>) {
        let chunks =
            futures_util::stream::iter(chunks.into_iter().map(|chunk| Ok::<_, Infallible>(chunk.into())));
        let mut events = Events::new(chunks, SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut data = Vec::new();
        loop {
            match events.next().await {
                Ok(Some(frame)) => data.push(frame.data),
                Ok(None) => return (data, Ok(())),
                Err(error) => return (data, Err(error.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn events_come_whole_however_the_bytes_are_cut_and_comments_are_none() {
        let chunks = [
            ": still here\n\nda",
            "ta: a\n\nevent: status\ndata: {}\n",
            "\n",
            "id: 7\n\ndata: x\ndata: y\n\n",
        ];
        let (data, end) = read(chunks.map(|chunk| chunk.as_bytes().to_vec()).to_vec()).await;
        assert_eq!((data, end), (vec!["a".into(), "{}".into(), "x\ny".into()], Ok(())));
    }

    #[tokio::test]
    async fn an_event_without_end_is_an_error_and_many_that_end_are_none() {
        let endless = vec![b"data: a\n\ndata: ".to_vec(), vec![b'x'; MAX_PENDING_BYTES + 1]];
        let (data, end) = read(endless).await;
        assert_eq!(data, ["a"]);
        assert!(end.unwrap_err().contains("too long"));
        let half = [&b"data: "[..], &vec![b'x'; MAX_PENDING_BYTES / 2], b"\n\n"].concat();
        let (data, end) = read(vec![half; 5]).await;
        assert_eq!((data.len(), end), (5, Ok(())));
    }
}
