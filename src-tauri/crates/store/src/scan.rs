//! Reading a segment at the start: its headers, and the bodies too where a power cut may have left holes.

use std::io;

use crate::disk::{DiskFile, read_exact};
use crate::format::{
    BodyDigest, BodyHasher, HeaderError, Kind, Position, RECORD_HEADER_BYTES, RecordHeader,
    SEGMENT_HEADER_BYTES, check_segment_header,
};

/// Bytes of a body that are read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What a segment holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    pub(crate) records: Vec<(Position, RecordHeader)>,
    /// Records whose header is whole and whose body is not.
    pub(crate) damaged: Vec<(Position, RecordHeader)>,
    /// Where the last whole record ends.
    pub(crate) end: u64,
    /// Whether it was completed; otherwise what comes after `end` is what a crash left.
    pub(crate) is_sealed: bool,
    /// Whether another version wrote it, or a part of it.
    pub(crate) is_other_version: bool,
}

/// Read segment `id`. Damage shortens what is found; it is no error.
pub(crate) fn scan(file: &dyn DiskFile, id: u64) -> io::Result<Scanned> {
    let n_bytes = file.len()?;
    let mut found = Scanned::default();
    let mut header = [0; SEGMENT_HEADER_BYTES];
    if n_bytes < header.len() as u64 {
        return Ok(found);
    }
    read_exact(file, &mut header, 0)?;
    if let Err(error) = check_segment_header(&header, id) {
        found.is_other_version = error == HeaderError::Version;
        return Ok(found);
    }
    found.end = SEGMENT_HEADER_BYTES as u64;
    let mut bytes = [0; RECORD_HEADER_BYTES];
    while found.end + bytes.len() as u64 <= n_bytes {
        read_exact(file, &mut bytes, found.end)?;
        match RecordHeader::decode(&bytes) {
            Ok(record) if record.kind == Kind::Seal => {
                found.is_sealed = true;
                found.end += record.record_bytes();
                return Ok(found);
            }
            Ok(record) if found.end + record.record_bytes() <= n_bytes => {
                let at = Position { segment: id, offset: found.end };
                if buries_what_comes_after(&record, at) {
                    break;
                }
                found.records.push((at, record));
                found.end += record.record_bytes();
            }
            Ok(_) | Err(HeaderError::Damaged) => break,
            Err(HeaderError::Version) => {
                found.is_other_version = true;
                break;
            }
        }
    }
    // Nothing says that the bodies of a segment that was never completed reached the disk.
    let mut whole = Vec::with_capacity(found.records.len());
    for (at, record) in std::mem::take(&mut found.records) {
        if is_body_whole(file, at, &record)? {
            whole.push((at, record));
        } else {
            found.damaged.push((at, record));
        }
    }
    found.records = whole;
    Ok(found)
}

/// A tombstone was raised where it was written first, which is never after where it stands.
fn buries_what_comes_after(record: &RecordHeader, at: Position) -> bool {
    matches!(record.kind, Kind::Tombstone { raised_at, .. } if raised_at > at)
}

fn is_body_whole(file: &dyn DiskFile, at: Position, record: &RecordHeader) -> io::Result<bool> {
    if record.body_bytes() == 0 {
        return Ok(record.body_digest == BodyDigest::of(&[], &[]));
    }
    let mut body = BodyHasher::new();
    let mut piece = vec![0; PIECE_BYTES.min(record.body_bytes() as usize)];
    let mut n_done = 0;
    while n_done < record.body_bytes() {
        let n = piece.len().min((record.body_bytes() - n_done) as usize);
        read_exact(file, &mut piece[..n], at.offset + RECORD_HEADER_BYTES as u64 + n_done)?;
        body.update(&piece[..n]);
        n_done += n as u64;
    }
    Ok(body.finish() == record.body_digest)
}
