//! A mixture of experts for few activations: norm, router, gate and up, down and the weighted sum.
//!
//! `rms_norm | add_rms_norm, matmul, route_experts, matmul_id_glu, matmul_id, mul, sum` become three launches for one
//! token, and up to five: what the experts answer is multiplied by its weight and added up where it is made.

use ggrs_core::DType;
use ggrs_core::ops::{GluKind, Op, RouteExperts, Window};

use super::experts_many::adds_up;
use super::norm_products::{NormStep, part, product_of};
use super::{Stage, StageArgs, Walk};
use crate::driver::DevicePtr;
use crate::kernel::{Args, Choice, FaultKind, Launch};
use crate::kernels::fused::{Experts, Weights, experts_down, experts_up, joined};
use crate::kernels::product::Held;
use crate::kernels::product::matvec::unit_elems;
use crate::kernels::product::q8::{GROUP, Q8};
use crate::kernels::select::RouterParams;

/// What the stage needs to know of its steps.
struct Block {
    norm: NormStep,
    router: DType,
    route: RouteExperts,
    choice: Choice,
    glu: GluKind,
    up: DType,
    down: DType,
    held: Held,
    n_used: usize,
    n_ff: usize,
    n_multiprocessors: u32,
}

/// The stage that begins at a step.
pub(super) fn find(walk: &Walk<'_>, at: usize) -> Option<Stage> {
    let steps = at..at + 7;
    let (router_at, route_at, up_at, down_at, mul_at) = (at + 1, at + 2, at + 3, at + 4, at + 5);
    let norm = NormStep::find(walk, at)?;
    let router = product_of(walk, router_at, at, &norm)?;
    let normed = walk.output(at, norm.result())?;
    let (Op::RouteExperts(route), Op::MatMulIdGlu(up), Op::MatMulId(down)) =
        (walk.op(route_at)?, walk.op(up_at)?, walk.op(down_at)?)
    else {
        return None;
    };
    let (weights, ids) = (walk.output(route_at, 0)?, walk.output(route_at, 1)?);
    let hidden = walk.output(up_at, 0)?;
    let chained = walk.reads(route_at, 0, walk.output(router_at, 0)?)
        && walk.reads(up_at, 2, normed)
        && walk.reads(up_at, 3, ids)
        && walk.reads(down_at, 1, hidden)
        && walk.reads(down_at, 2, ids)
        && walk.reads(mul_at, 1, weights)
        && adds_up(walk, down_at, &steps)?;
    let inner = walk.is_inner(hidden, &steps);
    let (gate_format, up_format) = (walk.packed(up_at, 0)?, walk.packed(up_at, 1)?);
    let down_format = walk.packed(down_at, 0)?;
    let (&[held, n_ff, n_embd], &[_, n_out, down_k]) =
        (&*walk.sizes(up_at, 0), &*walk.sizes(down_at, 0))
    else {
        return None;
    };
    let whole = |k: usize, format| (k as u64).is_multiple_of(unit_elems(format));
    let fits = gate_format == up_format
        && up.window == down.window
        && down_k == n_ff
        && has_room(walk, route.n_used, n_ff)
        && whole(n_embd, up_format)
        && whole(n_ff, down_format)
        && n_ff.is_multiple_of(GROUP as usize)
        && walk.sizes(up_at, 2).get(1) == Some(&1)
        && n_out > 0;
    if !(chained && inner && fits) {
        return None;
    }
    let block = Block {
        norm,
        router,
        route: route.clone(),
        choice: walk.choice(route_at)?,
        glu: up.kind,
        up: up_format,
        down: down_format,
        held: Held::new(up.window, held),
        n_used: route.n_used,
        n_ff,
        n_multiprocessors: walk.facts.n_multiprocessors,
    };
    Some(block.stage(steps, (route_at, up_at), up.window))
}

/// Is there shared memory for a token's hidden activations?
fn has_room(walk: &Walk<'_>, n_used: usize, n_ff: usize) -> bool {
    let sizes = u32::try_from(n_used).ok().zip(u32::try_from(n_ff).ok());
    sizes.is_some_and(|(n, k)| Q8::shared_bytes(n, k) <= walk.facts.shared_bytes)
}

impl Block {
    /// Bytes of the norm's rows in 8 bits, then of the hidden activations.
    fn scratch(&self) -> [u64; 2] {
        let pairs = (self.norm.n_tokens * self.n_used) as u64;
        let rows = self.norm.q8_bytes().next_multiple_of(256);
        [rows, pairs * 4 * self.n_ff as u64]
    }

    fn stage(
        self,
        steps: std::ops::Range<usize>,
        (route_at, up_at): (usize, usize),
        window: Option<Window>,
    ) -> Stage {
        let name = format!(
            "experts/{}+{}",
            self.up.name().to_lowercase(),
            self.down.name().to_lowercase()
        );
        let reason = if window.is_some() {
            "few activations: answers of the experts held here are weighted and added up where they are made"
        } else {
            "few activations: the experts' answers are weighted and added up where they are made"
        };
        let bytes = self.scratch().iter().sum();
        let faults: Vec<FaultKind> = self.choice.faults().to_vec();
        let bound = self.held.total;
        let build = move |args: &StageArgs<'_>| self.launches(args);
        let mut stage = Stage::new(steps, name, reason, bytes, build);
        for kind in faults {
            stage = stage.fault(route_at, kind);
        }
        let role = "expert ids";
        stage.fault(up_at, FaultKind::IndexOutOfRange { role, bound })
    }

    /// The router, if every block chooses its token's experts for itself.
    fn router_for_each(&self, route: &Args<'_>) -> Option<RouterParams> {
        RouterParams::is_made_by_each(self.held.total)
            .then(|| RouterParams::new(&self.route, route))
    }

    fn launches(&self, args: &StageArgs<'_>) -> Vec<Launch> {
        let [first, router, route, up, down, mul, sum] = args.steps else {
            return Vec::new();
        };
        let n = self.norm.n_tokens as u32;
        let [rows, _] = self.scratch();
        let q8 = self.norm.q8(args.scratch);
        let hidden = args.scratch.plus(rows);
        let route = Args {
            cells: args.cells,
            ..*route
        };
        let parts = [part(router, self.router)];
        let rows = self.norm.rows(first, q8);
        let mut all = joined(&parts, rows, n, self.n_multiprocessors);
        let router = self.router_for_each(&route);
        if router.is_none() {
            all.extend(self.choice.build(&route));
        }
        let cell = args.cells.last().copied().unwrap_or_default();
        let experts = Experts::new(&up.input(3), &self.held, cell);
        let [gate, up] = [0, 1].map(|i| Weights::of(up, i, self.up));
        all.push(experts_up(
            [gate, up],
            self.glu,
            (experts, router),
            (q8, 1),
            hidden,
            n,
        ));
        let factors = mul.input(1);
        // Weights [tokens, n_used, 1] as [tokens, n_used].
        let factors = crate::params::View {
            stride: [0, 0, 0, factors.stride[2], factors.stride[3]],
            size: [1, 1, 1, factors.size[2], factors.size[3]],
            ..factors
        };
        let out = DevicePtr(sum.output(0).data);
        let weights = Weights::of(down, 0, self.down);
        let place = (n, self.n_multiprocessors);
        all.push(experts_down(weights, experts, hidden, &factors, out, place));
        all
    }
}
