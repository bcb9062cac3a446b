//! A recurrent mixer cut by key head: one projection that holds queries, keys and two rounds of values, a convolution
//! over all of them with a state, the gated delta rule with a state per value head.

use ggrs_core::ops::UnaryKind;
use ggrs_core::{Cut, DType, Graph, GraphBuilder, Link, Role, RoleKind, Stretch, Value};
use ggrs_meta::{MetaOptions, Reduction};

use crate::lockstep::{Data, fill, same};

const KEYS: usize = 4;
const VALUES: usize = 8;
const WIDTH: usize = 16;
const EMBD: usize = 32;
const TOKENS: usize = 3;
const TAPS: usize = 4;
const CHANNELS: usize = (2 * KEYS + VALUES) * WIDTH;

/// A link to the key heads: so many rounds of them, each head `unit` elements.
fn heads(axis: usize, rounds: usize, unit: usize) -> Link {
    let stretch = Stretch { unit, shared_by: 1 };
    Link {
        stretches: std::iter::repeat_n(stretch, rounds).collect(),
        ..Link::new("blk.0.heads", Cut::Heads, KEYS, axis, unit)
    }
}

fn described(g: &mut GraphBuilder, value: Value, link: Link) -> Value {
    let role = Role {
        kind: RoleKind::Recurrent,
        layer: Some(0),
        links: std::iter::once(link).collect(),
    };
    g.describe(value, role).unwrap();
    value
}

fn mixer() -> Graph {
    let mut g = GraphBuilder::new();
    let mut weight = |name: &str, shape: &[usize], link: Link| {
        let value = g.weight(name, DType::F32, shape).unwrap();
        described(&mut g, value, link)
    };
    let qkv = weight("qkv", &[CHANNELS, EMBD], heads(0, 4, WIDTH));
    let gate = weight("gate", &[VALUES * WIDTH, EMBD], heads(0, 2, WIDTH));
    let beta = weight("beta", &[VALUES, EMBD], heads(0, 2, 1));
    let alpha = weight("alpha", &[VALUES, EMBD], heads(0, 2, 1));
    let decay = weight("decay", &[VALUES], heads(0, 2, 1));
    let taps = weight("conv", &[CHANNELS, TAPS], heads(0, 4, WIDTH));
    let out = weight("out", &[EMBD, VALUES * WIDTH], heads(1, 2, WIDTH));
    let columns = g
        .state("columns", DType::F32, [1, CHANNELS, TAPS - 1])
        .unwrap();
    let columns = described(&mut g, columns, heads(1, 4, WIDTH));
    let memory = g
        .state("memory", DType::F32, [1, VALUES, WIDTH, WIDTH])
        .unwrap();
    let memory = described(&mut g, memory, heads(1, 2, 1));
    let x = g.input("x", DType::F32, [TOKENS, EMBD]).unwrap();

    let mixed = g.matmul(qkv, x).unwrap();
    let mixed = g.reshape(mixed, [1, TOKENS, CHANNELS]).unwrap();
    let mixed = g.permute(mixed, &[0, 2, 1]).unwrap();
    let all = g.concat(&[columns, mixed], 2).unwrap();
    let last = g.slice(all, 2, TOKENS, TAPS - 1).unwrap();
    let stored = g.store(columns, last).unwrap();
    g.output("columns", stored).unwrap();
    let mixed = g.ssm_conv(all, taps).unwrap();
    let mixed = g.unary(UnaryKind::Silu, mixed).unwrap();
    let mut part = |first: usize, n: usize| {
        let x = g.slice(mixed, 2, first * WIDTH, n * WIDTH).unwrap();
        g.reshape(x, [1, TOKENS, n, WIDTH]).unwrap()
    };
    let (q, k, v) = (part(0, KEYS), part(KEYS, KEYS), part(2 * KEYS, VALUES));
    let (q, k) = (g.l2_norm(q, 1e-6).unwrap(), g.l2_norm(k, 1e-6).unwrap());
    let beta = g.matmul(beta, x).unwrap();
    let beta = g.unary(UnaryKind::Sigmoid, beta).unwrap();
    let beta = g.reshape(beta, [1, TOKENS, VALUES]).unwrap();
    let alpha = g.matmul(alpha, x).unwrap();
    let alpha = g.unary(UnaryKind::Softplus, alpha).unwrap();
    let alpha = g.mul(alpha, decay).unwrap();
    let alpha = g.reshape(alpha, [1, TOKENS, VALUES, 1]).unwrap();
    let (y, states) = g
        .gated_delta_net(1, [q, k, v, alpha, beta, memory])
        .unwrap();
    let states = g.reshape(states, [1, VALUES, WIDTH, WIDTH]).unwrap();
    let stored = g.store(memory, states).unwrap();
    g.output("memory", stored).unwrap();
    let y = g.rms_norm(y, None, 1e-6).unwrap();
    let z = g.matmul(gate, x).unwrap();
    let z = g.unary(UnaryKind::Silu, z).unwrap();
    let y = g.reshape(y, [TOKENS, VALUES * WIDTH]).unwrap();
    let y = g.mul(y, z).unwrap();
    let y = g.matmul(out, y).unwrap();
    let y = g.add(y, x).unwrap();
    g.output("y", y).unwrap();
    g.seal().unwrap()
}

#[test]
fn a_recurrent_mixer_is_cut_by_head_and_adds_up_once() {
    let graph = mixer();
    let data = fill(&graph, Data::new());
    let cases: [&[f64]; 6] = [
        &[1.0, 1.0],
        &[3.0, 1.0],
        &[1.0, 0.0],
        &[1.0, 1.0, 1.0],
        &[1.0, 1.0, 1.0, 1.0],
        &[1.0, 1.0, 1.0, 1.0, 1.0],
    ];
    for ratios in cases {
        for reduction in [Reduction::default(), Reduction::EAGER] {
            let options = MetaOptions {
                ratios: ratios.to_vec(),
                reduction,
                ..MetaOptions::default()
            };
            let made = same(&graph, &data, ratios.len(), &options);
            assert_eq!(made.collectives.len(), 1, "{:?}", made.collectives);
        }
    }
}
