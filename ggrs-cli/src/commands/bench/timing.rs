//! One test of the benchmark: what is run, and how long each repetition took. Knows no formats.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ggrs_core::device::KernelTime;
use ggrs_model::sampling::{Sampler, SamplerConfig};
use ggrs_model::tokenizer::TokenId;
use ggrs_model::{Logits, Model, Session, SessionOptions, SlotId};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::console::Console;
use crate::error::CliError;
use crate::load::open_session;
use crate::progress::Unit;

/// Where random token ids begin.
const SEED: u64 = 0;

/// What a test does with its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reads them all.
    Prefill,
    /// Takes random ones one by one, and logits of each.
    Decode,
    /// Makes them one by one, each from the one before.
    Chained,
}

/// A test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) kind: Kind,
    pub(super) n_tokens: usize,
    /// Tokens in the context before.
    pub(super) depth: usize,
}

impl Test {
    pub(super) const fn prefill(n_tokens: usize, depth: usize) -> Self {
        Self {
            kind: Kind::Prefill,
            n_tokens,
            depth,
        }
    }

    pub(super) const fn decode(n_tokens: usize, depth: usize) -> Self {
        Self {
            kind: Kind::Decode,
            n_tokens,
            depth,
        }
    }

    pub(super) const fn chained(n_tokens: usize, depth: usize) -> Self {
        Self {
            kind: Kind::Chained,
            n_tokens,
            depth,
        }
    }

    /// The context that it needs.
    pub(super) const fn n_ctx(self) -> usize {
        self.depth.saturating_add(self.n_tokens)
    }

    /// Runs it once, or only its first `n` tokens.
    fn run(self, session: &mut Session, ids: &[TokenId]) -> Result<(), CliError> {
        let at_once = match self.kind {
            Kind::Prefill => ids.len().max(1),
            Kind::Decode => 1,
            Kind::Chained => return chain(session, ids),
        };
        for ids in ids.chunks(at_once) {
            session.feed(ids, Logits::Last)?;
        }
        Ok(())
    }

    /// The tokens that are run before the clock starts.
    fn warm_up(self, ids: &[TokenId]) -> &[TokenId] {
        match self.kind {
            Kind::Prefill => ids,
            Kind::Decode | Kind::Chained => ids.get(..1).unwrap_or(ids),
        }
    }
}

/// As many tokens as there are ids, from the first of them.
fn chain(session: &mut Session, ids: &[TokenId]) -> Result<(), CliError> {
    let mut greedy = Sampler::new(SamplerConfig::default(), SEED)?;
    let mut slot = session.slot(SlotId(0))?;
    let mut token = ids.first().copied().unwrap_or_default();
    for _ in ids {
        token = slot.decode(token, &mut greedy)?;
    }
    Ok(())
}

/// llama-bench's name of the test: `pp512`, `tg128 @ d4096`; a chained one says so.
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, how) = match self.kind {
            Kind::Prefill => ("pp", ""),
            Kind::Decode => ("tg", ""),
            Kind::Chained => ("tg", " chained"),
        };
        match self.depth {
            0 => f.pad(&format!("{kind}{}{how}", self.n_tokens)),
            depth => f.pad(&format!("{kind}{}{how} @ d{depth}", self.n_tokens)),
        }
    }
}

/// What a test gave.
pub(super) struct Measured {
    /// The time of each repetition.
    pub(super) samples: Vec<Duration>,
    /// For each device, where the time of one step goes; empty if nobody asked or no device can tell.
    pub(super) profile: Vec<(String, Vec<KernelTime>)>,
}

/// Times `repetitions` runs, each from the same context, and then looks inside a step if it is asked to.
pub(super) fn measure(
    model: &Arc<Model>,
    test: Test,
    options: &SessionOptions,
    (repetitions, profile): (u32, bool),
    console: &Console,
) -> Result<Measured, CliError> {
    let mut session = open_session(model, options)?;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let n_vocab = TokenId::try_from(model.architecture().n_vocab()).unwrap_or(TokenId::MAX);
    let mut random =
        |n: usize| -> Vec<TokenId> { (0..n).map(|_| rng.random_range(0..n_vocab)).collect() };
    let bar = console.bar("measuring", Unit::Steps);
    bar.set_length(u64::from(repetitions));
    bar.set_message(test.to_string());

    if test.depth > 0 {
        session.feed(&random(test.depth), Logits::Last)?;
    }
    let ids = random(test.n_tokens);
    test.run(&mut session, test.warm_up(&ids))?;
    let mut samples = Vec::new();
    for _ in 0..repetitions {
        session.truncate(test.depth);
        let start = Instant::now();
        test.run(&mut session, &ids)?;
        samples.push(start.elapsed());
        bar.inc(1);
    }
    bar.finish_and_clear();
    let profile = if profile {
        let n_step = match test.kind {
            Kind::Prefill => test.n_tokens.min(options.n_batch),
            Kind::Decode | Kind::Chained => 1,
        };
        session.profile(n_step)?
    } else {
        Vec::new()
    };
    Ok(Measured { samples, profile })
}
