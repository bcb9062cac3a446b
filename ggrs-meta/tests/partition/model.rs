//! A small model with the links that model code sets: embedding, layers of attention and of dense or expert blocks,
//! a head.

use ggrs_core::ops::{Attention, GluKind, Rope, RopeMode, RouteExperts, Visibility, Yarn};
use ggrs_core::{Cut, DType, Graph, GraphBuilder, Link, Pages, Real, Role, RoleKind, Value};
use smallvec::SmallVec;

use crate::lockstep::{Data, fill};

/// Sizes of the model.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) layers: usize,
    pub(crate) tokens: usize,
    pub(crate) embd: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head: usize,
    pub(crate) ff: usize,
    /// 0 for a dense block.
    pub(crate) experts: usize,
    pub(crate) used: usize,
    pub(crate) vocab: usize,
    pub(crate) weights: DType,
    /// Does the graph end in the largest logits?
    pub(crate) choose: bool,
    /// Is the embedding table cut by rows?
    pub(crate) cut_embedding: bool,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            layers: 2,
            tokens: 3,
            embd: 64,
            heads: 8,
            kv_heads: 2,
            head: 16,
            ff: 96,
            experts: 0,
            used: 2,
            vocab: 50,
            weights: DType::F32,
            choose: false,
            cut_embedding: true,
        }
    }
}

const CELLS: usize = 16;

struct Build<'a> {
    g: GraphBuilder,
    s: &'a Sizes,
}

fn i32s(values: impl IntoIterator<Item = usize>) -> Vec<u8> {
    values
        .into_iter()
        .flat_map(|v| (v as i32).to_le_bytes())
        .collect()
}

impl Build<'_> {
    fn leaf(
        &mut self,
        value: Value,
        kind: RoleKind,
        layer: Option<usize>,
        links: Vec<Link>,
    ) -> Value {
        let links = SmallVec::from_vec(links);
        self.g.describe(value, Role { kind, layer, links }).unwrap();
        value
    }

    fn weight(&mut self, name: &str, shape: &[usize], links: Vec<Link>, layer: usize) -> Value {
        let dtype = self.s.weights;
        let value = self.g.weight(name, dtype, shape).unwrap();
        self.leaf(value, RoleKind::Other, Some(layer), links)
    }

    fn attention(&mut self, x: Value, pages: Pages, layer: usize) -> Value {
        let Sizes {
            tokens,
            embd,
            heads,
            kv_heads,
            head,
            ..
        } = *self.s;
        let group = format!("blk.{layer}.heads");
        let share = heads / kv_heads;
        let link = |axis, unit| Link::new(&group, Cut::Heads, heads, axis, unit);
        let name = |part: &str| format!("blk.{layer}.attn_{part}");
        let wq = self.weight(
            &name("q"),
            &[heads * head, embd],
            vec![link(0, head)],
            layer,
        );
        let wk = self.weight(
            &name("k"),
            &[kv_heads * head, embd],
            vec![link(0, head).shared_by(share)],
            layer,
        );
        let wv = self.weight(
            &name("v"),
            &[kv_heads * head, embd],
            vec![link(0, head).shared_by(share)],
            layer,
        );
        let wo = self.weight(
            &name("o"),
            &[embd, heads * head],
            vec![link(1, head)],
            layer,
        );
        let kv = |this: &mut Self, what: &str| {
            let state = this.g.state(
                &format!("kv.{layer}.{what}"),
                DType::F32,
                [CELLS, kv_heads, head],
            );
            this.leaf(
                state.unwrap(),
                RoleKind::Kv,
                Some(layer),
                vec![link(1, 1).shared_by(share)],
            )
        };
        let (keys, values) = (kv(self, "k"), kv(self, "v"));
        let norm = self.g.weight(&name("q_norm"), DType::F32, [head]).unwrap();
        let g = &mut self.g;
        let q = g.matmul(wq, x).unwrap();
        let q = g.reshape(q, [tokens, heads, head]).unwrap();
        let q = g.rms_norm(q, Some(norm), 1e-6).unwrap();
        let k = g.matmul(wk, x).unwrap();
        let k = g.reshape(k, [tokens, kv_heads, head]).unwrap();
        let v = g.matmul(wv, x).unwrap();
        let v = g.reshape(v, [tokens, kv_heads, head]).unwrap();
        let rope = Rope {
            mode: RopeMode::Neox,
            n_rot: head,
            base: Real(1e4),
            yarn: Yarn::default(),
            factors: false,
        };
        let q = g.rope(rope.clone(), q, pages.positions, None).unwrap();
        let k = g.rope(rope, k, pages.positions, None).unwrap();
        let keys = g.cache_write(keys, k, pages, 4).unwrap();
        let values = g.cache_write(values, v, pages, 4).unwrap();
        let op = Attention {
            scale: Real(0.25),
            softcap: None,
            visibility: Visibility::Paged {
                block: 4,
                window: None,
            },
            sinks: false,
        };
        let more = [pages.positions, pages.slots, pages.table];
        let mixed = g.attention(op, q, keys, values, &more).unwrap();
        let mixed = g.reshape(mixed, [tokens, heads * head]).unwrap();
        g.matmul(wo, mixed).unwrap()
    }

    fn dense(&mut self, x: Value, layer: usize) -> Value {
        let Sizes { embd, ff, .. } = *self.s;
        let group = format!("blk.{layer}.width");
        let link = |axis| vec![Link::new(&group, Cut::Width, ff, axis, 1)];
        let name = |part: &str| format!("blk.{layer}.ffn_{part}");
        let gate = self.weight(&name("gate"), &[ff, embd], link(0), layer);
        let up = self.weight(&name("up"), &[ff, embd], link(0), layer);
        let down = self.weight(&name("down"), &[embd, ff], link(1), layer);
        let g = &mut self.g;
        let gate = g.matmul(gate, x).unwrap();
        let up = g.matmul(up, x).unwrap();
        let hidden = g.glu(GluKind::Swiglu, gate, up).unwrap();
        g.matmul(down, hidden).unwrap()
    }

    fn experts(&mut self, x: Value, layer: usize) -> Value {
        let Sizes {
            tokens,
            embd,
            ff,
            experts,
            used,
            ..
        } = *self.s;
        let (width, bank) = (format!("blk.{layer}.width"), format!("blk.{layer}.experts"));
        let links = |axis| {
            vec![
                Link::new(&width, Cut::Width, ff, axis, 1),
                Link::new(&bank, Cut::Experts, experts, 0, 1),
            ]
        };
        let name = |part: &str| format!("blk.{layer}.exps_{part}");
        let router = self
            .g
            .weight(&name("router"), DType::F32, [experts, embd])
            .unwrap();
        let gate = self.weight(&name("gate"), &[experts, ff, embd], links(1), layer);
        let up = self.weight(&name("up"), &[experts, ff, embd], links(1), layer);
        let down = self.weight(&name("down"), &[experts, embd, ff], links(2), layer);
        let g = &mut self.g;
        let logits = g.matmul(router, x).unwrap();
        let route = RouteExperts {
            n_used: used,
            gating: ggrs_core::ops::Gating::Softmax,
            normalise: true,
            scale: Real(1.0),
        };
        let (weights, ids) = g.route_experts(route, logits).unwrap();
        let rows = g.reshape(x, [tokens, 1, embd]).unwrap();
        let gate = g.matmul_id(gate, rows, ids).unwrap();
        let up = g.matmul_id(up, rows, ids).unwrap();
        let hidden = g.glu(GluKind::Swiglu, gate, up).unwrap();
        let answers = g.matmul_id(down, hidden, ids).unwrap();
        let weights = g.reshape(weights, [tokens, used, 1]).unwrap();
        let weighted = g.mul(answers, weights).unwrap();
        let sum = g.sum(weighted, 1).unwrap();
        g.reshape(sum, [tokens, embd]).unwrap()
    }
}

/// The model and data for its leaves.
pub(crate) fn model(s: &Sizes) -> (Graph, Data) {
    let mut b = Build {
        g: GraphBuilder::new(),
        s,
    };
    let tokens = b.g.input("tokens", DType::I32, [s.tokens]).unwrap();
    let pages = Pages {
        positions: b.g.input("positions", DType::I32, [s.tokens]).unwrap(),
        slots: b.g.input("slots", DType::I32, [s.tokens]).unwrap(),
        table: b.g.input("table", DType::I32, [1, CELLS / 4]).unwrap(),
    };
    let rows = b.g.input("rows", DType::I32, [2]).unwrap();
    let vocabulary = |axis| vec![Link::new("vocabulary", Cut::Vocabulary, s.vocab, axis, 1)];
    let links = if s.cut_embedding {
        vocabulary(0)
    } else {
        Vec::new()
    };
    let embedding = b.weight("embedding", &[s.vocab, s.embd], links, 0);
    let mut x = b.g.get_rows(embedding, tokens).unwrap();
    for layer in 0..s.layers {
        b.g.scope(&format!("blk.{layer}"));
        let normed = b.g.rms_norm(x, None, 1e-6).unwrap();
        let mut mixed = b.attention(normed, pages, layer);
        let mut residual = x;
        let last = layer + 1 == s.layers && s.experts == 0;
        if last {
            residual = b.g.get_rows(residual, rows).unwrap();
            mixed = b.g.get_rows(mixed, rows).unwrap();
        }
        x = b.g.add(mixed, residual).unwrap();
        let normed = b.g.rms_norm(x, None, 1e-6).unwrap();
        let answer = if s.experts == 0 {
            b.dense(normed, layer)
        } else {
            b.experts(normed, layer)
        };
        x = b.g.add(answer, x).unwrap();
    }
    b.g.scope("");
    let head = b.weight("head", &[s.vocab, s.embd], vocabulary(0), 0);
    let logits = b.g.matmul(head, x).unwrap();
    b.g.output("logits", logits).unwrap();
    if s.choose {
        let best = b.g.argmax(logits).unwrap();
        b.g.output("best", best).unwrap();
        let (values, ids) = b.g.top_k(logits, 5).unwrap();
        b.g.output("values", values).unwrap();
        b.g.output("ids", ids).unwrap();
    }
    let graph = b.g.seal().unwrap();
    let given = Data::from([
        (
            "tokens".to_owned(),
            i32s((0..s.tokens).map(|i| (i * 17 + 3) % s.vocab)),
        ),
        ("positions".to_owned(), i32s(0..s.tokens)),
        ("slots".to_owned(), i32s(vec![0; s.tokens])),
        ("table".to_owned(), i32s([2, 0, 3, 1])),
        ("rows".to_owned(), i32s([s.tokens - 1, 0])),
    ]);
    let data = fill(&graph, given);
    (graph, data)
}
