//! Instruction-set levels: what the machine offers, and the user's choice among them.
//!
//! It must not know any kernel: kernels ask for an [`Isa`] and choose their code by it.

use std::fmt;
use std::sync::OnceLock;

/// The variable that caps the instruction-set level.
pub const ISA_VARIABLE: &str = "GGRS_CPU_ISA";

/// An instruction-set level; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Portable Rust, on every processor.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// `Avx512` and the int8 matrix tiles of AMX.
    Amx,
}

/// Why an instruction-set level cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// The name is none of the levels.
    #[error(
        "{ISA_VARIABLE}={name:?} is not an instruction-set level; this machine has {}",
        names(available)
    )]
    Unknown {
        /// What the user wrote.
        name: String,
        /// The levels of this machine.
        available: Vec<Isa>,
    },
    /// The machine (or its operating system) lacks the level.
    #[error(
        "{ISA_VARIABLE}={wanted} is not supported by this machine, which has {}",
        names(available)
    )]
    Unsupported {
        /// The level asked for.
        wanted: Isa,
        /// The levels of this machine.
        available: Vec<Isa>,
    },
}

fn names(levels: &[Isa]) -> String {
    levels
        .iter()
        .map(|isa| isa.name())
        .collect::<Vec<_>>()
        .join(", ")
}

impl Isa {
    /// Every level, lowest first.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Amx];

    /// The level's name, as the variable takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// The level with this name, in any letter case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(name))
    }

    /// The levels that this machine has, lowest first; never empty.
    pub fn available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|isa| isa.is_available())
            .collect()
    }

    /// The highest level that this machine has.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            Self::ALL
                .into_iter()
                .rev()
                .find(|isa| isa.is_available())
                .unwrap_or(Self::Scalar)
        })
    }

    /// The level to compute with unless the user names one: the highest but AMX, which was measured to be no faster
    /// than AVX-512 VNNI while scales stand every 32 elements (docs/measurements/cpu.md).
    pub fn preferred() -> Self {
        Self::best().min(Self::Avx512)
    }

    /// This level, or the highest one of the machine if it lacks this one.
    pub(crate) fn usable(self) -> Self {
        self.min(Self::best())
    }

    /// The level named by `GGRS_CPU_ISA`, or the preferred one where it is unset or empty.
    ///
    /// # Errors
    /// The name is unknown, or the machine lacks the level.
    pub fn from_env() -> Result<Self, IsaError> {
        match std::env::var_os(ISA_VARIABLE) {
            Some(name) if !name.is_empty() => Self::choose(&name.to_string_lossy()),
            _ => Ok(Self::preferred()),
        }
    }

    /// The level with this name, if the machine has it.
    ///
    /// # Errors
    /// As [`Isa::from_env`].
    pub fn choose(name: &str) -> Result<Self, IsaError> {
        let wanted = Self::from_name(name).ok_or_else(|| IsaError::Unknown {
            name: name.to_owned(),
            available: Self::available(),
        })?;
        if wanted.is_available() {
            Ok(wanted)
        } else {
            Err(IsaError::Unsupported {
                wanted,
                available: Self::available(),
            })
        }
    }

    /// Does this machine have the level?
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        match self {
            Self::Scalar => true,
            Self::Avx2 => has!("avx2") && has!("fma") && has!("f16c"),
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512dq")
                    && has!("avx512vl")
                    && has!("avx512vnni")
            }
            Self::Amx => Self::Avx512.is_available() && crate::gemm::amx_is_available(),
        }
    }

    /// Does this machine have the level?
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_available(self) -> bool {
        self == Self::Scalar
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_everywhere_and_names_round_trip() {
        assert_eq!(Isa::available().first(), Some(&Isa::Scalar));
        for isa in Isa::ALL {
            assert_eq!(Isa::from_name(isa.name()), Some(isa));
            assert_eq!(Isa::choose(isa.name()).is_ok(), isa.is_available());
        }
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_machines_levels() {
        let error = Isa::choose("sse9").expect_err("no such level");
        let text = error.to_string();
        assert!(
            text.starts_with("GGRS_CPU_ISA=\"sse9\" is not an instruction-set level"),
            "{text}"
        );
        assert!(text.contains("scalar"), "{text}");
    }

    #[test]
    fn a_missing_level_is_named() {
        let error = IsaError::Unsupported {
            wanted: Isa::Amx,
            available: vec![Isa::Scalar, Isa::Avx2],
        };
        assert_eq!(
            error.to_string(),
            "GGRS_CPU_ISA=amx is not supported by this machine, which has scalar, avx2"
        );
    }
}
