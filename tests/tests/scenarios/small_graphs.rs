//! Blocks of models in small: attention over a paged cache, dense and routed feed-forward, with the roles that a model
//! gives its leaves. Sizes are the scenario's; it knows no device.

use ggrs_core::ops::{Attention, GluKind, SortOrder, UnaryKind, Visibility};
use ggrs_core::{Cut, DType, Graph, GraphBuilder, Link, Pages, Real, Role, RoleKind, Shape, Value};

use crate::placed_graph::Scene;

/// Cells of a page.
pub(crate) const BLOCK: usize = 16;
/// Pages of the cache: one slot.
pub(crate) const N_BLOCKS: usize = 4;

/// Sizes of an attention layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) n: usize,
    /// Key heads.
    pub(crate) n_kv: usize,
    /// Width of a head.
    pub(crate) width: usize,
    /// What keys and values are kept as.
    pub(crate) kv: DType,
    /// What weights are kept as.
    pub(crate) weights: DType,
    /// With sinks, and a gate on what each head gives.
    pub(crate) gated: bool,
}

impl Heads {
    /// In F32.
    pub(crate) const fn new(n: usize, n_kv: usize, width: usize) -> Self {
        Self {
            n,
            n_kv,
            width,
            kv: DType::F32,
            weights: DType::F32,
            gated: false,
        }
    }
}

/// The inputs of a step of `n_tokens` tokens of width `n_embd`.
pub(crate) fn step_inputs(b: &mut GraphBuilder, n_tokens: usize, n_embd: usize) -> (Value, Pages) {
    let x = b.input("x", DType::F32, [n_tokens, n_embd]).unwrap();
    let pages = Pages {
        positions: b.input("positions", DType::I32, [n_tokens]).unwrap(),
        slots: b.input("slots", DType::I32, [n_tokens]).unwrap(),
        table: b.input("table", DType::I32, [1, N_BLOCKS]).unwrap(),
    };
    (x, pages)
}

/// Attention of layer `layer` over `x` `[T, n_embd]`, with its cache.
pub(crate) fn attention(
    b: &mut GraphBuilder,
    layer: usize,
    x: Value,
    pages: Pages,
    heads: Heads,
) -> Value {
    let Heads { n, n_kv, width, .. } = heads;
    let (n_tokens, n_embd) = matrix(b, x);
    let group = format!("blk.{layer}.heads");
    let link =
        |axis, unit, shared_by| Link::new(&group, Cut::Heads, n, axis, unit).shared_by(shared_by);
    let mut weight = |part: &str, rows: usize, columns: usize, link: Link| {
        let name = format!("blk.{layer}.attn_{part}.weight");
        let w = b.weight(&name, heads.weights, [rows, columns]).unwrap();
        let role = Role::in_layer(RoleKind::Attention, layer).with(link);
        b.describe(w, role).unwrap();
        w
    };
    let g = n / n_kv;
    let wq = weight("q", n * width, n_embd, link(0, width, 1));
    let wk = weight("k", n_kv * width, n_embd, link(0, width, g));
    let wv = weight("v", n_kv * width, n_embd, link(0, width, g));
    let wo = weight("output", n_embd, n * width, link(1, width, 1));
    let gate = heads
        .gated
        .then(|| weight("gate", n * width, n_embd, link(0, width, 1)));
    let gates = gate.map(|gate| {
        let sinks = b
            .weight(&format!("blk.{layer}.attn_sinks"), DType::F32, [n])
            .unwrap();
        let role = Role::in_layer(RoleKind::Attention, layer).with(link(0, 1, 1));
        b.describe(sinks, role).unwrap();
        (gate, sinks)
    });
    let mut state = |part: &str| {
        let shape = [N_BLOCKS * BLOCK, n_kv, width];
        let state = b
            .state(&format!("kv.{layer}.{part}"), heads.kv, shape)
            .unwrap();
        let role = Role::in_layer(RoleKind::Kv, layer).with(link(1, 1, g));
        b.describe(state, role).unwrap();
        state
    };
    let (k_cache, v_cache) = (state("k"), state("v"));
    b.scope(&format!("blk.{layer}"));
    let mut project = |w: Value, n: usize| {
        let y = b.matmul(w, x).unwrap();
        b.reshape(y, [n_tokens, n, width]).unwrap()
    };
    let (q, k, v) = (project(wq, n), project(wk, n_kv), project(wv, n_kv));
    let keys = b.cache_write(k_cache, k, pages, BLOCK).unwrap();
    let values = b.cache_write(v_cache, v, pages, BLOCK).unwrap();
    let mut more = vec![pages.positions, pages.slots, pages.table];
    more.extend(gates.map(|(_, sinks)| sinks));
    let op = Attention {
        sinks: heads.gated,
        ..paged(width)
    };
    let mixed = b.attention(op, q, keys, values, &more).unwrap();
    let mut flat = b.reshape(mixed, [n_tokens, n * width]).unwrap();
    if let Some((gate, _)) = gates {
        let gate = b.matmul(gate, x).unwrap();
        let gate = b.unary(UnaryKind::Sigmoid, gate).unwrap();
        flat = b.mul(flat, gate).unwrap();
    }
    let y = b.matmul(wo, flat).unwrap();
    b.scope("");
    y
}

/// Paged attention of heads of a width.
pub(crate) fn paged(width: usize) -> Attention {
    Attention {
        scale: Real(1.0 / (width as f32).sqrt()),
        softcap: None,
        visibility: Visibility::Paged {
            block: BLOCK,
            window: None,
        },
        sinks: false,
    }
}

/// A model of `n_layers` attention layers with residuals; outputs `y`.
pub(crate) fn attention_graph(
    n_layers: usize,
    n_tokens: usize,
    n_embd: usize,
    heads: Heads,
) -> Graph {
    let mut b = GraphBuilder::new();
    let (mut x, pages) = step_inputs(&mut b, n_tokens, n_embd);
    for layer in 0..n_layers {
        let y = attention(&mut b, layer, x, pages, heads);
        x = b.add(x, y).unwrap();
    }
    b.output("y", x).unwrap();
    b.seal().unwrap()
}

/// Data for a step of tokens at `first..first + n_tokens` of the only slot; its pages lie backwards.
pub(crate) fn at_positions(scene: Scene, first: usize, n_tokens: usize) -> Scene {
    scene
        .ints("positions", first..first + n_tokens)
        .ints("slots", std::iter::repeat_n(0, n_tokens))
        .ints("table", (0..N_BLOCKS).rev())
}

/// A scene of attention layers.
pub(crate) fn attention_scene(
    n_layers: usize,
    n_tokens: usize,
    n_embd: usize,
    heads: Heads,
) -> Scene {
    let graph = attention_graph(n_layers, n_tokens, n_embd, heads);
    at_positions(Scene::new(graph), 0, n_tokens)
}

/// Sizes of a mixture of experts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Experts {
    /// Experts.
    pub(crate) n: usize,
    /// Experts per token.
    pub(crate) n_used: usize,
    /// Hidden units of an expert.
    pub(crate) width: usize,
    /// What the banks are kept as.
    pub(crate) weights: DType,
}

/// A mixture of experts whose choice is a strided view of a sorting order, as the peer writes it.
pub(crate) fn experts(b: &mut GraphBuilder, layer: usize, x: Value, sizes: Experts) -> Value {
    let Experts {
        n,
        n_used,
        width,
        weights,
    } = sizes;
    let (n_tokens, n_embd) = matrix(b, x);
    let name = |part: &str| format!("blk.{layer}.ffn_{part}.weight");
    let router = b
        .weight(&name("gate_inp"), DType::F32, [n, n_embd])
        .unwrap();
    b.describe(router, Role::in_layer(RoleKind::Router, layer))
        .unwrap();
    let mut bank = |part: &str, rows: usize, columns: usize, axis: usize| {
        let w = b.weight(&name(part), weights, [n, rows, columns]).unwrap();
        let group = format!("blk.{layer}.experts");
        let role = Role::in_layer(RoleKind::Experts, layer)
            .with(Link::new(
                &format!("{group}.width"),
                Cut::Width,
                width,
                axis,
                1,
            ))
            .with(Link::new(&group, Cut::Experts, n, 0, 1));
        b.describe(w, role).unwrap();
        w
    };
    let gate = bank("gate_exps", width, n_embd, 1);
    let up = bank("up_exps", width, n_embd, 1);
    let down = bank("down_exps", n_embd, width, 2);
    b.scope(&format!("blk.{layer}.ffn"));
    let logits = b.matmul(router, x).unwrap();
    let shares = b.softmax(logits, 1.0, None, None).unwrap();
    let order = b.argsort(logits, SortOrder::Descending).unwrap();
    let ids = b.slice(order, 1, 0, n_used).unwrap();
    let rows = b.reshape(x, [n_tokens, 1, n_embd]).unwrap();
    let gated = b.matmul_id(gate, rows, ids).unwrap();
    let raised = b.matmul_id(up, rows, ids).unwrap();
    let hidden = b.glu(GluKind::Swiglu, gated, raised).unwrap();
    let answers = b.matmul_id(down, hidden, ids).unwrap();
    let (best, _) = b.top_k(shares, n_used).unwrap();
    let factors = b.reshape(best, [n_tokens, n_used, 1]).unwrap();
    let weighted = b.mul(answers, factors).unwrap();
    let sum = b.sum(weighted, 1).unwrap();
    let y = b.reshape(sum, [n_tokens, n_embd]).unwrap();
    b.scope("");
    y
}

/// `[T, n_embd]`.
fn matrix(b: &GraphBuilder, x: Value) -> (usize, usize) {
    match b.desc(x).map(|d| d.shape.sizes()).as_deref() {
        Some(&[rows, columns]) => (rows, columns),
        other => panic!("{other:?} is no matrix"),
    }
}

/// A graph of one mixture of experts with a residual; outputs `y`.
pub(crate) fn experts_scene(n_tokens: usize, n_embd: usize, sizes: Experts) -> Scene {
    let mut b = GraphBuilder::new();
    let x = b
        .input("x", DType::F32, Shape::from([n_tokens, n_embd]))
        .unwrap();
    let y = experts(&mut b, 0, x, sizes);
    let y = b.add(x, y).unwrap();
    b.output("y", y).unwrap();
    Scene::new(b.seal().unwrap())
}
