//! Bodies that come compressed: which codings are understood, and how one is undone step by step.
//!
//! Both are undone by Rust code that knows no other language's memory, and never further than a step at a time: whoever
//! asks for the next one has counted what came of those before it.

use std::io::{Cursor, Read};

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::calls::fault::Fault;

/// What is understood, as `accept-encoding` lists it.
pub(crate) const UNDERSTOOD: &str = "gzip, zstd";

/// Bytes that one step brings at most, but for the last of a frame, which brings its window too.
const STEP_BYTES: usize = 256 << 10;

/// Members of a gzip file, or frames of zstd, each of which costs something even if it is empty.
const MAX_PARTS: usize = 1_000;

/// Blocks that one step looks into, each of which costs something even if nothing comes of it.
const STEP_BLOCKS: usize = 64;

/// Bytes that a frame may look back, in every reader of HTTP's zstd (RFC 9659); more only where a body may be longer.
const WINDOW_BYTES: usize = 8 << 20;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// The coding that a head announces; none where the body comes as it is.
    ///
    /// # Errors
    /// 415: it is another one, or several.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Coding>, Fault> {
        let mut sent = headers.get_all(CONTENT_ENCODING).iter();
        let (Some(value), more) = (sent.next(), sent.next()) else { return Ok(None) };
        let name = value.to_str().unwrap_or("").trim().to_ascii_lowercase();
        let coding = match name.as_str() {
            "identity" if more.is_none() => return Ok(None),
            "x-gzip" => Some(Coding::Gzip),
            name => Coding::ALL.into_iter().find(|coding| coding.name() == name),
        };
        match (coding, more) {
            (Some(coding), None) => Ok(Some(coding)),
            _ => Err(Fault::unknown_coding(&name)),
        }
    }
}

engine::names! {
    pub(crate) Coding, ALL {
        Gzip => "gzip",
        Zstd => "zstd",
    }
}

/// A body whose compression is being undone.
pub(crate) struct Unpacking {
    coding: Coding,
    /// Bytes that a whole body may have.
    limit: usize,
    n_parts: usize,
    part: Part,
}

/// What a step brought.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) bytes: Vec<u8>,
    /// Whether that was all.
    pub(crate) is_end: bool,
}

/// Where the reading is: between two parts, or in one.
enum Part {
    Between(Cursor<Bytes>),
    Member(Box<GzDecoder<Cursor<Bytes>>>),
    Frame(Box<FrameDecoder>, Cursor<Bytes>),
}

impl Unpacking {
    /// Undo `coding` of a body, of which no more than `limit` bytes will be wanted.
    pub(crate) fn new(coding: Coding, body: Bytes, limit: usize) -> Unpacking {
        Unpacking { coding, limit, n_parts: 0, part: Part::Between(Cursor::new(body)) }
    }

    /// The next bytes, if there are some.
    ///
    /// # Errors
    /// 400 where the body is damaged or cut, 413 where it says of itself that it is too large.
    pub(crate) fn step(mut self) -> Result<(Unpacking, Unpacked), Fault> {
        let mut bytes = Vec::new();
        self.part = match self.part {
            Part::Between(rest) if rest.position() >= rest.get_ref().len() as u64 => {
                let is_end = true;
                return Ok((Unpacking { part: Part::Between(rest), ..self }, Unpacked { bytes, is_end }));
            }
            Part::Between(rest) => {
                self.n_parts += 1;
                if self.n_parts > MAX_PARTS {
                    let message =
                        format!("the body is {} of more than {MAX_PARTS} parts", self.coding.name());
                    return Err(Fault::bad_request(message));
                }
                match self.coding {
                    Coding::Gzip => Part::Member(Box::new(GzDecoder::new(rest))),
                    Coding::Zstd => frame(rest, self.limit)?,
                }
            }
            Part::Member(mut member) => {
                bytes.resize(STEP_BYTES, 0);
                let n = member.read(&mut bytes).map_err(|error| damaged(self.coding, &error))?;
                bytes.truncate(n);
                if n > 0 { Part::Member(member) } else { Part::Between(member.into_inner()) }
            }
            Part::Frame(mut frame, mut rest) => {
                let has_ended = step_of_frame(&mut frame, &mut rest, &mut bytes)?;
                if has_ended { Part::Between(rest) } else { Part::Frame(frame, rest) }
            }
        };
        Ok((self, Unpacked { bytes, is_end: false }))
    }
}

/// A frame that begins where `rest` stands, or what comes after one that is to be skipped.
fn frame(mut rest: Cursor<Bytes>, limit: usize) -> Result<Part, Fault> {
    let mut frame = FrameDecoder::new();
    frame.set_max_window_size(WINDOW_BYTES.max(limit) as u64);
    match frame.reset(&mut rest) {
        Ok(()) if frame.content_size() > limit as u64 => Err(Fault::unpacked_too_large(limit)),
        Ok(()) => Ok(Part::Frame(Box::new(frame), rest)),
        Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
            let after = rest.position().saturating_add(u64::from(length));
            if after > rest.get_ref().len() as u64 {
                return Err(damaged(Coding::Zstd, &"it is cut"));
            }
            rest.set_position(after);
            Ok(Part::Between(rest))
        }
        Err(FrameDecoderError::WindowSizeTooBig { .. }) => Err(Fault::unpacked_too_large(limit)),
        Err(error) => Err(damaged(Coding::Zstd, &error)),
    }
}

/// Reads on in a frame, and whether that was its end.
fn step_of_frame(
    frame: &mut FrameDecoder,
    rest: &mut Cursor<Bytes>,
    bytes: &mut Vec<u8>,
) -> Result<bool, Fault> {
    for _ in 0..STEP_BLOCKS {
        if frame.is_finished() || frame.can_collect() >= STEP_BYTES {
            break;
        }
        let decoded = frame.decode_blocks(&mut *rest, BlockDecodingStrategy::UptoBlocks(1));
        decoded.map_err(|error| damaged(Coding::Zstd, &error))?;
    }
    bytes.extend(frame.collect().unwrap_or_default());
    // It is known when all has been collected.
    let told = frame.get_checksum_from_data().filter(|_| frame.is_finished());
    if told.is_some() && told != frame.get_calculated_checksum() {
        return Err(damaged(Coding::Zstd, &"its checksum is another one"));
    }
    Ok(frame.is_finished())
}

fn damaged(coding: Coding, error: &impl std::fmt::Display) -> Fault {
    let name = coding.name();
    Fault::bad_request(format!("the body is no whole {name} data, as its content-encoding says: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::HeaderValue;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;
    use crate::dialects::openai::fault::status;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    /// A frame of zstd that says nothing of its length, of `n` blocks that are 128 KiB of one letter each.
    fn letters(n: usize) -> Vec<u8> {
        let block = |is_last: bool| {
            let head = u32::from(is_last) | 1 << 1 | (128 << 10) << 3;
            [&head.to_le_bytes()[..3], b"a"].concat()
        };
        let blocks: Vec<u8> = (1..=n).flat_map(|i| block(i == n)).collect();
        [&[0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3][..], &blocks].concat()
    }

    /// The whole of it, or the status that refuses it; and how many bytes were unpacked for that.
    fn unpack(coding: Coding, body: &[u8], limit: usize) -> (Result<Vec<u8>, u16>, usize) {
        let mut unpacking = Unpacking::new(coding, Bytes::copy_from_slice(body), limit);
        let mut whole = Vec::new();
        loop {
            match unpacking.step() {
                Err(fault) => return (Err(status(fault.kind).as_u16()), whole.len()),
                Ok((_, Unpacked { is_end: true, .. })) => return (Ok(whole), 0),
                Ok((rest, unpacked)) => {
                    unpacking = rest;
                    whole.extend(unpacked.bytes);
                    if whole.len() > limit {
                        return (Err(413), whole.len());
                    }
                }
            }
        }
    }

    const LIMIT: usize = 4 << 20;

    #[test]
    fn what_was_compressed_comes_back_however_long_and_in_however_many_parts() {
        let texts: [Vec<u8>; 4] =
            [Vec::new(), b"{}".to_vec(), vec![b' '; 3 << 20], (0..=255).cycle().take(700_000).collect()];
        for text in &texts {
            for (coding, packed) in [(Coding::Gzip, gzip(text)), (Coding::Zstd, zstd(text))] {
                assert_eq!(unpack(coding, &packed, LIMIT).0.as_ref(), Ok(text), "{coding:?} {}", text.len());
                let twice = [&packed[..], &packed].concat();
                let whole = [&text[..], text].concat();
                let wanted = if whole.len() > LIMIT { Err(413) } else { Ok(whole) };
                assert_eq!(unpack(coding, &twice, LIMIT).0, wanted, "{coding:?} {}", text.len());
            }
        }
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(b"{}")].concat();
        assert_eq!(unpack(Coding::Zstd, &skipped, LIMIT).0, Ok(b"{}".to_vec()));
    }

    /// The numbers below 1,000 in JSON, as the reference implementation compresses them: `zstd -19 --check`.
    const BY_REFERENCE: &[u8] = include_bytes!("coding/by_reference.zst");

    #[test]
    fn what_the_reference_implementation_writes_is_read_and_its_checksum_is_looked_at() {
        let text = format!("{:?}", (0..1_000).collect::<Vec<_>>());
        assert_eq!(unpack(Coding::Zstd, BY_REFERENCE, LIMIT).0, Ok(text.into_bytes()));
        let mut damaged = BY_REFERENCE.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(unpack(Coding::Zstd, &damaged, LIMIT).0, Err(400));
    }

    #[test]
    fn what_is_cut_or_changed_anywhere_is_an_error_and_nothing_worse() {
        let text = br#"{"messages":[{"role":"user","content":"hello hello hello"}]}"#;
        for (coding, packed) in [(Coding::Gzip, gzip(text)), (Coding::Zstd, BY_REFERENCE.to_vec())] {
            for at in 1..packed.len() {
                assert_eq!(unpack(coding, &packed[..at], LIMIT).0, Err(400), "{coding:?} cut at {at}");
                for bit in [0, 3, 7] {
                    let mut changed = packed.clone();
                    changed[at] ^= 1 << bit;
                    // Whichever: it comes back.
                    let _ = unpack(coding, &changed, LIMIT);
                }
            }
            let with_rest = [&packed[..], b"rest"].concat();
            assert_eq!(unpack(coding, &with_rest, LIMIT).0, Err(400), "{coding:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused_when_a_little_more_than_the_bound_is_unpacked() {
        // 100 MB of zeros, and 2.6 GB of a letter in 80 KB.
        let (zeros, letters) = (gzip(&vec![0; 100 << 20]), letters(20_000));
        for (coding, bomb) in [(Coding::Gzip, &zeros), (Coding::Zstd, &letters)] {
            assert!(bomb.len() < 200_000);
            let (refused, n_unpacked) = unpack(coding, bomb, LIMIT);
            assert_eq!(refused, Err(413), "{coding:?}");
            assert!(n_unpacked <= LIMIT + (8 << 20), "{coding:?}: {n_unpacked}");
        }
        let announced = [0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000, 0, 0, 0, 64];
        assert_eq!(unpack(Coding::Zstd, &announced, LIMIT), (Err(413), 0), "1 GB, by its own words");
        let wide_window = [0x28, 0xb5, 0x2f, 0xfd, 0, 20 << 3];
        assert_eq!(unpack(Coding::Zstd, &wide_window, LIMIT), (Err(413), 0), "a window of 1 GB");
    }

    #[test]
    fn parts_without_content_are_counted_too() {
        for (coding, empty) in [(Coding::Gzip, gzip(b"")), (Coding::Zstd, zstd(b""))] {
            assert_eq!(unpack(coding, &empty.repeat(MAX_PARTS), LIMIT).0, Ok(Vec::new()), "{coding:?}");
            assert_eq!(unpack(coding, &empty.repeat(MAX_PARTS + 1), LIMIT).0, Err(400), "{coding:?}");
        }
    }

    #[test]
    fn one_coding_is_understood_at_a_time_and_others_are_named() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            });
            Coding::of(&headers)
        };
        for (values, want) in [
            (&[][..], None),
            (&["identity"], None),
            (&["Identity"], None),
            (&["gzip"], Some(Coding::Gzip)),
            (&["x-gzip"], Some(Coding::Gzip)),
            (&["GZIP"], Some(Coding::Gzip)),
            (&["zstd"], Some(Coding::Zstd)),
        ] {
            assert_eq!(of(values), Ok(want), "{values:?}");
        }
        for values in
            [&["br"][..], &["deflate"], &["gzip, zstd"], &["gzip", "gzip"], &["identity, gzip"], &[""]]
        {
            let fault = of(values).unwrap_err();
            assert_eq!(status(fault.kind).as_u16(), 415, "{values:?}");
            assert!(fault.message.contains("gzip") && fault.message.contains("zstd"), "{}", fault.message);
        }
        assert!(of(&["br"]).unwrap_err().message.contains("'br'"));
    }
}
