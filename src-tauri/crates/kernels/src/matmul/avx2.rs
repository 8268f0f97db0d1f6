//! The kernel in AVX2: half a line, the words of 8 rows, is one register. There is no dot product instruction:
//! pairs of products are added in 16 bits, as many of them as surely fit, then widened.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::format::{Format, readable, sub_blocks, with_format};
use super::out::{Epilogue, MAX_ROWS, Out};
use crate::activations::{Activations, Meta};
use crate::ggml::GgmlType;
use crate::weights::{E4M3_HALF, EXPANDED_INTEGERS, EXPANDED_SIGNS, Expanded, Scales, TILE_ROWS};

/// Registers that hold a value for each row of a tile.
const COLS: usize = 4;

/// The results of a row.
type Sums = [__m256; COLS];

/// Computes one tile of a quantised type for `rows`, at most [`MAX_ROWS`].
///
/// # Safety
/// The CPU has AVX2, FMA and F16C. The tile is one of `acts.n_in()` columns of type `ty`, the rows exist and are
/// in the form for it. The outputs exist, and no other worker uses them.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile(ty: GgmlType, tile: &[u8], acts: &Activations, rows: Range<usize>, out: Out) {
    // SAFETY: the caller's promises, passed on.
    unsafe {
        with_format!(ty, F => match rows.len() {
            1 => one::<F>(tile.as_ptr(), acts, rows.start, out),
            _ => many::<F>(tile.as_ptr(), acts, rows, out),
        }, _ => unreachable!("float types have their own kernel"));
    }
}

/// One row, its results in registers.
///
/// # Safety
/// The promises of [`tile`], for one row.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn one<F: Format>(tile: *const u8, acts: &Activations, row: usize, out: Out) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [_mm256_setzero_ps(); COLS];
        let mut room = Expanded::new();
        for (block_idx, head, sub) in sub_blocks::<F>(tile, acts.n_in()) {
            let sub = readable::<F>(block_idx, head, sub, &mut room);
            let at = block_idx * acts.stride() + row;
            for (col, sum) in sums.iter_mut().enumerate() {
                let block = load::<F>(head, sub, col);
                for plane in acts.planes() {
                    let (q, meta) = plane.at(at);
                    *sum = accumulate::<F>(*sum, &block, q, &*meta);
                }
            }
        }
        put(out, row, sums);
    }
}

/// Any number of rows, their results in the first-level cache.
///
/// # Safety
/// The promises of [`tile`].
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn many<F: Format>(tile: *const u8, acts: &Activations, rows: Range<usize>, out: Out) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut memory = [MaybeUninit::<Sums>::uninit(); MAX_ROWS];
        for sums in &mut memory[..rows.len()] {
            sums.write([_mm256_setzero_ps(); COLS]);
        }
        let sums: &mut [Sums] = std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), rows.len());
        let mut room = Expanded::new();
        for (block_idx, head, sub) in sub_blocks::<F>(tile, acts.n_in()) {
            let sub = readable::<F>(block_idx, head, sub, &mut room);
            let at = block_idx * acts.stride() + rows.start;
            for col in 0..COLS {
                let block = load::<F>(head, sub, col);
                for plane in acts.planes() {
                    let (q, meta) = plane.at(at);
                    for (r, sums) in sums.iter_mut().enumerate() {
                        sums[col] = accumulate::<F>(sums[col], &block, q.add(32 * r), &*meta.add(r));
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            put(out, rows.start + r, *sums);
        }
    }
}

/// 8 rows of a sub-block, unpacked into registers.
struct Block {
    w: [__m256i; 8],
    /// The scales, of the second 16 columns apart for split types only.
    scale: [__m256; 2],
    min: [__m256; 2],
}

/// Rows `8 col..` of a sub-block.
///
/// # Safety
/// The CPU has the instructions that the attribute names. `head` and `sub` are those of a sub-block of `F`,
/// `col` is below [`COLS`].
#[inline(always)]
unsafe fn load<F: Format>(head: *const u8, sub: *const u8, col: usize) -> Block {
    // SAFETY: reads inside the sub-block and its head, at the places that the layout defines.
    unsafe {
        let zero = _mm256_setzero_ps();
        let no_min = [zero; 2];
        let (scale, min) = match F::CODING.scales {
            Scales::F16 => ([f16s(sub, col), zero], no_min),
            Scales::F16Min => ([f16s(sub, col), zero], [f16s(sub.add(64), col), zero]),
            Scales::U8Min => {
                let min = _mm256_mul_ps(f16s(head.add(64), col), _mm256_cvtepi32_ps(u8s(sub.add(32), col)));
                let scale = _mm256_mul_ps(f16s(head, col), _mm256_cvtepi32_ps(u8s(sub, col)));
                ([scale, zero], [minus(min), zero])
            }
            Scales::I8 => ([_mm256_mul_ps(f16s(head, col), i8s(sub, col)), zero], no_min),
            Scales::I8Halves => {
                let d = f16s(head, col);
                let (low, high) = (i8s(sub, col), i8s(sub.add(32), col));
                ([_mm256_mul_ps(d, low), _mm256_mul_ps(d, high)], no_min)
            }
            Scales::U4MinHalves => {
                let (d, dmin) = (f16s(head, col), f16s(head.add(64), col));
                let ((sc0, mn0), (sc1, mn1)) = (u4s(sub, col), u4s(sub.add(32), col));
                (
                    [_mm256_mul_ps(d, sc0), _mm256_mul_ps(d, sc1)],
                    [minus(_mm256_mul_ps(dmin, mn0)), minus(_mm256_mul_ps(dmin, mn1))],
                )
            }
            Scales::Head => ([f16s(head, col), zero], no_min),
            Scales::E8M0 => ([e8m0_half(u8s(sub, col)), zero], no_min),
            Scales::E4M3Halves => ([e4m3_half(u8s(sub, col)), e4m3_half(u8s(sub.add(32), col))], no_min),
            Scales::Blocks => {
                let d = _mm256_mul_ps(f16s(sub, col), _mm256_set1_ps(F::UNIT));
                let low = _mm256_mul_ps(d, _mm256_cvtepi32_ps(u8s(sub.add(64), col)));
                ([low, _mm256_mul_ps(d, _mm256_cvtepi32_ps(u8s(sub.add(96), col)))], no_min)
            }
        };
        let w = if F::IN_BLOCKS { expanded::<F>(sub, col) } else { words::<F>(sub.add(F::LINES + 32 * col)) };
        Block { w, scale, min }
    }
}

/// The words at the same half of the same kind of lines; `lines` points to the first half.
///
/// # Safety
/// The CPU has the instructions that the attribute names. `lines` are a sub-block's of `F`.
#[inline(always)]
unsafe fn words<F: Format>(lines: *const u8) -> [__m256i; 8] {
    // SAFETY: reads the lines of one sub-block.
    unsafe {
        let mut w = [_mm256_setzero_si256(); 8];
        match F::CODING.low_bits {
            8 => {
                let sign = _mm256_set1_epi8(-128);
                for (j, w) in w.iter_mut().enumerate() {
                    *w = _mm256_xor_si256(half_line(lines, 2 * j), sign);
                }
            }
            4 => {
                let low = _mm256_set1_epi8(15);
                for j in 0..4 {
                    let bytes = half_line(lines, F::HIGH_LINES + 2 * j);
                    w[j] = looked_up::<F>(_mm256_and_si256(bytes, low));
                    w[j + 4] = looked_up::<F>(_mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low));
                }
            }
            _ => {
                let low = _mm256_set1_epi8(3);
                for i in 0..2 {
                    let bytes = half_line(lines, F::HIGH_LINES + 2 * i);
                    for j in 0..4 {
                        let shifted = _mm256_srlv_epi32(bytes, _mm256_set1_epi32(2 * j as i32));
                        w[4 * i + j] = _mm256_and_si256(shifted, low);
                    }
                }
            }
        }
        // Bits that go on top: of each line as many as there are words to it.
        let (n_bits, n_words) = F::HIGH_BITS;
        let mask = _mm256_set1_epi8((((1 << n_bits) - 1) << (F::CODING.low_bits % 8)) as i8);
        for i in 0..F::HIGH_LINES / 2 {
            let bits = half_line(lines, 2 * i);
            for j in 0..n_words {
                let up = F::CODING.low_bits as i32 - n_bits as i32 * j as i32;
                let shifted = if up >= 0 {
                    _mm256_sllv_epi32(bits, _mm256_set1_epi32(up))
                } else {
                    _mm256_srlv_epi32(bits, _mm256_set1_epi32(-up))
                };
                let w = &mut w[4 * i + j];
                *w = _mm256_or_si256(*w, _mm256_and_si256(shifted, mask));
            }
        }
        w
    }
}

/// The words of rows `8 col..` of an expanded sub-block.
///
/// # Safety
/// The CPU has the instructions that the attribute names. `sub` is an [`Expanded`], `col` is below [`COLS`].
#[inline(always)]
unsafe fn expanded<F: Format>(sub: *const u8, col: usize) -> [__m256i; 8] {
    // SAFETY: reads what the caller promises.
    unsafe {
        let integers = sub.add(EXPANDED_INTEGERS + 64 * col);
        let signs = _mm256_load_si256(sub.add(EXPANDED_SIGNS + 32 * col).cast());
        let mut w = [_mm256_setzero_si256(); 8];
        for i in 0..4 {
            // The eights of four rows and of the next four; the words come out as 0 1 4 5, 2 3 6 7.
            let a = _mm256_castsi256_ps(_mm256_load_si256(integers.add(256 * i).cast()));
            let b = _mm256_castsi256_ps(_mm256_load_si256(integers.add(256 * i + 32).cast()));
            let pair = [
                _mm256_castps_si256(_mm256_shuffle_ps::<0x88>(a, b)),
                _mm256_castps_si256(_mm256_shuffle_ps::<0xdd>(a, b)),
            ];
            // The signs of elements 8i.. of a row in each byte of its word.
            let byte = _mm256_add_epi32(
                _mm256_set1_epi32(0x0101_0101 * i as i32),
                _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c)),
            );
            let signs = _mm256_shuffle_epi8(signs, byte);
            for (j, word) in pair.into_iter().enumerate() {
                let word = _mm256_permute4x64_epi64::<0xd8>(word);
                w[2 * i + j] = if F::SIGNS_BESIDE {
                    let bits = _mm256_set1_epi32([0x0804_0201, 0x8040_2010u32.cast_signed()][j]);
                    let minus = _mm256_cmpeq_epi8(_mm256_and_si256(signs, bits), bits);
                    // The complement and one.
                    _mm256_sub_epi8(_mm256_xor_si256(word, minus), minus)
                } else {
                    _mm256_xor_si256(word, _mm256_set1_epi8(-128))
                };
            }
        }
        w
    }
}

/// What nibbles stand for.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn looked_up<F: Format>(nibbles: __m256i) -> __m256i {
    let Some((plain, biased)) = F::BOOKS else { return nibbles };
    // SAFETY: a book is 16 bytes.
    unsafe {
        let book: *const u8 = if F::SIGNED { plain.as_ptr().cast() } else { biased.as_ptr() };
        let book = _mm256_broadcastsi128_si256(_mm_loadu_si128(book.cast()));
        _mm256_shuffle_epi8(book, nibbles)
    }
}

/// # Safety
/// The CPU has the instructions that the attribute names. A half of a line is at `lines + 64 i`.
#[inline(always)]
unsafe fn half_line(lines: *const u8, i: usize) -> __m256i {
    // SAFETY: the caller's promise that there is such a line; tiles are aligned to lines.
    unsafe { _mm256_load_si256(lines.add(64 * i).cast()) }
}

/// How many products of pairs fit in 16 bits together: activations are at most 127, weights as below.
const fn n_pairs<F: Format>() -> usize {
    let largest = match F::TY {
        GgmlType::IQ4NL | GgmlType::IQ4XS => 127,
        GgmlType::MXFP4 | GgmlType::NVFP4 => 16 + 12,
        GgmlType::IQ3XXS => 62,
        GgmlType::IQ3S => 15,
        GgmlType::IQ2XXS | GgmlType::IQ2XS | GgmlType::IQ2S => 43,
        GgmlType::IQ1S | GgmlType::IQ1M => 9,
        GgmlType::TQ1_0 => 1,
        GgmlType::Q8_0 => 128,
        _ => (1 << (F::CODING.low_bits + F::CODING.high_bits)) - 1,
    };
    i16::MAX as usize / (2 * 127 * largest)
}

/// Adds the products of one row with 8 rows of a sub-block to the row's results.
///
/// # Safety
/// The CPU has the instructions that the attribute names. 32 bytes are at `x`.
#[inline(always)]
unsafe fn accumulate<F: Format>(mut sum: __m256, block: &Block, x: *const i8, meta: &Meta) -> __m256 {
    // SAFETY: `x` points to 32 bytes.
    unsafe {
        let x_scale = _mm256_set1_ps(meta.scale);
        if F::SPLIT {
            let (low, high) = (dot::<F>(block, x, 0, 4), dot::<F>(block, x, 4, 8));
            let neg_sums = [meta.neg_sum_low, meta.neg_sum - meta.neg_sum_low];
            let low = _mm256_cvtepi32_ps(unbiased::<F>(low, neg_sums[0]));
            let high = _mm256_cvtepi32_ps(unbiased::<F>(high, neg_sums[1]));
            let mut dot = _mm256_fmadd_ps(high, block.scale[1], _mm256_mul_ps(low, block.scale[0]));
            if F::HAS_MIN {
                dot = _mm256_fmadd_ps(block.min[0], _mm256_set1_ps(-neg_sums[0] as f32), dot);
                dot = _mm256_fmadd_ps(block.min[1], _mm256_set1_ps(-neg_sums[1] as f32), dot);
            }
            return _mm256_fmadd_ps(dot, x_scale, sum);
        }
        let dot = unbiased::<F>(dot::<F>(block, x, 0, 8), meta.neg_sum);
        if F::HAS_MIN {
            sum = _mm256_fmadd_ps(block.min[0], _mm256_set1_ps(meta.sum), sum);
        }
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(block.scale[0], x_scale), sum)
    }
}

/// Integer products less what the bias of the weights adds to them.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn unbiased<F: Format>(dot: __m256i, neg_sum: i32) -> __m256i {
    match F::BIAS_SHIFT {
        // Signed words are that here, so nothing is too large.
        // SAFETY: no memory is touched.
        Some(shift) if !F::SIGNED => unsafe { _mm256_add_epi32(dot, _mm256_set1_epi32(neg_sum << shift)) },
        _ => dot,
    }
}

/// The integer products of words `from..to`.
///
/// # Safety
/// The CPU has the instructions that the attribute names. 32 bytes are at `x`; `from..to` are words of the
/// block.
#[inline(always)]
unsafe fn dot<F: Format>(block: &Block, x: *const i8, from: usize, to: usize) -> __m256i {
    // SAFETY: `x` points to 32 bytes.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let mut sum = _mm256_setzero_si256();
        for first in (from..to).step_by(n_pairs::<F>()) {
            let mut pairs = _mm256_setzero_si256();
            for j in first..to.min(first + n_pairs::<F>()) {
                let x = _mm256_set1_epi32(x.cast::<i32>().add(j).read_unaligned());
                let w = block.w[j];
                let products = if F::SIGNED {
                    // |w| · (sign(w) x): one operand has to be unsigned.
                    _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
                } else {
                    _mm256_maddubs_epi16(w, x)
                };
                pairs = _mm256_add_epi16(pairs, products);
            }
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        }
        sum
    }
}

/// Writes a row's results.
///
/// # Safety
/// The promises of [`tile`], for one row.
#[inline(always)]
unsafe fn put(out: Out, row: usize, sums: Sums) {
    // SAFETY: the row's outputs exist.
    unsafe {
        if out.n_cols < TILE_ROWS {
            let mut results = [0.0; TILE_ROWS];
            for (col, sum) in sums.into_iter().enumerate() {
                _mm256_storeu_ps(results.as_mut_ptr().add(8 * col), sum);
            }
            out.put(row, &results);
            return;
        }
        for (col, sum) in sums.into_iter().enumerate() {
            let at = out.start.add(row * out.row_stride + 8 * col);
            let sum = _mm256_mul_ps(sum, _mm256_set1_ps(out.scale));
            let sum = match out.epilogue {
                Epilogue::Store => sum,
                Epilogue::Add => _mm256_add_ps(_mm256_loadu_ps(at), sum),
            };
            _mm256_storeu_ps(at, sum);
        }
    }
}

/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn f16s(at: *const u8, col: usize) -> __m256 {
    // SAFETY: 64 bytes of a tile.
    unsafe { _mm256_cvtph_ps(_mm_load_si128(at.add(16 * col).cast())) }
}

/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn u8s(at: *const u8, col: usize) -> __m256i {
    // SAFETY: 32 bytes of a tile.
    unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.add(8 * col).cast())) }
}

/// The low and the high nibbles of bytes.
///
/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn u4s(at: *const u8, col: usize) -> (__m256, __m256) {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = u8s(at, col);
        let low = _mm256_and_si256(bytes, _mm256_set1_epi32(15));
        (_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes)))
    }
}

/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn i8s(at: *const u8, col: usize) -> __m256 {
    // SAFETY: 32 bytes of a tile.
    unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.add(8 * col).cast()))) }
}

/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn minus(values: __m256) -> __m256 {
    // SAFETY: no memory is touched.
    unsafe { _mm256_xor_ps(values, _mm256_set1_ps(-0.0)) }
}

/// Halves of the powers of two whose exponents `e` are.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn e8m0_half(e: __m256i) -> __m256 {
    // SAFETY: no memory is touched.
    unsafe {
        // As bits of an f32, whose exponent is one less. The two smallest are below the normal range, where a bit of the
        // mantissa stands for them. Of both ways, the one that is right gives more.
        let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
        let small = _mm256_min_epi32(e, _mm256_set1_epi32(2));
        let small = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), small);
        _mm256_castsi256_ps(_mm256_max_epi32(normal, small))
    }
}

/// Halves of floats of four bits of exponent and three of mantissa.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn e4m3_half(x: __m256i) -> __m256 {
    // SAFETY: no memory is touched.
    unsafe { _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32::<20>(x)), _mm256_set1_ps(E4M3_HALF)) }
}
