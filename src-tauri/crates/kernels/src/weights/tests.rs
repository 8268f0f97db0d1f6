//! Packing and back.

use super::*;
use crate::ggml::dequantize;
use crate::testing::{Rng, random_blocks};

#[test]
fn embed_equals_the_oracle_for_every_type_and_ragged_row_counts() {
    let mut rng = Rng::new(1);
    for ty in GgmlType::ALL {
        for n_out in [1, 31, 32, 33, 70] {
            let n_in = 3 * ty.block_elems();
            let raw = random_blocks(ty, n_out * n_in, &mut rng);
            let threads = Threads::new(2);
            let weights = Weights::pack(&threads, ty, &raw, n_out, n_in).unwrap();
            let mut wanted = vec![0.0; n_out * n_in];
            dequantize(ty, &raw, &mut wanted);
            let mut got = vec![0.0; n_in];
            for (row, wanted) in wanted.chunks(n_in).enumerate() {
                weights.embed(row, &mut got);
                assert_eq!(got, wanted, "{} row {row} of {n_out}", ty.name());
            }
        }
    }
}

#[test]
fn the_packed_form_is_about_as_long_as_the_file() {
    let threads = Threads::new(1);
    for ty in GgmlType::ALL {
        let raw = vec![0; ty.bytes_of(64 * 512).unwrap()];
        let packed = Weights::pack(&threads, ty, &raw, 64, 512).unwrap().bytes();
        // Q3_K's scales of 6 bits take bytes here.
        let percent = if ty == GgmlType::Q3K { 104 } else { 103 };
        assert!(packed >= raw.len() && packed * 100 <= raw.len() * percent, "{}: {packed}", ty.name());
    }
}

#[test]
fn what_is_not_whole_blocks_is_refused_with_its_cause() {
    let threads = Threads::new(1);
    let pack = |ty, bytes, n_out, n_in| {
        Weights::pack(&threads, ty, &vec![0; bytes], n_out, n_in).err().map(|e| e.to_string())
    };
    let shape = |ty, n_out, n_in| Some(PackError::Shape { ty, n_out, n_in }.to_string());
    assert_eq!(pack(GgmlType::Q4_0, 18, 1, 33), shape(GgmlType::Q4_0, 1, 33));
    assert_eq!(pack(GgmlType::Q4K, 360, 1, 640), shape(GgmlType::Q4K, 1, 640));
    assert_eq!(pack(GgmlType::Q8_0, 0, 0, 32), shape(GgmlType::Q8_0, 0, 32));
    assert_eq!(pack(GgmlType::Q8_0, 0, 1, 0), shape(GgmlType::Q8_0, 1, 0));
    assert_eq!(
        pack(GgmlType::Q8_0, 33, 1, 32),
        Some(PackError::Length { needed: 34, given: 33 }.to_string())
    );
    assert_eq!(pack(GgmlType::F16, 2 * 3 * 5, 3, 5), None);
    assert_eq!(pack(GgmlType::F32, 4, usize::MAX, 2), shape(GgmlType::F32, usize::MAX, 2));
}

#[test]
fn a_matrix_that_cannot_be_read_to_its_end_is_an_error_on_any_number_of_threads() {
    let ty = GgmlType::Q8_0;
    // Several pieces, with a ragged end.
    let (n_out, n_in) = (1000, 1024);
    let raw = vec![7; ty.bytes_of(n_out * n_in).unwrap()];
    for n_threads in [1, 2, 4] {
        let threads = Threads::new(n_threads);
        for n_there in [0, 1, raw.len() / 2, raw.len() - 1, raw.len()] {
            let read = |offset: usize, out: &mut [u8]| match raw[..n_there].get(offset..offset + out.len()) {
                Some(bytes) => {
                    out.copy_from_slice(bytes);
                    Ok(())
                }
                None => Err("cut off"),
            };
            let packed = Weights::pack_from(&threads, (ty, n_out, n_in), raw.len(), read, &mut |_| Ok(()));
            assert_eq!(packed.err(), (n_there < raw.len()).then_some("cut off"), "{n_there}");
        }
    }
}

#[test]
fn a_large_matrix_is_packed_in_steps_that_add_up_and_end_when_nobody_wants_it() {
    let ty = GgmlType::Q8_0;
    // 150 MB in rows of which no tile has a round number of bytes, with a ragged end.
    let (n_out, n_in) = (46_001, 3072);
    let given = ty.bytes_of(n_out * n_in).unwrap();
    let threads = Threads::new(2);
    let read = |offset: usize, out: &mut [u8]| {
        out.iter_mut().zip(offset..).for_each(|(byte, at)| *byte = (at % 251) as u8);
        Ok::<(), &str>(())
    };
    let mut steps = Vec::new();
    let packed = Weights::pack_from(&threads, (ty, n_out, n_in), given, read, &mut |n_bytes| {
        steps.push(n_bytes);
        Ok(())
    });
    let packed = packed.unwrap().unwrap();
    assert_eq!(steps.iter().sum::<usize>(), given);
    assert!(steps.len() > 1 && steps.iter().all(|&step| step > 0 && step < 72 << 20), "{steps:?}");
    assert_eq!(packed.bytes(), Weights::packed_bytes(ty, n_out, n_in).unwrap());
    // Each row is in its place, those at the edges of the steps among them.
    let row_bytes = ty.bytes_of(n_in).unwrap();
    let edge = steps[0] / row_bytes;
    for row in [0, edge - 1, edge, edge + 31, n_out - 1] {
        let (mut raw, mut want, mut got) = (vec![0; row_bytes], vec![0.0; n_in], vec![0.0; n_in]);
        read(row * row_bytes, &mut raw).unwrap();
        dequantize(ty, &raw, &mut want);
        packed.embed(row, &mut got);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&got), bits(&want), "row {row}");
    }
    let mut n_steps = 0;
    let stopped = Weights::pack_from(&threads, (ty, n_out, n_in), given, read, &mut |_| {
        n_steps += 1;
        Err("enough")
    });
    assert_eq!((stopped.err(), n_steps), (Some("enough"), 1));
}
