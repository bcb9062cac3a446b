//! Attention of queries over keys and values: with an explicit mask, or causal over a paged KV cache.
//!
//! Query heads share KV heads in groups of neighbours (GQA; one KV head for all is MQA). Values may be narrower or
//! wider than keys.

use super::array::{Array, IntArray};
use super::layout::{broadcast, concat, reshape, slice};
use super::rows::Pages;
use super::softmax::softmax_row;

/// What both forms of attention have in common.
#[derive(Clone, Copy, Debug)]
pub struct AttentionParams<'a> {
    /// Factor of the dot products.
    pub scale: f64,
    /// Logits become `softcap * tanh(logit / softcap)` before the mask is added.
    pub softcap: Option<f64>,
    /// One more logit per query head, `[H]`, that has no value.
    pub sinks: Option<&'a Array>,
}

/// Attention of `q` `[B, T, H, D]` over `k` `[B, C, Hk, D]` and `v` `[B, C, Hk, Dv]`; the result is `[B, T, H, Dv]`.
///
/// `mask` is `[B or 1, H or 1, T, C]` and is added to the logits. A query that sees nothing gives zeros.
pub fn attention(
    q: &Array,
    k: &Array,
    v: &Array,
    mask: Option<&Array>,
    params: &AttentionParams<'_>,
) -> Array {
    let (n_batches, n_tokens, n_heads, n_cells) = (q.shape[0], q.shape[1], q.shape[2], k.shape[1]);
    let mask = mask.map(|mask| broadcast(mask, &[n_batches, n_heads, n_tokens, n_cells]));
    let outs: Vec<Array> = (0..n_batches)
        .map(|batch| {
            attend(
                &part(q, batch),
                &part(k, batch),
                &part(v, batch),
                params,
                |head, token| {
                    let bias = |cell| {
                        mask.as_ref()
                            .map_or(0.0, |mask| mask.at(&[batch, head, token, cell]))
                    };
                    (0..n_cells).map(|cell| (cell, bias(cell))).collect()
                },
            )
        })
        .collect();
    let out = concat(&outs.iter().collect::<Vec<_>>(), 0);
    reshape(&out, &[n_batches, n_tokens, n_heads, v.shape[3]])
}

/// A paged KV cache, and which of it each token of a step may see.
#[derive(Clone, Copy, Debug)]
pub struct PagedKv<'a> {
    /// Keys `[n_cells, Hk, D]`.
    pub k: &'a Array,
    /// Values `[n_cells, Hk, Dv]`.
    pub v: &'a Array,
    /// Where positions are.
    pub pages: Pages<'a>,
    /// `[T]`: slot of every token; a negative one marks padding, whose result is zero.
    pub slots: &'a IntArray,
    /// `[T]`: position of every token in its sequence; it sees itself and what is before.
    pub positions: &'a IntArray,
    /// If set, a token sees only this many positions, itself included.
    pub window: Option<usize>,
}

/// Causal attention of `q` `[T, H, D]` over a paged cache; the result is `[T, H, Dv]`.
pub fn attention_paged(q: &Array, kv: &PagedKv<'_>, params: &AttentionParams<'_>) -> Array {
    attend(q, kv.k, kv.v, params, |_, token| {
        if kv.slots.at(&[token]) < 0 {
            return Vec::new();
        }
        let (slot, position) = (kv.slots.index_at(&[token]), kv.positions.index_at(&[token]));
        let first = kv
            .window
            .map_or(0, |window| (position + 1).saturating_sub(window));
        (first..=position)
            .map(|p| (kv.pages.cell(slot, p), 0.0))
            .collect()
    })
}

/// Element `i` of the outermost axis, which goes.
fn part(x: &Array, i: usize) -> Array {
    reshape(&slice(x, 0, i, i + 1), &x.shape[1..])
}

/// Attention where `visible(head, token)` gives the cells that a query sees, each with a bias.
fn attend(
    q: &Array,
    k: &Array,
    v: &Array,
    params: &AttentionParams<'_>,
    visible: impl Fn(usize, usize) -> Vec<(usize, f64)>,
) -> Array {
    let (n_tokens, n_heads, head_dim) = (q.shape[0], q.shape[1], q.shape[2]);
    let (n_kv_heads, value_dim) = (v.shape[1], v.shape[2]);
    assert_eq!(
        k.shape[1..],
        [n_kv_heads, head_dim],
        "keys do not fit queries {:?} and values {:?}",
        q.shape,
        v.shape
    );
    assert_eq!(
        n_heads % n_kv_heads,
        0,
        "{n_heads} query heads over {n_kv_heads} KV heads"
    );
    let mut result = Array::filled(&[n_tokens, n_heads, value_dim], 0.0);
    for token in 0..n_tokens {
        for head in 0..n_heads {
            let kv_head = head / (n_heads / n_kv_heads);
            let seen = visible(head, token);
            let mut weights: Vec<f64> = Vec::new();
            for &(cell, bias) in &seen {
                let mut logit = 0.0;
                for d in 0..head_dim {
                    logit += q.at(&[token, head, d]) * k.at(&[cell, kv_head, d]);
                }
                logit *= params.scale;
                if let Some(cap) = params.softcap {
                    logit = cap * (logit / cap).tanh();
                }
                weights.push(logit + bias);
            }
            softmax_row(&mut weights, params.sinks.map(|sinks| sinks.at(&[head])));
            for d in 0..value_dim {
                let mut total = 0.0;
                for (&(cell, _), weight) in seen.iter().zip(&weights) {
                    total += weight * v.at(&[cell, kv_head, d]);
                }
                result.set(&[token, head, d], total);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A paged, windowed cache of two sequences with blocks in disorder equals masked dense attention of each.
    #[test]
    fn paged_attention_is_masked_attention_of_each_slot() {
        let value = |seed: usize, idx: &[usize]| {
            idx.iter()
                .fold(seed as f64, |v, &i| (v * 1.7 + i as f64).sin() * 2.0)
        };
        let (n_positions, block_cells, window) = (7, 2, 3);
        let table = IntArray::new(&[2, 4], vec![5, 0, 3, 7, 1, 6, 2, 4]);
        let pages = Pages {
            table: &table,
            block_cells,
        };
        let k = Array::from_fn(&[16, 2, 4], |idx| value(1, idx));
        let v = Array::from_fn(&[16, 2, 3], |idx| value(2, idx));
        let q = Array::from_fn(&[2 * n_positions + 1, 4, 4], |idx| value(3, idx));
        let sinks = Array::from_fn(&[4], |idx| value(4, idx));
        let params = AttentionParams {
            scale: 0.7,
            softcap: Some(2.0),
            sinks: Some(&sinks),
        };
        let slots = IntArray::from_fn(
            &[15],
            |idx| if idx[0] == 14 { -1 } else { idx[0] as i64 % 2 },
        );
        let positions = IntArray::from_fn(&[15], |idx| idx[0] as i64 / 2);
        let kv = PagedKv {
            k: &k,
            v: &v,
            pages,
            slots: &slots,
            positions: &positions,
            window: Some(window),
        };
        let paged = attention_paged(&q, &kv, &params);

        for slot in 0..2 {
            let gather = |x: &Array| {
                Array::from_fn(&[1, n_positions, 2, x.shape[2]], |i| {
                    x.at(&[pages.cell(slot, i[1]), i[2], i[3]])
                })
            };
            let queries = Array::from_fn(&[1, n_positions, 4, 4], |i| {
                q.at(&[2 * i[1] + slot, i[2], i[3]])
            });
            let mask = Array::from_fn(&[1, 1, n_positions, n_positions], |i| {
                if i[3] <= i[2] && i[2] < i[3] + window {
                    0.0
                } else {
                    f64::NEG_INFINITY
                }
            });
            let dense = attention(&queries, &gather(&k), &gather(&v), Some(&mask), &params);
            dense.for_each_index(|i| {
                let difference = dense.at(i) - paged.at(&[2 * i[1] + slot, i[2], i[3]]);
                assert!(difference.abs() < 1e-14, "slot {slot}, {i:?}");
            });
        }
        assert_eq!(part(&paged, 14), Array::filled(&[4, 3], 0.0));
    }
}
