//! One client's connection: hyper speaks on it, and this sees to what hyper does not: its place, its answers to what is
//! no request, and whether the client is still there.
//!
//! It puts the API's error in place of hyper's bare refusal, and lets a client that has ended its side have its
//! answer while it is there.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, StatusCode};
use futures_util::FutureExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::edge::gate::Gate;
use crate::edge::no_request::refuse_no_request;
use crate::edge::seats::Place;
use crate::edge::turn::{Doing, Turn};
use crate::listen::gone_client::{is_gone, probe};

/// How soon and how seldom it is looked whether a client that sends nothing more is still there.
const LOOKS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(8)];

/// How long, and for how many bytes, a client is listened to that was told that it makes no sense. Closing under its
/// words could cost it the answer.
const HEARD_OUT: (Duration, usize) = (Duration::from_secs(2), 4 << 20);

/// Serve a connection to its end, until it must give way, or until its client is gone.
pub(crate) async fn serve_connection(
    stream: TcpStream,
    gate: Arc<Gate>,
    router: Router,
    (place, given_away): (Place, impl Future<Output = ()>),
    mut stopped: watch::Receiver<bool>,
) {
    // Without this a token's frame waits for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    probe(&stream);
    let stream = Arc::new(stream);
    let turn = Arc::new(Turn::new(place));
    let limits = gate.limits;
    let wire = Wire { stream: Arc::clone(&stream), turn: Arc::clone(&turn), gate, own: Bytes::new() };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        // A client may end its side and wait for the answer.
        .half_close(true)
        // The outer bounds: hyper refuses what exceeds them by itself and closes. The guard's own lie within them.
        .max_headers(limits.headers.saturating_add(64))
        .max_buf_size((2 * (limits.header_bytes + limits.target_bytes)).max(64 << 10))
        .serve_connection(TokioIo::new(wire), answering(router, Arc::clone(&turn)));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = given_away => return tracing::debug!("an idle connection gave way"),
        () = gone(&stream, &turn) => return tracing::debug!("a client is gone"),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
    if turn.is_refused() {
        hear_out(&stream).await;
    }
}

/// Wait until it turns true.
pub(crate) async fn until(stopped: &mut watch::Receiver<bool>) {
    // An error means that the engine is gone, which comes to the same. The guard that `wait_for` returns is a lock
    // and must not live on.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The router, and whose turn it is from a request to the end of its answer.
fn answering(
    router: Router,
    turn: Arc<Turn>,
) -> impl Service<Request<Incoming>, Response = axum::http::Response<TurnBody>, Error = Infallible, Future: Send>
{
    let router = TowerToHyperService::new(router);
    service_fn(move |mut request: Request<Incoming>| {
        turn.set(Doing::Answering);
        request.extensions_mut().insert(Arc::clone(&turn));
        let (answer, turn) = (router.call(request), Arc::clone(&turn));
        async move {
            let response = answer.await?;
            Ok(response.map(|body| TurnBody { body, turn }))
        }
    })
}

/// Wait until a client that is being answered is known to be gone.
async fn gone(stream: &TcpStream, turn: &Turn) {
    let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else {
        return std::future::pending().await;
    };
    let [mut pause, most] = LOOKS;
    loop {
        // Pending as a rule. It is ready at once while hyper reads nothing of what has come, hence the pause.
        let Ok(ready) = stream.ready(Interest::READABLE).await else { return std::future::pending().await };
        if ready.is_read_closed() && !turn.is(Doing::Listening) {
            let both = stream.ready(Interest::READABLE | Interest::WRITABLE).now_or_never();
            let is_reset = matches!(both, Some(Ok(ready)) if ready.is_write_closed());
            let look = tokio::task::spawn_blocking(move || is_gone(client, server));
            if is_reset || look.await.unwrap_or(false) {
                return;
            }
            pause = (pause * 2).min(most);
        }
        sleep(pause).await;
    }
}

/// Read on and forget it, within bounds.
async fn hear_out(stream: &TcpStream) {
    let (patience, mut left) = HEARD_OUT;
    let reading = async {
        let mut buffer = [0; 8 << 10];
        while left > 0 && stream.readable().await.is_ok() {
            match stream.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => left = left.saturating_sub(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    };
    let _ = timeout(patience, reading).await;
}

/// An answer's body; when it is dropped, what is left is to send it.
struct TurnBody {
    body: Body,
    turn: Arc<Turn>,
}

impl HttpBody for TurnBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for TurnBody {
    fn drop(&mut self) {
        self.turn.set(Doing::Sending);
    }
}

/// The bytes under hyper.
///
/// What hyper writes while it is the client's turn can only be a refusal of its own, of bytes that are no request: a
/// bare head. In its place goes one with an id and a body.
struct Wire {
    stream: Arc<TcpStream>,
    turn: Arc<Turn>,
    gate: Arc<Gate>,
    /// What is left of our own words in place of hyper's.
    own: Bytes,
}

impl Wire {
    /// Take hyper's refusal in, if `bytes` are one.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if !self.turn.is(Doing::Listening) {
            return false;
        }
        let Some(status) = bytes.get(9..12).and_then(|code| StatusCode::from_bytes(code).ok()) else {
            return false;
        };
        self.own = refuse_no_request(&self.gate, status, bytes);
        self.turn.refuse();
        true
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own.is_empty() {
            let n = ready!(poll_out(&self.stream, cx, |stream| stream.try_write(&self.own)))?;
            let _ = self.own.split_to(n);
        }
        Poll::Ready(Ok(()))
    }
}

/// Write as soon as there is room.
fn poll_out(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    write: impl Fn(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match write(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_own(cx))?;
        if self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        poll_out(&self.stream, cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_own(cx))?;
        if self.turn.is(Doing::Listening) {
            let whole = bytes.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
            if self.replaces(&whole) {
                return Poll::Ready(Ok(whole.len()));
            }
        }
        poll_out(&self.stream, cx, |stream| stream.try_write_vectored(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        // hyper flushes when it has written all that it had.
        if self.turn.is(Doing::Sending) {
            self.turn.set(Doing::Listening);
            self.turn.stand_up();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        Poll::Ready(rustix::net::shutdown(&*self.stream, Shutdown::Write).map_err(io::Error::from))
    }
}
