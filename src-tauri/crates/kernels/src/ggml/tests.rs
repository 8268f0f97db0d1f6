//! Blocks against values worked out by hand, and against those of the reference.

use half::f16;

use super::*;
use crate::activations::{Activations, Form};
use crate::isa::Isa;
use crate::matmul::{Epilogue, matmul};
use crate::threads::Threads;
use crate::weights::Weights;

#[test]
fn ids_are_those_of_the_gguf_format() {
    let known: Vec<_> = (0..64).filter_map(|id| Some((id, GgmlType::from_gguf_id(id)?.name()))).collect();
    assert_eq!(
        known,
        [
            (0, "F32"),
            (1, "F16"),
            (2, "Q4_0"),
            (3, "Q4_1"),
            (6, "Q5_0"),
            (7, "Q5_1"),
            (8, "Q8_0"),
            (10, "Q2_K"),
            (11, "Q3_K"),
            (12, "Q4_K"),
            (13, "Q5_K"),
            (14, "Q6_K"),
            (16, "IQ2_XXS"),
            (17, "IQ2_XS"),
            (18, "IQ3_XXS"),
            (19, "IQ1_S"),
            (20, "IQ4_NL"),
            (21, "IQ3_S"),
            (22, "IQ2_S"),
            (23, "IQ4_XS"),
            (29, "IQ1_M"),
            (30, "BF16"),
            (34, "TQ1_0"),
            (35, "TQ2_0"),
            (39, "MXFP4"),
            (40, "NVFP4")
        ]
    );
}

#[test]
fn sizes_are_those_of_whole_blocks() {
    assert_eq!(NVFP4.bytes_of(96), None);
    assert_eq!(IQ3XXS.bytes_of(512), Some(196));
    assert_eq!(Q4K.bytes_of(512), Some(288));
    assert_eq!(Q4K.bytes_of(640), None);
    assert_eq!(Q5_0.bytes_of(640), Some(440));
    assert_eq!(F32.bytes_of(3), Some(12));
    assert_eq!(F32.bytes_of(usize::MAX), None);
}

/// Blocks worked out by hand from the table: a different value in every place that can be mixed up.
#[test]
fn blocks_decode_to_values_worked_out_by_hand() {
    let d = f16::from_f32(0.5).to_le_bytes();
    let m = f16::from_f32(-3.0).to_le_bytes();
    let check = |ty: GgmlType, raw: &[u8], wanted: &[(usize, f32)]| {
        let mut out = vec![0.0; ty.block_elems()];
        dequantize(ty, raw, &mut out);
        for (i, value) in wanted {
            assert_eq!(out[*i], *value, "{} element {i}", ty.name());
        }
    };
    let mut qs = [0u8; 16];
    qs[0] = 0x9f; // element 0 = 15, element 16 = 9
    qs[3] = 0x07; // element 3 = 7, element 19 = 0
    check(Q4_0, &[&d[..], &qs].concat(), &[(0, 3.5), (16, 0.5), (3, -0.5), (19, -4.0)]);
    check(Q4_1, &[&d[..], &m, &qs].concat(), &[(0, 4.5), (16, 1.5), (3, 0.5), (19, -3.0)]);
    let high = [0b0000_1000, 0, 0b0000_0001, 0]; // elements 3 and 16
    check(Q5_0, &[&d[..], &high, &qs].concat(), &[(0, -0.5), (16, 4.5), (3, 3.5), (19, -8.0)]);
    check(Q5_1, &[&d[..], &m, &high, &qs].concat(), &[(0, 4.5), (16, 9.5), (3, 8.5), (19, -3.0)]);
    let mut q8 = [0u8; 32];
    (q8[0], q8[31]) = (0x80, 127);
    check(Q8_0, &[&d[..], &q8].concat(), &[(0, -64.0), (31, 63.5), (1, 0.0)]);

    // Sub-block 1: scale 3, minimum 2. Sub-block 5: scale 0b10_0101 = 37, minimum 0b01_1001 = 25.
    let mut scales = [0u8; 12];
    (scales[1], scales[5], scales[9]) = (3 | 0b10 << 6, 2 | 0b01 << 6, 0x95);
    let mut qs = [0u8; 128];
    (qs[4], qs[64 + 31]) = (0xa0, 0x60); // element 32 + 4 = 10, element 5 * 32 + 31 = 6
    let values = [(36, 0.5 * 3.0 * 10.0 + 6.0), (191, 0.5 * 37.0 * 6.0 + 75.0), (0, 0.0)];
    check(Q4K, &[&d[..], &m, &scales, &qs].concat(), &values);
    let mut qh = [0u8; 32];
    (qh[4], qh[31]) = (1 << 1, 1 << 5);
    let values = [(36, 0.5 * 3.0 * 26.0 + 6.0), (191, 0.5 * 37.0 * 22.0 + 75.0), (35, 6.0)];
    check(Q5K, &[&d[..], &m, &scales, &qh, &qs].concat(), &values);

    // Element 128 + 2 * 32 + 20: half 1, quarter 2, high nibble of ql[64 + 20], bits 4, 5 of qh[32 + 20].
    let (mut ql, mut qh, mut scales) = ([0u8; 128], [0u8; 64], [1u8; 16]);
    (ql[84], qh[52], scales[13]) = (0xd0, 0b0010_0000, (-5i8).cast_unsigned());
    let values = [(212, 0.5 * -5.0 * (45.0 - 32.0)), (211, 0.5 * -5.0 * -32.0), (0, -16.0)];
    check(Q6K, &[&ql[..], &qh, &scales, &d].concat(), &values);
}

/// What `src-tauri/dev/vectors/make_blocks.py` wrote for a type: `n_out` rows of `n_in` random values, which its
/// reference decoded, and their products with a row of whole numbers that 8 bits hold.
struct Vectors {
    n_out: usize,
    n_in: usize,
    raw: Vec<u8>,
    values: Vec<f32>,
    x: Vec<f32>,
    products: Vec<f64>,
}

impl Vectors {
    fn read(ty: GgmlType) -> Vectors {
        let path = format!("{}/tests/blocks/{}.bin", env!("CARGO_MANIFEST_DIR"), ty.name());
        let file = std::fs::read(path).unwrap();
        let mut rest = file.as_slice();
        let mut take = |n: usize| rest.split_off(..n).unwrap();
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap()) as usize;
        let (n_out, n_in) = (number(take(4)), number(take(4)));
        let floats = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
        let raw = take(ty.bytes_of(n_out * n_in).unwrap()).to_vec();
        let (values, x) = (floats(take(4 * n_out * n_in)), floats(take(4 * n_in)));
        let products = take(8 * n_out).as_chunks().0.iter().map(|x| f64::from_le_bytes(*x)).collect();
        assert!(rest.is_empty());
        Vectors { n_out, n_in, raw, values, x, products }
    }
}

#[test]
fn every_block_decodes_to_the_values_of_the_reference() {
    for ty in GgmlType::ALL.into_iter().filter(|ty| !ty.is_float()) {
        let vectors = Vectors::read(ty);
        let mut values = vec![0.0; vectors.values.len()];
        dequantize(ty, &vectors.raw, &mut values);
        assert_eq!(values, vectors.values, "{}", ty.name());
    }
}

#[test]
fn products_are_those_of_the_reference_on_every_instruction_set() {
    let threads = Threads::new(1);
    for ty in GgmlType::ALL.into_iter().filter(|ty| !ty.is_float()) {
        let Vectors { n_out, n_in, raw, values, x, products } = Vectors::read(ty);
        let weights = Weights::pack(&threads, ty, &raw, n_out, n_in).unwrap();
        for isa in Isa::available() {
            let mut acts = Activations::default();
            acts.quantize(&threads, isa, Form::Int8, &x, n_in);
            let mut out = vec![0.0; n_out];
            matmul(&threads, isa, &weights, &acts, &mut out, Epilogue::Store);
            for (row, (got, wanted)) in out.iter().zip(&products).enumerate() {
                let of_row = values[row * n_in..][..n_in].iter().zip(&x);
                let size: f64 = of_row.map(|(w, x)| f64::from((w * x).abs())).sum();
                let error = (f64::from(*got) - wanted).abs();
                assert!(error <= size * 1e-6, "{} {} row {row}: {got} for {wanted}", isa.name(), ty.name());
            }
        }
    }
}

#[test]
fn the_grids_are_those_of_the_reference() {
    let sum = |rows: &[u16], n: usize, element: fn(u16, usize) -> f32| -> i64 {
        let elements = rows.iter().flat_map(|row| (0..n).map(move |i| element(*row, i) as i64));
        elements.zip(1..).map(|(element, place)| element * place).sum()
    };
    let sums = [
        ("IQ3XXS", sum(&packed_grids::IQ3XXS, 4, grids::iq3xxs)),
        ("IQ3S", sum(&packed_grids::IQ3S, 4, grids::iq3s)),
        ("IQ2XXS", sum(&packed_grids::IQ2XXS, 8, grids::iq2)),
        ("IQ2XS", sum(&packed_grids::IQ2XS, 8, grids::iq2)),
        ("IQ2S", sum(&packed_grids::IQ2S, 8, grids::iq2)),
        ("IQ1", sum(&packed_grids::IQ1, 8, grids::iq1)),
    ];
    let lines: Vec<String> = sums.iter().map(|(name, sum)| format!("{name} {sum}\n")).collect();
    assert_eq!(lines.concat(), include_str!("../../tests/blocks/grids.txt"));
}

/// The ends of what a scale can be vanish among others, so each is alone here.
#[test]
fn every_scale_of_four_bit_floats_counts_on_every_instruction_set() {
    let threads = Threads::new(1);
    // Whole numbers that 8 bits hold: nothing is rounded.
    let x: Vec<f32> =
        (0..64).map(|i| if i % 32 == 0 { 127.0 } else { (i * 37 % 200) as f32 - 100.0 }).collect();
    // Values of MXFP4 overflow with the last three.
    for (ty, n_scales, last) in [(MXFP4, 1, 252), (NVFP4, 4, 255)] {
        let (n_in, x) = (ty.block_elems(), &x[..ty.block_elems()]);
        for byte in 0..=last {
            let mut raw: Vec<u8> = (0..ty.bytes_of(n_in).unwrap()).map(|i| (i * 29 + 11) as u8).collect();
            raw[..n_scales].fill(byte);
            let mut values = vec![0.0; n_in];
            dequantize(ty, &raw, &mut values);
            let product: f64 = values.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            let weights = Weights::pack(&threads, ty, &raw, 1, n_in).unwrap();
            for isa in Isa::available() {
                let mut acts = Activations::default();
                acts.quantize(&threads, isa, Form::Int8, x, n_in);
                let mut out = [0.0];
                matmul(&threads, isa, &weights, &acts, &mut out, Epilogue::Store);
                assert_eq!(out[0], product as f32, "{} {} {byte}", isa.name(), ty.name());
            }
        }
    }
}
