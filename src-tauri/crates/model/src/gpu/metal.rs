//! Metal's form of the operations, and the GPU itself. Not run on a Mac yet: type-checked and linted only; what it
//! computes is held by tests of the CPU's form and of the text of `shaders.metal`.
//!
//! candle orders dispatches by the buffers that they read and write, so every buffer is set as the one or the other.
//! Nothing here waits for the GPU.

use candle_core::backend::BackendStorage;
use candle_core::{
    DType, Device, Layout, MetalDevice, MetalError, MetalStorage, Result, Storage, Tensor, bail,
};
use candle_metal_kernels::metal::{ComputeCommandEncoder, ComputePipeline};
use candle_metal_kernels::{MetalKernelError, SdpaDType};
use objc2_metal::{MTLDevice, MTLSize};

use super::part::{GROUP, KvFormat, Part};
use crate::plan::rope_plan::RopePairs;

/// A tensor as an operation sees it.
type View<'a> = (&'a MetalStorage, &'a Layout);

/// Our programs, compiled for one GPU.
pub(super) struct Programs {
    store_f16: ComputePipeline,
    store_q8: ComputePipeline,
    gather_f16: ComputePipeline,
    gather_q8: ComputePipeline,
    rotate: ComputePipeline,
    hadamard: ComputePipeline,
}

/// `Part` in `shaders.metal`.
#[repr(C)]
struct PartParams {
    offset: u64,
    block_bytes: u64,
    block_tokens: u32,
    n_kv_heads: u32,
    dim: u32,
    n_seen: u32,
}

/// `Rotation` in `shaders.metal`.
#[repr(C)]
struct RotationParams {
    n_heads: u32,
    dim: u32,
    n_pairs: u32,
    is_interleaved: u32,
}

/// `Spread` in `shaders.metal`.
#[repr(C)]
struct SpreadParams {
    dim: u32,
    run: u32,
    root: f32,
}

/// The GPU that this process may use, if it has one.
pub(crate) fn open() -> Result<Option<Device>> {
    // candle panics where there is none.
    match candle_metal_kernels::metal::Device::all().is_empty() {
        true => Ok(None),
        false => Device::new_metal(0).map(Some),
    }
}

/// Bytes that weights and KV may take: what the GPU can use without paging, and a buffer can be at most.
pub(crate) fn memory_bytes(device: &Device) -> Result<u64> {
    let device = device.as_metal_device()?.metal_device();
    Ok(device.recommended_max_working_set_size().min(device.as_ref().maxBufferLength()) as u64)
}

/// What the system calls the GPU, as `Apple M2 Pro`.
pub(crate) fn name(device: &Device) -> Result<String> {
    Ok(device.as_metal_device()?.metal_device().as_ref().name().to_string())
}

impl Programs {
    pub(super) fn new(device: &MetalDevice) -> Result<Programs> {
        let device = device.metal_device();
        let library =
            device.new_library_with_source(include_str!("shaders.metal"), None).map_err(MetalError::from)?;
        let program = |name: &str| -> std::result::Result<ComputePipeline, MetalKernelError> {
            device.new_compute_pipeline_state_with_function(&library.get_function(name, None)?)
        };
        let programs = || {
            Ok(Programs {
                store_f16: program("store_f16")?,
                store_q8: program("store_q8")?,
                gather_f16: program("gather_f16")?,
                gather_q8: program("gather_q8")?,
                rotate: program("rotate_pairs")?,
                hadamard: program("hadamard")?,
            })
        };
        Ok(programs().map_err(|error: MetalKernelError| MetalError::from(error))?)
    }
}

/// A buffer of exactly `n_bytes` on the device of `near`, kept until [`unreserve`].
pub(super) fn reserve(near: &MetalStorage, n_bytes: usize) -> Result<MetalStorage> {
    let device = near.device();
    let longest = device.metal_device().as_ref().maxBufferLength();
    if n_bytes > longest {
        bail!("a buffer of {n_bytes} bytes, and the GPU takes {longest} at most");
    }
    let buffer = device.new_private_buffer(n_bytes, DType::U8, "kv")?;
    Ok(MetalStorage::new(buffer, device.clone(), n_bytes, DType::U8))
}

/// Lets go of a reserved buffer, which the device would otherwise hold for as long as it lives itself.
pub(super) fn unreserve(reserved: &Tensor) {
    if let Storage::Metal(storage) = &*reserved.storage_and_layout().0 {
        storage.device().unregister_buffers([storage.buffer()]);
    }
}

/// A buffer of at least `n_bytes` for one transfer.
pub(super) fn staging(near: &MetalStorage, n_bytes: usize) -> Result<MetalStorage> {
    let device = near.device();
    let buffer = device.new_buffer_builder().with_size_for(n_bytes, DType::U8).build()?;
    Ok(MetalStorage::new(buffer, device.clone(), n_bytes, DType::U8))
}

/// Copies bytes from buffer to buffer, or within one where they do not overlap.
pub(super) fn copy(from: (&MetalStorage, usize), to: (&MetalStorage, usize), n_bytes: usize) -> Result<()> {
    let mut blit = from.0.device().blit_command_encoder()?;
    blit.copy_from_buffer(from.0.buffer(), from.1, to.0.buffer(), to.1, n_bytes);
    Ok(())
}

pub(super) fn store(
    programs: &Programs,
    part: &Part,
    pool: &MetalStorage,
    vectors: View<'_>,
    slots: View<'_>,
) -> Result<()> {
    let (program, width) = match part.format {
        KvFormat::F16 => (&programs.store_f16, part.dim),
        KvFormat::Q8 => (&programs.store_q8, part.n_groups()),
    };
    let n_tokens = slots.1.shape().elem_count();
    run(pool.device(), program, (width, n_tokens, part.n_kv_heads), |encoder| {
        encoder.set_bytes(0, &part_params(part, 1));
        set_input(encoder, 1, vectors)?;
        set_input(encoder, 2, slots)?;
        encoder.set_output_buffer(3, Some(pool.buffer()), 0);
        Ok(())
    })
}

pub(super) fn gather(
    programs: &Programs,
    part: &Part,
    (n_rows, n_seen): (usize, usize),
    pool: &MetalStorage,
    slots: View<'_>,
) -> Result<MetalStorage> {
    let program = match part.format {
        KvFormat::F16 => &programs.gather_f16,
        KvFormat::Q8 => &programs.gather_q8,
    };
    let out = floats(pool.device(), n_rows * n_seen * part.n_kv_heads * part.dim)?;
    run(pool.device(), program, (part.dim, n_rows * n_seen, part.n_kv_heads), |encoder| {
        encoder.set_bytes(0, &part_params(part, n_seen));
        encoder.set_input_buffer(1, Some(pool.buffer()), 0);
        set_input(encoder, 2, slots)?;
        encoder.set_output_buffer(3, Some(out.buffer()), 0);
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn rotate(
    programs: &Programs,
    pairs: RopePairs,
    x: View<'_>,
    table: View<'_>,
) -> Result<MetalStorage> {
    let ((n_tokens, n_heads, dim), (_, _, n_pairs)) = (x.1.shape().dims3()?, table.1.shape().dims3()?);
    let out = floats(x.0.device(), n_tokens * n_heads * dim)?;
    let params = RotationParams {
        n_heads: n_heads as u32,
        dim: dim as u32,
        n_pairs: n_pairs as u32,
        is_interleaved: u32::from(pairs == RopePairs::Interleaved),
    };
    run(x.0.device(), &programs.rotate, (dim, n_tokens, n_heads), |encoder| {
        encoder.set_bytes(0, &params);
        set_input(encoder, 1, x)?;
        set_input(encoder, 2, table)?;
        encoder.set_output_buffer(3, Some(out.buffer()), 0);
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn hadamard(programs: &Programs, x: View<'_>) -> Result<MetalStorage> {
    let n = x.1.shape().elem_count();
    let dim = x.1.dims().last().copied().unwrap_or(1);
    let run = 1 << dim.trailing_zeros();
    let out = floats(x.0.device(), n)?;
    let params = SpreadParams { dim: dim as u32, run: run as u32, root: 1.0 / (run as f32).sqrt() };
    self::run(x.0.device(), &programs.hadamard, (dim / run, n / dim, 1), |encoder| {
        encoder.set_bytes(0, &params);
        set_input(encoder, 1, x)?;
        encoder.set_output_buffer(2, Some(out.buffer()), 0);
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn rms_norm(x: View<'_>, weight: View<'_>, eps: f32) -> Result<MetalStorage> {
    let (device, n) = (x.0.device(), x.1.shape().elem_count());
    let out = floats(device, n)?;
    candle_metal_kernels::call_rms_norm(
        device.metal_device(),
        &device.command_encoder()?,
        device.kernels(),
        "rmsnorm_f32",
        n,
        weight.1.shape().elem_count(),
        eps,
        x.0.buffer(),
        offset(x)?,
        weight.0.buffer(),
        offset(weight)?,
        out.buffer(),
    )
    .map_err(MetalError::from)?;
    Ok(out)
}

pub(super) fn softmax(x: View<'_>) -> Result<MetalStorage> {
    let (device, n) = (x.0.device(), x.1.shape().elem_count());
    let out = floats(device, n)?;
    candle_metal_kernels::call_last_softmax(
        device.metal_device(),
        &device.command_encoder()?,
        device.kernels(),
        "softmax_f32",
        n,
        x.1.dims().last().copied().unwrap_or(1),
        x.0.buffer(),
        offset(x)?,
        out.buffer(),
    )
    .map_err(MetalError::from)?;
    Ok(out)
}

/// Attention of one query a row: `q` is `[1, n_heads, 1, dim]`, `k` and `v` are `[1, n_kv_heads, n_seen, dim]`; the
/// result is `[1, n_heads × dim]`.
pub(super) fn sdpa_of_one(
    (scale, softcap): (f32, Option<f32>),
    q: View<'_>,
    k: View<'_>,
    v: View<'_>,
) -> Result<MetalStorage> {
    let device = q.0.device();
    let out = floats(device, q.1.shape().elem_count())?;
    let encoder = device.command_encoder()?;
    candle_metal_kernels::call_sdpa_vector(
        device.metal_device(),
        &encoder,
        device.kernels(),
        start(q),
        q.1.dims(),
        q.0.buffer(),
        start(k),
        k.1.dims(),
        k.1.stride(),
        k.0.buffer(),
        start(v),
        v.1.stride(),
        v.0.buffer(),
        out.buffer(),
        scale,
        softcap.unwrap_or(1.0),
        SdpaDType::F32,
    )
    .map_err(MetalError::from)?;
    Ok(out)
}

/// Attention of many queries, each of which sees everything up to itself: `q` is `[1, n_heads, n_queries, dim]`, `k`
/// and `v` are `[1, n_kv_heads, n_seen, dim]`; the result is `[n_queries, n_heads × dim]`.
pub(super) fn sdpa_of_many(scale: f32, q: View<'_>, k: View<'_>, v: View<'_>) -> Result<MetalStorage> {
    let device = q.0.device();
    let (_, n_heads, n_queries, dim) = q.1.shape().dims4()?;
    let out = floats(device, n_queries * n_heads * dim)?;
    let encoder = device.command_encoder()?;
    candle_metal_kernels::call_sdpa_full(
        device.metal_device(),
        &encoder,
        device.kernels(),
        start(q),
        q.1.dims(),
        q.1.stride(),
        q.0.buffer(),
        start(k),
        k.1.dims(),
        k.1.stride(),
        k.0.buffer(),
        start(v),
        v.0.buffer(),
        v.1.stride(),
        None,
        None,
        None,
        out.buffer(),
        &[n_queries * n_heads * dim, dim, n_heads * dim, 1],
        scale,
        true,
        SdpaDType::F32,
    )
    .map_err(MetalError::from)?;
    Ok(out)
}

/// Where a tensor of whole vectors starts in its buffer, in bytes, whatever its other strides.
fn start(view: View<'_>) -> usize {
    view.1.start_offset() * DType::F32.size_in_bytes()
}

/// Run `program` once for each point of `grid`, with the operands that `set` gives it.
fn run(
    device: &MetalDevice,
    program: &ComputePipeline,
    (width, height, depth): (usize, usize, usize),
    set: impl FnOnce(&ComputeCommandEncoder) -> Result<()>,
) -> Result<()> {
    let guard = device.command_encoder()?;
    let encoder: &ComputeCommandEncoder = guard.as_ref();
    encoder.set_compute_pipeline_state(program);
    set(encoder)?;
    // Neighbours in a group are neighbours in memory: values of a vector first, then tokens.
    let threads = program.max_total_threads_per_threadgroup().min(256);
    let group_width = width.min(threads);
    let group = MTLSize { width: group_width, height: (threads / group_width).min(height).max(1), depth: 1 };
    encoder.dispatch_threads(MTLSize { width, height, depth }, group);
    Ok(())
}

fn part_params(part: &Part, n_seen: usize) -> PartParams {
    PartParams {
        offset: part.offset as u64,
        block_bytes: part.block_bytes as u64,
        block_tokens: part.block_tokens as u32,
        n_kv_heads: part.n_kv_heads as u32,
        dim: part.dim as u32,
        n_seen: n_seen as u32,
    }
}

fn set_input(encoder: &ComputeCommandEncoder, index: usize, view: View<'_>) -> Result<()> {
    encoder.set_input_buffer(index, Some(view.0.buffer()), offset(view)?);
    Ok(())
}

/// Where a contiguous tensor starts in its buffer, in bytes.
fn offset((storage, layout): View<'_>) -> Result<usize> {
    match layout.contiguous_offsets() {
        Some((start, _)) => Ok(start * storage.dtype().size_in_bytes()),
        None => bail!("a tensor of shape {:?} and strides {:?}", layout.shape(), layout.stride()),
    }
}

/// Room for `n` floats that one operation writes and others read.
fn floats(device: &MetalDevice, n: usize) -> Result<MetalStorage> {
    let buffer = device.new_buffer_builder().with_size_for(n, DType::F32).build()?;
    Ok(MetalStorage::new(buffer, device.clone(), n, DType::F32))
}

// A group of `shaders.metal` is one of the pool's.
const _: () = assert!(GROUP == 32);
