// Our own programs for the GPU: the pool's reads and writes, and rotations.
// The rest is candle's. Each has a CPU form of the same name in `kv.rs` or `ops.rs` that says what it computes;
// a test compiles this text as C++ and holds both to the same bits.
//
// A thread computes one value, or one group of values that share a scale: `at` is (value or group, token, head).
// The compiler may assume that no float is infinite or NaN, so those are told by their bits.
#include <metal_stdlib>
using namespace metal;

struct Part {
    ulong offset;
    ulong block_bytes;
    uint block_tokens;
    uint n_kv_heads;
    uint dim;
    uint n_seen;
};

struct Rotation {
    uint n_heads;
    uint dim;
    uint n_pairs;
    uint is_interleaved;
};

struct Spread {
    uint dim;
    uint run;
    float root;
};

constant uint NO_SLOT = 0xffffffff;
constant ushort HALF_NAN = 0x7e00;
constant float MAX_HALF = 65504.0f;
constant uint GROUP = 32;

inline bool is_finite(float x) {
    return (as_type<uint>(x) & 0x7f800000u) != 0x7f800000u;
}

inline ulong part_start(constant Part &part, uint slot) {
    return ulong(slot / part.block_tokens) * part.block_bytes + part.offset;
}

// Index of a head's vector among those of the part.
inline ulong vector_of(constant Part &part, uint slot, uint head) {
    return ulong(slot % part.block_tokens) * part.n_kv_heads + head;
}

// Bytes from the part's start to its scales in q8.
inline ulong scales_start(constant Part &part) {
    return ulong(part.block_tokens) * part.n_kv_heads * part.dim;
}

inline uint n_groups(constant Part &part) {
    return (part.dim + GROUP - 1) / GROUP;
}

kernel void store_f16(
    constant Part &part [[buffer(0)]],
    device const float *vectors [[buffer(1)]],
    device const uint *slots [[buffer(2)]],
    device uchar *pool [[buffer(3)]],
    uint3 at [[thread_position_in_grid]]) {
    const uint slot = slots[at.y];
    const float x = vectors[(ulong(at.y) * part.n_kv_heads + at.z) * part.dim + at.x];
    device ushort *out = (device ushort *)(pool + part_start(part, slot));
    const ushort bits = as_type<ushort>(half(clamp(x, -MAX_HALF, MAX_HALF)));
    out[vector_of(part, slot, at.z) * part.dim + at.x] = is_finite(x) ? bits : HALF_NAN;
}

kernel void gather_f16(
    constant Part &part [[buffer(0)]],
    device const uchar *pool [[buffer(1)]],
    device const uint *slots [[buffer(2)]],
    device float *out [[buffer(3)]],
    uint3 at [[thread_position_in_grid]]) {
    const uint slot = slots[at.y];
    const ulong row = at.y / part.n_seen;
    const ulong seen = at.y % part.n_seen;
    const ulong to = ((row * part.n_kv_heads + at.z) * part.n_seen + seen) * part.dim + at.x;
    if (slot == NO_SLOT) {
        out[to] = 0.0f;
        return;
    }
    device const half *from = (device const half *)(pool + part_start(part, slot));
    out[to] = float(from[vector_of(part, slot, at.z) * part.dim + at.x]);
}

kernel void store_q8(
    constant Part &part [[buffer(0)]],
    device const float *vectors [[buffer(1)]],
    device const uint *slots [[buffer(2)]],
    device uchar *pool [[buffer(3)]],
    uint3 at [[thread_position_in_grid]]) {
    const uint slot = slots[at.y];
    const uint first = at.x * GROUP;
    const uint n = min(GROUP, part.dim - first);
    device const float *group = vectors + (ulong(at.y) * part.n_kv_heads + at.z) * part.dim + first;
    float largest = 0.0f;
    bool is_sound = true;
    for (uint i = 0; i < n; i++) {
        largest = max(largest, fabs(group[i]));
        is_sound = is_sound && is_finite(group[i]);
    }
    const half scale = half(min(largest / 127.0f, MAX_HALF));
    const float inverse = float(scale) == 0.0f ? 0.0f : 1.0f / float(scale);
    const ulong vector = vector_of(part, slot, at.z);
    device uchar *start = pool + part_start(part, slot);
    device ushort *scales = (device ushort *)(start + scales_start(part));
    scales[vector * n_groups(part) + at.x] = is_sound ? as_type<ushort>(scale) : HALF_NAN;
    device char *out = (device char *)(start + vector * part.dim + first);
    for (uint i = 0; i < n; i++) {
        const float q = is_sound ? rint(clamp(group[i] * inverse, -127.0f, 127.0f)) : 0.0f;
        out[i] = char(int(q));
    }
}

kernel void gather_q8(
    constant Part &part [[buffer(0)]],
    device const uchar *pool [[buffer(1)]],
    device const uint *slots [[buffer(2)]],
    device float *out [[buffer(3)]],
    uint3 at [[thread_position_in_grid]]) {
    const uint slot = slots[at.y];
    const ulong row = at.y / part.n_seen;
    const ulong seen = at.y % part.n_seen;
    const ulong to = ((row * part.n_kv_heads + at.z) * part.n_seen + seen) * part.dim + at.x;
    if (slot == NO_SLOT) {
        out[to] = 0.0f;
        return;
    }
    device const uchar *start = pool + part_start(part, slot);
    const ulong vector = vector_of(part, slot, at.z);
    device const half *scales = (device const half *)(start + scales_start(part));
    const float scale = float(scales[vector * n_groups(part) + at.x / GROUP]);
    out[to] = float(((device const char *)start)[vector * part.dim + at.x]) * scale;
}

kernel void rotate_pairs(
    constant Rotation &rotation [[buffer(0)]],
    device const float *x [[buffer(1)]],
    device const float *table [[buffer(2)]],
    device float *out [[buffer(3)]],
    uint3 at [[thread_position_in_grid]]) {
    const ulong start = (ulong(at.y) * rotation.n_heads + at.z) * rotation.dim;
    const uint n = rotation.n_pairs;
    const uint i = at.x;
    if (i >= 2 * n) {
        out[start + i] = x[start + i];
        return;
    }
    const bool is_first = rotation.is_interleaved ? i % 2 == 0 : i < n;
    const uint pair = rotation.is_interleaved ? i / 2 : i % n;
    const uint other = rotation.is_interleaved ? i ^ 1u : (is_first ? i + n : i - n);
    const float c = table[(ulong(at.y) * 2) * n + pair];
    const float s = table[(ulong(at.y) * 2 + 1) * n + pair];
    const float a = x[start + i];
    const float b = x[start + other];
    out[start + i] = is_first ? a * c - b * s : a * c + b * s;
}

// A thread takes a run of values of one vector: `at` is (run, vector).
kernel void hadamard(
    constant Spread &spread [[buffer(0)]],
    device const float *x [[buffer(1)]],
    device float *out [[buffer(2)]],
    uint3 at [[thread_position_in_grid]]) {
    const ulong start = ulong(at.y) * spread.dim + ulong(at.x) * spread.run;
    for (uint i = 0; i < spread.run; i++) {
        out[start + i] = x[start + i];
    }
    for (uint half_run = spread.run / 2; half_run > 0; half_run /= 2) {
        for (uint i = 0; i < spread.run; i++) {
            if ((i & half_run) == 0) {
                const float a = out[start + i];
                const float b = out[start + i + half_run];
                out[start + i] = a + b;
                out[start + i + half_run] = a - b;
            }
        }
    }
    for (uint i = 0; i < spread.run; i++) {
        out[start + i] *= spread.root;
    }
}
