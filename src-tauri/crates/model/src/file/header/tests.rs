//! The header parser on sound, cut-off, flipped and contradictory files.

use super::*;
use crate::testing::gguf_writer::GgufWriter;

fn small() -> GgufWriter {
    GgufWriter::new()
        .str("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .strs("tokenizer.ggml.tokens", &["a", "", "héé", "<eos>"])
        .raw(
            "floats",
            9,
            &[&6_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &1_f32.to_le_bytes(), &2_f32.to_le_bytes()]
                .concat(),
        )
        .tensor("first", &[4, 3])
        .tensor_of("second", &[32, 2], 8, vec![7; 68])
}

/// The header of a file that has been read as a whole.
fn parse(bytes: &[u8]) -> Result<Header, Cause> {
    let header = super::parse(bytes, bytes.len() as u64)?.expect("there is no more of it");
    header.refuse_unknown().map(|()| header)
}

fn refusal(bytes: &[u8]) -> String {
    match parse(bytes) {
        Ok(_) => panic!("it was accepted"),
        Err(Cause::Malformed(cause) | Cause::Unsupported(cause)) => cause,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn what_was_written_is_read() {
    for version in [2, 3] {
        let mut file = small();
        file.version = version;
        let bytes = file.bytes();
        let header = parse(&bytes).unwrap();
        assert_eq!(header.metadata.str("general.architecture"), Ok("llama"));
        assert_eq!(header.metadata.usize("llama.block_count"), Ok(2));
        let tokens: Vec<&str> =
            header.metadata.find_strings("tokenizer.ggml.tokens").unwrap().unwrap().iter().collect();
        assert_eq!(tokens, ["a", "", "héé", "<eos>"]);
        assert_eq!(header.metadata.find_f32s("floats"), Ok(Some(&[1.0, 2.0][..])));
        assert_eq!(header.tensors.len(), 2);
        let second = &header.tensors[1];
        assert_eq!(
            (second.name.as_str(), &second.shape[..], second.ty),
            ("second", &[32, 2][..], GgmlType::Q8_0)
        );
        assert_eq!(bytes[second.range.clone()], [7; 68]);
        assert_eq!(second.range.start % 32, 0);
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let bytes = small().bytes();
    for n in 0..bytes.len() {
        let cause = refusal(&bytes[..n]);
        assert!(!cause.is_empty() && !cause.contains('\n'), "{n}: {cause}");
    }
}

#[test]
fn no_flipped_bit_or_byte_leads_to_a_panic_or_a_tensor_outside_the_file() {
    let bytes = small().bytes();
    let mut state = 5_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let check = |mutated: &[u8]| {
        if let Ok(header) = parse(mutated) {
            for tensor in &header.tensors {
                assert!(tensor.range.end <= mutated.len());
                assert_eq!(Some(tensor.range.len()), tensor.ty.bytes_of(tensor.n_values()));
            }
        }
    };
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut mutated = bytes.clone();
            mutated[at] ^= 1 << bit;
            check(&mutated);
        }
        for byte in [0, 0x7f, 0xff] {
            let mut mutated = bytes.clone();
            mutated[at] = byte;
            check(&mutated);
        }
    }
    for _ in 0..20_000 {
        let mut mutated = bytes.clone();
        for _ in 0..1 + next() % 6 {
            let at = next() % mutated.len();
            mutated[at] = next() as u8;
        }
        check(&mutated);
    }
}

#[test]
fn counts_and_lengths_that_the_file_cannot_hold_are_refused_before_anything_is_allocated() {
    let mut bytes = small().bytes();
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal(&bytes).contains("claims 18446744073709551615 tensors"));
    let huge_array = [&6_u32.to_le_bytes()[..], &(u64::MAX / 4).to_le_bytes()].concat();
    assert!(refusal(&GgufWriter::new().raw("k", 9, &huge_array).bytes()).contains("claims a length"));
    let huge_string = (1_u64 << 40).to_le_bytes();
    assert!(refusal(&GgufWriter::new().raw("k", 8, &huge_string).bytes()).contains("claims a length"));
}

#[test]
fn contradictions_are_named() {
    let check = |file: GgufWriter, want: &str| {
        let cause = refusal(&file.bytes());
        assert!(cause.contains(want), "{cause:?} does not say {want:?}");
    };
    let file = small;
    check(file().again("llama.block_count"), "`llama.block_count` occurs twice");
    check(file().u32("general.alignment", 24), "an alignment of 24");
    check(file().u32("general.alignment", 0), "an alignment of 0");
    check(file().str("general.alignment", "x"), "is a string where an integer is needed");
    check(file().raw("k", 99, &[]), "unknown type 99");
    check(file().raw("k", 9, &[9, 0, 0, 0]), "array of arrays");
    check(file().tensor_of("t", &[33], 8, vec![0; 34]), "rows of 33 values, no multiple of 32");
    check(file().tensor_of("t", &[256], 41, vec![0; 36]), "`t` is quantised as Q1_0");
    check(file().tensor_of("t", &[256], 77, vec![0; 66]), "`t` is quantised as type 77");
    check(file().tensor_of("t", &[8, 0], 0, vec![]), "no or vast length");
    check(file().tensor_of("t", &[1 << 62, 1 << 62], 0, vec![]), "cannot lie");
    check(file().tensor_of("t", &[1, 1, 1, 1, 1], 0, vec![0; 4]), "5 dimensions");
    check(file().tensor_of("t", &[64], 0, vec![0; 16]), "is it cut off?");
    let mut old = small();
    old.version = 1;
    check(old.clone(), "GGUF version 1");
    old.version = 3_u32.swap_bytes();
    check(old, "big-endian");
    assert!(refusal(b"PK\x03\x04 something else").contains("does not begin with `GGUF`"));
}

#[test]
fn tensors_of_unknown_types_are_kept_with_the_room_that_they_have() {
    let file = small().tensor_of("new", &[256], 77, vec![1; 70]).tensor("last", &[8]).tensor_of(
        "newer",
        &[7, 7, 7],
        300,
        vec![2; 33],
    );
    let bytes = file.bytes();
    let header = super::parse(&bytes, bytes.len() as u64).unwrap().unwrap();
    let unknown = |name: &str, ty: &str, n_bytes| UnknownTensor { name: name.into(), ty: ty.into(), n_bytes };
    // The first is followed by what pads it.
    assert_eq!(header.unknown, [unknown("new", "type 77", 96), unknown("newer", "type 300", 33)]);
    assert_eq!(header.tensors.last().map(|tensor| tensor.name.as_str()), Some("last"));
    assert!(header.by_name.keys().all(|name| !name.starts_with("new")));
    let mut twice = small().tensor_of("new", &[256], 77, vec![]).tensor_of("old", &[256], 77, vec![]).bytes();
    let at = twice.windows(3).position(|name| name == b"old").unwrap();
    twice[at..at + 3].copy_from_slice(b"new");
    assert!(refusal(&twice).contains("tensor `new` occurs twice"));
}

#[test]
fn bytes_that_are_no_utf8_do_no_harm_where_nobody_looks() {
    let string = |bytes: &[u8]| [&(bytes.len() as u64).to_le_bytes(), bytes].concat();
    let strings = |all: &[&[u8]]| {
        let all: Vec<u8> = all.iter().flat_map(|bytes| string(bytes)).collect();
        [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &all].concat()
    };
    let bad: [&[u8]; 5] = [b"\xff\xfe", b"caf\xe9", b"\xc3", b"a\x80b", b"\xed\xa0\x80"];
    for bytes in bad {
        let file = small().raw("general.author", 8, &string(bytes)).raw("tags", 9, &strings(&[b"ok", bytes]));
        let metadata = parse(&file.bytes()).unwrap().metadata;
        assert_eq!(metadata.str("general.architecture"), Ok("llama"));
        assert_eq!(
            metadata.str("general.author").unwrap_err().to_string(),
            "metadata key `general.author` is a string of bytes that are no valid UTF-8 where a string is needed"
        );
        assert_eq!(metadata.get("tags"), Some(&Value::Array(Array::NotText(1))));
        assert!(metadata.find_strings("tags").is_err());
    }
    // A key's own name, of which two may look alike.
    let mut bytes = GgufWriter::new().u32("k\u{e9}", 1).u32("k\u{eb}", 2).str("last", "x").bytes();
    bytes.iter_mut().filter(|byte| **byte == 0xc3).for_each(|byte| *byte = 0xff);
    let metadata = parse(&bytes).unwrap().metadata;
    assert_eq!((metadata.len(), metadata.str("last")), (3, Ok("x")));
    // The name of a tensor is looked for.
    let mut bytes = GgufWriter::new().tensor("caf\u{e9}", &[8]).bytes();
    let at = bytes.iter().position(|&byte| byte == 0xc3).unwrap();
    bytes[at] = 0xff;
    assert!(refusal(&bytes).contains("a tensor's name is no valid UTF-8"));
}

#[test]
fn tensors_may_not_share_bytes() {
    let bytes = GgufWriter::new().tensor("a", &[8]).tensor("b", &[8]).bytes();
    let offset_of_b = bytes.windows(9).position(|w| w == b"\x01\0\0\0\0\0\0\0b").unwrap() + 9 + 4 + 8 + 4;
    let mut mutated = bytes.clone();
    assert_eq!(mutated[offset_of_b], 32);
    mutated[offset_of_b] = 0;
    assert!(refusal(&mutated).contains("tensors `a` and `b` overlap"));
}
