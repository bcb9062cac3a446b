//! The gated delta rule: a recurrent matrix memory that forgets, corrects and answers, token by token.
//!
//! Formulas: Yang et al. 2024 (Gated Delta Networks). The step-by-step form; chunked forms must agree with it.

use super::array::Array;

/// Inputs of [`gated_delta_net`]: `B` sequences, `T` tokens, `Hk` key heads, `Hv` value heads of width `S`.
#[derive(Clone, Copy, Debug)]
pub struct DeltaNetInputs<'a> {
    /// Queries `[B, T, Hk, S]`, of unit length.
    pub q: &'a Array,
    /// Keys `[B, T, Hk, S]`, of unit length.
    pub k: &'a Array,
    /// Values `[B, T, Hv, S]`. Value head `h` uses key head `h % Hk`.
    pub v: &'a Array,
    /// Logarithm of the decay, `[B, T, Hv, 1]`, or `[B, T, Hv, S]` for one per key element.
    pub g: &'a Array,
    /// Strength of the correction `[B, T, Hv]`.
    pub beta: &'a Array,
    /// The memory before the first token `[B, Hv, S, S]`: row `j` answers for value element `j`.
    pub state: &'a Array,
    /// How many of the newest memories to return.
    pub n_snapshots: usize,
}

/// Answer and memories of [`gated_delta_net`].
#[derive(Clone, Debug)]
pub struct DeltaNetOutput {
    /// `[B, T, Hv, S]`.
    pub out: Array,
    /// `[B, K, Hv, S, S]`: the memory after the last token, after the one before, and so on. Where there were fewer
    /// than `K` tokens the rest is NaN: nobody writes it.
    pub snapshots: Array,
}

/// Runs the gated delta rule over all tokens; the output is scaled by `1/sqrt(S)`.
pub fn gated_delta_net(inputs: &DeltaNetInputs<'_>) -> DeltaNetOutput {
    let &DeltaNetInputs {
        q,
        k,
        v,
        g,
        beta,
        state,
        n_snapshots,
    } = inputs;
    let (n_seqs, n_tokens, n_heads, width) = (v.shape[0], v.shape[1], v.shape[2], v.shape[3]);
    let n_key_heads = k.shape[2];
    let scale = 1.0 / (width as f64).sqrt();
    let mut out = Array::filled(&v.shape, 0.0);
    let mut snapshots = Array::filled(&[n_seqs, n_snapshots, n_heads, width, width], f64::NAN);
    for b in 0..n_seqs {
        for h in 0..n_heads {
            let key_head = h % n_key_heads;
            let mut memory =
                Array::from_fn(&[width, width], |idx| state.at(&[b, h, idx[0], idx[1]]));
            for t in 0..n_tokens {
                let strength = beta.at(&[b, t, h]);
                for j in 0..width {
                    let mut recalled = 0.0;
                    for i in 0..width {
                        let log_decay = g.at(&[b, t, h, if g.row_len() == 1 { 0 } else { i }]);
                        let kept = memory.at(&[j, i]) * log_decay.exp();
                        memory.set(&[j, i], kept);
                        recalled += kept * k.at(&[b, t, key_head, i]);
                    }
                    let correction = (v.at(&[b, t, h, j]) - recalled) * strength;
                    let mut answer = 0.0;
                    for i in 0..width {
                        let corrected =
                            memory.at(&[j, i]) + correction * k.at(&[b, t, key_head, i]);
                        memory.set(&[j, i], corrected);
                        answer += corrected * q.at(&[b, t, key_head, i]);
                    }
                    out.set(&[b, t, h, j], answer * scale);
                }
                let age = n_tokens - 1 - t;
                if age < n_snapshots {
                    for j in 0..width {
                        for i in 0..width {
                            snapshots.set(&[b, age, h, j, i], memory.at(&[j, i]));
                        }
                    }
                }
            }
        }
    }
    DeltaNetOutput { out, snapshots }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{concat, slice};
    use crate::random::RandomInputs;

    /// Snapshot `i` is the memory of a run that stops `i` tokens earlier, from which the rest can be continued.
    #[test]
    fn snapshots_are_the_memories_of_shorter_runs() {
        let mut random = RandomInputs::new(5);
        let (n_tokens, width) = (3, 4);
        let mut normals = |heads: usize| random.normals(&[2, n_tokens, heads, width], 0.5);
        let (q, k, v) = (normals(1), normals(1), normals(2));
        let g = Array::filled(&[2, n_tokens, 2, 1], -0.3);
        let beta = Array::filled(&[2, n_tokens, 2], 0.6);
        let state = Array::filled(&[2, 2, width, width], 0.1);
        let run = |first: usize, end: usize, state: &Array| {
            let part = |x: &Array| slice(x, 1, first, end);
            let (q, k, v, g, beta) = (part(&q), part(&k), part(&v), part(&g), part(&beta));
            let inputs = DeltaNetInputs {
                q: &q,
                k: &k,
                v: &v,
                g: &g,
                beta: &beta,
                state,
                n_snapshots: 5,
            };
            gated_delta_net(&inputs)
        };
        let snapshot = |output: &DeltaNetOutput, i: usize| {
            Array::new(&state.shape, slice(&output.snapshots, 1, i, i + 1).data)
        };
        let whole = run(0, n_tokens, &state);
        for shorter in 1..n_tokens {
            let start = run(0, shorter, &state);
            assert_eq!(snapshot(&whole, n_tokens - shorter), snapshot(&start, 0));
            let rest = run(shorter, n_tokens, &snapshot(&start, 0));
            assert_eq!(concat(&[&start.out, &rest.out], 1), whole.out);
            assert_eq!(snapshot(&rest, 0), snapshot(&whole, 0));
        }
        for unwritten in n_tokens..5 {
            assert!(snapshot(&whole, unwritten).data.iter().all(|v| v.is_nan()));
        }
    }
}
