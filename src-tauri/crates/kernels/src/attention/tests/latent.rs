//! Values that are the first of each key: one vector a token, stored once.

use super::{AttentionParams, Data, FORMATS, Isa, KvFormat, KvLayer, Pool, Threads};
use super::{check_bits, check_definition, hadamard, params};

/// A layer whose keys have their values in them.
fn layer(dtype: KvFormat, n_kv_heads: usize, (k_dim, v_dim): (usize, usize), block_tokens: usize) -> KvLayer {
    let (block_bytes, k_offset, v_offset) = (0, 192, None);
    let mut layer =
        KvLayer { n_kv_heads, k_dim, v_dim, block_tokens, block_bytes, k_offset, v_offset, dtype };
    layer.block_bytes = k_offset + layer.k_bytes() + 40;
    layer
}

#[test]
fn values_in_keys_attend_as_defined() {
    for dtype in FORMATS {
        for data in [Data::Noise, Data::Outliers, Data::Large, Data::Equal] {
            check_definition(layer(dtype, 1, (80, 64), 32), params(20, 80, None, None), data);
        }
        check_definition(layer(dtype, 1, (576, 512), 16), params(3, 192, None, None), Data::Outliers);
        check_definition(layer(dtype, 2, (48, 32), 64), params(4, 48, Some(33), Some(20.0)), Data::Noise);
        // No whole groups of lanes, all of a key, and very little of it.
        check_definition(layer(dtype, 1, (53, 36), 16), params(2, 53, None, None), Data::Outliers);
        check_definition(layer(dtype, 1, (64, 64), 16), params(1, 64, None, None), Data::Outliers);
        check_definition(layer(dtype, 1, (64, 1), 256), params(2, 64, None, None), Data::Outliers);
    }
}

#[test]
fn a_querys_bits_are_its_own_where_values_are_in_keys() {
    for (dtype, dims, heads, window, softcap) in [
        (KvFormat::F16, (80, 64), (20, 1), None, None),
        (KvFormat::F16, (53, 36), (4, 2), Some(50), Some(5.0)),
        (KvFormat::Q8, (96, 64), (5, 1), None, Some(20.0)),
        (KvFormat::Q4, (576, 512), (2, 1), None, None),
    ] {
        let params = params(heads.0, dims.0, window, softcap);
        check_bits(params, |block_tokens| layer(dtype, heads.1, dims, block_tokens));
    }
}

#[test]
fn a_latent_vector_is_stored_once_as_precisely_as_keys_its_two_parts_rotated_apart() {
    for isa in Isa::available() {
        for dtype in FORMATS {
            let layer = layer(dtype, 1, (576, 512), 32);
            assert_eq!((layer.k_bytes(), layer.v_bytes()), (32 * dtype.key_bytes(576), 0));
            let params = AttentionParams { scale: 0.1, ..params(2, 192, None, None) };
            let mut pool = Pool::new(isa, layer, params, Data::Outliers, &[50], 3);
            pool.step(&Threads::new(2), &[(0, 0, 50)]);
            for p in 0..50 {
                let given = pool.k[0][p * 576..][..576].iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
                let (values, rest) = given.split_at(512);
                let (key, bound) = if dtype == KvFormat::F16 {
                    (given.clone(), 0.01)
                } else {
                    let rotated = [hadamard(values), hadamard(rest)].concat();
                    let largest = rotated.iter().fold(0f64, |m, x| m.max(x.abs()));
                    (rotated, 1e-5 + 0.505 / 127.0 * largest)
                };
                let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= bound);
                assert!(near(&key, &pool.stored(0, p, 0, true)), "{dtype:?} {}", isa.name());
                assert!(near(&key[..512], &pool.stored(0, p, 0, false)), "{dtype:?} {}", isa.name());
            }
        }
    }
}

#[test]
fn every_instruction_set_and_thread_count_stores_the_same_latent_bytes() {
    for dtype in FORMATS {
        let bytes = |isa: Isa, n_threads: usize| {
            let layer = layer(dtype, 1, (576, 512), 32);
            let mut pool = Pool::new(isa, layer, params(2, 192, None, None), Data::Outliers, &[90, 33], 5);
            pool.step(&Threads::new(n_threads), &[(0, 0, 90), (1, 0, 33)]);
            (0..pool.arena.n_blocks()).map(|i| pool.arena.block(i).to_vec()).collect::<Vec<_>>()
        };
        let want = bytes(Isa::SCALAR, 1);
        for isa in Isa::available() {
            assert!(bytes(isa, 1) == want && bytes(isa, 3) == want, "{dtype:?} {}", isa.name());
        }
    }
}

#[test]
fn a_faulty_latent_vector_spoils_only_what_sees_it() {
    for isa in Isa::available() {
        for dtype in FORMATS {
            let layer = layer(dtype, 1, (80, 64), 32);
            let mut pool = Pool::new(isa, layer, params(2, 80, None, None), Data::Noise, &[40, 40], 2);
            pool.k[0][20 * 80 + 3] = f32::INFINITY;
            for (seq, p) in (0..40).flat_map(|p| [(0, p), (1, p)]) {
                let out = pool.step(&Threads::new(1), &[(seq, p, 1)]);
                let is_spoilt = out.iter().any(|x| x.is_nan());
                assert_eq!(is_spoilt, seq == 0 && p >= 20, "sequence {seq} position {p}");
            }
        }
    }
}
