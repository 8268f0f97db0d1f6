//! The tensor types of GGUF files that the kernels multiply with, and their plain dequantisation: the oracle of
//! every faster path.
//!
//! A block holds consecutive elements of one row. All numbers are little-endian; `d`, `m` are f16.
//!
//! | type | elements | bytes | block | value |
//! |---|---|---|---|---|
//! | Q4_0 | 32 | 18 | d, 16 × nibbles | d (q − 8) |
//! | Q4_1 | 32 | 20 | d, m, 16 × nibbles | d q + m |
//! | Q5_0 | 32 | 22 | d, 4 × high bits, 16 × nibbles | d (q − 16) |
//! | Q5_1 | 32 | 24 | d, m, 4 × high bits, 16 × nibbles | d q + m |
//! | Q8_0 | 32 | 34 | d, 32 × i8 | d q |
//! | Q4_K | 256 | 144 | d, dmin, 12 × 6-bit (sc, mn), 128 × nibbles | (d sc) q − (dmin mn) |
//! | Q5_K | 256 | 176 | d, dmin, 12 × 6-bit, 32 × high bits, 128 × nibbles | (d sc) q − (dmin mn) |
//! | Q6_K | 256 | 210 | 128 × nibbles, 64 × 2 high bits, 16 × i8 sc, d | (d sc) (q − 32) |

use half::{bf16, f16};

/// A tensor type as GGUF numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the table above says what they are")]
pub enum GgmlType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

use GgmlType::{BF16, F16, F32, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

impl GgmlType {
    /// Every type, in the order of the table above.
    pub const ALL: [GgmlType; 11] = [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K];

    /// The type that GGUF files call `id`; `None` for one that the kernels do not know.
    pub fn from_gguf_id(id: u32) -> Option<GgmlType> {
        Some(match id {
            0 => F32,
            1 => F16,
            2 => Q4_0,
            3 => Q4_1,
            6 => Q5_0,
            7 => Q5_1,
            8 => Q8_0,
            12 => Q4K,
            13 => Q5K,
            14 => Q6K,
            30 => BF16,
            _ => return None,
        })
    }

    /// How many elements of a row one block holds.
    pub const fn block_elems(self) -> usize {
        match self {
            F32 | F16 | BF16 => 1,
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 => 32,
            Q4K | Q5K | Q6K => 256,
        }
    }

    /// How many bytes one block takes in the file.
    pub const fn block_bytes(self) -> usize {
        match self {
            F32 => 4,
            F16 | BF16 => 2,
            Q4_0 => 18,
            Q4_1 => 20,
            Q5_0 => 22,
            Q5_1 => 24,
            Q8_0 => 34,
            Q4K => 144,
            Q5K => 176,
            Q6K => 210,
        }
    }

    /// How many bytes `n` consecutive elements take; `None` when they do not fill whole blocks or the number
    /// does not fit.
    pub fn bytes_of(self, n: usize) -> Option<usize> {
        (n.is_multiple_of(self.block_elems()))
            .then(|| (n / self.block_elems()).checked_mul(self.block_bytes()))?
    }

    /// The name that the field uses.
    pub const fn name(self) -> &'static str {
        match self {
            F32 => "F32",
            F16 => "F16",
            BF16 => "BF16",
            Q4_0 => "Q4_0",
            Q4_1 => "Q4_1",
            Q5_0 => "Q5_0",
            Q5_1 => "Q5_1",
            Q8_0 => "Q8_0",
            Q4K => "Q4_K",
            Q5K => "Q5_K",
            Q6K => "Q6_K",
        }
    }
}

/// Writes the values of `raw` to `out`, plainly and exactly as the format defines them.
///
/// # Panics
/// When `raw` is not as long as `out.len()` elements of type `ty`.
pub fn dequantize(ty: GgmlType, raw: &[u8], out: &mut [f32]) {
    assert_eq!(Some(raw.len()), ty.bytes_of(out.len()), "bytes of {} elements of {}", out.len(), ty.name());
    let blocks = raw.chunks_exact(ty.block_bytes()).zip(out.chunks_exact_mut(ty.block_elems()));
    blocks.for_each(|(block, out)| match ty {
        F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
        F16 => out[0] = half(block, 0),
        BF16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
        Q4_0 => {
            let d = half(block, 0);
            nibbles(&block[2..], |i, q| out[i] = d * (i32::from(q) - 8) as f32);
        }
        Q4_1 => {
            let (d, m) = (half(block, 0), half(block, 2));
            nibbles(&block[4..], |i, q| out[i] = d * f32::from(q) + m);
        }
        Q5_0 => {
            let d = half(block, 0);
            let high = &block[2..6];
            nibbles(&block[6..], |i, q| out[i] = d * (i32::from(q | fifth_bit(high, i)) - 16) as f32);
        }
        Q5_1 => {
            let (d, m) = (half(block, 0), half(block, 2));
            let high = &block[4..8];
            nibbles(&block[8..], |i, q| out[i] = d * f32::from(q | fifth_bit(high, i)) + m);
        }
        Q8_0 => {
            let d = half(block, 0);
            out.iter_mut().zip(&block[2..]).for_each(|(y, q)| *y = d * f32::from(q.cast_signed()));
        }
        Q4K | Q5K => dequantize_q45k(ty, block, out),
        Q6K => dequantize_q6k(block, out),
    });
}

/// Q4_K and Q5_K. 32 bytes of `qs` hold two sub-blocks of 32: the low nibbles one, the high nibbles the next.
/// Bit `s` of the i-th byte of `qh` is the fifth bit of element i of sub-block s.
fn dequantize_q45k(ty: GgmlType, block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let scales = &block[4..16];
    let (qh, qs) = if ty == Q5K { (Some(&block[16..48]), &block[48..]) } else { (None, &block[16..]) };
    for (s, out) in out.chunks_exact_mut(32).enumerate() {
        let (sc, mn) = scale_and_min_k(scales, s);
        let (d, m) = (d * f32::from(sc), dmin * f32::from(mn));
        for (i, y) in out.iter_mut().enumerate() {
            let byte = qs[s / 2 * 32 + i];
            let low = if s % 2 == 0 { byte & 15 } else { byte >> 4 };
            let q = low | qh.map_or(0, |qh| (qh[i] >> s & 1) << 4);
            *y = d * f32::from(q) - m;
        }
    }
}

/// Q6_K. Each half of 128 elements has 64 bytes of `ql` and 32 of `qh`; quarter t of it (32 elements) takes
/// its nibbles from ql[32 (t mod 2)..], low for t < 2, else high, and its upper two bits from bits 2t of qh.
fn dequantize_q6k(block: &[u8], out: &mut [f32]) {
    let (ql, qh, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (i, y) in out.iter_mut().enumerate() {
        let (half, t, l) = (i / 128, i % 128 / 32, i % 32);
        let byte = ql[half * 64 + t % 2 * 32 + l];
        let low = if t < 2 { byte & 15 } else { byte >> 4 };
        let q = low | (qh[half * 32 + l] >> (2 * t) & 3) << 4;
        let d = d * f32::from(scales[i / 16].cast_signed());
        *y = d * (i32::from(q) - 32) as f32;
    }
}

/// The 6-bit scale and minimum of sub-block `s` of a Q4_K or Q5_K block: the first four of each stand in the
/// low six bits of bytes 0..4 and 4..8; of the others the low four bits in bytes 8..12, the upper two on top
/// of the first four's bytes.
pub(crate) fn scale_and_min_k(scales: &[u8], s: usize) -> (u8, u8) {
    if s < 4 {
        (scales[s] & 63, scales[s + 4] & 63)
    } else {
        (scales[s + 4] & 15 | scales[s - 4] >> 6 << 4, scales[s + 4] >> 4 | scales[s] >> 6 << 4)
    }
}

/// The f16 at byte `at`.
pub(crate) fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Element i < 16 is the low nibble of byte i, element 16 + i the high one.
fn nibbles(bytes: &[u8], mut put: impl FnMut(usize, u8)) {
    bytes.iter().enumerate().for_each(|(i, byte)| {
        put(i, byte & 15);
        put(16 + i, byte >> 4);
    });
}

fn fifth_bit(high: &[u8], i: usize) -> u8 {
    (high[i / 8] >> (i % 8) & 1) << 4
}

#[cfg(test)]
mod tests {
    use super::*;

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
                (12, "Q4_K"),
                (13, "Q5_K"),
                (14, "Q6_K"),
                (30, "BF16")
            ]
        );
    }

    #[test]
    fn sizes_are_those_of_whole_blocks() {
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
}
