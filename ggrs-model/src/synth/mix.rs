//! Which dtype each weight of a synthetic model gets: one for all, or the mixtures that quantizers make.
//!
//! The rules are those of llama-quantize, without its exceptions for single architectures. Tensor names are not known
//! here, only roles.

use std::str::FromStr;

use ggrs_core::DType;

use super::error::SynthError;

/// How the weights of a model are quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// All matrices in one dtype.
    Pure(DType),
    /// Q3_K, with Q4_K where it matters more.
    Q3KM,
    /// Q4_K, output in Q6_K.
    Q4KS,
    /// Q4_K, with Q6_K in half of the value and down projections: the usual choice.
    Q4KM,
    /// Q5_K, with Q6_K in half of the value and down projections.
    Q5KM,
    /// Experts in MXFP4, the rest in Q8_0.
    Mxfp4Moe,
}

/// What a weight does in the model, as far as its dtype depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Token embeddings with an output matrix of their own.
    Embedding,
    /// The output matrix, or token embeddings that serve as it.
    Output,
    /// Value projection of attention.
    AttnValue,
    /// Query, key and value in one projection.
    AttnFused,
    /// Output projection of attention.
    AttnOutput,
    /// Down projection of a dense or shared FFN.
    FfnDown,
    /// Gate and up projections of experts.
    Expert,
    /// Down projections of experts.
    ExpertDown,
    /// A small projection that controls a recurrent state.
    StateControl,
    /// Router, norm, scale: never quantized.
    Unquantized,
    /// Any other matrix.
    Matrix,
}

impl Mix {
    const MIXTURES: [Self; 5] = [
        Self::Q3KM,
        Self::Q4KS,
        Self::Q4KM,
        Self::Q5KM,
        Self::Mxfp4Moe,
    ];

    /// Every quantization.
    pub fn all() -> impl Iterator<Item = Self> {
        let pure = DType::ALL
            .into_iter()
            .filter(|dtype| !dtype.is_int())
            .map(Self::Pure);
        pure.chain(Self::MIXTURES)
    }

    /// The quantization's name, as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pure(dtype) => dtype.name(),
            Self::Q3KM => "Q3_K_M",
            Self::Q4KS => "Q4_K_S",
            Self::Q4KM => "Q4_K_M",
            Self::Q5KM => "Q5_K_M",
            Self::Mxfp4Moe => "MXFP4_MOE",
        }
    }

    /// The number for `general.file_type` (`enum llama_ftype`).
    pub(super) const fn file_type(self) -> u32 {
        match self {
            Self::Pure(DType::F16) => 1,
            Self::Pure(DType::Q4_0) => 2,
            Self::Pure(DType::Q4_1) => 3,
            Self::Pure(DType::Q8_0) => 7,
            Self::Pure(DType::Q5_0) => 8,
            Self::Pure(DType::Q5_1) => 9,
            Self::Pure(DType::Q2_K) => 10,
            Self::Pure(DType::Q3_K) | Self::Q3KM => 12,
            Self::Q4KS => 14,
            Self::Pure(DType::Q4_K) | Self::Q4KM => 15,
            Self::Pure(DType::Q5_K) | Self::Q5KM => 17,
            Self::Pure(DType::Q6_K) => 18,
            Self::Pure(DType::IQ4_NL) => 25,
            Self::Pure(DType::IQ4_XS) => 30,
            Self::Pure(DType::BF16) => 32,
            Self::Pure(DType::MXFP4) | Self::Mxfp4Moe => 38,
            Self::Pure(DType::F32 | DType::I32 | DType::I64) => 0,
        }
    }

    /// The dtype of a weight with rows of `row_elems` elements, in layer `layer` of `n_layers`.
    pub(super) fn dtype(
        self,
        role: Role,
        layer: usize,
        n_layers: usize,
        row_elems: usize,
    ) -> DType {
        fit_rows(self.wanted(role, layer, n_layers), row_elems)
    }

    fn wanted(self, role: Role, layer: usize, n_layers: usize) -> DType {
        let important = gets_more_bits(layer, n_layers);
        match (self, role) {
            (_, Role::Unquantized) => DType::F32,
            (Self::Pure(dtype), Role::StateControl) if dtype.is_block() => DType::F32,
            (Self::Pure(dtype), _) => dtype,
            (_, Role::StateControl) => DType::F32,

            (Self::Mxfp4Moe, Role::Expert | Role::ExpertDown) => DType::MXFP4,
            (Self::Mxfp4Moe, _) => DType::Q8_0,

            (_, Role::Output) => DType::Q6_K,
            (Self::Q4KM | Self::Q5KM, Role::AttnValue | Role::FfnDown | Role::ExpertDown)
                if important =>
            {
                DType::Q6_K
            }
            (Self::Q4KM, Role::AttnFused) => DType::Q5_K,
            (Self::Q5KM, Role::AttnFused) => DType::Q6_K,
            (
                Self::Q3KM,
                Role::AttnValue
                | Role::AttnFused
                | Role::AttnOutput
                | Role::FfnDown
                | Role::ExpertDown,
            ) => DType::Q4_K,
            (Self::Q3KM, _) => DType::Q3_K,
            (Self::Q4KS | Self::Q4KM, _) => DType::Q4_K,
            (Self::Q5KM, _) => DType::Q5_K,
        }
    }
}

/// The first and last eighth of the layers, and every third between.
fn gets_more_bits(layer: usize, n_layers: usize) -> bool {
    let eighth = n_layers / 8;
    layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2
}

/// A dtype with smaller blocks of about the same size per element, where rows do not end on a block.
fn fit_rows(wanted: DType, row_elems: usize) -> DType {
    let smaller = match wanted {
        DType::IQ4_XS => DType::IQ4_NL,
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        _ => DType::F16,
    };
    let fits = |dtype: &DType| row_elems.is_multiple_of(dtype.block_elems());
    [wanted, smaller]
        .into_iter()
        .find(fits)
        .unwrap_or(DType::F16)
}

impl FromStr for Mix {
    type Err = SynthError;

    fn from_str(name: &str) -> Result<Self, SynthError> {
        let unknown = || SynthError::UnknownMix { found: name.into() };
        Self::all()
            .find(|mix| mix.name().eq_ignore_ascii_case(name))
            .ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q4_k_m_gives_more_bits_to_half_of_the_value_projections() {
        // llama-quantize on 48 layers: the first 6, the last 6, and every third of the 36 between.
        let q6: Vec<_> = (0..48)
            .filter(|i| Mix::Q4KM.dtype(Role::AttnValue, *i, 48, 2048) == DType::Q6_K)
            .collect();
        let expected: Vec<_> = (0..6).chain((8..42).step_by(3)).chain(42..48).collect();
        assert_eq!(q6, expected);
        assert_eq!(Mix::Q4KM.dtype(Role::Matrix, 0, 48, 2048), DType::Q4_K);
        assert_eq!(Mix::Q4KM.dtype(Role::Output, 0, 48, 2048), DType::Q6_K);
    }

    #[test]
    fn rows_that_do_not_end_on_a_block_get_smaller_blocks() {
        assert_eq!(Mix::Q4KM.dtype(Role::Expert, 1, 8, 704), DType::Q5_0);
        assert_eq!(Mix::Q4KM.dtype(Role::ExpertDown, 0, 8, 704), DType::Q8_0);
        assert_eq!(
            Mix::Pure(DType::Q8_0).dtype(Role::Matrix, 0, 8, 48),
            DType::F16
        );
    }

    #[test]
    fn names_come_back() {
        for mix in Mix::all() {
            assert_eq!(mix.name().to_lowercase().parse::<Mix>().unwrap(), mix);
        }
        let error = "q4_k_xl".parse::<Mix>().unwrap_err().to_string();
        assert!(
            error.starts_with(
                "unknown quantization 'q4_k_xl'; expected one of F32, F16, BF16, Q4_0"
            ),
            "{error}"
        );
    }
}
