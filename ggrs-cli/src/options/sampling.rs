//! Options of an answer: how tokens are chosen and when it ends.

use ggrs_model::GenerateOptions;
use ggrs_model::sampling::{Sampler, SamplerConfig, SamplerConfigError};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sampling options")]
pub(crate) struct SamplingOptions {
    /// The most tokens of an answer [default: as many as the context holds]
    #[arg(short = 'n', long, value_name = "N")]
    max_tokens: Option<usize>,
    /// A text that ends the answer; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on after the token with which the model ends its answer
    #[arg(long)]
    ignore_eos: bool,
    /// Temperature; 0 always takes the most probable token, whatever the options below say
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temp: f32,
    /// Choose among this many most probable tokens; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: usize,
    /// Choose among the most probable tokens that reach this probability together; 1 for all
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Choose among tokens at least this probable beside the most probable one; 0 for all
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Makes recent tokens less likely; 1 for no difference
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repeat_penalty: f32,
    /// Taken from the logits of recent tokens; 0 for no difference
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    presence_penalty: f32,
    /// Taken from the logits of recent tokens for every time that they occur; 0 for no difference
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    frequency_penalty: f32,
    /// How many of the last tokens count as recent
    #[arg(long, value_name = "N", default_value_t = SamplerConfig::default().repetition_window)]
    repeat_last_n: usize,
    /// Where random numbers begin: the same seed gives the same answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl SamplingOptions {
    pub(crate) fn sampler(&self) -> Result<Sampler, SamplerConfigError> {
        let config = SamplerConfig {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repeat_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            repetition_window: self.repeat_last_n,
        };
        Sampler::new(config, self.seed)
    }

    pub(crate) fn limits(&self) -> GenerateOptions {
        GenerateOptions {
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
        }
    }
}
