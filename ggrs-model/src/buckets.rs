//! Buckets: the token counts for which executables are compiled. A step of fewer tokens runs padded.

use std::sync::Arc;

use ggrs_core::Graph;
use ggrs_core::device::{Bindings, Device, Runner};
use ggrs_core::plan::{PlanOptions, plan};

use crate::blocks::names;
use crate::error::SessionError;

/// The smallest bucket that holds `n` tokens, at most `max`: 1, 2, 3, 4, 6, 8, 12, 16, 24, .. so that padding never
/// exceeds a third of the step.
pub(crate) fn bucket(n: usize, max: usize) -> usize {
    let power = n.next_power_of_two();
    let three_quarters = power / 4 * 3;
    let size = if three_quarters >= n {
        three_quarters
    } else {
        power
    };
    size.min(max)
}

/// How many executables are kept besides that of one token.
const KEPT: usize = 3;

/// Compiled steps over one set of weights and states.
pub(crate) struct Steps {
    graph: Graph,
    device: Arc<dyn Device>,
    options: PlanOptions,
    bindings: Bindings,
    /// Tokens, rows of logits, executable; the last used at the end.
    compiled: Vec<(usize, usize, Runner)>,
}

impl Steps {
    pub(crate) fn new(
        graph: Graph,
        device: Arc<dyn Device>,
        options: PlanOptions,
        bindings: Bindings,
    ) -> Self {
        Self {
            graph,
            device,
            options,
            bindings,
            compiled: Vec::new(),
        }
    }

    /// The executable for a step of exactly `n_tokens` tokens and `n_out` rows of logits.
    pub(crate) fn get(
        &mut self,
        n_tokens: usize,
        n_out: usize,
    ) -> Result<&mut Runner, SessionError> {
        if let Some(i) = self
            .compiled
            .iter()
            .position(|(t, o, _)| (*t, *o) == (n_tokens, n_out))
        {
            // Decoding asks for the same step again and again: leave the order alone then.
            if i + 1 != self.compiled.len() {
                let step = self.compiled.remove(i);
                self.compiled.push(step);
            }
        } else {
            let runner = self.compile(n_tokens, n_out)?;
            // The one-token step is never dropped.
            if self.compiled.len() > KEPT
                && let Some(oldest) = self.compiled.iter().position(|(t, _, _)| *t != 1)
            {
                self.compiled.remove(oldest);
            }
            self.compiled.push((n_tokens, n_out, runner));
        }
        match self.compiled.last_mut() {
            Some((_, _, runner)) => Ok(runner),
            // Just pushed or moved there.
            None => Err(SessionError::EmptyPrompt),
        }
    }

    fn compile(&self, n_tokens: usize, n_out: usize) -> Result<Runner, SessionError> {
        let graph = self
            .graph
            .bind(&[(names::N_TOKENS, n_tokens), (names::N_OUT, n_out)])
            .map_err(|source| SessionError::Graph { n_tokens, source })?;
        let plan = plan(&graph, &*self.device, &self.options)
            .map_err(|source| SessionError::Plan { n_tokens, source })?;
        let cost = plan.cost();
        let (steps, arena) = (plan.steps.len(), plan.arenas.iter().sum::<u64>());
        tracing::info!(
            n_tokens,
            n_out,
            steps,
            arena,
            flops = cost.flops,
            bytes = cost.bytes,
            "step planned"
        );
        tracing::trace!("{}", plan.explain());
        let mut runner = Runner::new(&*self.device, &Arc::new(plan), &self.bindings)
            .map_err(|source| SessionError::Bind { n_tokens, source })?;
        runner.executable().capture()?;
        Ok(runner)
    }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn buckets_waste_at_most_a_third_and_never_exceed_the_maximum() {
        for n in 1..=512 {
            let b = bucket(n, 512);
            assert!(b >= n && b <= 512);
            assert!(b == n || (b - n) * 3 <= b + 2, "{n} -> {b}");
        }
        assert_eq!(bucket(5, 512), 6);
        assert_eq!(bucket(300, 320), 320);
    }
}
