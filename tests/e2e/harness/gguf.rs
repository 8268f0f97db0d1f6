//! A model's file with another chat template in it.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Bytes to which the tensors' data is aligned, where a file does not say otherwise, as the test models' do not.
const ALIGNMENT: usize = 32;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Writes the file at `model` to `to`, with `template` as its `tokenizer.chat_template`.
pub(crate) fn with_chat_template(model: &Path, template: &str, to: &Path) -> PathBuf {
    let bytes = std::fs::read(model).expect("a model");
    let mut reader = Reader { bytes: &bytes, at: 8 };
    let n_tensors = reader.u64();
    let n_keys = reader.u64();
    let mut value = None;
    for _ in 0..n_keys {
        let key = reader.string().to_owned();
        let kind = reader.u32();
        let start = reader.at;
        reader.skip(kind);
        if key == b"tokenizer.chat_template" {
            value = Some(start..reader.at);
        }
    }
    for _ in 0..n_tensors {
        reader.string();
        let n_dimensions = reader.u32() as usize;
        reader.at += 8 * n_dimensions + 4 + 8;
    }
    let value = value.expect("the model has a chat template");
    let mut head = bytes[..value.start].to_vec();
    head.extend((template.len() as u64).to_le_bytes());
    head.extend(template.as_bytes());
    head.extend(&bytes[value.end..reader.at]);
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    let mut file = std::fs::File::create(to).expect("a file for the model");
    file.write_all(&head).expect("room for a model");
    file.write_all(&bytes[reader.at.next_multiple_of(ALIGNMENT)..]).expect("room for a model");
    to.to_owned()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        self.at += n;
        &self.bytes[self.at - n..self.at]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn string(&mut self) -> &'a [u8] {
        let n = self.u64() as usize;
        self.take(n)
    }

    fn skip(&mut self, kind: u32) {
        match kind {
            STRING => {
                self.string();
            }
            ARRAY => {
                let kind = self.u32();
                for _ in 0..self.u64() {
                    self.skip(kind);
                }
            }
            0 | 1 | 7 => self.at += 1,
            2 | 3 => self.at += 2,
            4..=6 => self.at += 4,
            _ => self.at += 8,
        }
    }
}
