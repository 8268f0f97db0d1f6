//! The kernel in AVX-512 with VNNI: a line of 16 rows' words is one register, and one instruction multiplies it
//! with four activations.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::format::{Format, readable, sub_blocks, with_format};
use super::out::{Epilogue, MAX_ROWS, Out};
use crate::activations::{Activations, Meta};
use crate::ggml::GgmlType;
use crate::weights::{E4M3_HALF, EXPANDED_INTEGERS, EXPANDED_SIGNS, Expanded, Scales};

/// With up to so many rows the accumulators stay in registers; more of them would spill.
const FEW_ROWS: usize = 2;
/// With up to so many rows a sub-block takes less time than its bytes need to arrive, and the hardware's own prefetch
/// loses sight of the stream.
const PREFETCH_ROWS: usize = 32;
/// How far ahead, in bytes: to the second-level cache first, because the first level can wait for few lines at a time.
const PREFETCH_FAR: usize = 4096;
/// From there to the first-level cache.
const PREFETCH_NEAR: usize = 2048;

/// The results of a row for the tile's outputs 0..16 and 16..32.
type Pair = [__m512; 2];

/// Computes one tile of a quantised type for `rows`, at most [`MAX_ROWS`].
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL and VNNI. The tile is one of `acts.n_in()` columns of type `ty`, the rows
/// exist and are in the form for it. The outputs exist, and no other worker uses them.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn tile(ty: GgmlType, tile: &[u8], acts: &Activations, rows: Range<usize>, out: Out) {
    // SAFETY: the caller's promises, passed on.
    unsafe {
        with_format!(ty, F => match rows.len() {
            1 => few::<F, 1>(tile.as_ptr(), acts, rows.start, out),
            FEW_ROWS => few::<F, FEW_ROWS>(tile.as_ptr(), acts, rows.start, out),
            n if n <= PREFETCH_ROWS => many::<F, true>(tile.as_ptr(), acts, rows, out),
            _ => many::<F, false>(tile.as_ptr(), acts, rows, out),
        }, _ => unreachable!("float types have their own kernel"));
    }
}

/// A sub-block, unpacked into registers.
struct Block {
    /// Words 0..8 of rows 0..16 and 16..32.
    w: [[__m512i; 2]; 8],
    /// The scales, of the second 16 columns apart for split types only.
    scale: [Pair; 2],
    min: [Pair; 2],
}

/// # Safety
/// The CPU has the instructions that the attribute names. `head` and `sub` are those of a sub-block of `F`.
#[inline(always)]
unsafe fn load<F: Format>(head: *const u8, sub: *const u8) -> Block {
    // SAFETY: reads inside the sub-block and its head, at the places that the layout defines.
    unsafe {
        let zero = [_mm512_setzero_ps(); 2];
        let no_min = [zero; 2];
        let (scale, min) = match F::CODING.scales {
            Scales::F16 => ([f16s(sub), zero], no_min),
            Scales::F16Min => ([f16s(sub), zero], [f16s(sub.add(64)), zero]),
            Scales::U8Min => {
                let min = minus(times(f16s(head.add(64)), floats(u8s(sub.add(32)))));
                ([times(f16s(head), floats(u8s(sub))), zero], [min, zero])
            }
            Scales::I8 => ([times(f16s(head), i8s(sub)), zero], no_min),
            Scales::I8Halves => {
                let d = f16s(head);
                ([times(d, i8s(sub)), times(d, i8s(sub.add(32)))], no_min)
            }
            Scales::U4MinHalves => {
                let (d, dmin) = (f16s(head), f16s(head.add(64)));
                let ((sc0, mn0), (sc1, mn1)) = (u4s(sub), u4s(sub.add(32)));
                ([times(d, sc0), times(d, sc1)], [minus(times(dmin, mn0)), minus(times(dmin, mn1))])
            }
            Scales::Head => ([f16s(head), zero], no_min),
            Scales::E8M0 => ([e8m0_halves(u8s(sub)), zero], no_min),
            Scales::E4M3Halves => ([e4m3_halves(u8s(sub)), e4m3_halves(u8s(sub.add(32)))], no_min),
            Scales::Blocks => {
                let unit = _mm512_set1_ps(F::UNIT);
                let d = times(f16s(sub), [unit; 2]);
                ([times(d, floats(u8s(sub.add(64)))), times(d, floats(u8s(sub.add(96))))], no_min)
            }
        };
        let w = if F::IN_BLOCKS { expanded::<F>(sub) } else { words::<F>(sub.add(F::LINES)) };
        Block { w, scale, min }
    }
}

/// # Safety
/// The CPU has the instructions that the attribute names. Line `i` is among `lines`.
#[inline(always)]
unsafe fn line(lines: *const u8, i: usize) -> __m512i {
    // SAFETY: the caller's promise that there is such a line. Those of some types start amid a cache line.
    unsafe { _mm512_loadu_si512(lines.add(64 * i).cast()) }
}

/// # Safety
/// The CPU has the instructions that the attribute names. `lines` are a sub-block's of `F`.
#[inline(always)]
unsafe fn words<F: Format>(lines: *const u8) -> [[__m512i; 2]; 8] {
    // SAFETY: reads the lines of one sub-block.
    unsafe {
        let mut w = [[_mm512_setzero_si512(); 2]; 8];
        match F::CODING.low_bits {
            8 => {
                for (i, w) in w.as_flattened_mut().iter_mut().enumerate() {
                    *w = line(lines, i);
                }
            }
            4 => {
                let low = _mm512_set1_epi8(15);
                for i in 0..8 {
                    let bytes = line(lines, F::HIGH_LINES + i);
                    w[i / 2][i % 2] = looked_up::<F>(_mm512_and_si512(bytes, low));
                    w[i / 2 + 4][i % 2] =
                        looked_up::<F>(_mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low));
                }
            }
            _ => {
                let low = _mm512_set1_epi8(3);
                for i in 0..4 {
                    let bytes = line(lines, F::HIGH_LINES + i);
                    for j in 0..4 {
                        let shifted = _mm512_srlv_epi16(bytes, _mm512_set1_epi16(2 * j as i16));
                        w[i / 2 * 4 + j][i % 2] = _mm512_and_si512(shifted, low);
                    }
                }
            }
        }
        // Bits that go on top: of each line as many as there are words to it.
        let (n_bits, n_words) = F::HIGH_BITS;
        let mask = _mm512_set1_epi8((((1 << n_bits) - 1) << (F::CODING.low_bits % 8)) as i8);
        for i in 0..F::HIGH_LINES {
            let bits = line(lines, i);
            for j in 0..n_words {
                let up = F::CODING.low_bits as i16 - n_bits as i16 * j as i16;
                let shifted = if up >= 0 {
                    _mm512_sllv_epi16(bits, _mm512_set1_epi16(up))
                } else {
                    _mm512_srlv_epi16(bits, _mm512_set1_epi16(-up))
                };
                let w = &mut w[i / 2 * 4 + j][i % 2];
                // w | (shifted & mask)
                *w = _mm512_ternarylogic_epi32::<0xf8>(*w, shifted, mask);
            }
        }
        w
    }
}

/// The words of an expanded sub-block.
///
/// # Safety
/// The CPU has the instructions that the attribute names. `sub` is an [`Expanded`].
#[inline(always)]
unsafe fn expanded<F: Format>(sub: *const u8) -> [[__m512i; 2]; 8] {
    // SAFETY: reads what the caller promises.
    unsafe {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        let flipped = _mm512_set1_epi8(-128);
        let integers = sub.add(EXPANDED_INTEGERS);
        let mut w = [[_mm512_setzero_si512(); 2]; 8];
        for part in 0..8 {
            // The eights of rows 16v..16v + 8 and of the next 8.
            let (i, v) = (part / 2, part % 2);
            let (a, b) = (line(integers, 4 * i + 2 * v), line(integers, 4 * i + 2 * v + 1));
            let pair = [_mm512_permutex2var_epi32(a, even, b), _mm512_permutex2var_epi32(a, odd, b)];
            // The signs of elements 8i.. of a row in each byte of its word.
            let byte = _mm512_add_epi32(
                _mm512_set1_epi32(0x0101_0101 * i as i32),
                _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c)),
            );
            let signs = _mm512_shuffle_epi8(line(sub.add(EXPANDED_SIGNS), v), byte);
            for (j, word) in pair.into_iter().enumerate() {
                w[2 * i + j][v] = if F::SIGNS_BESIDE {
                    let bits = _mm512_set1_epi32([0x0804_0201, 0x8040_2010u32.cast_signed()][j]);
                    let is_negative = _mm512_test_epi8_mask(signs, bits);
                    let plus = _mm512_add_epi8(flipped, word);
                    _mm512_mask_sub_epi8(plus, is_negative, flipped, word)
                } else {
                    word
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
unsafe fn looked_up<F: Format>(nibbles: __m512i) -> __m512i {
    let Some((_, book)) = F::BOOKS else { return nibbles };
    // SAFETY: a book is 16 bytes.
    unsafe {
        let book = _mm512_broadcast_i32x4(_mm_loadu_si128(book.as_ptr().cast()));
        _mm512_shuffle_epi8(book, nibbles)
    }
}

/// Adds the products of one row with a sub-block to the row's results.
///
/// # Safety
/// The CPU has the instructions that the attribute names. 32 bytes are at `x`.
#[inline(always)]
unsafe fn accumulate<F: Format>(mut sums: Pair, block: &Block, x: *const i8, meta: &Meta) -> Pair {
    // SAFETY: `x` points to 32 bytes.
    unsafe {
        let (mut low, mut high) = start::<F>(meta);
        for j in 0..8 {
            let x = _mm512_set1_epi32(x.cast::<i32>().add(j).read_unaligned());
            let to = if F::SPLIT && j >= 4 { &mut high } else { &mut low };
            for (to, w) in to.iter_mut().zip(block.w[j]) {
                *to = _mm512_dpbusd_epi32(*to, w, x);
            }
        }
        let x_scale = _mm512_set1_ps(meta.scale);
        for v in 0..2 {
            let dot = _mm512_cvtepi32_ps(low[v]);
            if F::SPLIT {
                let high = _mm512_cvtepi32_ps(high[v]);
                let mut dot = _mm512_fmadd_ps(high, block.scale[1][v], _mm512_mul_ps(dot, block.scale[0][v]));
                if F::HAS_MIN {
                    let sum_low = -meta.neg_sum_low;
                    let sum_high = -(meta.neg_sum - meta.neg_sum_low);
                    dot = _mm512_fmadd_ps(block.min[0][v], _mm512_set1_ps(sum_low as f32), dot);
                    dot = _mm512_fmadd_ps(block.min[1][v], _mm512_set1_ps(sum_high as f32), dot);
                }
                sums[v] = _mm512_fmadd_ps(dot, x_scale, sums[v]);
                continue;
            }
            if F::HAS_MIN {
                sums[v] = _mm512_fmadd_ps(block.min[0][v], _mm512_set1_ps(meta.sum), sums[v]);
            }
            sums[v] = _mm512_fmadd_ps(dot, _mm512_mul_ps(block.scale[0][v], x_scale), sums[v]);
        }
        sums
    }
}

/// What the integer sums start at: minus what the bias of the weights adds to them.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn start<F: Format>(meta: &Meta) -> ([__m512i; 2], [__m512i; 2]) {
    // SAFETY: no memory is touched.
    unsafe {
        let Some(shift) = F::BIAS_SHIFT else {
            return ([_mm512_setzero_si512(); 2], [_mm512_setzero_si512(); 2]);
        };
        let shift = _mm512_set1_epi32(shift.cast_signed());
        let all = _mm512_sllv_epi32(_mm512_set1_epi32(meta.neg_sum), shift);
        if !F::SPLIT {
            return ([all; 2], [_mm512_setzero_si512(); 2]);
        }
        let low = _mm512_sllv_epi32(_mm512_set1_epi32(meta.neg_sum_low), shift);
        ([low; 2], [_mm512_sub_epi32(all, low); 2])
    }
}

/// `R` rows with their results in registers.
///
/// # Safety
/// The promises of [`tile`], for `R` rows from `first` on.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn few<F: Format, const R: usize>(tile: *const u8, acts: &Activations, first: usize, out: Out) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        let mut room = Expanded::new();
        for (block_idx, head, sub) in sub_blocks::<F>(tile, acts.n_in()) {
            prefetch::<F>(sub);
            let block = load::<F>(head, readable::<F>(block_idx, head, sub, &mut room));
            for plane in acts.planes() {
                let (q, meta) = plane.at(block_idx * acts.stride() + first);
                for (r, sums) in sums.iter_mut().enumerate() {
                    *sums = accumulate::<F>(*sums, &block, q.add(32 * r), &*meta.add(r));
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            put(out, first + r, *sums);
        }
    }
}

/// Asks for the sub-blocks that lie [`PREFETCH_FAR`] and [`PREFETCH_NEAR`] ahead of this one.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn prefetch<F: Format>(sub: *const u8) {
    for line in 0..F::LAYOUT.sub.div_ceil(64) {
        let line = sub.wrapping_add(64 * line);
        // SAFETY: hints, which read nothing.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(line.wrapping_add(PREFETCH_FAR).cast());
            _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(PREFETCH_NEAR).cast());
        }
    }
}

/// Any number of rows, their results in the first-level cache.
///
/// # Safety
/// The promises of [`tile`].
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn many<F: Format, const PREFETCH: bool>(
    tile: *const u8,
    acts: &Activations,
    rows: Range<usize>,
    out: Out,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut memory = [MaybeUninit::<Pair>::uninit(); MAX_ROWS];
        let sums = &mut memory[..rows.len()];
        let sums: &mut [Pair] = {
            sums.iter_mut().for_each(|sums| _ = sums.write([_mm512_setzero_ps(); 2]));
            std::slice::from_raw_parts_mut(sums.as_mut_ptr().cast(), sums.len())
        };
        let mut room = Expanded::new();
        for (block_idx, head, sub) in sub_blocks::<F>(tile, acts.n_in()) {
            if PREFETCH {
                prefetch::<F>(sub);
            }
            let block = load::<F>(head, readable::<F>(block_idx, head, sub, &mut room));
            for plane in acts.planes() {
                let (q, meta) = plane.at(block_idx * acts.stride() + rows.start);
                for (r, sums) in sums.iter_mut().enumerate() {
                    *sums = accumulate::<F>(*sums, &block, q.add(32 * r), &*meta.add(r));
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            put(out, rows.start + r, *sums);
        }
    }
}

/// Writes a row's results.
///
/// # Safety
/// The promises of [`tile`], for one row.
#[inline(always)]
unsafe fn put(out: Out, row: usize, results: Pair) {
    // SAFETY: the caller's promise on the outputs; columns that do not exist are masked.
    unsafe {
        let start = out.start.add(row * out.row_stride);
        for (v, result) in results.into_iter().enumerate() {
            let n_cols = out.n_cols.saturating_sub(16 * v);
            let mask = if n_cols >= 16 { 0xffff } else { (1 << n_cols) - 1 };
            let at = start.wrapping_add(16 * v);
            let result = _mm512_mul_ps(result, _mm512_set1_ps(out.scale));
            let result = match out.epilogue {
                Epilogue::Store => result,
                Epilogue::Add => _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), result),
            };
            _mm512_mask_storeu_ps(at, mask, result);
        }
    }
}

/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn times(a: Pair, b: Pair) -> Pair {
    // SAFETY: no memory is touched.
    unsafe { [_mm512_mul_ps(a[0], b[0]), _mm512_mul_ps(a[1], b[1])] }
}

/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn f16s(at: *const u8) -> Pair {
    // SAFETY: 64 bytes of a tile, aligned to a line.
    unsafe {
        [_mm512_cvtph_ps(_mm256_load_si256(at.cast())), _mm512_cvtph_ps(_mm256_load_si256(at.add(32).cast()))]
    }
}

/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn u8s(at: *const u8) -> [__m512i; 2] {
    // SAFETY: 32 bytes of a tile, aligned to half a line.
    unsafe {
        [
            _mm512_cvtepu8_epi32(_mm_load_si128(at.cast())),
            _mm512_cvtepu8_epi32(_mm_load_si128(at.add(16).cast())),
        ]
    }
}

/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn i8s(at: *const u8) -> Pair {
    // SAFETY: 32 bytes of a tile, aligned to half a line.
    unsafe {
        floats([
            _mm512_cvtepi8_epi32(_mm_load_si128(at.cast())),
            _mm512_cvtepi8_epi32(_mm_load_si128(at.add(16).cast())),
        ])
    }
}

/// The low and the high nibbles of bytes.
///
/// # Safety
/// The CPU has the instructions that the attribute names. A number for each row of a tile is at `at`.
#[inline(always)]
unsafe fn u4s(at: *const u8) -> (Pair, Pair) {
    // SAFETY: the caller's promise.
    unsafe {
        let ([a, b], low) = (u8s(at), _mm512_set1_epi32(15));
        (
            floats([_mm512_and_si512(a, low), _mm512_and_si512(b, low)]),
            floats([_mm512_srli_epi32::<4>(a), _mm512_srli_epi32::<4>(b)]),
        )
    }
}

/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn floats(ints: [__m512i; 2]) -> Pair {
    // SAFETY: no memory is touched.
    unsafe { [_mm512_cvtepi32_ps(ints[0]), _mm512_cvtepi32_ps(ints[1])] }
}

/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn minus(values: Pair) -> Pair {
    // SAFETY: no memory is touched.
    unsafe {
        let minus = _mm512_set1_ps(-0.0);
        [_mm512_xor_ps(values[0], minus), _mm512_xor_ps(values[1], minus)]
    }
}

/// Halves of the powers of two whose exponents `e` are.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn e8m0_halves(e: [__m512i; 2]) -> Pair {
    // SAFETY: no memory is touched.
    unsafe {
        let mut halves = [_mm512_setzero_ps(); 2];
        for (half, e) in halves.iter_mut().zip(e) {
            // As bits of an f32, whose exponent is one less. The two smallest are below the normal range, where a bit
            // of the mantissa stands for them. Of both ways, the one that is right gives more.
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, _mm512_set1_epi32(1)));
            let small = _mm512_min_epi32(e, _mm512_set1_epi32(2));
            let small = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), small);
            *half = _mm512_castsi512_ps(_mm512_max_epi32(normal, small));
        }
        halves
    }
}

/// Halves of floats of four bits of exponent and three of mantissa.
///
/// # Safety
/// The CPU has the instructions that the attribute names.
#[inline(always)]
unsafe fn e4m3_halves(x: [__m512i; 2]) -> Pair {
    // SAFETY: no memory is touched.
    unsafe {
        let factor = _mm512_set1_ps(E4M3_HALF);
        [
            _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32::<20>(x[0])), factor),
            _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32::<20>(x[1])), factor),
        ]
    }
}
