//! Attention against its definition in f64, and the rule that a query's bits are its own.

use super::{Ahead, AttentionParams, AttentionRow, attention};
use crate::isa::Isa;
use crate::kv::{GROUP, KvArena, KvFormat, KvLayer, TILE, store_kv};
use crate::threads::Threads;
use half::f16;

mod ahead;
mod latent;
mod refused;

const FORMATS: [KvFormat; 3] = [KvFormat::F16, KvFormat::Q8, KvFormat::Q4];

/// How test vectors are made.
#[derive(Clone, Copy, Debug)]
enum Data {
    /// Uniform in ±1.
    Noise,
    /// Scores in the thousands.
    Large,
    /// Every key alike: all scores equal.
    Equal,
    /// A few channels far above the rest, as real keys have them.
    Outliers,
}

fn layer(dtype: KvFormat, n_kv_heads: usize, (k_dim, v_dim): (usize, usize), block_tokens: usize) -> KvLayer {
    // Offsets as the second layer of a block would have them.
    let (block_bytes, k_offset, v_offset) = (0, 192, None);
    let mut layer =
        KvLayer { n_kv_heads, k_dim, v_dim, block_tokens, block_bytes, k_offset, v_offset, dtype };
    let v_offset = (k_offset + layer.k_bytes()).next_multiple_of(64);
    layer.v_offset = Some(v_offset);
    layer.block_bytes = v_offset + layer.v_bytes() + 40;
    layer
}

fn noise(seed: usize) -> f32 {
    let mut x = (seed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678;
    x = (x ^ (x >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x >> 40) as f32 / 8_388_608.0 - 1.0
}

/// Vectors of `width` values for positions `0..n` of sequence `seq`; `kind` tells q, k and v apart.
fn vectors(data: Data, seq: usize, kind: usize, n: usize, width: usize) -> Vec<f32> {
    let make = |i: usize| {
        let x = noise(((seq * 8 + kind) << 32) + i);
        match data {
            Data::Noise => x,
            Data::Large => x * if kind < 2 { 60.0 } else { 1e4 },
            Data::Equal if kind == 1 => noise(i % width),
            Data::Equal => x,
            Data::Outliers if kind == 1 && i % 16 == 5 => x * 0.1 + 12.0,
            Data::Outliers => x,
        }
    };
    (0..n * width).map(make).collect()
}

/// Sequences in one pool, their blocks mixed up, in memory that was full of NaN before.
struct Pool {
    isa: Isa,
    layer: KvLayer,
    params: AttentionParams<'static>,
    arena: KvArena,
    tables: Vec<Vec<u32>>,
    q: Vec<Vec<f32>>,
    k: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
}

impl Pool {
    fn new(
        isa: Isa,
        layer: KvLayer,
        params: AttentionParams<'static>,
        data: Data,
        lens: &[usize],
        placement: usize,
    ) -> Pool {
        let n_blocks: usize = lens.iter().map(|len| len.div_ceil(layer.block_tokens)).sum();
        let mut ids: Vec<u32> = (0..n_blocks as u32).collect();
        ids.sort_by_key(|id| noise(*id as usize * 31 + placement * 1009).to_bits());
        let mut arena = KvArena::new(n_blocks, layer.block_bytes).unwrap();
        (0..n_blocks).for_each(|i| arena.block_mut(i).fill(0xFF));
        let tables = lens.iter().map(|len| ids.drain(..len.div_ceil(layer.block_tokens)).collect()).collect();
        let make = |kind: usize, width: usize| -> Vec<Vec<f32>> {
            lens.iter().enumerate().map(|(seq, len)| vectors(data, seq, kind, *len, width)).collect()
        };
        let q = make(0, params.n_heads * layer.k_dim);
        let (k, v) = (make(1, layer.n_kv_heads * layer.k_dim), make(2, layer.n_kv_heads * layer.v_dim));
        Pool { isa, layer, params, arena, tables, q, k, v }
    }

    /// Stores and attends the given pieces in one step and returns their outputs one after the other.
    fn step(&mut self, threads: &Threads, pieces: &[(usize, usize, usize)]) -> Vec<f32> {
        let gather = |of: &[Vec<f32>], width: usize| -> Vec<f32> {
            let piece = |&(seq, start, n): &(usize, usize, usize)| {
                of[seq][start * width..(start + n) * width].to_vec()
            };
            pieces.iter().flat_map(piece).collect()
        };
        let layer = self.layer;
        let q = gather(&self.q, self.params.n_heads * layer.k_dim);
        let k = gather(&self.k, layer.n_kv_heads * layer.k_dim);
        let v_width = if layer.v_offset.is_some() { layer.n_kv_heads * layer.v_dim } else { 0 };
        let v = gather(&self.v, v_width);
        let rows: Vec<AttentionRow<'_>> = pieces
            .iter()
            .map(|&(seq, start, n_tokens)| {
                // A window's table starts with the first block that is still seen.
                let first_block = first_seen(&self.params, start) / layer.block_tokens;
                let last_block = (start + n_tokens).div_ceil(layer.block_tokens);
                let blocks = &self.tables[seq][first_block..last_block];
                AttentionRow { blocks, first_block, start, n_tokens }
            })
            .collect();
        store_kv(threads, self.isa, &mut self.arena, &layer, &rows, &k[..], &v);
        let n_tokens: usize = pieces.iter().map(|piece| piece.2).sum();
        let mut out = vec![f32::NAN; n_tokens * self.params.n_heads * layer.v_dim];
        attention(threads, self.isa, &self.arena, &layer, &self.params, &rows, &q, &mut out);
        out
    }

    /// Key `position` of a head as the block's bytes say, by the drawing in `kv`.
    fn stored(&self, seq: usize, position: usize, head: usize, keys: bool) -> Vec<f64> {
        let (layer, bt) = (&self.layer, self.layer.block_tokens);
        let block = self.arena.block(self.tables[seq][position / bt] as usize);
        let n_values = if keys { layer.k_dim } else { layer.v_dim };
        let v_offset = layer.v_offset.filter(|_| !keys);
        let (keys, offset) = (v_offset.is_none(), v_offset.unwrap_or(layer.k_offset));
        let dim = if keys { layer.k_dim } else { layer.v_dim };
        let n_bytes = if keys { layer.k_head_bytes() } else { layer.v_head_bytes() };
        let part = &block[offset + head * n_bytes..][..n_bytes];
        let slot = position % bt;
        let half = |at: usize| f64::from(f16::from_le_bytes([part[at], part[at + 1]]).to_f32());
        let n_groups = dim.div_ceil(GROUP);
        (0..n_values)
            .map(|d| {
                let value_at = |d: usize, per_token: usize| {
                    if keys {
                        (slot / TILE * per_token + d) * TILE + slot % TILE
                    } else {
                        slot * per_token + d
                    }
                };
                let scale = |data: usize| half(bt * data + 2 * value_at(d / GROUP, n_groups));
                match if keys { layer.dtype.of_keys() } else { layer.dtype } {
                    KvFormat::F16 => half(2 * value_at(d, dim)),
                    KvFormat::Q8 => f64::from(part[value_at(d, dim)] as i8) * scale(dim),
                    KvFormat::Q4 => {
                        let byte = part[value_at(d / 2, dim.div_ceil(2))];
                        (f64::from((byte >> (4 * (d % 2))) & 15) - 8.0) * scale(dim.div_ceil(2))
                    }
                }
            })
            .collect()
    }

    /// The definition, in f64, over what is stored; with the largest error that f32 arithmetic may make.
    fn expected(&self, seq: usize, position: usize, head: usize) -> (Vec<f64>, f64) {
        let (layer, params) = (&self.layer, &self.params);
        let kv_head = head / (params.n_heads / layer.n_kv_heads);
        let mut q: Vec<f64> = self.q[seq][(position * params.n_heads + head) * layer.k_dim..][..layer.k_dim]
            .iter()
            .map(|q| f64::from(*q) * f64::from(params.scale))
            .collect();
        let is_rotated = layer.dtype != KvFormat::F16;
        if is_rotated {
            let (with_values, rest) = q.split_at(layer.v_offset.map_or(layer.v_dim, |_| layer.k_dim));
            q = [hadamard(with_values), hadamard(rest)].concat();
        }
        let first = first_seen(params, position);
        let mut size = 0f64;
        let n_tokens = self.k[seq].len() / (layer.n_kv_heads * layer.k_dim);
        let scores: Vec<f64> = (first..n_tokens)
            .take_while(|j| sees(params, position, *j))
            .map(|j| {
                let k = self.stored(seq, j, kv_head, true);
                size = size.max(q.iter().zip(&k).map(|(q, k)| (q * k).abs()).sum());
                let s: f64 = q.iter().zip(&k).map(|(q, k)| q * k).sum();
                params.softcap.map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh())
            })
            .collect();
        let sink = params.sinks.map(|sinks| f64::from(sinks[head]));
        let highest = scores.iter().copied().chain(sink).fold(f64::MIN, f64::max);
        let (mut sum, mut out, mut largest) = (0.0, vec![0.0; layer.v_dim], 0f64);
        sum += sink.map_or(0.0, |sink| (sink - highest).exp());
        for (j, s) in scores.iter().enumerate() {
            let p = (s - highest).exp();
            sum += p;
            for (out, v) in out.iter_mut().zip(self.stored(seq, first + j, kv_head, false)) {
                *out += p * v;
                largest = largest.max(v.abs());
            }
        }
        out.iter_mut().for_each(|x| *x /= sum);
        if is_rotated {
            out = hadamard(&out);
            // A value of the result has the errors of all that were mixed into it.
            largest *= f64::from(1 << layer.v_dim.trailing_zeros()).sqrt();
        }
        (out, largest * (2e-6 + 4e-7 * size))
    }

    /// Holds the outputs of a step against the definition.
    fn check(&self, pieces: &[(usize, usize, usize)], out: &[f32], what: &str) {
        let (n_heads, v_dim) = (self.params.n_heads, self.layer.v_dim);
        let mut token = 0;
        for &(seq, start, n) in pieces {
            // All of a short piece, a sample of a long one.
            for i in (0..n).filter(|i| n < 12 || i % 29 == 0 || i + 1 == n) {
                for head in 0..n_heads {
                    let got = &out[((token + i) * n_heads + head) * v_dim..][..v_dim];
                    let (want, bound) = self.expected(seq, start + i, head);
                    for (got, want) in got.iter().zip(&want) {
                        let error = (f64::from(*got) - want).abs();
                        assert!(
                            error <= bound,
                            "{what}: {} sequence {seq} position {} head {head}: {got} for {want}, bound {bound}",
                            self.isa.name(),
                            start + i
                        );
                    }
                }
            }
            token += n;
        }
    }
}

/// Whether a query sees a key that is not before its window.
fn sees(params: &AttentionParams<'_>, i: usize, j: usize) -> bool {
    match params.ahead {
        Ahead::Hidden => j <= i,
        Ahead::Seen => j <= i || params.window.is_none_or(|window| j - i < window),
    }
}

/// The first key that is seen, by the definition of a window.
fn first_seen(params: &AttentionParams<'_>, i: usize) -> usize {
    (0..=i).find(|j| params.window.is_none_or(|window| i - j < window)).unwrap()
}

/// The rotation of vectors by its definition: signs by the parity of common bits.
fn hadamard(x: &[f64]) -> Vec<f64> {
    let n = 1 << x.len().max(1).trailing_zeros();
    let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    x.chunks(n)
        .flat_map(|run| {
            (0..n).map(move |i| {
                run.iter().enumerate().map(|(j, x)| sign(i, j) * x).sum::<f64>() / (n as f64).sqrt()
            })
        })
        .collect()
}

fn params(
    n_heads: usize,
    k_dim: usize,
    window: Option<usize>,
    softcap: Option<f32>,
) -> AttentionParams<'static> {
    let scale = 1.0 / (k_dim as f32).sqrt();
    AttentionParams { n_heads, scale, window, ahead: Ahead::Hidden, softcap, sinks: None }
}

/// A prompt in two chunks beside others, then a decode of every sequence, on every instruction set.
fn check_definition(layer: KvLayer, params: AttentionParams<'static>, data: Data) {
    let threads = Threads::new(2);
    for isa in Isa::available() {
        let mut pool = Pool::new(isa, layer, params, data, &[301, 18, 140, 1], 1);
        let what = format!("{layer:?} {params:?} {data:?}");
        for pieces in [
            vec![(0, 0, 41), (2, 0, 139)],
            vec![(1, 0, 17), (0, 41, 259)],
            vec![(0, 300, 1), (1, 17, 1), (2, 139, 1), (3, 0, 1)],
        ] {
            let out = pool.step(&threads, &pieces);
            pool.check(&pieces, &out, &what);
        }
    }
}

#[test]
fn every_format_and_head_size_attends_as_defined() {
    for dtype in FORMATS {
        for (n_heads, n_kv_heads, dims) in
            [(9, 3, (64, 64)), (4, 1, (256, 256)), (2, 2, (128, 128)), (16, 1, (48, 80)), (7, 1, (96, 32))]
        {
            check_definition(
                layer(dtype, n_kv_heads, dims, 32),
                params(n_heads, dims.0, None, None),
                Data::Noise,
            );
        }
    }
}

#[test]
fn head_sizes_that_fill_no_register_attend_as_defined() {
    for dtype in FORMATS {
        for dims in [(20, 64), (64, 33), (7, 5), (1, 1), (100, 36)] {
            check_definition(layer(dtype, 2, dims, 16), params(4, dims.0, None, None), Data::Noise);
        }
    }
}

#[test]
fn windows_hide_what_lies_before_them() {
    // Narrower and wider than blocks, partitions and context, and with edges on their borders.
    for window in [1, 2, 15, 16, 17, 32, 100, 127, 128, 129, 160, 256, 300, 512] {
        check_definition(
            layer(KvFormat::F16, 1, (32, 32), 32),
            params(2, 32, Some(window), None),
            Data::Noise,
        );
    }
    for dtype in FORMATS {
        check_definition(layer(dtype, 1, (32, 32), 16), params(4, 32, Some(33), None), Data::Outliers);
    }
}

#[test]
fn soft_caps_bound_the_scores() {
    for dtype in FORMATS {
        for data in [Data::Noise, Data::Large] {
            check_definition(layer(dtype, 1, (64, 64), 64), params(3, 64, Some(70), Some(30.0)), data);
            check_definition(layer(dtype, 1, (64, 64), 64), params(3, 64, None, Some(0.5)), data);
        }
    }
}

/// Below, among and far above the scores, and none.
const SINKS: [f32; 9] = [0.0, -3.0, 2.5, f32::NEG_INFINITY, 40.0, 1e3, -1e30, 0.5, 7.0];

#[test]
fn sinks_take_their_share_of_the_weight() {
    for dtype in FORMATS {
        for (n_heads, n_kv_heads, dims, window) in [
            (9, 3, (64, 64), None),
            (8, 1, (64, 64), Some(70)),
            (4, 2, (20, 33), None),
            (6, 6, (96, 32), Some(16)),
        ] {
            for data in [Data::Noise, Data::Large] {
                let params = AttentionParams {
                    sinks: Some(&SINKS[..n_heads]),
                    ..params(n_heads, dims.0, window, (n_heads == 4).then_some(20.0))
                };
                check_definition(layer(dtype, n_kv_heads, dims, 32), params, data);
            }
        }
    }
}

#[test]
fn a_sink_that_weighs_nothing_changes_no_bit() {
    const NONE: [f32; 6] = [f32::NEG_INFINITY; 6];
    for isa in Isa::available() {
        let out = |sinks: Option<&'static [f32]>| {
            let params = AttentionParams { sinks, ..params(6, 64, Some(100), None) };
            let mut pool =
                Pool::new(isa, layer(KvFormat::F16, 2, (64, 64), 32), params, Data::Noise, &[300], 1);
            pool.step(&Threads::new(2), &[(0, 0, 300)])
        };
        assert!(out(None) == out(Some(&NONE)), "{}", isa.name());
    }
}

#[test]
#[should_panic(expected = "a sink for each of 2 heads")]
fn sinks_of_another_number_of_heads_are_refused() {
    let layer = layer(KvFormat::F16, 1, (64, 64), 32);
    let params = AttentionParams { sinks: Some(&SINKS[..3]), ..params(2, 64, None, None) };
    Pool::new(Isa::SCALAR, layer, params, Data::Noise, &[4], 1).step(&Threads::new(1), &[(0, 0, 4)]);
}

#[test]
fn adversarial_scores_stay_within_rounding() {
    for dtype in FORMATS {
        for data in [Data::Large, Data::Equal, Data::Outliers] {
            for block_tokens in [16, 256] {
                check_definition(layer(dtype, 3, (64, 64), block_tokens), params(9, 64, None, None), data);
            }
        }
    }
}

#[test]
fn a_query_s_bits_are_its_own() {
    for (dtype, dims, heads, window, softcap, has_sinks) in [
        (KvFormat::F16, (64, 64), (9, 3), None, None, false),
        (KvFormat::F16, (64, 64), (8, 1), Some(128), None, true),
        (KvFormat::F16, (256, 256), (4, 1), Some(130), None, false),
        (KvFormat::F16, (20, 12), (4, 2), Some(50), Some(5.0), true),
        (KvFormat::Q8, (64, 128), (7, 1), None, Some(20.0), false),
        (KvFormat::Q8, (48, 32), (2, 2), Some(16), None, false),
        (KvFormat::Q4, (128, 64), (3, 1), None, None, true),
        (KvFormat::Q4, (40, 64), (8, 2), Some(257), None, false),
    ] {
        let sinks = has_sinks.then(|| &SINKS[..heads.0]);
        let params = AttentionParams { sinks, ..params(heads.0, dims.0, window, softcap) };
        check_bits(params, |block_tokens| layer(dtype, heads.1, dims, block_tokens));
    }
}

/// A sequence alone and among others, whole and in chunks, in blocks of any size, by any number of threads.
fn check_bits(params: AttentionParams<'static>, layer: impl Fn(usize) -> KvLayer) {
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    let width = params.n_heads * layer(32).v_dim;
    for isa in Isa::available() {
        let pool = |block_tokens: usize, placement: usize| {
            Pool::new(isa, layer(block_tokens), params, Data::Outliers, &[403, 77, 1], placement)
        };
        let what = format!("{} {:?} {params:?}", isa.name(), layer(32));
        let whole = pool(32, 1).step(&Threads::new(1), &[(0, 0, 403)]);
        let other = pool(32, 1).step(&Threads::new(1), &[(1, 0, 77)]);
        let want = bits(&whole);

        for n_threads in [2, 3, 5] {
            let threads = Threads::new(n_threads);
            let got = pool(32, n_threads).step(&threads, &[(1, 0, 77), (0, 0, 403), (2, 0, 1)]);
            let among_others = bits(&got[77 * width..480 * width]);
            assert!(among_others == want, "{what}: among others, {n_threads} threads");
            assert!(bits(&got[..77 * width]) == bits(&other), "{what}: beside a long row");

            // Chunks of every size, some as small as a decode, with other rows beside them.
            let (mut chunked, mut chunks) = (Vec::new(), pool(16 << (n_threads % 3), 7));
            let (mut start, mut sizes) = (0, [1, 2, 31, 5, 64, 1, 130, 3].into_iter().cycle());
            while start < 403 {
                let n = sizes.next().unwrap().min(403 - start);
                let beside = (1, start % 70, 7);
                let out = chunks.step(&threads, &[(0, start, n), beside]);
                chunked.extend_from_slice(&out[..n * width]);
                start += n;
            }
            assert!(bits(&chunked) == want, "{what}: in chunks, {n_threads} threads");

            // Each of the last tokens alone, as when decoding.
            for p in [0, 15, 16, 127, 128, 255, 256, 300, 402] {
                let out = chunks.step(&threads, &[(0, p, 1)]);
                assert!(bits(&out) == want[p * width..(p + 1) * width], "{what}: alone at {p}");
            }
        }
    }
}

#[test]
fn stored_values_are_the_nearest_that_the_format_has() {
    for isa in Isa::available() {
        for dtype in FORMATS {
            for dims in [(64, 64), (48, 20), (5, 256)] {
                let layer = layer(dtype, 2, dims, 16);
                let mut pool = Pool::new(isa, layer, params(2, dims.0, None, None), Data::Noise, &[50], 3);
                pool.step(&Threads::new(2), &[(0, 0, 50)]);
                // Half a step of the format: of values up to 1, of 127 steps to the vector's largest value, and what
                // the search for a scale may leave of values that the rotation has doubled.
                let bound_of = |vector: &[f64], format: KvFormat| match format {
                    KvFormat::F16 => 2.5e-4,
                    KvFormat::Q8 => 1e-5 + 0.505 / 127.0 * vector.iter().fold(0f64, |m, x| m.max(x.abs())),
                    KvFormat::Q4 => 0.4,
                };
                for (p, head) in (0..50).flat_map(|p| [(p, 0), (p, 1)]) {
                    let given = |of: &[f32], dim: usize| -> Vec<f64> {
                        of[(p * 2 + head) * dim..][..dim].iter().map(|x| f64::from(*x)).collect()
                    };
                    let (mut key, mut value) = (given(&pool.k[0], dims.0), given(&pool.v[0], dims.1));
                    if dtype != KvFormat::F16 {
                        (key, value) = (hadamard(&key), hadamard(&value));
                    }
                    let near = |a: &[f64], b: &[f64], format: KvFormat| {
                        let bound = bound_of(a, format);
                        a.iter().zip(b).all(|(a, b)| (a - b).abs() <= bound)
                    };
                    let what = format!("{dtype:?} {dims:?}");
                    assert!(near(&key, &pool.stored(0, p, head, true), dtype.of_keys()), "{what}");
                    assert!(near(&value, &pool.stored(0, p, head, false), dtype), "{what}");
                }
            }
        }
    }
}

#[test]
fn every_instruction_set_and_thread_count_stores_the_same_bytes() {
    for dtype in FORMATS {
        for dims in [(64, 64), (40, 24)] {
            let bytes = |isa: Isa, n_threads: usize| {
                let layer = layer(dtype, 3, dims, 32);
                let mut pool =
                    Pool::new(isa, layer, params(3, dims.0, None, None), Data::Outliers, &[90, 33], 5);
                pool.step(&Threads::new(n_threads), &[(0, 0, 90), (1, 0, 33)]);
                (0..pool.arena.n_blocks()).map(|i| pool.arena.block(i).to_vec()).collect::<Vec<_>>()
            };
            let want = bytes(Isa::SCALAR, 1);
            for isa in Isa::available() {
                assert!(bytes(isa, 1) == want && bytes(isa, 3) == want, "{dtype:?} {}", isa.name());
            }
        }
    }
}

#[test]
fn a_faulty_token_spoils_only_what_sees_it() {
    for isa in Isa::available() {
        for dtype in FORMATS {
            let layer = layer(dtype, 1, (64, 64), 32);
            let mut pool = Pool::new(isa, layer, params(2, 64, None, None), Data::Noise, &[40, 40], 2);
            pool.k[0][20 * 64 + 3] = f32::INFINITY;
            for (seq, p) in (0..40).flat_map(|p| [(0, p), (1, p)]) {
                let out = pool.step(&Threads::new(1), &[(seq, p, 1)]);
                assert_eq!(
                    out.iter().any(|x| x.is_nan()),
                    seq == 0 && p >= 20,
                    "sequence {seq} position {p}"
                );
            }
        }
    }
}

#[test]
fn copied_blocks_attend_like_their_originals() {
    for dtype in FORMATS {
        let isa = Isa::detect();
        let layer = layer(dtype, 2, (64, 64), 32);
        let threads = Threads::new(2);
        let mut pool = Pool::new(isa, layer, params(4, 64, None, None), Data::Noise, &[40, 40], 2);
        pool.q[1] = pool.q[0].clone();
        (pool.k[1], pool.v[1]) = (pool.k[0].clone(), pool.v[0].clone());
        pool.step(&threads, &[(0, 0, 39)]);
        for i in 0..2 {
            pool.arena.copy_block(pool.tables[0][i] as usize, pool.tables[1][i] as usize);
        }
        let want = pool.step(&threads, &[(0, 39, 1)]);
        assert_eq!(pool.step(&threads, &[(1, 39, 1)]), want);
    }
}
