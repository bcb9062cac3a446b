//! Recurrent mixers: causal convolution and the gated delta rule. F32 throughout.

mod delta_net;
mod delta_step;
mod ssm_conv;

pub(crate) use delta_net::gated_delta_net;
pub(crate) use ssm_conv::ssm_conv;
