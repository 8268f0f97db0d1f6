//! What computes a loaded model, and why no GPU does where one was to be expected.

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The processor.
    Cpu,
    /// An Apple GPU.
    Metal,
}

crate::names! {
    pub Backend, ALL {
        Cpu => "cpu",
        Metal => "metal",
    }
}

/// Who serves a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedBy {
    /// What computes it.
    pub backend: Backend,
    /// Why the GPU that there is does not.
    pub gpu_refusal: Option<GpuRefusal>,
}

impl ServedBy {
    /// The CPU, and nobody expected a GPU.
    pub const CPU: ServedBy = ServedBy { backend: Backend::Cpu, gpu_refusal: None };
}

/// Why a GPU does not serve a model: a kind to go by, and the details.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct GpuRefusal {
    /// What kind of thing it is.
    pub kind: GpuRefusalKind,
    /// One line for who wants to know more.
    pub text: String,
}

impl GpuRefusal {
    /// A refusal of this kind.
    pub fn new(kind: GpuRefusalKind, text: impl Into<String>) -> GpuRefusal {
        GpuRefusal { kind, text: text.into() }
    }
}

/// What keeps a GPU from serving a model. Whoever shows a refusal goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuRefusalKind {
    /// The system has one that cannot be used.
    Unusable,
    /// It does not store KV as the settings say.
    KvFormat,
    /// It lacks an operation of the model.
    Model,
    /// The model could not be set up there.
    NoRoom,
    /// It failed while it proved itself.
    Broke,
    /// It computed something else than the CPU.
    Wrong,
}

crate::names! {
    pub GpuRefusalKind, ALL {
        Unusable => "unusable",
        KvFormat => "kv_format",
        Model => "model",
        NoRoom => "no_room",
        Broke => "broke",
        Wrong => "wrong",
    }
}
