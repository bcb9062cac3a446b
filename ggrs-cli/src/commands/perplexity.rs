//! `ggrs perplexity`: how well a model predicts a text.
//!
//! The text is cut into windows of `--ctx` tokens, each read by itself; the second half of each is scored, as
//! llama-perplexity does, so that every scored token has at least half a window before it. The error is that of the
//! mean of the scored tokens' negative log-likelihoods, carried over to its exponential.

use std::path::PathBuf;

use ggrs_model::tokenizer::TokenId;
use ggrs_model::{Logits, Session};
use serde_json::json;

use crate::console::Console;
use crate::error::CliError;
use crate::load::{load_model, open_file, open_session};
use crate::options::{ContextOptions, DeviceOptions};
use crate::progress::Unit;
use crate::prompt::plain_ids;
use crate::text_input::read_text;

/// The smallest window: two tokens are read, one is scored after the one that predicts it.
const MIN_WINDOW: usize = 4;
/// The window if the user does not say.
const DEFAULT_WINDOW: usize = 512;

/// Measure how well a model predicts a text
///
/// The text is cut into windows of --ctx tokens (512 if not given). Each is read by itself, and the tokens of its
/// second half are scored, as llama-perplexity does. What remains at the end of the text is left out.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The text file; `-` is stdin
    file: PathBuf,
    /// Score only the first windows
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// The model [default: the demo model that is part of the program]
    #[arg(short, long, value_name = "MODEL.gguf")]
    model: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    context: ContextOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(crate) fn run(args: Args, console: &mut Console) -> Result<(), CliError> {
    let text = read_text(&args.file)?;
    let window = args.context.ctx.unwrap_or(DEFAULT_WINDOW);
    if window < MIN_WINDOW {
        return Err(CliError::WindowTooSmall {
            window,
            min: MIN_WINDOW,
        });
    }
    let model = load_model(open_file(args.model.as_deref())?, &args.device, console)?;
    let ids = plain_ids(&model, &text, false)?;
    if ids.len() < window {
        return Err(CliError::TextTooShort {
            n_tokens: ids.len(),
            window,
        });
    }
    let options = args
        .context
        .session_options(Some(window), args.device.precision);
    let mut session = open_session(&model, &options)?;
    let tokenizer = model.tokenizer()?;
    let first = if tokenizer.add_bos() {
        tokenizer.bos()
    } else {
        None
    };

    let n_windows = (ids.len() / window).min(args.windows.unwrap_or(usize::MAX));
    let bar = console.bar("windows", Unit::Steps);
    bar.set_length(n_windows as u64);
    let mut score = Score::default();
    for (idx, tokens) in ids.chunks_exact(window).take(n_windows).enumerate() {
        session.truncate(0);
        let mut tokens = tokens.to_vec();
        if let (Some(bos), Some(token)) = (first, tokens.first_mut()) {
            *token = bos;
        }
        score_window(&mut session, (idx, &tokens), options.n_batch, &mut score)?;
        bar.inc(1);
        bar.set_message(format!("perplexity {:.4}", score.perplexity()));
    }
    bar.finish_and_clear();
    if args.json {
        return console.json(&json!({
            "perplexity": score.perplexity(),
            "perplexity_error": score.perplexity() * score.error(),
            "mean_nll": score.mean(),
            "mean_nll_error": score.error(),
            "n_windows": n_windows,
            "window": window,
            "n_scored": score.n,
            "n_tokens": ids.len(),
        }));
    }
    console.line(format_args!(
        "perplexity {:.4} +- {:.4}, mean NLL {:.5} +- {:.5} nats ({} tokens scored: the second halves of {n_windows} windows of {window})",
        score.perplexity(),
        score.perplexity() * score.error(),
        score.mean(),
        score.error(),
        score.n
    ))
}

/// Reads a window, given with its number, and scores its second half.
fn score_window(
    session: &mut Session,
    (window, tokens): (usize, &[TokenId]),
    n_batch: usize,
    score: &mut Score,
) -> Result<(), CliError> {
    let n_vocab = session.model().architecture().n_vocab();
    let (read, scored) = tokens.split_at(tokens.len() / 2);
    session.feed(read, Logits::Last)?;
    // Each position predicts the token after it; the last one's is not in the window.
    let mut targets = (read.len()..).zip(scored.iter().skip(1));
    for batch in scored.chunks(n_batch) {
        let logits = session.feed(batch, Logits::All)?;
        for (row, (position, target)) in logits.chunks_exact(n_vocab).zip(targets.by_ref()) {
            score.add(nll(row, *target).ok_or(CliError::NotFinite { position, window })?);
        }
    }
    Ok(())
}

/// The negative log-likelihood of a token, in nats; `None` if a logit is not finite.
fn nll(logits: &[f32], target: TokenId) -> Option<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    let target = logits.get(usize::try_from(target).ok()?)?;
    let nll = sum.ln() - f64::from(target - max);
    nll.is_finite().then_some(nll)
}

/// Negative log-likelihoods: how many, their sum and the sum of their squares.
#[derive(Debug, Default)]
struct Score {
    n: usize,
    sum: f64,
    squares: f64,
}

impl Score {
    fn add(&mut self, nll: f64) {
        self.n += 1;
        self.sum += nll;
        self.squares += nll * nll;
    }

    fn mean(&self) -> f64 {
        self.sum / self.n as f64
    }

    fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// The standard error of the mean.
    fn error(&self) -> f64 {
        let n = self.n as f64;
        let variance = self.squares / n - self.mean().powi(2);
        (variance.max(0.0) / (n - 1.0).max(1.0)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_give_the_vocabularys_size() {
        let mut score = Score::default();
        for target in 0..4 {
            score.add(nll(&[7.0; 4], target).unwrap());
        }
        assert!((score.perplexity() - 4.0).abs() < 1e-12);
        assert!(score.error() < 1e-6);
    }

    #[test]
    fn the_error_is_that_of_a_mean() {
        let mut score = Score::default();
        // Probabilities 3/4 and 1/4.
        let logits = [3f32.ln(), 0.0];
        score.add(nll(&logits, 0).unwrap());
        score.add(nll(&logits, 1).unwrap());
        let (a, b) = (-(0.75f64.ln()), -(0.25f64.ln()));
        assert!((score.mean() - (a + b) / 2.0).abs() < 1e-7);
        assert!((score.error() - (b - a) / 2.0).abs() < 1e-7);
        assert_eq!(nll(&[f32::NAN, 0.0], 1), None);
    }
}
