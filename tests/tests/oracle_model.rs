//! The oracle's ops together: a float64 forward pass of a tiny Qwen3-MoE against logits from Transformers.
//!
//! It covers what the op cases do not: paged attention and cache writes, routing, and how the ops fit each other.
#![expect(clippy::unwrap_used, reason = "a broken fixture fails the test")]

use ggrs_tests::fixtures::{GgufWeights, Golden};
use ggrs_tests::nmse::compare;
use ggrs_tests::oracle::{
    Array, AttentionParams, BinaryKind, Gating, GluKind, IntArray, PagedKv, Pages, RopeMode,
    RopeParams, attention_paged, binary, cache_write, get_rows, glu_split, matmul, matmul_id,
    reshape, rms_norm, rope, route_experts, sum,
};

/// The goldens were computed in F32: they are what is inexact here.
const MAX_ROW_NMSE: f64 = 1e-10;

#[test]
fn a_float64_qwen3moe_gives_the_logits_of_transformers() {
    for file in ["small-f32", "small-q8_0", "small-mix32", "k-kmix"] {
        let mut worst = 0.0f64;
        let golden = Golden::load("qwen3moe", file).unwrap();
        let model = Model {
            gguf: GgufWeights::load(&golden.gguf_path).unwrap(),
        };
        for prompt in &golden.prompts {
            let logits = model.logits(&prompt.ids);
            let vocab = logits.shape[1];
            for (i, &row) in prompt.rows.iter().enumerate() {
                let actual = &logits.data[row * vocab..][..vocab];
                let expected = &prompt.logits.data[i * vocab..][..vocab];
                let comparison = compare(actual, expected).unwrap();
                worst = worst.max(comparison.nmse);
                assert!(
                    comparison.nmse < MAX_ROW_NMSE,
                    "{file}, {}, row {row}: {comparison:?}",
                    prompt.name
                );
            }
        }
        println!("{file}: worst row NMSE {worst:.1e}");
    }
}

struct Model {
    gguf: GgufWeights,
}

impl Model {
    fn number(&self, key: &str) -> f64 {
        self.gguf.number(&format!("qwen3moe.{key}")).unwrap()
    }

    fn count(&self, key: &str) -> usize {
        self.number(key) as usize
    }

    fn weight(&self, name: &str) -> Array {
        self.gguf.weight(&format!("{name}.weight")).unwrap()
    }

    /// RMS norm times its weight.
    fn norm(&self, x: &Array, name: &str) -> Array {
        let eps = self.number("attention.layer_norm_rms_epsilon");
        binary(BinaryKind::Mul, &rms_norm(x, eps), &self.weight(name))
    }

    /// Logits `[T, V]` of one sequence.
    fn logits(&self, ids: &[i32]) -> Array {
        let ids = IntArray::new(&[ids.len()], ids.iter().map(|&id| id.into()).collect());
        let mut x = get_rows(&self.weight("token_embd"), &ids);
        for layer in 0..self.count("block_count") {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let attended = self.attention(&self.norm(&x, &name("attn_norm")), &name);
            x = binary(BinaryKind::Add, &x, &attended);
            let mixed = self.experts(&self.norm(&x, &name("ffn_norm")), &name);
            x = binary(BinaryKind::Add, &x, &mixed);
        }
        matmul(&self.weight("output"), &self.norm(&x, "output_norm"))
    }

    /// Attention over a cache whose blocks are in reverse order.
    fn attention(&self, x: &Array, name: &dyn Fn(&str) -> String) -> Array {
        let n_tokens = x.shape[0];
        let head_dim = self.count("attention.key_length");
        let positions = IntArray::from_fn(&[n_tokens], |idx| idx[0] as i64);
        let rope_params = RopeParams {
            mode: RopeMode::Neox,
            n_rot: head_dim,
            freq_base: self.number("rope.freq_base"),
            freq_scale: 1.0,
            ext_factor: 0.0,
            attn_factor: 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            n_ctx_orig: 0,
        };
        let project = |part: &str, n_heads: usize| {
            reshape(
                &matmul(&self.weight(&name(part)), x),
                &[n_tokens, n_heads, head_dim],
            )
        };
        let rotate = |x: &Array, norm: &str| {
            rope(&self.norm(x, &name(norm)), &positions, None, &rope_params)
        };
        let (n_heads, n_kv_heads) = (
            self.count("attention.head_count"),
            self.count("attention.head_count_kv"),
        );
        let q = rotate(&project("attn_q", n_heads), "attn_q_norm");
        let k = rotate(&project("attn_k", n_kv_heads), "attn_k_norm");
        let v = project("attn_v", n_kv_heads);

        let block_cells = 16;
        let n_blocks = n_tokens.div_ceil(block_cells);
        let table = IntArray::from_fn(&[1, n_blocks], |idx| (n_blocks - 1 - idx[1]) as i64);
        let pages = Pages {
            table: &table,
            block_cells,
        };
        let slots = IntArray::filled(&[n_tokens], 0);
        let empty = Array::filled(&[n_blocks * block_cells, n_kv_heads, head_dim], f64::NAN);
        let store = |rows: &Array| cache_write(&empty, rows, &slots, &positions, &pages);
        let (k, v) = (store(&k), store(&v));
        let kv = PagedKv {
            k: &k,
            v: &v,
            pages,
            slots: &slots,
            positions: &positions,
            window: None,
        };
        let params = AttentionParams {
            scale: 1.0 / (head_dim as f64).sqrt(),
            softcap: None,
            sinks: None,
        };
        let heads = attention_paged(&q, &kv, &params);
        matmul(
            &self.weight(&name("attn_output")),
            &reshape(&heads, &[n_tokens, n_heads * head_dim]),
        )
    }

    /// The mixture of experts.
    fn experts(&self, x: &Array, name: &dyn Fn(&str) -> String) -> Array {
        let (n_tokens, n_embd) = (x.shape[0], x.shape[1]);
        let n_used = self.count("expert_used_count");
        let router_logits = matmul(&self.weight(&name("ffn_gate_inp")), x);
        let (weights, ids) = route_experts(&router_logits, Gating::Softmax, n_used, true, 1.0);
        let x = reshape(x, &[n_tokens, 1, n_embd]);
        let product = |part: &str, x: &Array| matmul_id(&self.weight(&name(part)), x, &ids);
        let hidden = glu_split(
            GluKind::Swiglu,
            &product("ffn_gate_exps", &x),
            &product("ffn_up_exps", &x),
        );
        let answers = product("ffn_down_exps", &hidden);
        let weighted = binary(
            BinaryKind::Mul,
            &answers,
            &reshape(&weights, &[n_tokens, n_used, 1]),
        );
        reshape(&sum(&weighted, 1), &[n_tokens, n_embd])
    }
}
