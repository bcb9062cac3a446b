//! Recurrent mixers: how their kernels are chosen.

mod delta_net;
mod ssm_conv;

pub(crate) use delta_net::gated_delta_net;
pub(crate) use ssm_conv::ssm_conv;
