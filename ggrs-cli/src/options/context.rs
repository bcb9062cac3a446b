//! Options of a session's memory: context, batch, KV type.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ggrs_core::DType;
use ggrs_core::device::Precision;
use ggrs_model::SessionOptions;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Context options")]
pub(crate) struct ContextOptions {
    /// Tokens that the context holds [default: what the command needs, or the model's, up to 4096]
    #[arg(short, long, value_name = "N")]
    pub(crate) ctx: Option<usize>,
    /// The most tokens in one step of a prefill
    #[arg(short, long, value_name = "N", default_value_t = SessionOptions::default().n_batch)]
    pub(crate) batch: usize,
    /// What keys and values are kept as [default: f16, or f32 with --precision exact]
    #[arg(long, value_name = "TYPE", ignore_case = true, value_parser = kv_type_parser())]
    pub(crate) kv_type: Option<DType>,
}

fn kv_type_parser() -> impl TypedValueParser<Value = DType> {
    let names = ["f32", "f16", "bf16", "q8_0", "q4_0"];
    PossibleValuesParser::new(names).map(|name| DType::from_name(&name).unwrap_or(DType::F16))
}

impl ContextOptions {
    /// The KV type: the one asked for, or the one that the precision implies.
    pub(crate) fn kv_dtype(&self, precision: Precision) -> DType {
        self.kv_type.unwrap_or(match precision {
            Precision::Exact => DType::F32,
            Precision::Fast => DType::F16,
        })
    }

    /// The sizes of a session. `needed` is the context that the command needs if the user does not say.
    pub(crate) fn session_options(
        &self,
        needed: Option<usize>,
        precision: Precision,
    ) -> SessionOptions {
        SessionOptions {
            n_ctx: self.ctx.or(needed),
            n_batch: self.batch,
            kv_dtype: self.kv_dtype(precision),
            ..SessionOptions::default()
        }
    }
}
