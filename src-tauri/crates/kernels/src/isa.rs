//! The instruction sets that have kernels of their own, and which of them this CPU can run.

use std::fmt;

/// An instruction set that the kernels are written for.
///
/// A value other than [`Isa::Scalar`] is only handed out when this CPU has the instructions: the kernels rely
/// on it, hence the private field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Isa(Kind);

/// What an [`Isa`] is, for dispatch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Plain Rust for any CPU.
    Scalar,
    /// AVX2 with FMA and F16C (x86-64 from 2013 on).
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI (x86-64 servers from 2019 on, Zen 4).
    Avx512Vnni,
    /// Armv8.2 with the dot product instructions (every Apple M and A13, Neoverse N1 on).
    NeonDotprod,
}

/// Why a named instruction set cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IsaError {
    /// No instruction set has this name.
    Unknown(String),
    /// The kernels know it, this CPU does not have it.
    Unsupported(&'static str),
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IsaError::Unknown(name) => {
                write!(f, "unknown instruction set `{name}` (scalar, avx2, avx512, neon)")
            }
            IsaError::Unsupported(name) => write!(f, "this CPU cannot run the `{name}` kernels"),
        }
    }
}

impl std::error::Error for IsaError {}

impl Isa {
    /// Plain Rust; runs everywhere.
    pub const SCALAR: Isa = Isa(Kind::Scalar);

    /// The fastest instruction set that this CPU has.
    pub fn detect() -> Isa {
        Isa::available().last().copied().unwrap_or(Isa::SCALAR)
    }

    /// Every instruction set that this CPU has, the slowest first.
    pub fn available() -> Vec<Isa> {
        Kind::ALL.into_iter().filter(|kind| kind.runs_here()).map(Isa).collect()
    }

    /// The instruction set called `name`: `scalar`, `avx2`, `avx512` or `neon`.
    ///
    /// # Errors
    /// When there is none of that name, or this CPU lacks it.
    pub fn from_name(name: &str) -> Result<Isa, IsaError> {
        let known = Kind::ALL.into_iter().map(Isa).find(|isa| isa.name() == name);
        let isa = known.ok_or_else(|| IsaError::Unknown(name.to_owned()))?;
        if isa.0.runs_here() { Ok(isa) } else { Err(IsaError::Unsupported(isa.name())) }
    }

    /// The name that [`Isa::from_name`] takes.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            Kind::Avx2 => "avx2",
            Kind::Avx512Vnni => "avx512",
            Kind::NeonDotprod => "neon",
        }
    }

    /// Which instruction set it is.
    pub fn kind(self) -> Kind {
        self.0
    }
}

impl Kind {
    /// Each of them, the slowest first.
    const ALL: [Kind; 4] = [Kind::Scalar, Kind::Avx2, Kind::Avx512Vnni, Kind::NeonDotprod];

    #[cfg(target_arch = "x86_64")]
    fn runs_here(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma") && has!("f16c");
        match self {
            Kind::Scalar => true,
            Kind::Avx2 => avx2,
            Kind::Avx512Vnni => {
                avx2 && has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512dq")
                    && has!("avx512vl")
                    && has!("avx512vnni")
            }
            Kind::NeonDotprod => false,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn runs_here(self) -> bool {
        match self {
            Kind::Scalar => true,
            Kind::NeonDotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            Kind::Avx2 | Kind::Avx512Vnni => false,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn runs_here(self) -> bool {
        self == Kind::Scalar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_set_is_found_by_its_own_name() {
        for isa in Isa::available() {
            assert_eq!(Isa::from_name(isa.name()), Ok(isa));
        }
        assert!(Isa::available().contains(&Isa::SCALAR));
        assert!(Isa::available().contains(&Isa::detect()));
    }

    #[test]
    fn a_name_that_cannot_run_here_is_refused() {
        let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        assert_eq!(Isa::from_name(foreign), Err(IsaError::Unsupported(foreign)));
        assert_eq!(Isa::from_name("AVX9"), Err(IsaError::Unknown("AVX9".to_owned())));
    }
}
