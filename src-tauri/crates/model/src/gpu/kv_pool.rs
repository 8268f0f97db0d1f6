//! The KV pool on a device, and the operations on it: each has a form for the CPU and one for Metal.
//!
//! The pool is one buffer of bytes, `[block 0][block 1] …`, blocks as the scheduler's layout cuts them; `part.rs` says
//! how a block is filled.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Device, InplaceOp1, InplaceOp2, InplaceOp3};
use candle_core::{Layout, Result, Shape, Tensor, bail};
use kernels::attention::AttentionRow;
use scheduler::KvLayout;

#[cfg(all(feature = "metal", target_os = "macos"))]
use super::metal;
use super::ops::{self, bytes, floats, ids};
use super::part::{KvFormat, Part};
use super::shaders::Shaders;
use super::tiles::{NO_SLOT, Tile, slot_of};

/// The memory of the pool.
pub(super) struct KvPool {
    /// `[n_blocks, block_bytes]` bytes.
    bytes: Tensor,
    n_blocks: usize,
    block_bytes: usize,
    block_tokens: usize,
    shaders: Shaders,
}

impl KvPool {
    pub(super) fn new(
        device: &Device,
        shaders: Shaders,
        n_blocks: usize,
        layout: &KvLayout,
    ) -> Result<KvPool> {
        let KvLayout { block_bytes, block_tokens, .. } = *layout;
        if n_blocks.checked_mul(block_tokens).is_none_or(|n_slots| n_slots >= NO_SLOT as usize) {
            bail!(
                "a KV pool of {n_blocks} blocks of {block_tokens} tokens has more slots than can be numbered"
            );
        }
        let reserve = Reserve { n_blocks, block_bytes };
        let bytes = Tensor::zeros(1, DType::U8, device)?.apply_op1_no_bwd(&reserve)?;
        Ok(KvPool { bytes, n_blocks, block_bytes, block_tokens, shaders })
    }

    pub(super) fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// Whether attention may use candle's fused kernels.
    pub(super) fn fused(&self) -> bool {
        self.shaders.fused()
    }

    /// As on a device with these programs.
    #[cfg(test)]
    pub(super) fn with_shaders(&mut self, shaders: Shaders) {
        self.shaders = shaders;
    }

    /// Where the keys and values of the tokens of `rows` go, `[n_tokens]`.
    pub(super) fn slots_of(&self, rows: &[AttentionRow<'_>]) -> Result<Tensor> {
        let of_row = |row: &AttentionRow<'_>| -> Vec<u32> {
            (row.start..row.start + row.n_tokens).map(|p| slot_of(row, p, self.block_tokens)).collect()
        };
        let slots: Vec<u32> = rows.iter().flat_map(of_row).collect();
        let n = slots.len();
        Tensor::from_vec(slots, n, self.bytes.device())
    }

    /// Store `vectors`, `[n_tokens, n_kv_heads × dim]` in any shape, at `slots`.
    pub(super) fn store(&self, part: &Part, vectors: &Tensor, slots: &Tensor) -> Result<()> {
        let store = Store { part, shaders: &self.shaders };
        match part.format {
            KvFormat::F16 => self.bytes.inplace_op3(vectors, slots, &store),
            KvFormat::Q8 => {
                let vectors = vectors.reshape(((), part.dim))?;
                self.bytes.inplace_op3(&ops::hadamard(&self.shaders, &vectors)?, slots, &store)
            }
        }
    }

    /// What `tile` sees of a part, head by head: `[n_rows, n_kv_heads, n_seen, dim]`.
    pub(super) fn gather(&self, part: &Part, tile: &Tile) -> Result<Tensor> {
        let gather = Gather { part, shape: (tile.n_rows, tile.n_seen), shaders: &self.shaders };
        let gathered = self.bytes.apply_op2_no_bwd(&tile.slots, &gather)?;
        match part.format {
            KvFormat::F16 => Ok(gathered),
            KvFormat::Q8 => ops::hadamard(&self.shaders, &gathered),
        }
    }

    pub(super) fn copy_block(&self, from: usize, to: usize) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let n_bytes = self.block_bytes;
        self.bytes.inplace_op1(&CopyWithin { from: from * n_bytes, to: to * n_bytes, n_bytes })
    }

    /// Fill `out` with a block's bytes from `offset` on, through a buffer of its size: the pool itself may lie where
    /// the CPU cannot read.
    pub(super) fn read(&self, block: usize, offset: usize, out: &mut [u8]) -> Result<()> {
        let read = ReadBytes { from: block * self.block_bytes + offset, n_bytes: out.len() };
        out.copy_from_slice(&self.bytes.apply_op1_no_bwd(&read)?.to_vec1::<u8>()?);
        Ok(())
    }

    /// Put `bytes` into a block from `offset` on.
    pub(super) fn write(&self, block: usize, offset: usize, bytes: &[u8]) -> Result<()> {
        let staged = Tensor::from_slice(bytes, bytes.len(), self.bytes.device())?;
        self.bytes.inplace_op2(&staged, &WriteBytes { to: block * self.block_bytes + offset })
    }
}

#[cfg(all(feature = "metal", target_os = "macos"))]
impl Drop for KvPool {
    fn drop(&mut self) {
        metal::unreserve(&self.bytes);
    }
}

/// Makes the pool's buffer. candle's own allocations round large sizes up to a power of two.
struct Reserve {
    n_blocks: usize,
    block_bytes: usize,
}

impl CustomOp1 for Reserve {
    fn name(&self) -> &'static str {
        "kv-reserve"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some(n_bytes) = self.n_blocks.checked_mul(self.block_bytes).filter(|n| *n <= isize::MAX as usize)
        else {
            bail!("no memory for {} KV blocks of {} bytes", self.n_blocks, self.block_bytes);
        };
        Ok((CpuStorage::U8(vec![0; n_bytes]), (self.n_blocks, self.block_bytes).into()))
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(
        &self,
        dummy: &candle_core::MetalStorage,
        _: &Layout,
    ) -> Result<(candle_core::MetalStorage, Shape)> {
        let n_bytes = self.n_blocks.saturating_mul(self.block_bytes);
        Ok((metal::reserve(dummy, n_bytes)?, (self.n_blocks, self.block_bytes).into()))
    }
}

/// Rounds vectors to the pool's format and puts each at its token's slot.
struct Store<'a> {
    part: &'a Part,
    #[cfg_attr(
        not(all(feature = "metal", target_os = "macos")),
        expect(dead_code, reason = "Metal's programs")
    )]
    shaders: &'a Shaders,
}

impl InplaceOp3 for Store<'_> {
    fn name(&self) -> &'static str {
        "kv-store"
    }

    fn cpu_fwd(
        &self,
        pool: &mut CpuStorage,
        _: &Layout,
        vectors: &CpuStorage,
        vectors_l: &Layout,
        slots: &CpuStorage,
        slots_l: &Layout,
    ) -> Result<()> {
        let (pool, vectors, slots) = (bytes(pool)?, floats(vectors, vectors_l)?, ids(slots, slots_l)?);
        let (dim, n_kv_heads) = (self.part.dim, self.part.n_kv_heads);
        for (i, vector) in vectors.chunks_exact(dim).enumerate() {
            self.part.store(pool, slots[i / n_kv_heads] as usize, i % n_kv_heads, vector);
        }
        Ok(())
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(
        &self,
        pool: &mut candle_core::MetalStorage,
        _: &Layout,
        vectors: &candle_core::MetalStorage,
        vectors_l: &Layout,
        slots: &candle_core::MetalStorage,
        slots_l: &Layout,
    ) -> Result<()> {
        metal::store(self.shaders.metal()?, self.part, pool, (vectors, vectors_l), (slots, slots_l))
    }
}

/// Reads slots as floats, each head's beside each other.
struct Gather<'a> {
    part: &'a Part,
    /// Rows, and slots of each.
    shape: (usize, usize),
    #[cfg_attr(
        not(all(feature = "metal", target_os = "macos")),
        expect(dead_code, reason = "Metal's programs")
    )]
    shaders: &'a Shaders,
}

impl Gather<'_> {
    fn out_shape(&self) -> (usize, usize, usize, usize) {
        (self.shape.0, self.part.n_kv_heads, self.shape.1, self.part.dim)
    }
}

impl CustomOp2 for Gather<'_> {
    fn name(&self) -> &'static str {
        "kv-gather"
    }

    fn cpu_fwd(
        &self,
        pool: &CpuStorage,
        _: &Layout,
        slots: &CpuStorage,
        slots_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (pool, slots) = (pool.as_slice::<u8>()?, ids(slots, slots_l)?);
        let (n_rows, n_kv_heads, n_seen, dim) = self.out_shape();
        let mut out = vec![0.0; n_rows * n_kv_heads * n_seen * dim];
        for (i, vector) in out.chunks_exact_mut(dim).enumerate() {
            let (row, head, seen) = (i / (n_kv_heads * n_seen), i / n_seen % n_kv_heads, i % n_seen);
            match slots[row * n_seen + seen] {
                NO_SLOT => {}
                slot => self.part.load(pool, slot as usize, head, vector),
            }
        }
        Ok((CpuStorage::F32(out), self.out_shape().into()))
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(
        &self,
        pool: &candle_core::MetalStorage,
        _: &Layout,
        slots: &candle_core::MetalStorage,
        slots_l: &Layout,
    ) -> Result<(candle_core::MetalStorage, Shape)> {
        let out = metal::gather(self.shaders.metal()?, self.part, self.shape, pool, (slots, slots_l))?;
        Ok((out, self.out_shape().into()))
    }
}

/// Copies bytes of the pool over others of it.
struct CopyWithin {
    from: usize,
    to: usize,
    n_bytes: usize,
}

impl InplaceOp1 for CopyWithin {
    fn name(&self) -> &'static str {
        "kv-copy"
    }

    fn cpu_fwd(&self, pool: &mut CpuStorage, _: &Layout) -> Result<()> {
        bytes(pool)?.copy_within(self.from..self.from + self.n_bytes, self.to);
        Ok(())
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(&self, pool: &mut candle_core::MetalStorage, _: &Layout) -> Result<()> {
        metal::copy((&*pool, self.from), (&*pool, self.to), self.n_bytes)
    }
}

/// Takes bytes out of the pool.
struct ReadBytes {
    from: usize,
    n_bytes: usize,
}

impl CustomOp1 for ReadBytes {
    fn name(&self) -> &'static str {
        "kv-read"
    }

    fn cpu_fwd(&self, pool: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let bytes = pool.as_slice::<u8>()?[self.from..self.from + self.n_bytes].to_vec();
        Ok((CpuStorage::U8(bytes), self.n_bytes.into()))
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(
        &self,
        pool: &candle_core::MetalStorage,
        _: &Layout,
    ) -> Result<(candle_core::MetalStorage, Shape)> {
        let out = metal::staging(pool, self.n_bytes)?;
        metal::copy((pool, self.from), (&out, 0), self.n_bytes)?;
        Ok((out, self.n_bytes.into()))
    }
}

/// Puts bytes into the pool.
struct WriteBytes {
    to: usize,
}

impl InplaceOp2 for WriteBytes {
    fn name(&self) -> &'static str {
        "kv-write"
    }

    fn cpu_fwd(&self, pool: &mut CpuStorage, _: &Layout, from: &CpuStorage, _: &Layout) -> Result<()> {
        let from = from.as_slice::<u8>()?;
        bytes(pool)?[self.to..self.to + from.len()].copy_from_slice(from);
        Ok(())
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(
        &self,
        pool: &mut candle_core::MetalStorage,
        _: &Layout,
        from: &candle_core::MetalStorage,
        from_l: &Layout,
    ) -> Result<()> {
        metal::copy((from, 0), (&*pool, self.to), from_l.shape().elem_count())
    }
}
