//! The one table of kernels: which family chooses the kernel of an op.

use ggrs_core::Unsupported;
use ggrs_core::error::RefusalReason;
use ggrs_core::ops::Op;

use crate::kernel::{Choice, ModuleKey, Request};
use crate::kernels::{
    attention, cache, collective, elementwise, glu, matmul, moe, movement, norm, recurrent, reduce,
    rope, sample, select, softmax,
};

/// The kernel for an op, or every candidate with its reason. Leaves and views run nothing and have none; neither
/// have values that cross between devices, which others move. No kernel takes an axis that 32 bits do not count.
pub(crate) fn choose(request: &Request<'_>) -> Result<Choice, Unsupported> {
    refuse_long_axes(request)?;
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

fn refuse_long_axes(request: &Request<'_>) -> Result<(), Unsupported> {
    let operands = request.operands;
    let all = operands.inputs.iter().chain(operands.outputs);
    let longest = all.flat_map(|desc| desc.shape.sizes()).max().unwrap_or(0);
    let max = i32::MAX as usize;
    if longest <= max {
        return Ok(());
    }
    let (what, got) = ("an axis", longest);
    Err(Unsupported::one(
        operands.op.spec().stem(),
        RefusalReason::Size { what, got, max },
    ))
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
    all.extend(crate::roof::modules());
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use ggrs_core::device::{Precision, RouteRequest};
    use ggrs_core::ops::Contiguous;
    use ggrs_core::{DType, TensorDesc};

    use super::*;
    use crate::driver::{Facts, Platform};

    fn chosen(width: usize) -> Result<Choice, Unsupported> {
        let desc = TensorDesc::new(DType::F32, [2, width]);
        let facts = Facts {
            hardware: String::new(),
            arch: "sm_80".to_owned(),
            platform: Platform::Cuda,
            warp: 32,
            n_multiprocessors: 1,
            shared_bytes: 48 << 10,
            l2_bytes: 1 << 20,
            memory_bytes: 1 << 30,
            bandwidth: None,
            has_matrix_units: false,
            has_overlap: false,
            is_simulated: true,
        };
        choose(&Request {
            operands: &RouteRequest {
                op: &Op::from(Contiguous),
                inputs: &[&desc],
                forms: &[None],
                outputs: &[&desc],
                precision: Precision::Exact,
            },
            facts: &facts,
            link: None,
        })
    }

    #[test]
    fn an_axis_that_32_bits_do_not_count_is_refused() {
        let longest = i32::MAX as usize;
        assert!(chosen(longest).is_ok());
        let refused = chosen(longest + 1).err().unwrap().to_string();
        let said = "contiguous an axis is 2147483648, at most 2147483647";
        assert!(refused.contains(said), "{refused}");
    }
}
