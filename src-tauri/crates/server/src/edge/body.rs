//! Bodies from clients: bounded in bytes, in time and all together.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Limited};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::body_budget::{BodyBudget, Share};
use super::coding::{Coding, Unpacked, Unpacking};
use crate::calls::fault::Fault;
use crate::config::HttpLimits;

/// How many bodies are unpacked at a time, of all servers of a process: each takes a processor, and memory for what is
/// unpacked and for as far as its compression looks back, which no budget counts.
static UNPACKING: Semaphore = Semaphore::const_new(2);

/// A whole body, and its share of the budget.
#[derive(Debug)]
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    /// Kept for as long as what was made of the body takes its place in memory.
    pub(crate) share: Share,
}

/// Read a body to its end, and undo its compression, if it has one. It is counted here and not by [`Limited`], which keeps the body that it has found too long
/// to itself: the rest must be read on, and others' bodies wait for the same room.
///
/// # Errors
/// 413 beyond the limit, compressed or not, 408 when it takes too long, or stops while others want its room, 503 when
/// there is no room, 400 when it breaks off or is not compressed as it says.
pub(crate) async fn read(
    body: Body,
    coding: Option<Coding>,
    limits: &HttpLimits,
    budget: &Arc<BodyBudget>,
) -> Result<WholeBody, Fault> {
    let announced = body.size_hint();
    if announced.lower() > limits.body_bytes as u64 {
        discard(body, limits).await;
        return Err(Fault::body_too_large(limits.body_bytes));
    }
    let reading = async {
        let mut share = budget.open();
        let mut stream = body.into_data_stream();
        let mut whole = Vec::new();
        loop {
            let next = tokio::select! {
                biased;
                why = share.told() => return Err(why),
                next = stream.next() => next,
            };
            let Some(chunk) = next else { break };
            let chunk = chunk.map_err(|_| Fault::bad_request("the body broke off"))?;
            if whole.len() + chunk.len() > limits.body_bytes {
                drop((whole, share));
                discard(Body::from_stream(stream), limits).await;
                return Err(Fault::body_too_large(limits.body_bytes));
            }
            if let Err(why) = share.grow(chunk.len()).await {
                drop((whole, chunk, share));
                discard(Body::from_stream(stream), limits).await;
                return Err(why);
            }
            // What a client announces is no reason to set memory aside, and a process that gets none must not end.
            whole.try_reserve(chunk.len()).map_err(|_| Fault::no_room_for_body())?;
            whole.extend_from_slice(&chunk);
        }
        let mut bytes = Bytes::from(whole);
        if let Some(coding) = coding.filter(|_| !bytes.is_empty()) {
            bytes = unpack(coding, bytes, &mut share, limits).await?;
        }
        share.close()?;
        Ok(WholeBody { bytes, share })
    };
    timeout(limits.body_timeout, reading).await.unwrap_or_else(|_| Err(Fault::body_timeout()))
}

/// Undo the compression of a whole body. That is work for a processor, so few do it at a time, each on a thread that
/// nobody else waits for, and a step at a time: what has come is counted before there is more of it.
///
/// # Errors
/// 413 beyond the limit, 400 where it is damaged, or that it has to give way.
async fn unpack(
    coding: Coding,
    packed: Bytes,
    share: &mut Share,
    limits: &HttpLimits,
) -> Result<Bytes, Fault> {
    let _seat = tokio::select! {
        biased;
        why = share.told() => return Err(why),
        seat = UNPACKING.acquire() => seat,
    };
    // From here on it is one of few, and what it becomes must fit where it alone has room.
    share.shrink(packed.len());
    let mut unpacking = Unpacking::new(coding, packed, limits.body_bytes);
    let mut whole = Vec::new();
    loop {
        let stepped = spawn_blocking(move || unpacking.step()).await;
        // The libraries panic over what they did not think of.
        let broken = |_| Fault::bad_request("the body cannot be unpacked as its content-encoding says");
        let (rest, Unpacked { bytes, is_end }) = stepped.map_err(broken)??;
        if whole.len() + bytes.len() > limits.body_bytes {
            return Err(Fault::unpacked_too_large(limits.body_bytes));
        }
        share.grow(bytes.len()).await?;
        whole.try_reserve(bytes.len()).map_err(|_| Fault::no_room_for_body())?;
        whole.extend_from_slice(&bytes);
        if is_end {
            return Ok(whole.into());
        }
        unpacking = rest;
    }
}

/// Read a body that nobody wants and forget it, within bounds: a client that is still sending does not read,
/// and closing the connection under it would cost it the answer that says why.
pub(crate) async fn discard(body: Body, limits: &HttpLimits) {
    let most = limits.body_bytes.saturating_mul(4);
    if body.size_hint().lower() > most as u64 {
        return;
    }
    let reading = async {
        let mut rest = Limited::new(body, most);
        while let Some(Ok(_)) = rest.frame().await {}
    };
    // What has not come by then will not be waited for; the answer goes out either way.
    let _ = timeout(limits.body_timeout.min(std::time::Duration::from_secs(10)), reading).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write;
    use std::time::Duration;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::stream;

    use super::*;
    use crate::calls::fault::FaultKind;
    use crate::dialects::openai;

    fn status_of(fault: &Fault) -> u16 {
        openai::fault::status(fault.kind).as_u16()
    }

    const LIMITS: HttpLimits = HttpLimits {
        body_bytes: 10,
        all_bodies_bytes: 10,
        body_timeout: Duration::from_secs(60),
        headers: 1,
        header_bytes: 1,
        target_bytes: 1,
        header_timeout: Duration::from_secs(1),
        connections: 1,
    };

    fn chunks(chunks: &[&'static str]) -> Body {
        let chunks: Vec<Result<_, Infallible>> = chunks.iter().map(|chunk| Ok(*chunk)).collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read_and_a_longer_one_is_413() {
        let budget = BodyBudget::new(&LIMITS);
        for (body, want) in [
            (Body::from("0123456789"), Ok("0123456789")),
            (Body::from("0123456789x"), Err(413)),
            (chunks(&["01234", "56789"]), Ok("0123456789")),
            (chunks(&["01234", "56789", "x"]), Err(413)),
            (Body::empty(), Ok("")),
        ] {
            let got = read(body, None, &LIMITS, &budget).await;
            let got = got.map(|whole| whole.bytes).map_err(|error| status_of(&error));
            assert_eq!(got, want.map(Bytes::from));
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn a_compressed_body_is_bounded_by_what_it_unpacks_to_and_pays_for_that_alone() {
        let limits = HttpLimits { body_bytes: 1 << 20, all_bodies_bytes: 1 << 20, ..LIMITS };
        let budget = BodyBudget::new(&limits);
        for (n, want) in [(0, Ok(0)), (1 << 20, Ok(1 << 20)), ((1 << 20) + 1, Err(413)), (64 << 20, Err(413))]
        {
            // Room for this one body: what unpacked on and on would wait for more of it, and not be 413.
            let got = read(Body::from(gzip(&vec![b' '; n])), Some(Coding::Gzip), &limits, &budget).await;
            if let Ok(whole) = &got {
                assert_eq!(budget.n_taken(), whole.bytes.len(), "{n}");
            }
            assert_eq!(got.map(|whole| whole.bytes.len()).map_err(|fault| status_of(&fault)), want, "{n}");
            assert!(budget.is_empty(), "{n}");
        }
        let plain = read(Body::from("{}"), Some(Coding::Gzip), &limits, &budget).await;
        assert_eq!(status_of(&plain.unwrap_err()), 400);
        let nothing = read(Body::empty(), Some(Coding::Zstd), &limits, &budget).await;
        assert_eq!(nothing.unwrap().bytes, "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_408() {
        let budget = BodyBudget::new(&LIMITS);
        let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert_eq!(read(never, None, &LIMITS, &budget).await.unwrap_err().kind, FaultKind::BodyTimeout);
    }

    /// As many bytes as are sent, one chunk each, for as long as the sender lives.
    fn sent(limit: usize) -> (tokio::sync::mpsc::Sender<Bytes>, Body) {
        let (sender, receiver) = tokio::sync::mpsc::channel(limit);
        let chunks = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|chunk| (Ok::<_, Infallible>(chunk), receiver))
        });
        (sender, Body::from_stream(chunks))
    }

    const BIG: HttpLimits = HttpLimits { body_bytes: 4 << 20, all_bodies_bytes: 8 << 20, ..LIMITS };

    type Reading = tokio::task::JoinHandle<Result<WholeBody, Fault>>;

    fn begin(body: Body, budget: &Arc<BodyBudget>) -> Reading {
        let budget = Arc::clone(budget);
        tokio::spawn(async move { read(body, None, &BIG, &budget).await })
    }

    async fn status(reading: Reading) -> u16 {
        reading.await.unwrap().map_or_else(|error| status_of(&error), |_| 200)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_has_announced_much_and_brought_nothing_holds_nobody_up() {
        let budget = BodyBudget::new(&BIG);
        let mut stalled = Vec::new();
        for _ in 0..100 {
            let (sender, body) = sent(1);
            stalled.push((sender, begin(body, &budget)));
        }
        tokio::task::yield_now().await;
        let before = tokio::time::Instant::now();
        assert_eq!(status(begin(Body::from(vec![b'x'; 4 << 20]), &budget)).await, 200);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_stop_nearly_full_give_way_to_others_and_bodies_that_go_on_do_not() {
        let budget = BodyBudget::new(&BIG);
        let mut stalled = Vec::new();
        for _ in 0..2 {
            let (sender, body) = sent(1);
            let reading = begin(body, &budget);
            sender.send(vec![b'x'; (4 << 20) - 100_000].into()).await.unwrap();
            stalled.push((sender, reading));
        }
        // This one stays within what is left, and goes on.
        let (going, body) = sent(1);
        let goes_on = begin(body, &budget);
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            going.send(vec![b'y'; 30_000].into()).await.unwrap();
        }
        let before = tokio::time::Instant::now();
        assert_eq!(status(begin(Body::from(vec![b'z'; 1 << 20]), &budget)).await, 200);
        assert_eq!(before.elapsed(), Duration::ZERO, "who has stopped gives way at once");
        drop(going);
        assert_eq!(status(goes_on).await, 200);
        // One was enough.
        let mut ends = Vec::new();
        for (sender, reading) in stalled {
            drop(sender);
            ends.push(status(reading).await);
        }
        ends.sort_unstable();
        assert_eq!(ends, [200, 408]);
        assert!(budget.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_gives_way_too() {
        let budget = BodyBudget::new(&BIG);
        let (sender, body) = sent(1);
        let reading = begin(body, &budget);
        sender.send(vec![b'x'; (4 << 20) - 1_000].into()).await.unwrap();
        let dripping = tokio::spawn(async move {
            while sender.send(Bytes::from_static(b".")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        let whole = read(Body::from(vec![b'z'; 4 << 20]), None, &BIG, &budget).await.unwrap();
        assert_eq!(status(begin(Body::from(vec![b'z'; 100_000]), &budget)).await, 200);
        assert_eq!(status(reading).await, 408);
        dripping.await.unwrap();
        drop(whole);
        assert!(budget.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_all_wait_for_each_other_come_to_an_end() {
        let budget = BodyBudget::new(&BIG);
        let mut all = Vec::new();
        for _ in 0..4 {
            let (sender, body) = sent(1);
            all.push((sender, begin(body, &budget)));
        }
        // Half of each is in: the room is used up, and nobody has stopped.
        for _ in 0..2 {
            for (sender, _) in &all {
                sender.send(vec![b'x'; 1 << 20].into()).await.unwrap();
            }
        }
        let mut readings = Vec::new();
        for (sender, reading) in all {
            let rest = tokio::spawn(async move {
                for _ in 0..2 {
                    // One that is sent away is read no more.
                    let _ = sender.send(vec![b'x'; 1 << 20].into()).await;
                }
            });
            readings.push((rest, reading));
        }
        let mut ends = Vec::new();
        for (rest, reading) in readings {
            ends.push(status(reading).await);
            rest.await.unwrap();
        }
        assert_eq!(ends[0], 200, "the first that came is never sent away: {ends:?}");
        assert!(ends.iter().all(|end| [200, 503].contains(end)) && ends.contains(&503), "{ends:?}");
        assert!(budget.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_room_that_whole_ones_have() {
        let budget = BodyBudget::new(&BIG);
        let whole = || read(Body::from(vec![b'x'; 4 << 20]), None, &BIG, &budget);
        let (first, second) = (whole().await.unwrap(), whole().await.unwrap());
        let waiting = begin(Body::from("third"), &budget);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!waiting.is_finished());
        drop(first);
        assert_eq!(waiting.await.unwrap().unwrap().bytes, "third");
        // For ever it does not.
        let _third = whole().await.unwrap();
        assert_eq!(status(begin(Body::from("fourth"), &budget)).await, 408);
        drop(second);
    }
}
