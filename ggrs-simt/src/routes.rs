//! The one table of kernels: which family chooses the kernel of an op.

use ggrs_core::Unsupported;
use ggrs_core::ops::Op;

use crate::kernel::{Choice, ModuleKey, Request};
use crate::kernels::{
    attention, cache, collective, elementwise, glu, matmul, moe, movement, norm, recurrent, reduce,
    rope, sample, select, softmax,
};

/// The kernel for an op, or every candidate with its reason. Leaves and views run nothing and have none; neither
/// have values that cross between devices, which others move.
pub(crate) fn choose(request: &Request<'_>) -> Result<Choice, Unsupported> {
    match request.operands.op {
        Op::Leaf(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Slice(_)
        | Op::Broadcast(_)
        | Op::Send(_)
        | Op::Receive(_) => Err(Unsupported {
            candidates: Vec::new(),
        }),
        Op::Contiguous(_) => movement::contiguous(request),
        Op::Cast(_) => movement::cast(request),
        Op::Concat(op) => movement::concat(op, request),
        Op::GetRows(op) => movement::get_rows(op, request),
        Op::SetRows(_) => cache::set_rows(request),
        Op::Store(_) => cache::store(request),
        Op::CacheWrite(op) => cache::cache_write(op, request),
        Op::Binary(op) => elementwise::binary(op, request),
        Op::Scale(op) => elementwise::scale(op, request),
        Op::Clamp(op) => elementwise::clamp(op, request),
        Op::Unary(op) => elementwise::unary(op, request),
        Op::Glu(op) => glu::glu(op, request),
        Op::RmsNorm(op) => norm::rms_norm(op, request),
        Op::AddRmsNorm(op) => norm::add_rms_norm(op, request),
        Op::LayerNorm(op) => norm::layer_norm(op, request),
        Op::L2Norm(op) => norm::l2_norm(op, request),
        Op::Softmax(op) => softmax::softmax(op, request),
        Op::Rope(op) => rope::rope(op, request),
        Op::MatMul(_) => matmul::matmul(request),
        Op::MatMulGlu(op) => matmul::matmul_glu(op, request),
        Op::MatMulId(op) => moe::matmul_id(op, request),
        Op::MatMulIdGlu(op) => moe::matmul_id_glu(op, request),
        Op::RouteExperts(op) => select::route_experts(op, request),
        Op::TopK(op) => select::top_k(op, request),
        Op::Argsort(op) => select::argsort(op, request),
        Op::Argmax(_) => select::argmax(request),
        Op::Sample(_) => sample::sample(request),
        Op::Reduce(op) => reduce::reduce(op, request),
        Op::CumSum(_) => reduce::cumsum(request),
        Op::Attention(op) => attention::attention(op, request),
        Op::SsmConv(_) => recurrent::ssm_conv(request),
        Op::GatedDeltaNet(op) => recurrent::gated_delta_net(op, request),
        Op::Collective(op) => collective::collective(op, request),
    }
}

/// Every module that any kernel can ask for: what is compiled ahead, and checked without a device.
pub fn modules() -> Vec<ModuleKey> {
    let families = [
        attention::modules,
        cache::modules,
        collective::modules,
        elementwise::modules,
        glu::modules,
        matmul::modules,
        moe::modules,
        movement::modules,
        norm::modules,
        recurrent::modules,
        reduce::modules,
        rope::modules,
        sample::modules,
        select::modules,
        softmax::modules,
    ];
    let mut all: Vec<ModuleKey> = families.iter().flat_map(|f| f()).collect();
    all.extend(crate::weights::modules());
    all.extend(crate::stages::modules());
    all.sort();
    all.dedup();
    all
}
