//! Weights on the device, as the file has them.

use std::borrow::Cow;
use std::sync::Arc;

#[cfg(test)]
use candle_core::DType;
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Result, Tensor};
use kernels::ggml::GgmlType;

use super::able::device_types;
use super::one_line::one_line;
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::file::header::TensorInfo;
use crate::run::load::{Pack, StoredMatrix, not_packed};

/// A tensor's bytes must start at a multiple of this: the widest number in a block of quantised values.
const ALIGNMENT: usize = 4;

/// Puts tensors on a device.
pub(super) struct DevicePack<'a> {
    pub(super) device: &'a Device,
}

/// A matrix `[n_out, n_in]` on the device.
pub(super) struct Matrix(QMatMul);

impl Pack for DevicePack<'_> {
    type Matrix = Matrix;
    type Vector = Tensor;

    fn matrix(
        &self,
        gguf: &Gguf,
        stored: &StoredMatrix<'_>,
        done: &mut dyn FnMut(usize) -> std::result::Result<(), Cause>,
    ) -> std::result::Result<Matrix, Cause> {
        let StoredMatrix { tensor, n_out, n_in, ref bytes } = *stored;
        let dtype = dtype(tensor)?;
        // To read it takes far longer than to put it on the device.
        let raw = gguf.part_by_steps(tensor, bytes.clone(), done)?;
        // Every allocator of this size gives more than that; candle takes the bytes for numbers as they stand.
        let place = raw.as_ptr() as usize % ALIGNMENT;
        if place != 0 && tensor.ty != GgmlType::F32 {
            let error = format!("lies {place} bytes beside a multiple of {ALIGNMENT} in memory");
            return Err(not_packed(tensor, &error));
        }
        let put = self.put(dtype, &raw, (n_out, n_in));
        put.map_err(|error| not_packed(tensor, &one_line(&error)))
    }

    fn vector(&self, values: Vec<f32>) -> std::result::Result<Tensor, String> {
        let n = values.len();
        Tensor::from_vec(values, n, self.device).map_err(|error| one_line(&error))
    }
}

impl DevicePack<'_> {
    fn put(&self, dtype: GgmlDType, raw: &[u8], shape: (usize, usize)) -> Result<Matrix> {
        if dtype == GgmlDType::F32 {
            let (values, _) = raw.as_chunks();
            let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            return Ok(Matrix(QMatMul::Tensor(Tensor::from_vec(values, shape, self.device)?)));
        }
        let storage = QStorage::from_data(Cow::Borrowed(raw), self.device, dtype)?;
        // Not `QMatMul::from_qtensor`, which would expand half precision to twice its size.
        Ok(Matrix(QMatMul::QTensor(Arc::new(QTensor::new(storage, shape)?))))
    }
}

impl Matrix {
    /// `x` `[n, n_in]` times the matrix: `[n, n_out]`.
    pub(super) fn linear(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }

    /// The same values as floats, which is what a GPU multiplies: candle's CPU form rounds what goes in to 8 bits.
    #[cfg(test)]
    pub(super) fn in_floats(self) -> Result<Matrix> {
        match self.0 {
            QMatMul::QTensor(quantised) => Ok(Matrix(QMatMul::Tensor(quantised.dequantize(&Device::Cpu)?))),
            floats => Ok(Matrix(floats)),
        }
    }

    /// The same values in half precision.
    #[cfg(test)]
    pub(super) fn in_halves(self) -> Result<Matrix> {
        match self.in_floats()?.0 {
            QMatMul::Tensor(floats) => {
                Ok(Matrix(QMatMul::Tensor(floats.to_dtype(DType::F16)?.to_dtype(DType::F32)?)))
            }
            other => Ok(Matrix(other)),
        }
    }

    /// The rows `ids`, `[n_ids, n_in]`.
    pub(super) fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        self.0.embedding(ids)
    }
}

/// What candle calls the type of `tensor`.
fn dtype(tensor: &TensorInfo) -> std::result::Result<GgmlDType, Cause> {
    macro_rules! of_candle {
        ($($one:ident)+) => {
            match tensor.ty {
                $(GgmlType::$one => Ok(GgmlDType::$one),)+
                other => {
                    let error = format!("a GPU does not multiply with weights in {}", other.name());
                    Err(not_packed(tensor, &error))
                }
            }
        };
    }
    device_types!(of_candle)
}
