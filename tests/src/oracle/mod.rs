//! The float64 oracle: what every op must answer, by the most obvious loops possible.
//!
//! Written from the mathematics alone. It must not know any device, graph or plan: nothing here is shared with the code
//! under test except the list of dtypes. Shapes are row-major, outermost axis first. A wrong shape or index is a
//! defect of the calling test, so these functions panic on it instead of returning errors.

mod array;
mod attention;
mod collective;
mod dequant;
mod elementwise;
mod gated_delta_net;
mod glu;
mod layout;
mod matmul;
mod norm;
mod order;
mod reduce;
mod rope;
mod route;
mod rows;
mod sample;
mod scalar;
mod softmax;
mod ssm_conv;

pub use array::{Array, Dense, IntArray};
pub use attention::{AttentionParams, PagedKv, attention, attention_paged};
pub use collective::{all_gather, all_reduce, reduce_scatter};
pub use dequant::dequantize;
pub use elementwise::{BinaryKind, UnaryKind, binary, clamp, erf, scale, unary};
pub use gated_delta_net::{DeltaNetInputs, DeltaNetOutput, gated_delta_net};
pub use glu::{GluKind, glu_fused, glu_split};
pub use layout::{broadcast, concat, permute, reshape, slice};
pub use matmul::{matmul, matmul_id};
pub use norm::{l2_norm, layer_norm, rms_norm};
pub use order::{argmax, argsort, top_k};
pub use reduce::{cumsum, mean, sum};
pub use rope::{RopeMode, RopeParams, rope};
pub use route::{Gating, route_experts};
pub use rows::{Pages, cache_write, get_rows, set_rows, zeros_around};
pub use sample::sample;
pub use scalar::{
    bf16_from_bits, cast, decode_ints, encode_floats, encode_ints, f16_from_bits, round_to,
};
pub use softmax::softmax;
pub use ssm_conv::ssm_conv;
