//! The header parser on sound, cut-off, flipped and contradictory files.

use super::*;
use crate::testing::GgufWriter;

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
    Ok(super::parse(bytes, bytes.len() as u64)?.expect("there is no more of it"))
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
    check(file().raw("k", 8, &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe]), "no valid UTF-8");
    check(file().raw("k", 9, &[9, 0, 0, 0]), "array of arrays");
    check(file().tensor_of("t", &[33], 8, vec![0; 34]), "rows of 33 values, no multiple of 32");
    check(file().tensor_of("t", &[256], 16, vec![0; 66]), "`t` is quantised as IQ2_XXS");
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
fn tensors_may_not_share_bytes() {
    let bytes = GgufWriter::new().tensor("a", &[8]).tensor("b", &[8]).bytes();
    let offset_of_b = bytes.windows(9).position(|w| w == b"\x01\0\0\0\0\0\0\0b").unwrap() + 9 + 4 + 8 + 4;
    let mut mutated = bytes.clone();
    assert_eq!(mutated[offset_of_b], 32);
    mutated[offset_of_b] = 0;
    assert!(refusal(&mutated).contains("tensors `a` and `b` overlap"));
}
